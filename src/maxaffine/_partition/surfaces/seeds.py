"""Where a level set is entered: its crossings with the lines of a grid, or a point in each of all regions.

A line is followed exactly, from boundary to boundary, so that no crossing with it is missed however thin the level set
is there. All lines are followed at once, and each in several stretches.
"""

from __future__ import annotations

import numpy as np

from maxaffine._partition.space.regions import Regions
from maxaffine._partition.surfaces.germs import Field
from maxaffine.errors import BadInput

OFF = 0.0377  # of the spacing, by which lines lie off the middle: symmetric networks have boundaries there

END = 1 + 1e-6  # stretches overlap: a crossing at the end of one is in the middle of none
TOUCH = 1e-10  # of the box, and of the output's largest value: nearer to a side of the box, or to the level, is on it


def grid_crossings(space: Field, lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) where ``lines`` squared lines along each axis cross the level set; and the lines' directions."""
    low, high = space.box
    width = (high - low) / lines
    cells = np.stack(np.meshgrid(*[np.arange(lines)] * 3, indexing="ij"), -1).reshape(-1, 3)
    starts, directions, ends = [], [], []
    for axis in range(3):
        # Across, a line goes through the middle of its cells, but for a little; along, each cell is a stretch.
        inside = cells + np.where(np.arange(3) == axis, 0, 0.5 + OFF * (1 + np.arange(3)))
        starts.append(low + inside * width)
        directions.append(np.broadcast_to(np.eye(3)[axis] * width[axis], inside.shape))
        ends.append(np.where(cells[:, axis] == lines - 1, 1, END))  # the last one must not leave the box
    return _crossings(space, *(np.concatenate(parts) for parts in (starts, directions, ends)))


def _crossings(
    space: Field, starts: np.ndarray, directions: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points where stretches from starts (N, 3) to starts + ends * directions cross the level set."""
    done, below, begun = np.zeros(len(starts)), np.zeros(len(starts), dtype=bool), False
    lowest, highest = np.inf, -np.inf
    points, found = [np.zeros((0, 3))], [np.zeros((0, 3))]
    while len(starts):
        germs = space.at(starts + done[:, None] * directions, directions, alone=True)
        rate, slope = germs.slopes[0], germs.gradient[0]
        ahead = (rate < 0) & (germs.margins > germs.near)
        reach = np.divide(germs.margins, -rate, out=np.full(rate.shape, np.inf), where=ahead).min(1)
        step = np.minimum(reach, ends - done)
        # The side at the end of a piece is that at the start of the next, whatever rounding makes of it.
        below = below if begun else germs.value < 0
        end = germs.value + slope * step < 0
        crossed = np.flatnonzero(below != end)
        steep = np.where(slope == 0, np.inf, slope)[crossed]  # where it is level, any place will do
        way = np.clip(-germs.value[crossed] / steep, 0, step[crossed])
        points.append(starts[crossed] + (done[crossed] + way)[:, None] * directions[crossed])
        found.append(directions[crossed])
        done = done + step
        going = done < ends
        starts, directions, ends, done, below = (item[going] for item in (starts, directions, ends, done, end))
        begun = True
        lowest, highest = min(lowest, germs.value.min()), max(highest, germs.value.max())
    places, ways = np.concatenate(points), np.concatenate(found)
    # On a ridge at the level rounding can feign a crossing: the output comes up to the level there, and goes back.
    ahead, back = _beside(space, places, ways)
    kept = ahead * back >= 0
    return _required(space, places[kept], ways[kept], lowest, highest)


def region_crossings(space: Field, all_regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """A point inside the level set's part in every region that has one, and a direction there."""
    corners = [item.numpy() for item in all_regions.corners]
    counts, every = np.array([len(item) for item in corners]), np.concatenate(corners)
    starts, of = np.cumsum(counts) - counts, np.repeat(np.arange(len(counts)), counts)
    exact = space.values(every)
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


def _beside(space: Field, points: np.ndarray, ways: np.ndarray) -> list[np.ndarray]:
    """The output's rates along ways (N, 3) just after points, and just before them."""
    if not len(points):
        return [np.zeros(0)] * 2
    return [(space.at(points, sign * ways).gradient.T * ways).sum(1) for sign in (1, -1)]


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
