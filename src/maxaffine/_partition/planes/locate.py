"""Which cell holds a point: a grid of bins narrows down the cells, their edges decide.

A point lies in a convex cell where it is on the left of all its sides, and its least distance from them is how deep it
lies inside. Bins are about half as many as cells, so that a point is tried against a few cells and not a million.
"""

import numpy as np

from maxaffine._chunks import slices
from maxaffine._partition.planes.complex.cells import Complex, cross, owners, places, spans, starts_of

PAIRS_AT_ONCE = 2**20
CELLS_PER_BIN = 2
MOST_BINS = 2**10  # along one axis


class Locator:
    """Bins over a complex, each with the cells whose bounding boxes reach into it."""

    def __init__(self, cells: Complex, tolerance: float) -> None:
        self.cells = cells
        self.tolerance = tolerance  # how far outside a point still counts as inside, where rounding leaves it in none
        corners = cells.points[cells.corners]
        low = np.minimum.reduceat(corners, cells.starts[:-1])
        high = np.maximum.reduceat(corners, cells.starts[:-1])
        self.origin, reach = low.min(0), np.ptp(corners, axis=0)
        self.bins = int(np.clip(np.sqrt(len(low) / CELLS_PER_BIN), 1, MOST_BINS))
        self.size = np.maximum(reach / self.bins, np.finfo(float).tiny)
        # Every cell stands in each bin of the rectangle that its bounding box covers.
        first, last = self._bin(low), self._bin(high)
        spread = last - first + 1
        counts = spread.prod(1)
        cell, step = owners(counts), places(counts)
        column = first[cell, 0] + step // spread[cell, 1]
        row = first[cell, 1] + step % spread[cell, 1]
        key = column * self.bins + row
        order = np.argsort(key, kind="stable")
        self.members = cell[order]
        self.starts = starts_of(np.bincount(key, minlength=self.bins**2))

    def _bin(self, points: np.ndarray) -> np.ndarray:
        """Column and row of the bin of each point; of one outside, the nearest."""
        return np.clip((points - self.origin) / self.size, 0, self.bins - 1).astype(np.int64)

    def locate(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cell of each point (N, 2), -1 in none; and how far inside of it the point lies."""
        each = max(1, int(len(self.members) / self.bins**2 * 8))  # about how many sides a point is tried against
        parts = [self._locate(t[part]) for part in slices(max(1, len(t)), PAIRS_AT_ONCE // each)]
        cell, depth = (np.concatenate(items) for items in zip(*parts, strict=True))
        return cell, depth

    def _locate(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of a few points."""
        where = self._bin(t)
        key = where[:, 0] * self.bins + where[:, 1]
        counts = np.diff(self.starts)[key]
        point, cell = owners(counts), self.members[spans(self.starts[key], counts)]
        sides = self.cells.counts[cell]
        pair, half = owners(sides), spans(self.cells.starts[cell], sides)
        start = self.cells.points[self.cells.corners[half]]
        along = self.cells.points[self.cells.corners[self.cells.following[half]]] - start
        inside = cross(along, t[point[pair]] - start) / np.maximum(np.hypot(*along.T), np.finfo(float).tiny)
        depth = np.minimum.reduceat(inside, np.cumsum(sides) - sides) if len(sides) else np.zeros(0)
        best, deep = np.full(len(t), -1), np.full(len(t), -np.inf)
        order = np.argsort(depth)  # the cell in which a point lies deepest is written last
        kept = order[depth[order] >= -self.tolerance]
        best[point[kept]], deep[point[kept]] = cell[kept], depth[kept]
        return best, deep
