"""The networks of the zoo as spline networks, each captured once in a process: half the time of a test of one."""

from __future__ import annotations

from functools import cache

import torch

import maxaffine as ma
from tests.zoo.case import Case


@cache
def captured(case: Case, dtype: torch.dtype = torch.float64) -> ma.SplineNetwork:
    """A case as a spline network.

    Raises:
        MaxAffineError: When it is refused, as an optional case may be.
    """
    return ma.capture(case.build(dtype), case.inputs(2, dtype))
