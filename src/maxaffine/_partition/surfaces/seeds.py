"""Where a level set is entered: its crossings with the lines of a grid, or with the edges of all regions.

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


def grid_crossings(space: Field, lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) where ``lines`` squared lines along each axis cross the level set; and the lines' directions."""
    low, high = space.box
    width = (high - low) / lines
    cells = np.stack(np.meshgrid(*[np.arange(lines)] * 3, indexing="ij"), -1).reshape(-1, 3)
    starts, directions = [], []
    for axis in range(3):
        # Across, a line goes through the middle of its cells, but for a little; along, each cell is a stretch.
        inside = cells + np.where(np.arange(3) == axis, 0, 0.5 + OFF * (1 + np.arange(3)))
        starts.append(low + inside * width)
        directions.append(np.broadcast_to(np.eye(3)[axis] * width[axis], inside.shape))
    return _crossings(space, np.concatenate(starts), np.concatenate(directions))


def _crossings(space: Field, starts: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points where stretches from starts (N, 3) to starts + directions cross the level set."""
    done, below, begun = np.zeros(len(starts)), np.zeros(len(starts), dtype=bool), False
    lowest, highest = np.inf, -np.inf
    points, found = [np.zeros((0, 3))], [np.zeros((0, 3))]
    while len(starts):
        germs = space.at(starts + done[:, None] * directions, directions, alone=True)
        rate, slope = germs.slopes[0], germs.gradient[0]
        ahead = (rate < 0) & (germs.margins > germs.near)
        reach = np.divide(germs.margins, -rate, out=np.full(rate.shape, np.inf), where=ahead).min(1)
        step = np.minimum(reach, END - done)
        # The side at the end of a piece is that at the start of the next, whatever rounding makes of it.
        below = below if begun else germs.value < 0
        end = germs.value + slope * step < 0
        crossed = np.flatnonzero(below != end)
        steep = np.where(slope == 0, np.inf, slope)[crossed]  # where it is level, any place will do
        way = np.clip(-germs.value[crossed] / steep, 0, step[crossed])
        points.append(starts[crossed] + (done[crossed] + way)[:, None] * directions[crossed])
        found.append(directions[crossed])
        done = done + step
        going = done < END
        starts, directions, done, below, begun = starts[going], directions[going], done[going], end[going], True
        lowest, highest = min(lowest, germs.value.min()), max(highest, germs.value.max())
    return _required(space, np.concatenate(points), np.concatenate(found), lowest, highest)


def region_crossings(space: Field, all_regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """A point in every region that the level set passes through, and a direction there."""
    # On a region the output is affine: where it passes through the level, corners lie on both sides of it.
    corners = [item.numpy() for item in all_regions.corners]
    starts = np.cumsum([0, *map(len, corners)])
    every = np.concatenate(corners)
    value = space.values(every)
    order = np.lexsort((value, np.repeat(np.arange(len(corners)), np.diff(starts))))
    low, high = order[starts[:-1]], order[starts[1:] - 1]
    crossed = (value[low] < 0) & (value[high] > 0)
    low, high = low[crossed], high[crossed]
    share = value[low] / (value[low] - value[high])
    # Toward the region's middle from there on, for the line between two corners may lie on its side.
    points = every[low] + share[:, None] * (every[high] - every[low])
    directions = all_regions.points.numpy()[crossed] - points
    return _required(space, points, directions, value.min(), value.max())


def _required(
    space: Field, points: np.ndarray, directions: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points and directions, of which there must be some."""
    if not len(points):
        low, high = low + space.level, high + space.level
        raise BadInput(
            f"level: the output does not pass through {space.level:g} where it was followed, and goes there from"
            f" {low:.6g} to {high:.6g}; choose a level between, more lines, or other bounds"
        )
    return points, directions
