"""All regions of a small network within a box: volumes, sides, neighbors, and the decision boundary's shape."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._codes import Codes
from maxaffine._drawing import CLASSES, axes_for, color_map
from maxaffine._maps import AffineMap
from maxaffine._partition.inputs import require_network
from maxaffine._partition.space.cells import Cells, volumes
from maxaffine._partition.space.growth import grow, split_by_decision
from maxaffine._partition.space.halfspaces import Space, sides
from maxaffine._partition.space.polytope import ring
from maxaffine._partition.space.region import LIMIT, Facet
from maxaffine._partition.space.sides import Sides, sides_of, touching
from maxaffine._partition.space.topology import Topology, topology
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, PartitionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

DIMENSIONS = 8
CURE = "boundaries may nearly coincide; shift the box a little"
VOLUME = 1e-9  # how far, relative to the box's, the volumes may be from adding up


@dataclass(frozen=True, eq=False)
class Regions:
    """All regions of a network within a box; made by :func:`regions`.

    Attributes:
        low: (in_features,) the box's lower corner.
        high: (in_features,) the upper one.
        space: The input space.
        cells: The regions as convex polytopes with common corners.
    """

    low: Tensor
    high: Tensor
    space: Space = field(repr=False)
    cells: Cells = field(repr=False)
    _sides: Sides = field(repr=False)

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def points(self) -> Tensor:
        """(regions, in_features) a place inside every region: the mean of its corners."""
        return torch.as_tensor(self.cells.middles)

    @cached_property
    def volumes(self) -> Tensor:
        """(regions,) of the part inside the box; they add up to the box's."""
        return torch.as_tensor(volumes(self.cells))

    @property
    def neighbors(self) -> Tensor:
        """(pairs, 2) numbers of regions that share a facet, the lower first."""
        pairs = np.sort(self._sides.cell[self._sides.pairs], axis=1)
        return torch.as_tensor(np.unique(pairs, axis=0))

    @property
    def corners(self) -> tuple[Tensor, ...]:
        """(corners, in_features) of the part of every region inside the box."""
        places = torch.as_tensor(self.cells.places[self.cells.corner])
        return places.split(self.cells.counts.tolist())

    @cached_property
    def codes(self) -> Codes:
        """The codes of every region."""
        return self.space.net.codes(self.space.batch(self.cells.middles), operators=list(self.space.operators))

    @property
    def exact(self) -> bool:
        """Whether the volumes add up to the box's; that no side lacks a neighbor has been checked before."""
        whole = float((self.high - self.low).prod())
        return abs(float(self.volumes.sum()) - whole) <= VOLUME * whole

    def facets(self, number: int) -> tuple[Facet, ...]:
        """The sides of a region, with what changes there and the region beyond; one with several neighbors for each.

        Args:
            number: Of the region.

        Returns:
            Its facets; distances are those from its point.

        Raises:
            BadInput: For a number of no region.
        """
        if not isinstance(number, int | np.integer) or not 0 <= number < len(self):
            raise BadInput(f"number: regions have the numbers 0 to {len(self) - 1}, got {number!r}; choose one of them")
        point, found = self.cells.middles[number], []
        own = set(self._sides.of(number).tolist())
        beyond = [(a, b) for pair in self._sides.pairs.tolist() for a, b in (pair, pair[::-1]) if a in own]
        for side, other in sorted(beyond + [(side, -1) for side in own if self._sides.rim[side] >= 0]):
            normal, level = self._sides.plane(side)
            neighbor = int(self._sides.cell[other]) if other >= 0 else None
            if neighbor is None:
                units = (("bounds", int(self._sides.rim[side])),)
            else:
                units = tuple(self.space.labels(self._columns[number] != self._columns[neighbor]))
            found.append(Facet(torch.as_tensor(normal), level, units, float(level - normal @ point), neighbor))
        return tuple(sorted(found, key=lambda facet: facet.distance))

    def topology(self, level: float = 0.0) -> Topology:
        """The shape of the decision boundary: its Betti numbers, Euler characteristic and pieces, exactly.

        The boundary is what lies between inputs of different classes; of a single output, between those at which it is
        above the level and the others.

        Args:
            level: Of a single output.

        Returns:
            The numbers.

        Raises:
            BadInput: For a network that jumps, and a level that is not finite.
            MaxAffineError: When scipy is absent.

        Example:
            >>> import maxaffine as ma
            >>> class Diamond(torch.nn.Module):
            ...     def forward(self, x):
            ...         return x.abs().sum(1, keepdim=True)
            >>> net = ma.capture(Diamond(), torch.zeros(1, 2))
            >>> ma.partition.regions(net, (-2, 2)).topology(level=1.0).betti
            (1, 1)
        """
        if not np.isfinite(level):
            raise BadInput(f"level: expected a finite number, got {level}")
        if not self.space.continuous:
            raise BadInput("net: it jumps, so its decision boundary is no zero set; take a part before with until=")
        cells, classes = split_by_decision(self.space, self.cells, level)
        return topology(_checked_sides(self.space, cells, self.low.numpy(), self.high.numpy()), classes)

    def affine_map(self, **options: Any) -> AffineMap:
        """The affine map of every region, lazy; options as of :meth:`maxaffine.SplineNetwork.affine_map`."""
        return self.space.net.affine_map(self.space.batch(self.cells.middles), **(self.space.options | options))

    def plot(
        self,
        ax: Axes | None = None,
        *,
        cmap: str | Colormap | None = None,
        linewidth: float = 0.5,
        size: float = 4.5,
    ) -> Axes:
        """Draw regions of two dimensions as polygons.

        Args:
            ax: Where to draw; axes of a new figure by default.
            cmap: A color map of matplotlib for the regions by number, instead of one color after another.
            linewidth: Of the boundaries, in points; 0 draws none.
            size: Side of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: Of more or fewer dimensions.
            MaxAffineError: When matplotlib is absent.
        """
        if self.cells.size != 2:
            raise BadInput(f"plot: {self.cells.size} dimensions, not 2; draw a plane instead: partition.plane")
        ax = axes_for(ax, 4.5, 4.5, sheet=False, size=size)
        for number, places in enumerate(self.corners):
            every = number / max(1, len(self) - 1)
            color = CLASSES[number % len(CLASSES)] if cmap is None else color_map(cmap, "viridis")(every)
            ax.fill(*ring(places.numpy()).T, facecolor=color, alpha=0.5, edgecolor="#333333", linewidth=linewidth)
        ax.set_aspect("equal")
        ax.set_title(f"{len(self)} regions", fontsize=9)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Volumes, points and neighbors as JSON."""
        return {
            "volumes": self.volumes.tolist(),
            "points": self.points.tolist(),
            "neighbors": self.neighbors.tolist(),
        }

    @cached_property
    def _columns(self) -> np.ndarray:
        return self.space.codes(self.cells.middles)

    def __repr__(self) -> str:
        return f"Regions: {len(self)} in {self.cells.size} dimensions, {len(self.neighbors)} pairs of neighbors"


def regions(
    net: SplineNetwork,
    bounds: Any,
    *,
    until: str | None = None,
    output: int | str | None = None,
    max_regions: int = 20_000,
    progress: bool | None = None,
) -> Regions:
    """Every region of a network with up to eight input dimensions within a box.

    The box is cut at the boundary of one unit after the other, all cells at once. On each cell what a unit compares is
    affine, so that signs at corners decide; a value within rounding of zero is zero, for all cells that share the
    corner. Every side of every region must have a neighbor or lie on the rim of the box.

    Args:
        net: The network. One captured in another type is computed in float64.
        bounds: (low, high), numbers or one per feature.
        until: Name of an operator or module after which boundaries do not count.
        output: Which output, by number or name, for a network with several.
        max_regions: Refuse to go beyond this many.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The regions, in no particular order.

    Raises:
        BadInput: For more dimensions than eight, more regions than ``max_regions``, or bad bounds.
        NotPiecewiseAffine: For an operator whose pieces are not convex sets of its inputs (median, k-th value).
        PartitionError: When sides do not match, as where boundaries nearly coincide.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 3))
        >>> len(ma.partition.regions(net, (-1, 1)))
        8

    Source: Motzkin, Raiffa, Thompson and Thrall 1953, "The double description method"; for networks, Berzins 2023,
    "Polyhedral complex extraction from ReLU networks using edge subdivision", which keeps edges in place of cells.
    """
    if not isinstance(max_regions, int | float) or not max_regions >= 1:
        raise BadInput(f"max_regions: expected a whole number from 1 on, got {max_regions!r}")
    space, low, high = box_of(net, bounds, until, output, DIMENSIONS)
    with progress_bar(progress, "regions", unit="unit") as bar:
        cells = whole = Cells.box(low, high)
        for cells in grow(space, whole):
            bar.update()
            if len(cells) > max_regions:
                raise BadInput(
                    f"max_regions: there are more than {max_regions} regions; raise it or choose a smaller box"
                )
    return Regions(torch.as_tensor(low), torch.as_tensor(high), space, cells, _checked_sides(space, cells, low, high))


def box_of(
    net: Any, bounds: Any, until: str | None, output: int | str | None, most: int | None
) -> tuple[Space, np.ndarray, np.ndarray]:
    """The input space of a network of at most so many dimensions, and a box of it."""
    require_network(net)
    if not all(dtype.is_floating_point for dtype in net.inputs.dtypes):
        raise BadInput("net: one of its inputs is not floating point; use partition.region around single inputs")
    units, dims = net.inputs.units, net.inputs.batch_dims
    features = sum(map(prod, units))
    low, high = sides(bounds, features)
    if most is not None and features > most:
        raise BadInput(
            f"net: it takes {features} numbers, and regions can be listed in up to {most} dimensions; use"
            " partition.line or partition.plane, or partition.region around single inputs"
        )
    # One input in the middle of the box says how the network takes its inputs.
    divided = torch.as_tensor((low + high) / 2).split([prod(shape) for shape in units])
    like = (part.reshape(shape).unsqueeze(dim) for part, shape, dim in zip(divided, units, dims, strict=True))
    return Space(net, tuple(like), until, output, LIMIT), low, high


def _checked_sides(space: Space, cells: Cells, low: np.ndarray, high: np.ndarray) -> Sides:
    """The sides of cells that fill a box, once all within it have a neighbor."""
    found = sides_of(cells, low, high)
    if not space.continuous:
        found = replace(found, pairs=np.concatenate([found.pairs, touching(found)]))
    alone = found.rim < 0
    alone[found.pairs] = False
    if alone.any():
        place = cells.middles[found.cell[alone.argmax()]]
        raise PartitionError(f"{alone.sum()} sides of regions have no neighbor", tuple(place.tolist()), cure=CURE)
    return found
