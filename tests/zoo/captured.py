"""The networks of the zoo as spline networks, each captured once in a process: half the time of a test of one."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import maxaffine as ma
from tests.zoo.case import Case


def captured(case: Case, dtype: torch.dtype = torch.float64) -> ma.SplineNetwork:
    """A case as a spline network; where an optional one is refused, the test that asks for it is expected to fail."""
    try:
        return _captured(case, dtype)
    except ma.MaxAffineError:
        if case.optional:
            pytest.xfail("optional, and refused with a reason")
        raise


@cache
def _captured(case: Case, dtype: torch.dtype) -> ma.SplineNetwork:
    return ma.capture(case.build(dtype), case.inputs(2, dtype))
