"""Systems of linear equations: linear in the right-hand side, for a matrix that is constant within a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maxaffine.capture.batch import probed
from maxaffine.capture.call import Call
from maxaffine.capture.registry import rule
from maxaffine.graph import BatchAxis, Operator

aten = torch.ops.aten


def _solution(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """The factors that some operators return too belong to no sample."""
    return probed(replace(call, target=_TARGETS.get(call.target, call.target)), outputs)


@rule(
    aten._linalg_solve_ex.default,
    aten.linalg_solve_triangular.default,
    aten.cholesky_solve.default,
    aten.linalg_lu_solve.default,
    batch=_solution,
)
def solve(call: Call) -> Operator:
    """A^-1 x, and x A^-1."""
    right = "self" if call.kind == "cholesky_solve" else "B"
    if any(call.depends(name) for name in call.arguments if name != right):
        call.refuse(
            "it solves with a matrix that depends on the input, which divides by it",
            "use a matrix that is a parameter or a buffer, or capture the part before it (until=...)",
        )
    return replace(call.affine(homogeneous=True), target=_TARGETS.get(call.target, call.target))


def _solved(matrix: Tensor, right: Tensor, *, left: bool, check_errors: bool) -> tuple[Tensor]:
    """The solution alone: the factors beside it do not depend on the right-hand side."""
    return (torch.linalg.solve(matrix, right, left=left),)


_TARGETS: dict[Callable, Callable] = {aten._linalg_solve_ex.default: _solved}
