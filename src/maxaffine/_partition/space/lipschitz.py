"""The Lipschitz constant of a network on a box: exactly, or an interval that closes with time.

A continuous network that is affine in each region is as steep as the steepest of its regions. In few dimensions all of
them are listed. Else boxes are divided, the one that may be steepest first: bounds of all slopes in a box say how steep
the network can be there, and the map at its center how steep it is for certain.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._codes import Codes
from maxaffine._drawing import axes_for, color_map, html_table
from maxaffine._partition.inputs import seconds
from maxaffine._partition.space.cells import Cells
from maxaffine._partition.space.growth import grow
from maxaffine._partition.space.halfspaces import Space
from maxaffine._partition.space.polytope import ring
from maxaffine._partition.space.regions import DIMENSIONS, box_of
from maxaffine._partition.space.slopes import MOST, ROUNDING, Found, SlopeBounds
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, NotPiecewiseAffine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

BAND, FOUND = "#0072B2", "#D55E00"
CLOSED = 1e-9  # of the upper bound: an interval this narrow is a number
SAMPLES = 256
NEAR = 32
ASIDE = 1e-9  # of the way to a random place: off the boundaries on which places of a grid often lie
AT_ONCE = 4096
BOXES = 64
FEW = 16
REGIONS = 50_000


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """How steep a network is on a box; made by :func:`lipschitz`.

    Attributes:
        lower: The operator norm of the slopes at ``point``: no Lipschitz constant is smaller.
        upper: No region of the box is steeper.
        point: (in_features,) inside a region that is as steep as ``lower``.
        slopes: (rows, in_features) the network's slopes there.
        norm: Of inputs and outputs: 2 or infinity.
        regions: How many regions were listed, all of the box; 0 where boxes were divided.
        boxes: How many boxes were bounded; 0 where regions were listed.
        space: The input space.
        rows: (rows, outputs) the combinations of outputs that it is about.
        history: (rounds, 3) where boxes were divided: how many, and the lower and the upper end known by then.
        cells: The regions, where they were listed.
    """

    lower: float
    upper: float
    point: Tensor
    slopes: Tensor
    norm: float
    regions: int
    boxes: int
    space: Space = field(repr=False)
    rows: np.ndarray = field(repr=False)
    history: np.ndarray = field(repr=False)
    cells: Cells | None = field(repr=False)

    @property
    def exact(self) -> bool:
        """Whether both ends agree, to a billionth."""
        return self.upper <= self.lower * (1 + CLOSED)

    @property
    def codes(self) -> Codes:
        """The codes of the region of ``point``."""
        return self.space.net.codes(self.space.batch(self.point[None].numpy()), operators=list(self.space.operators))

    @cached_property
    def norms(self) -> np.ndarray:
        """(regions,) how steep each region is, where they were listed; of none else."""
        middles = np.zeros((0, self.space.features)) if self.cells is None else self.cells.middles
        return np.concatenate(
            [np.zeros(0), *(norms for norms, _ in steepness(self.space, self.rows, middles, self.norm))]
        )

    def plot(self, ax: Axes | None = None, *, cmap: str | Colormap | None = None, size: float = 4.5) -> Axes:
        """Draw how steep the network is: of two inputs as a map, else how many regions are, or how the interval closed.

        Args:
            ax: Where to draw; axes of a new figure by default.
            cmap: A color map of matplotlib for the map.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        ax = axes_for(ax, 4.5, 4.0, sheet=False, size=size)
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        name = f"slope in the norm {self.norm:g}"
        if self.cells is None:
            boxes, lower, upper = self.history.T
            ax.fill_between(boxes, lower, upper, color=BAND, alpha=0.25, linewidth=0)
            ax.plot(boxes, upper, color=BAND, label="none is steeper")
            ax.plot(boxes, lower, color=FOUND, label="found")
            ax.set(xlabel="boxes bounded", ylabel=name, xscale="log", ylim=(0, None))
            ax.legend(frameon=False)
        elif self.cells.size == 2:
            colors = color_map(cmap, "viridis")
            steep = self.norms / (self.lower or 1)
            places = self.cells.places[self.cells.corner]
            for corners, share in zip(np.split(places, self.cells.starts[1:-1]), steep.tolist(), strict=True):
                ax.fill(*ring(corners).T, facecolor=colors(share), edgecolor="white", linewidth=0.3)
            ax.plot(*self.point.tolist(), "*", color=FOUND, markersize=12, markeredgecolor="white", label="steepest")
            bar = ax.figure.colorbar(ScalarMappable(Normalize(0, self.lower), colors), ax=ax)
            bar.set_label(name)
            ax.set(aspect="equal", xlabel="x₁", ylabel="x₂")
            ax.legend(loc="upper right")
        else:
            ax.hist(self.norms, bins=30, color=BAND)
            ax.axvline(self.lower, color=FOUND, label=f"steepest: {self.lower:.4g}")
            ax.set(xlabel=name, ylabel="regions")
            ax.legend(frameon=False)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Every number, as JSON."""
        kept = {name: getattr(self, name) for name in ("lower", "upper", "exact", "norm", "regions", "boxes")}
        return kept | {"point": self.point.tolist(), "slopes": self.slopes.tolist()}

    def _repr_html_(self) -> str:
        listed = [("regions listed", f"{self.regions:,}")] if self.regions else [("boxes bounded", f"{self.boxes:,}")]
        closed = (
            "both ends agree" if self.exact else f"the upper end is {self.upper / (self.lower or 1):.3g} times as large"
        )
        rows = [
            ("Lipschitz", f"in the norm {self.norm:g}"),
            ("at least", f"{self.lower:.9g}"),
            ("at most", f"{self.upper:.9g}"),
        ]
        return html_table([*rows, ("exact", f"{'yes' if self.exact else 'no'}: {closed}"), *listed])

    def __repr__(self) -> str:
        found = f"{self.lower:.6g}" if self.exact else f"{self.lower:.6g} to {self.upper:.6g}"
        how = f"{self.regions} regions" if self.regions else f"{self.boxes} boxes"
        return f"Lipschitz: {found} in the norm {self.norm:g}, from {how}"


def lipschitz(
    net: SplineNetwork,
    bounds: Any,
    norm: int | float = 2,
    *,
    outputs: int | tuple[int, int] | None = None,
    until: str | None = None,
    output: int | str | None = None,
    time_limit: int | float = 60,
    progress: bool | None = None,
) -> Lipschitz:
    r"""The Lipschitz constant of a network on a box, exactly or as an interval.

    L = max over x in the box of |A[x]|, the operator norm: the largest singular value for norm 2, the largest sum of
    magnitudes in a row for infinity. No f(x) - f(y) is larger than L |x - y|, and some come as close as one likes.

    In up to eight dimensions all regions are listed, and the constant is exact. In more, or where they are not convex
    or too many for the time, the box is divided, and the interval is what is known when it closes or time is up (or on
    Ctrl-C). It counts as closed, and ``exact`` as true, once both ends agree to a relative 1e-9; the ends themselves
    hold as given.

    Args:
        net: The network. One captured in another type is computed in float64.
        bounds: (low, high), numbers or one per feature.
        norm: 2 or infinity, of inputs and outputs alike.
        outputs: All of them as a matrix by default; the number of one; or two (a, b), the difference f_a - f_b, which
            bounds how fast a class loses its lead.
        until: Name of an operator or module that is the end of the network.
        output: Which output, by number or name, for a network with several.
        time_limit: Seconds on the clock.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The interval, with a witness.

    Raises:
        BadInput: For bad arguments, and a network that jumps, which has no such constant.
        NotPiecewiseAffine: Where boxes are divided, for operators whose slopes over a box are not known.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU()), torch.zeros(1, 2))
        >>> found = ma.partition.lipschitz(net, (-1, 1))
        >>> found.exact and found.lower == found.upper
        True

    Source: Jordan and Dimakis 2020, "Exactly computing the local Lipschitz constant of ReLU networks", which solves a
    mixed-integer program instead.
    """
    if isinstance(norm, bool) or norm not in (2, np.inf):
        raise BadInput(f"norm: {norm!r} is neither 2 nor infinity; choose one of them")
    seconds(time_limit)
    space, low, high = box_of(net, bounds, until, output, None)
    if not space.continuous:
        raise BadInput("net: it jumps, so it has no Lipschitz constant; take a part before the jump with until=")
    search = _Search(space, _combined(space, outputs), float(norm), time_limit)
    search.look_beside(((low + high) / 2)[None], low, high)
    with progress_bar(progress, "slopes", unit="round") as bar:
        with suppress(KeyboardInterrupt):
            for _ in search.run(low, high):
                bar.update()
    return search.result()


def _combined(space: Space, outputs: int | tuple[int, int] | None) -> np.ndarray:
    """(rows, outputs) which combinations of outputs are asked for."""
    (number,) = space.graph.outputs
    count = int(np.prod(space.graph.values[number].units))
    chosen = () if outputs is None else tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
    whole = all(isinstance(place, int | np.integer) and not isinstance(place, bool) for place in chosen)
    if not whole or any(not 0 <= place < count for place in chosen) or len(set(chosen)) != len(chosen):
        raise BadInput(f"outputs: expected numbers from 0 to {count - 1}, each once, got {outputs!r}; or leave it out")
    if not chosen:
        return np.eye(count)
    rows = np.zeros((1, count))
    rows[0, list(chosen)] = (1, -1)[: len(chosen)]
    return rows


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Boxes, with some pieces of units ruled out; rows of arrays."""

    centers: np.ndarray  # (nodes, D)
    halves: np.ndarray  # (nodes, D)
    first: np.ndarray  # (nodes, units) the first piece that is left
    last: np.ndarray  # (nodes, units) and the last
    most: np.ndarray  # (nodes,) no slopes are larger
    sides: np.ndarray  # the others as in Found
    open: np.ndarray
    unit: np.ndarray
    piece: np.ndarray

    @classmethod
    def whole(cls, low: np.ndarray, high: np.ndarray, pieces: np.ndarray) -> _Nodes:
        """The whole box with all pieces of every unit."""
        nothing, last = np.zeros(1, dtype=np.int64), (pieces - 1).astype(np.int64)[None]
        place, size = ((low + high) / 2)[None], ((high - low) / 2)[None]
        return cls(place, size, 0 * last, last, np.array([np.inf]), 0 * size, nothing, nothing, nothing)

    @classmethod
    def joined(cls, nodes: Sequence[_Nodes]) -> _Nodes:
        """One after the other."""
        return cls(*(np.concatenate(items) for items in zip(*(vars(node).values() for node in nodes), strict=True)))

    def take(self, rows: Any) -> _Nodes:
        """Some rows."""
        return _Nodes(*(item[rows] for item in vars(self).values()))

    def divided(self) -> _Nodes:
        """Both halves of each: between the pieces of a unit where few are open, else across a side of the box."""
        units = np.arange(self.first.shape[1])
        # Where boundaries meet, boxes stay open however small they are; so a few open units are told apart.
        few = (self.open > 0) & ((self.open <= FEW) | (self.centers.shape[1] > FEW))
        unit = (self.unit[:, None] == units) & few[:, None]
        last = np.where(unit, self.piece[:, None], self.last)
        first = np.where(unit, self.piece[:, None] + 1, self.first)
        # The side that moves open units most, or the longest.
        weight = self.sides + np.finfo(float).tiny * self.halves
        weight = np.where(weight.any(1, keepdims=True), weight, self.halves)
        side = (weight.argmax(1)[:, None] == np.arange(self.centers.shape[1])) & ~few[:, None]
        halves = np.where(side, self.halves / 2, self.halves)
        shift = np.where(side, halves, 0)
        upper = replace(self, centers=self.centers + shift, halves=halves, first=first)
        return _Nodes.joined([replace(self, centers=self.centers - shift, halves=halves, last=last), upper])


class _Search:
    """The steepest slopes so far, and how steep the network can be at most."""

    def __init__(self, space: Space, combined: np.ndarray, norm: float, time_limit: int | float) -> None:
        self.space, self.combined, self.norm = space, combined, norm
        # Half of the time is kept for what can be said without a list of the regions.
        self.listing, self.deadline = monotonic() + time_limit / 2, monotonic() + time_limit
        self.lower, self.upper = -1.0, np.inf
        self.point, self.slopes = np.zeros(space.features), np.zeros((len(combined), space.features))
        self.regions = self.boxes = 0
        self.history: list[tuple[int, float, float]] = []
        self.cells: Cells | None = None

    def run(self, low: np.ndarray, high: np.ndarray) -> Iterator[None]:
        """List the regions or, where that takes too long, divide the box."""
        if len(low) <= DIMENSIONS:
            cells = whole = Cells.box(low, high)
            with suppress(NotPiecewiseAffine):  # of regions that are not convex, as those of a median
                for cells in grow(self.space, whole):
                    yield
                    if len(cells) > REGIONS or monotonic() > self.listing:
                        break
                else:
                    self.look(cells.middles)
                    self.regions, self.upper, self.cells = len(cells), self.lower, cells
                    return
        yield from self._divide(low, high)

    def result(self) -> Lipschitz:
        """What is known by now."""
        point, slopes = torch.as_tensor(self.point), torch.as_tensor(self.slopes)
        found = (self.lower, max(self.lower, self.upper), point, slopes, self.norm, self.regions, self.boxes)
        history = np.array(self.history or [(1, self.lower, self.upper)], dtype=float)
        return Lipschitz(*found, self.space, self.combined, history, self.cells)

    def _divide(self, low: np.ndarray, high: np.ndarray) -> Iterator[None]:
        """Divide the box that may be steepest, again and again."""
        bounds = SlopeBounds(self.space, self.combined, self.norm)
        at_once = max(1, min(BOXES, MOST // (bounds.largest * max(bounds.largest, len(low)))))
        random = np.random.default_rng(0)
        self.look_beside(low + (high - low) * random.random((SAMPLES, len(low))), low, high)
        node = _Nodes.whole(low, high, bounds.pieces)
        waiting: list[tuple[float, int, _Nodes]] = []
        steepest: float | None = None
        while True:
            found = bounds(node.centers, node.halves, node.first, node.last)
            # A part is no steeper than the whole, and where nothing is possible there is none.
            most = np.where(found.possible, np.minimum(self._most(found), node.most), -1)
            # The steepest region is often beside the steepest so far.
            near = self.point + (high - low) * 10.0 ** -random.uniform(0, 4, (NEAR, 1)) * (
                random.random((NEAR, len(low))) - 0.5
            )
            self.look_beside(np.concatenate([node.centers, near.clip(low, high)]), low, high)
            node = replace(node, most=most, sides=found.sides, open=found.open, unit=found.unit, piece=found.piece)
            for place in np.flatnonzero(most > self.lower * (1 + CLOSED)).tolist():
                heapq.heappush(waiting, (-float(most[place]), self.boxes + place, node.take([place])))
            self.boxes += len(most)
            self.upper = max(self.lower * (1 + CLOSED), -waiting[0][0] if waiting else 0.0)
            steepest = self.upper if steepest is None else steepest
            self.history.append((self.boxes, self.lower, self.upper))
            yield
            # Of a network that is constant nothing is left but rounding, which has no size to be compared with.
            if self.upper <= max(self.lower * (1 + CLOSED), ROUNDING * steepest) or monotonic() > self.deadline:
                return
            taken = [heapq.heappop(waiting)[2] for _ in range(min(at_once, len(waiting)))]
            node = _Nodes.joined(taken).divided()

    def look_beside(self, places: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Likewise just beside places in a box.

        At a tie the map that is computed may be none of the regions that meet there, and steeper than all of them.
        """
        inner = low + (high - low) * np.random.default_rng(self.boxes).random(places.shape)
        self.look(places + ASIDE * (inner - places))

    def look(self, places: np.ndarray) -> None:
        """The network's slopes at places inside regions, of which the steepest are kept."""
        begin = 0
        for steep, slopes in steepness(self.space, self.combined, places, self.norm):
            best = int(steep.argmax())
            if steep[best] > self.lower:
                self.lower, self.point, self.slopes = float(steep[best]), places[begin + best], slopes[best]
            begin += len(steep)

    def _most(self, found: Found) -> np.ndarray:
        """Bounds (N,) of the norm of all slopes."""
        slopes = found.slopes
        # |M + E| <= |M| + |E|, and entries as large as they can be, all positive, have the largest norm of their kind.
        middle, radius, size = (_norms(part, self.norm) for part in (slopes.middle, slopes.radius, slopes.size))
        return np.minimum(np.minimum(middle + radius, size) * (1 + 1e-12), found.most)


def steepness(
    space: Space, combined: np.ndarray, places: np.ndarray, norm: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The norms (n,) and slopes (n, rows, D) of combinations of outputs at places, in parts."""
    count = combined.shape[1]
    for part in slices(len(places), max(1, min(AT_ONCE, MOST // max(1, count * space.features)))):
        amap = space.net.affine_map(space.batch(places[part]), **space.options)
        leaves = [leaf.reshape(len(places[part]), count, -1) for leaf in tree_leaves(amap.slopes)]
        with np.errstate(invalid="ignore", over="ignore"):  # it is refused below
            slopes = combined @ torch.cat(leaves, 2).numpy()
            steep = _norms(slopes, norm)
        if not np.isfinite(steep).all():
            raise BadInput("net: the norm of its slopes overflows torch.float64; scale the data or the weights")
        yield steep, slopes


def _norms(slopes: np.ndarray, norm: float) -> np.ndarray:
    """Operator norms of slopes (N, rows, D), infinite for what is not finite."""
    found = np.abs(slopes).sum(2).max(1)
    finite = np.isfinite(found)
    if norm == 2:
        found[finite] = np.linalg.norm(slopes[finite], 2, axis=(1, 2))
    return np.where(finite, found, np.inf)
