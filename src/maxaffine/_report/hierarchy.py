"""The picture of a region hierarchy: the inputs as a column at every depth, cut where their regions divide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maxaffine._codes import Occupancy, RegionHierarchy
from maxaffine._report.extras import require
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by readers with any common color blindness (P. Tol, "muted"); more classes than these are not colored.
CLASSES = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#bbbbbb")
UNLABELED = ("#b8cbe0", "#e8eef5")
# Inches.
COLUMN, HEIGHT, HEAD, FOOT, LEFT, KEY = 1.15, 4.6, 0.35, 0.75, 0.45, 1.4
# Of a column.
BLOCK = 0.92
# A region less high than this many inches gets no outline, or the outlines would hide the colors.
OUTLINED = 0.02


def hierarchy_figure(hierarchy: RegionHierarchy, class_names: Sequence[str] | None = None, columns: int = 8) -> Figure:
    """Draw how the regions of deeper operators subdivide those of earlier ones, as nested blocks from left to right.

    Every column holds all inputs in the same order, a block per region of the operators so far, as high as the share of
    the inputs in it and colored by their commonest class; the last column holds the classes themselves.

    Args:
        hierarchy: What to draw.
        class_names: Names of the classes 0, 1, ...; their numbers by default.
        columns: Depths to show at most; evenly spaced ones, the first and the last among them.

    Returns:
        The figure.

    Raises:
        BadInput: Fewer than one column, a class without a name, or more classes than can be told apart by color.
        MaxAffineError: matplotlib is not installed.
    """  # noqa: DOC502
    require()
    if columns < 1:
        raise BadInput(f"columns is {columns}; give at least 1")
    names = _names(hierarchy, class_names)
    depths = np.unique(np.linspace(0, len(hierarchy.levels) - 1, columns).round().astype(int))
    classes = None if hierarchy.labels is None else hierarchy.labels.numpy()
    order = _order(hierarchy, classes)
    figure, ax = _sheet(len(depths) + (names is not None), bool(names))
    for place, depth in enumerate(depths.tolist()):
        level = hierarchy.levels[depth]
        ids = level.together.ids.numpy()
        _draw_column(ax, place, ids[order], None if classes is None else _commonest(ids, classes)[order])
        _say(ax, place, -HEAD / 2, level.operator, weight="bold")
        _say(ax, place, HEIGHT + 0.08, _facts(level.together), va="top")
    if names is not None and classes is not None:
        _draw_column(ax, len(depths), classes[order], classes[order])
        _say(ax, len(depths), -HEAD / 2, "class", weight="bold")
        _draw_key(ax, len(depths) + 1, names)
    ax.text(-0.12, HEIGHT / 2, f"{hierarchy.batch:,} inputs", rotation=90, ha="right", va="center", fontsize=8)
    return figure


def _names(hierarchy: RegionHierarchy, class_names: Sequence[str] | None) -> list[str] | None:
    if hierarchy.labels is None:
        return None
    low, high = int(hierarchy.labels.min()), int(hierarchy.labels.max())
    if low < 0 or high >= len(CLASSES):
        raise BadInput(
            f"hierarchy has the classes {low} to {high}, but colors tell {len(CLASSES)} apart; number them from 0 to"
            f" {len(CLASSES) - 1}, or count the regions without labels"
        )
    if class_names is not None and len(class_names) <= high:
        raise BadInput(f"class_names has {len(class_names)} names, but class {high} occurs; name every class")
    return [str(c) if class_names is None else class_names[c] for c in range(high + 1)]


def _order(hierarchy: RegionHierarchy, classes: np.ndarray | None) -> np.ndarray:
    """An order of the inputs in which every region of every level is contiguous: fuller regions come first."""
    keys = [] if classes is None else [classes]
    for level in reversed(hierarchy.levels):
        ids = level.together.ids.numpy()
        by_size = np.argsort(-np.bincount(ids), kind="stable")
        rank = np.empty_like(by_size)
        rank[by_size] = np.arange(len(by_size))
        keys.append(rank[ids])
    return np.lexsort(keys)


def _commonest(ids: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Commonest class of each input's region, (N,); the lowest of equally common ones."""
    counts = np.zeros((ids.max() + 1, classes.max() + 1), np.int64)
    np.add.at(counts, (ids, classes), 1)
    return counts.argmax(1)[ids]


def _sheet(columns: int, key: bool) -> tuple[Figure, Axes]:
    """An empty figure; a unit across is a column, a unit down is an inch."""
    from matplotlib.figure import Figure

    width = LEFT + columns * COLUMN + (KEY if key else 0.2)
    height = HEAD + HEIGHT + FOOT
    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((LEFT / width, 0, 1 - LEFT / width, 1))
    ax.set_xlim(0, (width - LEFT) / COLUMN)
    ax.set_ylim(HEIGHT + FOOT, -HEAD)
    ax.set_axis_off()
    return figure, ax


def _draw_column(ax: Axes, place: int, ids: np.ndarray, classes: np.ndarray | None) -> None:
    """One column of blocks; equal neighbors in `ids` make a block."""
    from matplotlib.collections import PolyCollection

    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    ends = np.append(starts[1:], len(ids))
    tops, bottoms = (HEIGHT / len(ids) * edges for edges in (starts, ends))
    lefts, rights = np.full_like(tops, place), np.full_like(tops, place + BLOCK)
    corners = np.stack([lefts, tops, rights, tops, rights, bottoms, lefts, bottoms], axis=1).reshape(-1, 4, 2)
    colors = [UNLABELED[n % 2] if classes is None else CLASSES[classes[start]] for n, start in enumerate(starts)]
    edges = np.where(bottoms - tops > OUTLINED, "white", colors).tolist()
    ax.add_collection(PolyCollection(list(corners), facecolors=colors, edgecolors=edges, linewidths=0.4))


def _facts(found: Occupancy) -> str:
    lines = [f"{found.regions:,} region{'s' if found.regions > 1 else ''}", f"{found.entropy:.2f} bits"]
    if found.purity is not None:
        lines.append(f"purity {found.purity:.2f}")
        pairs = "–" if found.pair_purity is None else f"{found.pair_purity:.2f}"
        lines.append(f"pair purity {pairs}")
    return "\n".join(lines)


def _say(ax: Axes, place: int, down: float, text: str, va: str = "center", weight: str = "normal") -> None:
    # An operator may be called "$5$", which is not a formula.
    style = {"va": va, "weight": weight, "fontsize": 8, "linespacing": 1.2, "parse_math": False}
    ax.text(place + BLOCK / 2, down, text, None, ha="center", **style)


def _draw_key(ax: Axes, place: int, names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        top = 0.1 + row * 0.24
        ax.bar(place + 0.2, 0.16, width=0.14, bottom=top, color=CLASSES[row])
        ax.text(place + 0.34, top + 0.08, name, va="center", fontsize=8, parse_math=False)
