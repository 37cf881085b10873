"""All regions of a small network within a box.

Regions share facets, so a walk from one to the next across every facet reaches all of them, without a list of codes
that might occur. That none was missed shows in the end: the volumes must add up to the box's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from maxaffine._partition.space.halfspaces import Halfspaces, Space, box, sides
from maxaffine._partition.space.polytope import SAME, corners, ring, volume
from maxaffine._partition.space.region import LIMIT, STEPS
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, PartitionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

DIMENSIONS = 5
CURE = "boundaries may nearly coincide; shift the box a little"
VOLUME = 1e-6  # how much of the box's volume may be missing before the list counts as incomplete


@dataclass(frozen=True, eq=False)
class Regions:
    """All regions of a network within a box; made by :func:`regions`.

    Attributes:
        points: (regions, in_features) a place inside every region: the mean of its corners.
        volumes: (regions,) of the part inside the box; they add up to the box's.
        neighbors: (pairs, 2) numbers of regions that share a facet.
        codes: The codes of every region.
        corners: (corners, in_features) of the part of every region inside the box.
        space: The input space.
    """

    points: Tensor
    volumes: Tensor
    neighbors: Tensor
    codes: Codes
    corners: tuple[Tensor, ...] = field(repr=False)
    space: Space = field(repr=False)

    def __len__(self) -> int:
        return len(self.points)

    def affine_map(self, **options: Any) -> AffineMap:
        """The affine map of every region, lazy; options as of :meth:`maxaffine.SplineNetwork.affine_map`."""
        return self.space.net.affine_map(self.space.batch(self.points.numpy()), **(self.space.options | options))

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
        if self.points.shape[1] != 2:
            raise BadInput(f"plot: {self.points.shape[1]} dimensions, not 2; draw a plane instead: partition.plane")
        ax = axes_for(ax, 4.5, 4.5, sheet=False, size=size)
        for number, places in enumerate(self.corners):
            every = number / max(1, len(self) - 1)
            color = CLASSES[number % len(CLASSES)] if cmap is None else color_map(cmap, "viridis")(every)
            ax.fill(*ring(places.numpy()).T, facecolor=color, alpha=0.5, edgecolor="#333333", linewidth=linewidth)
        ax.set_aspect("equal")
        ax.set_title(f"{len(self)} regions", fontsize=9)
        return ax

    def __repr__(self) -> str:
        return f"Regions: {len(self)} in {self.points.shape[1]} dimensions, {len(self.neighbors)} pairs of neighbors"


def regions(
    net: SplineNetwork,
    bounds: Any,
    *,
    until: str | None = None,
    output: int | str | None = None,
    max_regions: int = 20_000,
    progress: bool | None = None,
) -> Regions:
    """Every region of a network with up to five input dimensions within a box.

    From the middle of the box on, every facet of every region is crossed once; the volumes of all regions must add up
    to the volume of the box.

    Args:
        net: The network. One captured in another type is computed in float64.
        bounds: (low, high), numbers or one per feature.
        until: Name of an operator or module after which boundaries do not count.
        output: Which output, by number or name, for a network with several.
        max_regions: Refuse to go beyond this many.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The regions.

    Raises:
        BadInput: For more dimensions than five, more regions than ``max_regions``, or bad bounds.
        PartitionError: When the volumes do not add up.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 3))
        >>> len(ma.partition.regions(net, (-1, 1)))
        8
    """
    require_network(net)
    if not all(dtype.is_floating_point for dtype in net.inputs.dtypes):
        raise BadInput("net: one of its inputs is not floating point; use partition.region around single inputs")
    units, dims = net.inputs.units, net.inputs.batch_dims
    low, high = sides(bounds, sum(map(prod, units)))
    # One input in the middle of the box says how the network takes its inputs.
    parts = torch.as_tensor((low + high) / 2).split([prod(shape) for shape in units])
    like = (part.reshape(shape).unsqueeze(dim) for part, shape, dim in zip(parts, units, dims, strict=True))
    space = Space(net, tuple(like), until, output, LIMIT)
    if space.features > DIMENSIONS:
        raise BadInput(
            f"net: it takes {space.features} numbers, and regions can be listed in up to {DIMENSIONS} dimensions; use"
            " partition.line or partition.plane, or partition.region around single inputs"
        )
    search = _Search(space, low, high)
    with progress_bar(progress, "regions", unit="region") as bar:
        for _ in search.run():
            bar.update()
            if len(search.points) > max_regions:
                raise BadInput(
                    f"max_regions: there are more than {max_regions} regions; raise it or choose a smaller box"
                )
    return search.result()


class _Search:
    """A breadth-first walk over the regions."""

    def __init__(self, space: Space, low: np.ndarray, high: np.ndarray) -> None:
        self.space = space
        self.low, self.high = low, high
        self.box = box(low, high)
        # Regions are numbered as they are first seen, which is the order in which they are visited.
        self.known: dict[bytes, int] = {}
        self.points: list[np.ndarray] = []
        self.volumes: list[float] = []
        self.corners: list[Tensor] = []
        self.pairs: set[tuple[int, int]] = set()

    def run(self) -> Iterator[int]:
        """Visit one region after another."""
        queue: deque[np.ndarray] = deque([self._generic_start()])
        self._number(self.space.codes(queue[0][None])[0])
        while queue:
            point = queue.popleft()
            number = len(self.points)
            found = self.space.halfspaces(point).joined(self.box)
            slack = found.slack(point)
            if slack.min() <= 0:
                raise PartitionError("a point lies on a boundary of its own region", tuple(point.tolist()), cure=CURE)
            places, on = corners(found.normals, slack)
            places = places + point
            self.points.append(places.mean(0))
            self.volumes.append(volume(places, on))
            self.corners.append(torch.as_tensor(places))
            yield number
            rows, normals = self._facets(found, places, on)
            if not len(rows):
                continue
            for row, code in zip(*self._across(point, rows, normals), strict=True):
                other, new = self._number(code)
                self.pairs.add((min(number, other), max(number, other)))
                if new:
                    queue.append(row)

    def result(self) -> Regions:
        """What was found, once the volumes add up."""
        whole, total = float(np.prod(self.high - self.low)), sum(self.volumes)
        if abs(total - whole) > VOLUME * whole:
            reason = f"the volumes of {len(self.points)} regions add up to {total:.9g}, not to the box's {whole:.9g}"
            raise PartitionError(reason, cure=CURE)
        points = torch.as_tensor(np.array(self.points))
        pairs = torch.tensor(sorted(p for p in self.pairs if p[0] != p[1]), dtype=torch.long).reshape(-1, 2)
        codes = self.space.net.codes(self.space.batch(points.numpy()), operators=list(self.space.operators))
        volumes = torch.tensor(self.volumes, dtype=torch.float64)
        return Regions(points, volumes, pairs, codes, tuple(self.corners), self.space)

    def _number(self, codes: np.ndarray) -> tuple[int, bool]:
        """The number of the region with these codes, and whether it is new."""
        key = codes.astype(np.int32).tobytes()
        new = key not in self.known
        return self.known.setdefault(key, len(self.known)), new

    def _generic_start(self) -> np.ndarray:
        """A place near the middle that lies on no boundary."""
        random = np.random.default_rng(0)
        width = self.high - self.low
        for size in (0.0, 1e-3, 1e-2, 1e-1):
            point = (self.low + self.high) / 2 + size * width * (random.random(len(width)) - 0.5)
            slack = self.space.halfspaces(point).slack(point)
            if slack.min(initial=np.inf) > 1e-6 * width.min():
                return point
        return point

    def _facets(self, found: Halfspaces, places: np.ndarray, on: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """A place on every facet but those of the box, and the facets' normals; equal halfspaces count once."""
        facets: dict[bytes, int] = {}
        for number, corners_of in enumerate(on):
            # A halfspace that touches the region in a corner or an edge alone has too few corners for a facet.
            if len(corners_of) >= places.shape[1]:
                facets.setdefault(corners_of.tobytes(), number)
        kept = list(facets.values())
        rows = np.array([places[on[number]].mean(0) for number in kept])
        rim = SAME * (self.high - self.low)  # units' boundaries may lie along the box's sides
        inner = ((rows > self.low + rim) & (rows < self.high - rim)).all(1)
        return rows[inner], found.normals[kept][inner]

    def _across(self, point: np.ndarray, rows: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A place just beyond every facet and its codes, at the longest step that changes as little as the shortest."""
        # Too long a step may leave the neighbor, too short a one may drown in rounding.
        width = float((self.high - self.low).min())
        beyond = rows + np.array(STEPS)[:, None, None] * width * 1e-2 * normals
        flat = beyond.reshape(-1, rows.shape[1])
        codes = self.space.codes(np.concatenate([point[None], flat]))
        flips = (codes[1:] != codes[0]).reshape(len(STEPS), len(rows), -1)
        changed = (flips == flips[-1]).all(2) & flips.any(2)
        chosen = np.where(changed.any(0), changed.argmax(0), len(STEPS) - 1)
        places = np.arange(len(rows))
        return beyond[chosen, places], codes[1:].reshape(*flips.shape[:2], -1)[chosen, places]
