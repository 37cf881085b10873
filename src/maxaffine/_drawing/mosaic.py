"""Many polygons and many segments, drawn as few paths: matplotlib's time goes by the path, not by the corner.

All cells of one color are one path, and thousands of edges are one; what is drawn stays the same, polygon for polygon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The rasterizer gives up on a path that covers too much at once; pieces of this many polygons or segments cost nothing.
PIECE = 4000


def fill_polygons(
    ax: Axes,
    points: np.ndarray,
    corners: np.ndarray,
    starts: np.ndarray,
    colors: np.ndarray,
    palette: np.ndarray,
    rasterized: bool = False,
) -> None:
    """Fill polygon f, with corners ``points[corners[starts[f] : starts[f + 1]]]``, in color ``palette[colors[f]]``."""
    from matplotlib.collections import PathCollection

    paths, drawn = [], []
    for color in np.unique(colors).tolist():
        for cells in _pieces(np.flatnonzero(colors == color)):
            paths.append(_rings(points, corners, starts, cells))
            drawn.append(palette[color])
    # Two antialiased neighbors each cover a part of the pixels between them, and the page shines through what is left.
    # Beneath the smooth drawing lies one with hard edges, in which every pixel has a color.
    for smooth in (False, True):
        style = {"facecolors": drawn, "edgecolors": "none", "linewidths": 0, "antialiaseds": smooth}
        ax.add_collection(PathCollection(paths, rasterized=rasterized, zorder=0.9, **style), autolim=False)


def draw_strokes(ax: Axes, segments: np.ndarray, color: str, width: float, rasterized: bool = False) -> None:
    """Draw segments, (N, 2, 2): both ends of each."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    codes = np.array([Path.MOVETO, Path.LINETO], np.uint8)
    paths = [Path(piece.reshape(-1, 2), np.tile(codes, len(piece))) for piece in _pieces(segments)]
    style = {"facecolors": "none", "edgecolors": color, "linewidths": width, "capstyle": "round"}
    ax.add_collection(PathCollection(paths, rasterized=rasterized, zorder=2, **style), autolim=False)


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    """The rows in pieces of about `PIECE`; none of none."""
    return np.array_split(rows, -(-len(rows) // PIECE)) if len(rows) else []


def _rings(points: np.ndarray, corners: np.ndarray, starts: np.ndarray, cells: np.ndarray):
    """One path of several closed polygons."""
    from matplotlib.path import Path

    # Each ring takes one row more than it has corners: the last one closes it, and its point is not looked at.
    lengths = starts[cells + 1] - starts[cells] + 1
    ends = lengths.cumsum()
    within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    rows = np.repeat(starts[cells], lengths) + within
    rows[ends - 1] = starts[cells]
    codes = np.full(len(rows), Path.LINETO, np.uint8)
    codes[ends - lengths], codes[ends - 1] = Path.MOVETO, Path.CLOSEPOLY
    return Path(points[corners[rows]], codes)
