"""A partition of a line against the user's untouched module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maxaffine.errors import BadInput, ExactnessError
from maxaffine.network import rerun

if TYPE_CHECKING:
    from maxaffine.partition.lines.partition import LinePartition

PER_OPERATOR = 32  # multiples of eps that rounding may take per operator


@dataclass(frozen=True)
class LineReport:
    """How far a partition and the module are apart.

    Attributes:
        residual: The largest difference over the largest output.
        bound: What rounding explains.
        points: Number of places compared, one inside every piece.
        dtype: Type in which the module was run.
    """

    residual: float
    bound: float
    points: int
    dtype: torch.dtype

    @property
    def exact(self) -> bool:
        """Whether the residual is within the bound."""
        return self.residual <= self.bound

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        return f"{verdict} at {self.points} places in {self.dtype}: {self.residual:.2e} (bound {self.bound:.2e})"


def check(line: LinePartition, model: nn.Module, seed: int, rtol: float | None, raises: bool) -> LineReport:
    """Compare; see :meth:`LinePartition.verify`."""
    if not isinstance(model, nn.Module):
        raise BadInput(f"model: expected the torch.nn.Module that was captured, got {type(model).__name__}")
    target = line.target
    if target.until is not None:
        raise BadInput("until: the partition stops before the module's output; make one without until= to check it")
    generator = torch.Generator().manual_seed(seed)
    weight = 0.1 + 0.8 * torch.rand(line.pieces, generator=generator, dtype=torch.float64)
    t = torch.lerp(line.breakpoints[:-1], line.breakpoints[1:], weight.to(line.breakpoints.device))
    expected = torch.cat([_module(line, model, part) for part in target.chunks(t)])
    found = line.value(t)
    size = float(torch.stack([found.abs().max(), expected.abs().max()]).max())
    residual = float((found - expected).abs().max()) / (size or 1.0)
    dtype = next(d for d in target.captured.inputs.dtypes if d.is_floating_point)
    bound = min(PER_OPERATOR * torch.finfo(dtype).eps * (1 + len(target.captured.operators)), 1 / 16)
    report = LineReport(residual, bound if rtol is None else rtol, len(t), dtype)
    if raises and not report.exact:
        raise ExactnessError(
            f"line: {report}. Was the model trained, moved or put into another mode since capture? Then capture it"
            " again. If not, this is a fault of maxaffine: please report it with the model"
        )
    return report


@torch.no_grad()
def _module(line: LinePartition, model: nn.Module, t: Tensor) -> Tensor:
    """The module's own output at x(t), run in its own type."""
    target = line.target
    points = target.segment.points(t)
    inputs = tuple(x.to(d) for x, d in zip(points, target.captured.inputs.dtypes, strict=True))
    place = target.output or 0
    value = rerun(target.captured, model)(inputs)[place]
    axis = target.graph.values[target.number].batch
    if target.captured.endings and target.captured.endings[place] is not None:
        raise BadInput("model: it ends in an activation that capture left out; verify the module without it")
    return target.chosen(axis.to_front(value) if axis is not None else value).double()
