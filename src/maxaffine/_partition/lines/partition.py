"""Every piece of a network along a segment, exactly: where they end, and what changes there.

The walk gives blocks of finished pieces in the order of the line; here they are shown in a progress bar, cut short
where somebody asks for that, and joined. Between two breakpoints the network is affine, so its values at both ends of
every piece are all there is to know of the outputs: decisions and levels are found from them alone. Slopes in the input
space are computed when they are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork
from maxaffine._codes import Codes
from maxaffine._drawing import CLASSES, axes_for, color_map
from maxaffine._graph import all_finite, as_rows, refuse_overflow
from maxaffine._maps import AffineMap
from maxaffine._network import (
    difference,
    relative_error,
    require_classes,
    rerun,
    rounding_bound,
    size,
    without_infinities,
)
from maxaffine._partition.lines.cuts import crossings, takeovers
from maxaffine._partition.lines.segment import Target, segment
from maxaffine._partition.lines.walk import FINE, Block, Walk
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, ExactnessError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

TOLERANCE = 1e-12
MEMORY = 256 * 2**20


@dataclass(frozen=True)
class Decisions:
    """The classes along a segment."""

    t: Tensor  # (changes,) where the decision changes, increasing
    classes: Tensor  # (changes + 1,) the class before the first change, between neighbors, and after the last

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True)
class LineReport:
    """How far apart a partition and the module are."""

    # The largest difference over the largest output or, where that is small because terms cancelled inside the network,
    # over the largest of those (see :class:`maxaffine.ExactnessReport`).
    residual: float
    bound: float  # what rounding explains
    points: int  # how many places were compared, one inside every piece
    dtype: torch.dtype  # in which the module was run

    @property
    def exact(self) -> bool:
        """Whether the residual is within the bound."""
        return self.residual <= self.bound

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        return f"{verdict} at {self.points} places in {self.dtype}: {self.residual:.2e} (bound {self.bound:.2e})"


@dataclass(frozen=True)
class Crossings:
    """Every unit that changes its piece along a segment, in the order of the segment."""

    breakpoint: Tensor  # (crossings,) number of the breakpoint at which it does
    operator: Tensor  # (crossings,) number of its operator in ``operators``
    unit: Tensor  # (crossings,) its flat number among that operator's units
    operators: tuple[str, ...]  # names of the piecewise-affine operators

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def per_operator(self) -> dict[str, int]:
        """Crossings of every operator, by name."""
        counts = torch.bincount(self.operator, minlength=len(self.operators))
        return dict(zip(self.operators, counts.tolist(), strict=True))

    def last_operators(self, pieces: int) -> Tensor:
        """(pieces,) number of the last operator that changes where each piece begins, -1 where none does."""
        none = torch.full((pieces + 1,), -1, device=self.operator.device)
        return none.scatter_reduce(0, self.breakpoint, self.operator, "amax")[:-1]

    def at(self, breakpoint: int) -> list[tuple[str, int]]:
        """The units that change at one breakpoint: (operator, flat unit)."""
        here = self.breakpoint == breakpoint
        pairs = zip(self.operator[here].tolist(), self.unit[here].tolist(), strict=True)
        return [(self.operators[operator], unit) for operator, unit in pairs]


@dataclass(frozen=True, eq=False)
class LinePartition:
    """The pieces of a network along the segment x(t) = (1 - t) x0 + t x1; made by :func:`line`.

    On piece p, between breakpoints p and p + 1, f(x(t)) = slopes[p] t + offsets[p].

    Attributes:
        breakpoints: (pieces + 1,) increasing, the first 0, the last 1 (or where an unfinished partition ends).
        starts: (pieces, *out) the limit of the output at the left end of every piece.
        ends: (pieces, *out) at the right end; the next piece's start wherever the network is continuous.
        crossings: Which units change where.
        complete: Whether the partition reaches t = 1.
        tolerance: See :func:`line`.
        target: The output that is followed, and the segment.
    """

    breakpoints: Tensor
    starts: Tensor
    ends: Tensor
    crossings: Crossings
    complete: bool
    tolerance: float
    target: Target = field(repr=False)

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return len(self.breakpoints) - 1

    @property
    def lengths(self) -> Tensor:
        """(pieces,) the length of every piece in t."""
        return self.breakpoints[1:] - self.breakpoints[:-1]

    @property
    def middles(self) -> Tensor:
        """(pieces,) the middle of every piece in t."""
        return (self.breakpoints[1:] + self.breakpoints[:-1]) / 2

    @cached_property
    def slopes(self) -> Tensor:
        """(pieces, *out) d f(x(t)) / dt = A[x] (x1 - x0), computed on first use."""
        return self.target.slopes(self.middles)

    @cached_property
    def offsets(self) -> Tensor:
        """(pieces, *out) f(x(t)) - t d f(x(t)) / dt."""
        return (self.starts + self.ends) / 2 - self.slopes * self._per_piece(self.middles)

    def points(self, t: Tensor | Sequence[float] | np.ndarray) -> Any:
        """The inputs x(t) at places from 0 to 1: a batch of len(t), as the network takes them, in float64."""
        return self.target.segment.batch(self._places(t))

    def locate(self, t: Tensor | Sequence[float] | np.ndarray) -> Tensor:
        """(len(t),) the piece in which each place of the partition lies; at a breakpoint the one that ends there."""
        places = self._places(t)
        if bool(((places < 0) | (places > self.breakpoints[-1])).any()):
            raise BadInput(f"t: the partition covers 0 to {float(self.breakpoints[-1]):.6g}")
        return (torch.searchsorted(self.breakpoints, places) - 1).clamp(min=0)

    def value(self, t: Tensor | Sequence[float] | np.ndarray) -> Tensor:
        """f(x(t)) at places along the segment, (len(t), *out), from the partition alone."""
        places = self._places(t)
        piece = self.locate(places)
        weight = self._per_piece((places - self.breakpoints[piece]) / self.lengths[piece])
        starts, ends = self.starts[piece], self.ends[piece]
        # What is infinite all along a piece has no difference.
        return torch.where(starts == ends, starts, torch.lerp(starts, ends, weight))

    def affine_map(self, pieces: Sequence[int] | Tensor | slice | None = None, **options: Any) -> AffineMap:
        """The affine maps of some pieces (all by default) in the full input space, lazy; options as of networks."""
        return self.target.maps(self._middles_of(pieces), **options)

    def codes(self, pieces: Sequence[int] | Tensor | slice | None = None) -> Codes:
        """The codes of some pieces (all by default): every unit's piece in the middle of each."""
        segment, names = self.target.segment, list(self.crossings.operators)
        parts = self.target.chunks(self._middles_of(pieces))
        return Codes.concat([segment.net.codes(segment.batch(t), operators=names) for t in parts])

    def decisions(self, threshold: float = 0.0) -> Decisions:
        """Where the largest output changes or, of a single one, its side of a threshold; refused for values."""
        require_classes(self.target.task, "decisions", "level_set(level, output) finds where a value is reached")
        # A class may win at the end of one piece and another at the start of the next, where the network jumps. So the
        # line is cut wherever the winner can change, and the class is read off in the middle of every part: the lowest
        # wins a tie over a whole part.
        t, starts, ends = self.breakpoints, as_rows(self.starts), as_rows(self.ends)
        limit = self.tolerance * size(without_infinities(torch.cat([starts, ends])))
        if starts.shape[1] == 1:
            piece, fraction, _ = crossings(starts[:, 0] - threshold, ends[:, 0] - threshold, limit)
        else:
            piece, fraction = takeovers(starts, ends, limit)
        cut = torch.cat([t, t[piece] + fraction * self.lengths[piece]]).unique()
        outputs = as_rows(self.value((cut[1:] + cut[:-1]) / 2))
        if outputs.shape[1] == 1:
            found = (outputs[:, 0] > threshold + limit).long()
        else:
            found = (outputs >= outputs.amax(1, keepdim=True) - limit).long().argmax(1)
        changes = torch.nonzero(found[1:] != found[:-1])[:, 0]
        return Decisions(cut[1:-1][changes], torch.cat([found[:1], found[1:][changes]]))

    def level_set(self, level: float = 0.0, output: int = 0) -> Tensor:
        """t, increasing, where one of the followed outputs has a value: both ends of a piece that has it all over."""
        t, starts, ends = self.breakpoints, as_rows(self.starts), as_rows(self.ends)
        if not 0 <= output < starts.shape[1]:
            raise BadInput(f"output: numbers run from 0 to {starts.shape[1] - 1}, got {output}")
        left, right = starts[:, output], ends[:, output]
        limit = self.tolerance * max(size(without_infinities(torch.cat([left, right]))), abs(level))
        piece, fraction, _ = crossings(left - level, right - level, limit)
        # Crossings leave out ends that are within the limit of the level: those are places themselves.
        reached = [t[:-1][(left - level).abs() <= limit], t[1:][(right - level).abs() <= limit]]
        return torch.cat([t[piece] + fraction * self.lengths[piece], *reached]).unique()

    def plot(
        self,
        ax: Axes | None = None,
        outputs: Sequence[int] | None = None,
        *,
        cmap: str | Colormap | None = None,
        linewidth: float = 1.2,
        size: float = 6.0,
    ) -> Axes:
        """Draw outputs along the segment, breakpoints marked below.

        Args:
            ax: Where to draw; axes of a new figure by default.
            outputs: Flat numbers of the outputs; the first ten by default.
            cmap: A color map of matplotlib for the outputs, instead of one color after another.
            linewidth: Of the curves, in points.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: When there is no such output.
            MaxAffineError: When matplotlib is absent.
        """
        starts, ends = (as_rows(item).cpu() for item in (self.starts, self.ends))
        count = starts.shape[1]
        shown = range(min(count, len(CLASSES))) if outputs is None else outputs
        if not set(shown) <= set(range(count)):
            raise BadInput(f"outputs: numbers run from 0 to {count - 1}, got {list(shown)}")
        ax, t = axes_for(ax, 6.0, 3.6, sheet=False, size=size), self.breakpoints.cpu()
        # Both ends of every piece, so that a jump is drawn as one.
        places, values = t.repeat_interleave(2)[1:-1], torch.stack([starts, ends], 1).flatten(0, 1)
        for place, number in enumerate(shown):
            every = place / max(1, len(shown) - 1)
            color = CLASSES[place % len(CLASSES)] if cmap is None else color_map(cmap, "viridis")(every)
            ax.plot(places, values[:, number], color=color, linewidth=linewidth, label=f"output {number}")
        ax.plot(t, torch.zeros(len(t)), "|", color="gray", markersize=8, transform=ax.get_xaxis_transform())
        ax.set_xlabel("t, from x0 at 0 to x1 at 1")
        ax.set_title(f"{self.pieces} pieces", fontsize=9)
        ax.legend(fontsize=7, frameon=False)
        return ax

    def verify(self, model: nn.Module, *, seed: int = 0, rtol: float | None = None, raises: bool = True) -> LineReport:
        """Compare the partition with the user's untouched module, at a random place inside every piece.

        Args:
            model: The module that was captured.
            seed: For the places.
            rtol: Bound on the differences, relative to the largest output; by default what rounding in the module's
                own type explains.
            raises: Whether a failure raises.

        Returns:
            The report.

        Raises:
            ExactnessError: When an output differs by more than the bound.
            BadInput: When the partition stops before the module's own output.
        """
        if not isinstance(model, nn.Module):
            raise BadInput(f"model: expected the torch.nn.Module that was captured, got {type(model).__name__}")
        target = self.target
        if target.until is not None:
            raise BadInput("until: the partition stops before the module's output; make one without until= to check it")
        generator = torch.Generator().manual_seed(seed)
        weight = 0.1 + 0.8 * torch.rand(self.pieces, generator=generator, dtype=torch.float64)
        t = torch.lerp(self.breakpoints[:-1], self.breakpoints[1:], weight.to(self.breakpoints.device))
        expected = torch.cat([self._module(model, part) for part in target.chunks(t)])
        found = self.value(t)
        dtype = next(d for d in target.captured.inputs.dtypes if d.is_floating_point)
        bound = rounding_bound(target.captured) if rtol is None else rtol
        if not found.numel():
            return LineReport(0.0, bound, self.pieces, dtype)
        scale = max(size(without_infinities(item)) for item in (found, expected))
        # The line itself is in float64: within a piece its values are off by as much as float64 rounds its ends.
        share = torch.finfo(torch.float64).eps / torch.finfo(dtype).eps
        scale = max(scale, share * max(size(without_infinities(item)) for item in (self.starts, self.ends)))
        gap = difference(found, expected)
        worst = gap.abs().reshape(len(t), -1).amax(1).argmax()

        def terms_of(u: Tensor) -> Tensor:
            ends = target.terms(self.breakpoints[[0, -1]], u[worst].expand(2, *u.shape[1:]))
            return torch.maximum(target.terms(t, u), share * ends.max())

        residual = relative_error(gap, scale, bound, terms_of)
        report = LineReport(residual, bound, len(t), dtype)
        if raises and not report.exact:
            raise ExactnessError(
                f"line: {report}. Was the model trained, moved or put into another mode since capture? Then capture it"
                " again. If not, this is a fault of maxaffine: please report it with the model"
            )
        return report

    @torch.no_grad()
    def _module(self, model: nn.Module, t: Tensor) -> Tensor:
        """The module's own output at x(t), run in its own type."""
        target = self.target
        points = target.segment.points(t)
        inputs = tuple(x.to(d) for x, d in zip(points, target.captured.inputs.dtypes, strict=True))
        place = target.captured.output_place(target.output)
        value = rerun(target.captured, model)(inputs)[place]
        if not all_finite(value):
            refuse_overflow(target.captured.graph.part([target.number]), inputs)
        axis = target.graph.values[target.number].batch
        if target.captured.endings and target.captured.endings[place] is not None:
            raise BadInput("model: it ends in an activation that capture left out; verify the module without it")
        return target.chosen(axis.to_front(value) if axis is not None else value).double()

    def _places(self, t: Any) -> Tensor:
        # PyTorch warns where it searches for numbers that do not lie side by side.
        return torch.as_tensor(t, dtype=torch.float64, device=self.breakpoints.device).reshape(-1).contiguous()

    def _middles_of(self, pieces: Any) -> Tensor:
        if pieces is None or isinstance(pieces, slice):
            return self.middles[pieces or slice(None)]
        numbers = torch.as_tensor(pieces).reshape(-1)
        if len(numbers) == 0 or int(numbers.min()) < -self.pieces or int(numbers.max()) >= self.pieces:
            raise BadInput(f"pieces: expected numbers of pieces in 0..{self.pieces - 1}, got {pieces!r}")
        return self.middles[numbers]

    def _per_piece(self, t: Tensor) -> Tensor:
        return t.view(-1, *([1] * (self.starts.dim() - 1)))

    def __repr__(self) -> str:
        reach = "" if self.complete else f" up to t = {float(self.breakpoints[-1]):.6g} (unfinished)"
        counts = ", ".join(f"{name} {count}" for name, count in self.crossings.per_operator.items() if count)
        return f"LinePartition: {self.pieces} pieces{reach}; units that change: {counts or 'none'}"


def line(
    net: SplineNetwork,
    x0: Any,
    x1: Any,
    *,
    outputs: Sequence[int] | Tensor | None = None,
    until: str | None = None,
    output: int | str | None = None,
    tolerance: float = TOLERANCE,
    memory: int = MEMORY,
    max_pieces: int | None = None,
    progress: bool | None = None,
) -> LinePartition:
    """Cut the segment from x0 to x1 at every place where a unit changes its piece.

    x(t) = (1 - t) x0 + t x1; between neighboring breakpoints every unit keeps its piece, so f(x(t)) is affine in t.
    The network is followed operator by operator: its values at the breakpoints known so far give, by linear
    interpolation, the places where the operator's units change, which become breakpoints in turn. All in float64.

    Args:
        net: The network. One captured in another type is computed in float64, with the parameters as they are.
        x0: One input, as at capture (a batch of one; also in float64).
        x1: Another.
        outputs: Flat numbers of the units of the output to keep; all by default.
        until: Name of an operator or module to stop after; breakpoints of what follows it are left out.
        output: Which output, by number or name, for a network with several.
        tolerance: Breakpoints closer than this in t are one; values below it, relative to the largest of their
            operator's inputs, count as zero.
        memory: About how many bytes the values of one block of pieces may take; the rest is queued, depth first.
        max_pieces: Stop after about so many pieces; the result then covers a part of the segment and says so.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The partition. Ctrl-C returns what is done by then, with a warning.

    Raises:
        BadInput: For bad inputs, an unknown name, an output that is not a number, or one that overflows float64.
        NotPiecewiseAffine: For an operator of a user's own whose boundaries are not known.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> ma.partition.line(net, torch.tensor([[-1.0, 1.0]]), torch.tensor([[1.0, -3.0]])).breakpoints
        tensor([0.0000, 0.2500, 0.5000, 1.0000], dtype=torch.float64)

    Source: restriction of networks to lines, Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks"
    (NeurIPS 2019).
    """
    if not 0 < tolerance < 1e-3:
        raise BadInput(f"tolerance: expected a number between 0 and 1e-3, got {tolerance}")
    if max_pieces is not None and max_pieces < 1:
        raise BadInput(f"max_pieces: expected at least 1, got {max_pieces}")
    if memory < 1:
        raise BadInput(f"memory: expected a number of bytes, got {memory}")
    target = Target(net, segment(net, x0, x1), outputs, until, output)
    rounding = FINE if torch.float64 in target.captured.inputs.dtypes else tolerance
    walk = Walk(target.graph, target.segment, tolerance, memory, rounding)
    names = tuple(target.graph.steps[place].records[0].name for place in walk.operators)
    with torch.no_grad():
        found = _assemble(_blocks(walk, target, max_pieces, progress), target, names, tolerance)
        if not (all_finite(found.starts) and all_finite(found.ends)):
            refuse_overflow(target.graph, target.segment.points(found.breakpoints[[0, -1]]))
        return found


def _blocks(walk: Walk, target: Target, max_pieces: int | None, progress: bool | None) -> Iterator[Block]:
    """Blocks with the wanted units alone, until the segment ends or there are enough pieces."""
    pieces = 0
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with progress_bar(progress, "line", total=1.0, bar_format=layout) as bar:
        try:
            for block in walk.blocks():
                pieces += len(block.t) - 1
                bar.set_postfix_str(f"{pieces} pieces", refresh=False)
                bar.update(float(block.t[-1]) - bar.n)
                yield replace(block, starts=target.chosen(block.starts), ends=target.chosen(block.ends))
                if max_pieces is not None and pieces >= max_pieces:
                    return
        except KeyboardInterrupt:
            if not pieces:
                raise
            warnings.warn(f"interrupted: the partition ends after {pieces} pieces", stacklevel=3)


def _assemble(blocks: Iterator[Block], target: Target, operators: tuple[str, ...], tolerance: float) -> LinePartition:
    """All blocks as one partition; vertices at which no unit changes (a block's end, a cut in vain) are dropped."""
    parts = list(blocks)
    t = torch.cat([parts[0].t[:1], *(block.t[1:] for block in parts)])
    at, operator, unit = (torch.cat([getattr(b, name) for b in parts]) for name in ("at", "operator", "unit"))
    kept = torch.isin(t, at)
    kept[0] = kept[-1] = True
    breakpoints = t[kept]
    return LinePartition(
        breakpoints,
        torch.cat([block.starts for block in parts])[kept[:-1]],
        torch.cat([block.ends for block in parts])[kept[1:]],
        Crossings(torch.searchsorted(breakpoints, at), operator, unit, operators),
        complete=bool(breakpoints[-1] == 1),
        tolerance=tolerance,
        target=target,
    )
