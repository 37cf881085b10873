"""Systems of linear equations: linear in the right-hand side, for a matrix that is constant within a region."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maxaffine._capture.batch import MIXED, MIXED_CURE, probed
from maxaffine._capture.call import Call, Ref
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import BatchAxis, Operator

aten = torch.ops.aten


def _solution(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """One system after another, where there is a matrix per sample; else found by marks."""
    matrices = [ref for ref in call.refs if not ref.affine and ref.value.batch is not None]
    if not matrices:
        # One matrix for all samples: which columns or rows of the right-hand side meet, the marks show.
        # The factors that some operators return too belong to no sample.
        return probed(replace(call, target=_TARGETS.get(call.target, call.target)), outputs)
    right = call[_right(call)]
    axis = right.value.batch if isinstance(right, Ref) else None
    # A system meets no other where samples lie along an axis in front of those that a solution works on: two of a
    # matrix of right-hand sides, one of a single vector.
    worked = 2 if max(ref.sample.dim() for ref in matrices) == outputs[0].dim() else 1
    if axis is None or {ref.value.batch for ref in matrices} != {axis} or axis.dim >= outputs[0].dim() - worked:
        call.refuse(MIXED, MIXED_CURE)
    return axis


def _right(call: Call) -> str:
    return "self" if call.kind == "cholesky_solve" else "B"


@rule(*overloads("_linalg_solve_ex linalg_solve_triangular cholesky_solve linalg_lu_solve"), batch=_solution)
def solve(call: Call) -> Operator:
    """A^-1 x, and x A^-1."""
    if any(call.depends(name) for name in call.arguments if name != _right(call)):
        call.refuse(
            "it solves with a matrix that depends on the input, which divides by it",
            "use a matrix that is a parameter or a buffer, or capture the part before it (until=...)",
        )
    return replace(call.affine(homogeneous=True), target=_TARGETS.get(call.target, call.target))


def _solve(matrix: Tensor, right: Tensor, *, left: bool, check_errors: bool) -> tuple[Tensor]:
    """The solution alone: the factors beside it do not depend on the right-hand side."""
    return (torch.linalg.solve(matrix, right, left=left),)


_TARGETS: dict[Callable, Callable] = {aten._linalg_solve_ex.default: _solve}
