"""python -m tests.operator_table > docs/operators.md."""

from __future__ import annotations

import sys

import torch

from tests.operator_table.page import page

torch.set_num_threads(1)
sys.stdout.write(page())
