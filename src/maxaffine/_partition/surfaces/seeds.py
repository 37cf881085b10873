"""Where a level set is entered: its crossings with the lines of a grid, or a point in each of all regions.

A line is followed exactly: level by level its breakpoints are found, between which the network is affine. So no
crossing with it is missed, however thin the level set is there. Many lines are followed at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import Comparisons
from maxaffine._partition.lines.cuts import takeovers
from maxaffine._partition.planes.levels import Level, Rows
from maxaffine._partition.space.regions import Regions
from maxaffine._partition.surfaces.germs import RUN, Field, gaps
from maxaffine.errors import BadInput

OFF = 0.0377  # of the spacing, by which lines lie off the middle: symmetric networks have boundaries there
AT_ONCE = 2**23  # lines times units squared, a line having about as many pieces as the network has units
TOUCH = 1e-10  # of the box, and of the output's largest value: nearer to a side of the box, or to the level, is on it


def grid_crossings(space: Field, lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) where ``lines`` squared lines along each axis cross the level set; and the lines' directions."""
    low, high = space.box
    cells = np.stack(np.meshgrid(*[np.arange(lines)] * 2, indexing="ij"), -1).reshape(-1, 2)
    found = []
    for axis in range(3):
        # A line goes through the middle of its cells, but for a little.
        inside = np.insert(cells, axis, 0, axis=1) + 0.5 + OFF * (1 + np.arange(3))
        ends = np.stack([low + inside * (high - low) / lines] * 2, 1)
        ends[:, :, axis] = low[axis], high[axis]
        for part in slices(len(ends), AT_ONCE // max(1, space.units) ** 2):
            found.append(_crossings(space, ends[part]))
    places, ways, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    space.scale = max(space.scale, float(np.abs(values).max()))  # at a few places it may have the level by chance
    # On a ridge at the level rounding can feign a crossing: the output comes up to the level there, and goes back.
    ahead, back = _beside(space, places, ways)
    kept = ahead * back >= 0
    return _required(space, places[kept], ways[kept], values.min(), values.max())


def _crossings(space: Field, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points where lines between two ends (N, 2, 3) cross the level set, their directions, and values on the way."""
    points, line = ends.reshape(-1, 3), np.repeat(np.arange(len(ends)), 2)
    rows = space.start(points)
    for place, level in enumerate(space.levels):
        rows = level.run(rows) if place else rows
        if level.step is None:
            break
        piece, share = _breaks(level, rows, line)
        order = np.lexsort((np.append(np.zeros(len(line)), share), np.append(np.arange(len(line)), piece)))
        rows = {n: torch.cat([item, _between(item, piece, share)])[order] for n, item in rows.items()}
        points = np.concatenate([points, _between(torch.from_numpy(points), piece, share).numpy()])[order]
        line = np.concatenate([line, line[piece]])[order]
    value = space.output_of(rows)
    below = value < 0
    (crossed,) = np.nonzero((below[1:] != below[:-1]) & (line[1:] == line[:-1]))
    share = value[crossed] / (value[crossed] - value[crossed + 1])
    way = (ends[:, 1] - ends[:, 0])[line[crossed]]
    places = _between(torch.from_numpy(points), crossed, share).numpy()
    return places, way / np.linalg.norm(way, axis=1, keepdims=True), value


def _between(rows: Tensor, piece: np.ndarray, share: np.ndarray) -> Tensor:
    """Rows at shares of the way from one to the next."""
    first, second = rows[piece], rows[piece + 1]
    # What a mask has put at infinity stays there, and so do whole numbers.
    if not rows.is_floating_point():
        return first
    return torch.where(first == second, first, first + torch.from_numpy(share)[:, None] * (second - first))


def _breaks(level: Level, rows: Rows, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the operator after a level changes its piece between neighboring rows: the first of these, and a share."""
    inner = torch.from_numpy(line[1:] == line[:-1])
    if isinstance(level.boundaries, Comparisons):
        gap, _ = gaps(level, rows, [])
        above = gap > 0
        piece, unit = torch.nonzero((above[1:] != above[:-1]) & inner[:, None], as_tuple=True)
        share = gap[piece, unit] / (gap[piece, unit] - gap[piece + 1, unit])
    else:
        scores = level.boundaries.factor * level.entries(rows)[:, torch.from_numpy(level.windows)]  # type: ignore[union-attr]
        winner = scores.argmax(-1)
        # Who wins at both ends wins between them.
        piece, unit = torch.nonzero((winner[1:] != winner[:-1]) & inner[:, None], as_tuple=True)
        which, share = takeovers(scores[piece, unit], scores[piece + 1, unit], 0.0)
        piece = piece[which]
    return piece.numpy(), share.numpy()


def region_crossings(space: Field, all_regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """A point inside the level set's part in every region that has one, and a direction there."""
    corners = [item.numpy() for item in all_regions.corners]
    counts, every = np.array([len(item) for item in corners]), np.concatenate(corners)
    starts, of = np.cumsum(counts) - counts, np.repeat(np.arange(len(counts)), counts)
    exact = space.values(every)
    space.scale = max(space.scale, float(np.abs(exact).max()))
    value = np.where(np.abs(exact) <= space.tolerance(TOUCH), 0, exact)
    every = every - space.center
    above, below, zero = (
        np.add.reduceat(item, starts)
        for item in (np.maximum(value, 0), np.maximum(-value, 0), (value == 0).astype(int))
    )
    # On a region the output is affine. Each corner below gets the sum of the values above as its weight, and the other
    # way around: their mean has the level, and as no weight is zero, it is inside the region and never on its rim.
    weights = np.where(value > 0, below[of], np.where(value < 0, above[of], (above + below)[of]))
    # Where no corner is on the other side, the level set may still be a whole side of the region.
    through, flat = (above > 0) & (below > 0), (above == 0) & (below == 0)
    weights = np.where(through[of], weights, value == 0)
    kept = through | flat | (zero >= 3)
    total = np.where(kept, np.add.reduceat(weights, starts), 1)
    points = np.add.reduceat(weights[:, None] * every, starts) / total[:, None]
    # A direction in which the output falls, into the region or out of it, by the sum of the squared values.
    ways = -np.add.reduceat(value[:, None] * (every - points[of]), starts)
    ways[flat] = 1
    points, ways, side = points[kept], ways[kept], np.flatnonzero(~(through | flat)[kept])
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    ahead, back = _beside(space, points[side], ways[side])
    least = space.tolerance(TOUCH) / space.size
    crossed = np.ones(len(points), dtype=bool)
    crossed[side] = (ahead < -least) & (back < -least)  # not a ridge
    return _required(space, points[crossed], ways[crossed], exact.min(), exact.max())


def _beside(space: Field, points: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """(2, N) the output's rates along ways (N, 3) just after points, and just before them."""
    found = [np.zeros((2, 0))]
    for part in slices(len(points), RUN // (space.units + 6)):
        germs, way = space.at(points[part], ways[part]), ways[part]
        ahead = back = (germs.gradient.T * way).sum(1)
        if (germs.margins <= germs.near).any():  # else none lies on a boundary
            back = (space.at(points[part], -way).gradient.T * way).sum(1)
        found.append(np.stack([ahead, back]))
    return np.concatenate(found, 1)


def _required(
    space: Field, points: np.ndarray, directions: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points and directions, of which there must be some, inside the box: on its sides nothing is crossed."""
    inside = np.minimum(points - space.box[0], space.box[1] - points).min(1, initial=np.inf) > TOUCH * space.size
    points, directions = points[inside], directions[inside]
    if not len(points):
        low, high = low + space.level, high + space.level
        raise BadInput(
            f"level: the output does not pass through {space.level:g} where it was followed, and goes there from"
            f" {low:.6g} to {high:.6g}; choose a level between, more lines, or other bounds"
        )
    return points, directions
