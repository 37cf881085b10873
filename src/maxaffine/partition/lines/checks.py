"""A partition of a line against the user's untouched module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maxaffine.errors import BadInput, ExactnessError
from maxaffine.graph import all_finite, refuse_overflow
from maxaffine.network import difference, judged, rerun, rounding_bound, size, without_infinities

if TYPE_CHECKING:
    from maxaffine.partition.lines.partition import LinePartition


@dataclass(frozen=True)
class LineReport:
    """How far apart a partition and the module are.

    Attributes:
        residual: The largest difference over the largest output or, where that is small because terms cancelled inside
            the network, over the largest of those (see :class:`maxaffine.network.ExactnessReport`).
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
    dtype = next(d for d in target.captured.inputs.dtypes if d.is_floating_point)
    bound = rounding_bound(target.captured) if rtol is None else rtol
    if not found.numel():
        return LineReport(0.0, bound, line.pieces, dtype)
    scale = max(size(without_infinities(item)) for item in (found, expected))
    # The line itself is in float64: between the ends of a piece its values are off by as much as float64 rounds those.
    share = torch.finfo(torch.float64).eps / torch.finfo(dtype).eps
    scale = max(scale, share * max(size(without_infinities(item)) for item in (line.starts, line.ends)))
    gap = difference(found, expected)
    worst = gap.abs().reshape(len(t), -1).amax(1).argmax()

    def made_of(u: Tensor) -> Tensor:
        ends = target.terms(line.breakpoints[[0, -1]], u[worst].expand(2, *u.shape[1:]))
        return torch.maximum(target.terms(t, u), share * ends.max())

    residual = judged(gap, scale, bound, made_of)
    report = LineReport(residual, bound, len(t), dtype)
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
    if not all_finite(value):
        refuse_overflow(target.captured.graph.part([target.number]), inputs)
    axis = target.graph.values[target.number].batch
    if target.captured.endings and target.captured.endings[place] is not None:
        raise BadInput("model: it ends in an activation that capture left out; verify the module without it")
    return target.chosen(axis.to_front(value) if axis is not None else value).double()
