"""The region of one input in the whole input space.

A region in a thousand dimensions has no corners that anybody could list, but it has facets, a nearest boundary, a
largest ball, and neighbors beyond its facets. All of these follow from its halfspaces, each when it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._capture import SplineNetwork
from maxaffine._codes import Codes
from maxaffine._drawing import CLASSES, axes_for
from maxaffine._maps import AffineMap
from maxaffine._network import require_classes
from maxaffine._partition.inputs import one_input
from maxaffine._partition.space.cells import Cells, clipped
from maxaffine._partition.space.halfspaces import Halfspaces, Space, box, sides
from maxaffine._partition.space.polytope import SAME, essential, largest_ball, nearest, ring
from maxaffine.errors import BadInput, PartitionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT = 2**27  # numbers held for the slopes: 1 GiB
CURE = "boundaries may nearly coincide; choose x or the bounds a little differently"
STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # across a facet, relative to the ball that fits on it


@dataclass(frozen=True, eq=False)
class Facet:
    """One side of a region: where <normal, y> = bound."""

    normal: Tensor  # (in_features,) of length one, pointing outwards
    bound: float
    units: tuple[tuple[str, int], ...]  # those that change there: (operator, flat unit); ("bounds", side) for the box
    distance: float  # from x
    neighbor: int | None = None  # of :class:`Regions`: the number of the region beyond


@dataclass(frozen=True, eq=False)
class Neighbor:
    """The region beyond a facet."""

    facet: int  # its number among :attr:`Region.facets`
    place: Tensor  # (in_features,) inside the facet
    point: Tensor  # (in_features,) just beyond it, in the neighbor
    flipped: tuple[tuple[str, int], ...]  # the units whose codes differ there: (operator, flat unit)


@dataclass(frozen=True, eq=False)
class Region:
    """The convex polytope of all inputs with the codes of x, on which the network is one affine map.

    All floating-point inputs, flattened, are one vector of ``in_features`` numbers.

    Attributes:
        x: (in_features,).
        halfspaces: What bounds it, redundant ones too; numpy arrays.
        space: The input space.
    """

    x: Tensor
    halfspaces: Halfspaces
    space: Space = field(repr=False)

    @cached_property
    def ball(self) -> tuple[Tensor, float]:
        """The Chebyshev center (in_features,) and radius: the largest ball inside; infinite where every ball fits."""
        center, radius = largest_ball(self.halfspaces.normals, self._slack)
        return torch.as_tensor(center + self.x.numpy()), radius

    @cached_property
    def essential(self) -> np.ndarray:
        """Numbers of the halfspaces that matter, one of each set of equal ones (by HiGHS)."""
        inside, shift = self._slack, np.zeros(len(self.x))
        if inside.min(initial=np.inf) <= SAME:  # x lies on a boundary
            center, radius = self.ball
            if radius <= SAME:
                raise BadInput("x: it lies on a boundary and its region has no interior; move x off the boundary")
            shift = center.numpy() - self.x.numpy()
            inside = inside - self.halfspaces.normals @ shift
        return essential(self.halfspaces.normals, inside)

    @cached_property
    def facets(self) -> tuple[Facet, ...]:
        """The sides of the region, the nearest to x first."""
        of, slack, found = self.halfspaces, self._slack, []
        for number in sorted(self.essential.tolist(), key=lambda number: slack[number]):
            # Of equal halfspaces one is essential; the units of all of them change on its side.
            parallel = of.normals @ of.normals[number] > 1 - SAME
            same = parallel & (np.abs(slack - slack[number]) <= SAME * (1 + slack[number]))
            pairs = zip(of.operator[same], of.unit[same], strict=True)
            units = tuple((of.operators[operator], int(unit)) for operator, unit in pairs)
            normal, bound = torch.as_tensor(of.normals[number]), float(of.bounds[number])
            found.append(Facet(normal, bound, units, float(slack[number])))
        return tuple(found)

    @property
    def distance(self) -> float:
        """From x to the nearest boundary; infinite where there is none."""
        return float(self._slack.min(initial=np.inf))

    @cached_property
    def decision(self) -> tuple[float, Tensor, int] | None:
        """The nearest place of the region where another class draws level, if there is one.

        (distance from x, place (in_features,), class); the class is -1 for a single output, which reaches zero there.

        Raises:
            BadInput: When the output is one or several values, not a class.
        """
        task = self.space.net.task_at(self.space.graph.outputs[0])
        require_classes(task, "decision", "affine_map() gives the values all over the region")
        amap = self.affine_map()
        value = amap.value[0].flatten().numpy()
        slopes = torch.cat([s[0].reshape(len(value), -1) for s in tree_leaves(amap.slopes)], 1).numpy()
        own = int(value.argmax())
        # What a mask has put at infinity is never reached.
        others = [c for c in range(len(value)) if c != own and np.isfinite(value[[own, c]]).all()]
        # On the region each rival draws level on a plane. From the nearest plane on, the nearest place of the region
        # beyond it; a plane farther than the best place so far cannot hold a nearer one.
        rivals = [(c, slopes[own] - slopes[c], value[own] - value[c]) for c in others]
        if len(value) == 1:
            side = 1.0 if value[0] >= 0 else -1.0
            rivals = [(-1, side * slopes[0], abs(value[0]))]
        lengths = [np.linalg.norm(plane) for _, plane, _ in rivals]
        away = [gap / length if length else np.inf for (_, _, gap), length in zip(rivals, lengths, strict=True)]
        best: tuple[float, Tensor, int] | None = None
        for n in np.argsort(away, kind="stable").tolist():
            other, plane, gap = rivals[n]
            if lengths[n] == 0 or best is not None and away[n] >= best[0]:
                break
            step = nearest(self.halfspaces.normals, self._slack.clip(min=0), plane, gap)
            if step is not None and (best is None or np.linalg.norm(step) < best[0]):
                best = float(np.linalg.norm(step)), self.x + torch.as_tensor(step), other
        return best

    def neighbors(self) -> tuple[Neighbor, ...]:
        """The regions beyond all facets but the box's, in order; of a facet's units some may keep their codes."""
        normals, slack = self.halfspaces.normals, self._slack
        found = []
        for number, facet in enumerate(self.facets):
            if facet.units[0][0] == "bounds":
                continue
            # Inside the facet a step has the most room: it leaves from the middle of the largest ball there.
            normal = facet.normal.numpy()
            others = normals @ normal < 1 - SAME
            place, radius = largest_ball(normals[others], slack[others], normal, facet.distance)
            found.append(self.beyond(number, place + self.x.numpy(), min(radius, 1.0)))
        return tuple(found)

    def beyond(self, facet: int, place: np.ndarray, radius: float) -> Neighbor:
        """The neighbor beyond a place (in_features,) on a facet, within which a ball around it has this radius."""
        # Too long a step may leave the neighbor, too short a one may not reach it: of several lengths the first is
        # taken at which just the facet's units change.
        side = self.facets[facet]
        steps = radius * np.array(STEPS)
        rows = place + steps[:, None] * side.normal.numpy()
        codes = self.space.codes(np.concatenate([self._inside[None], rows]))
        flips = codes[1:] != codes[0]
        expected = set(side.units)
        labels = [set(self.space.labels(flip)) for flip in flips]
        exact = [n for n, label in enumerate(labels) if label == expected]
        # units that are zero all over one of the two regions may change as well, or stay as they are
        differing = np.flatnonzero((flips != flips[-1]).any(1))
        stable = int(differing.max(initial=-1)) + 1 if labels[-1] & expected else None
        chosen = exact[0] if exact else max((n for n, label in enumerate(labels) if label >= expected), default=stable)
        if chosen is None:
            reason = (
                f"beyond facet {facet} of the units {sorted(expected)} some should change, but {sorted(labels[-1])} do"
            )
            raise PartitionError(reason, tuple(place.tolist()), cure=CURE)
        flipped = tuple(self.space.labels(flips[chosen]))
        return Neighbor(facet, torch.as_tensor(place), torch.as_tensor(rows[chosen]), flipped)

    def contains(self, points: Tensor, tolerance: float = SAME) -> Tensor:
        """(points,) whether points (points, in_features) lie in the region, or outside by at most the tolerance."""
        ahead = points.double().numpy() @ self.halfspaces.normals.T - self.halfspaces.bounds
        return torch.as_tensor(ahead.max(1, initial=-np.inf) <= tolerance)

    def inputs(self, points: Tensor) -> Any:
        """Points (points, in_features) as the network takes them, in float64."""
        return self.space.batch(points.double().numpy())

    def affine_map(self, **options: Any) -> AffineMap:
        """The network's affine map on the region; options as of :meth:`maxaffine.SplineNetwork.affine_map`."""
        return self.space.net.affine_map(self.inputs(self.x[None]), **(self.space.options | options))

    def plot(
        self, ax: Axes | None = None, radius: float | None = None, *, linewidth: float = 1.2, size: float = 4.5
    ) -> Axes:
        """Draw a region of two dimensions and x in it.

        Args:
            ax: Where to draw; axes of a new figure by default.
            radius: How far around x; by default most of what is bounded.
            linewidth: Of the boundaries, in points; 0 draws none.
            size: Side of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: Of more or fewer dimensions.
            MaxAffineError: When matplotlib is absent.
        """
        if len(self.x) != 2:
            raise BadInput(f"plot: {len(self.x)} dimensions, not 2; draw a plane instead: partition.plane")
        ax, inside = axes_for(ax, 4.5, 4.5, sheet=False, size=size), self._inside
        sizes = [size for size in (self.ball[1], self.distance) if 0 < size < np.inf]
        reach = radius or (4 * sizes[0] if sizes else 1.0)
        # The region may be unbounded: what is seen of it is not.
        seen = clipped(Cells.box(inside - reach, inside + reach), self.halfspaces.normals, self.halfspaces.bounds)
        places = ring(seen.places)
        ax.fill(*places.T, facecolor=CLASSES[1], alpha=0.5)
        for side in zip(places, np.roll(places, -1, axis=0), strict=True):
            ends = np.stack(side)
            if (np.abs(ends @ self.halfspaces.normals.T - self.halfspaces.bounds) <= SAME * reach).all(0).any():
                ax.plot(*ends.T, color="#333333", linewidth=linewidth)
        ax.plot(*self.x.numpy(), "o", color="white", markeredgecolor="black", markersize=5)
        ax.set_aspect("equal")
        return ax

    def codes(self) -> Codes:
        """The codes of the region."""
        return self.space.net.codes(self.inputs(self.x[None]), operators=list(self.space.operators))

    @property
    def _slack(self) -> np.ndarray:
        return self.halfspaces.slack(self.x.numpy())

    @property
    def _inside(self) -> np.ndarray:
        return self.x.numpy() if self._slack.min(initial=np.inf) > SAME else self.ball[0].numpy()

    def __repr__(self) -> str:
        size = f"{len(self.halfspaces)} halfspaces in {len(self.x)} dimensions"
        return f"Region: {size}, nearest boundary at {self.distance:.4g}"


def region(
    net: SplineNetwork,
    x: Any,
    *,
    until: str | None = None,
    output: int | str | None = None,
    bounds: Any = None,
    limit: int = LIMIT,
) -> Region:
    """The region of the partition that contains x, as a polytope of the whole input space.

    {y: every unit of every operator is on the piece that it is on at x}. Where x lies on a boundary, the lowest piece
    counts, as for codes. For large inputs see :func:`line` and :func:`plane`.

    Args:
        net: The network. One captured in another type is computed in float64.
        x: One input, as at capture (a batch of one; also in float64).
        until: Name of an operator or module after which boundaries do not count.
        output: Which output, by number or name, for a network with several; boundaries that it does not need do not
            count.
        bounds: (low, high), numbers or one per feature: a box that bounds the region as well.
        limit: The most numbers that the slopes of all units may take together.

    Returns:
        The region; facets, balls and neighbors are computed on first use.

    Raises:
        BadInput: For a network or input that is too large, and for bad inputs.
        NotPiecewiseAffine: For an operator whose pieces are not convex sets of its inputs (median, k-th value).

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> found = ma.partition.region(net, torch.tensor([[1.0, -3.0]]))
        >>> found.distance, [facet.units for facet in found.facets]
        (1.0, [(('relu', 0),), (('relu', 1),)])
    """
    like = one_input(net, x, "x")
    space = Space(net, like, until, output, limit)
    point = torch.cat([item.flatten() for item in like if item.is_floating_point()]).cpu().numpy()
    found = space.halfspaces(point)
    if bounds is not None:
        found = found.joined(box(*sides(bounds, space.features)))
        if found.slack(point).min() < 0:
            raise BadInput("bounds: x lies outside the box")
    return Region(torch.as_tensor(point), found, space)
