"""How the regions of deeper operators subdivide those of earlier ones, counted on the inputs of a data set."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maxaffine._codes.mapping import Codes
from maxaffine._drawing import CLASSES, axes_for, html_table, text_table
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ("operator", "units", "regions", "entropy", "largest", "alone", "purity", "pair purity")
UNLABELED = ("#b8cbe0", "#e8eef5")
# Of the picture, in inches: a column, its height, the room above, below, to the left, and for the names of the classes.
COLUMN, HEIGHT, HEAD, FOOT, LEFT, KEY = 1.15, 4.6, 0.35, 0.75, 0.45, 1.4
# How much of a column its blocks take; one that is less high than this many inches gets no outline.
BLOCK, OUTLINED = 0.92, 0.02


@dataclass(frozen=True, eq=False)
class Occupancy:
    """The regions of one partition that some inputs occupy."""

    ids: torch.Tensor  # region of each input, (N,) int64, counted from 0 in order of first appearance
    regions: int  # number of occupied regions M
    entropy: float  # -sum_m p_m log2 p_m in bits, p_m the share of the inputs in region m; at most log2 N
    largest: int  # inputs in the fullest region
    alone: int  # inputs that have a region of their own
    # Share of the inputs that belong to the commonest class of their region. A region with one input is pure, so it
    # grows with the number of regions alone. None without labels.
    purity: float | None
    # Share of the pairs of different inputs in one region that have the same class: the chance that another input of
    # the same region is of the same class, whatever the number of regions. None also where every input is alone.
    pair_purity: float | None


@dataclass(frozen=True, eq=False)
class RegionLevel:
    """One depth of a hierarchy."""

    operator: str  # its name
    units: int  # its number of units K
    pieces: int  # its pieces R
    together: Occupancy  # regions of the operators up to and including this one, which subdivide those before
    itself: Occupancy  # regions of this operator alone; two may lie in one of the level before, or the reverse


@dataclass(frozen=True, eq=False)
class RegionHierarchy:
    """The regions that some inputs occupy, from the first operator to the last; made by `region_hierarchy`.

    Args:
        levels: One per operator, in order of depth.
        labels: Class of each input, (N,) int64, or None.
    """

    levels: tuple[RegionLevel, ...]
    labels: torch.Tensor | None

    @property
    def batch(self) -> int:
        """Number of inputs N."""
        return len(self.levels[0].together.ids)

    def flows(self, depth: int) -> torch.Tensor:
        """How the regions of one level fall apart at the next.

        Args:
            depth: From 1 to the number of levels - 1.

        Returns:
            (F, 3) int64: region at level ``depth - 1``, region at ``depth``, inputs that both hold; by the former, then
            the latter. Each region at ``depth`` occurs once, since it lies within one region before.

        Raises:
            BadInput: There is no such level.
        """
        if not 1 <= depth < len(self.levels):
            raise BadInput(f"depth: {depth} is not in 1..{len(self.levels) - 1}; give the later of two levels")
        pairs = torch.stack([self.levels[d].together.ids for d in (depth - 1, depth)], dim=1)
        found, counts = pairs.unique(dim=0, return_counts=True)
        return torch.cat([found, counts[:, None]], dim=1)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        class_names: Sequence[str] | None = None,
        columns: int = 8,
        size: float | None = None,
    ) -> Axes:
        """Draw how the regions of deeper operators subdivide those of earlier ones, as nested blocks, left to right.

        Every column holds all inputs in the same order, a block per region of the operators so far, as high as the
        share of the inputs in it and colored by their commonest class; the last column holds the classes themselves.

        Args:
            ax: What to draw in; None makes a figure of pyplot.
            class_names: Names of the classes 0, 1, ...; their numbers by default.
            columns: Depths to show at most; evenly spaced ones, the first and the last among them.
            size: Width of a new figure in inches; by default what its columns take.

        Returns:
            The axes: a unit across is a column, a unit down an inch of a figure that is made for them.

        Raises:
            BadInput: Fewer than one column, a class without a name, or more classes than can be told apart by color.
            MaxAffineError: matplotlib is absent.
        """  # noqa: DOC502
        if columns < 1:
            raise BadInput(f"columns: {columns} is less than 1; give how many depths to show at most")
        names = _names(self.labels, class_names)
        depths = np.unique(np.linspace(0, len(self.levels) - 1, columns).round().astype(int)).tolist()
        classes = None if self.labels is None else self.labels.numpy()
        order = _order(self.levels, classes)
        width = LEFT + (len(depths) + (classes is not None)) * COLUMN + (KEY if names else 0.2)
        ax = axes_for(ax, width, HEAD + HEIGHT + FOOT, size=size)
        ax.set_xlim(-LEFT / COLUMN, (width - LEFT) / COLUMN)
        ax.set_ylim(HEIGHT + FOOT, -HEAD)
        for place, depth in enumerate(depths):
            found = self.levels[depth].together
            ids = found.ids.numpy()
            _draw_column(ax, place, ids[order], None if classes is None else _commonest(ids, classes)[order])
            _say(ax, place, -HEAD / 2, self.levels[depth].operator, weight="bold")
            _say(ax, place, HEIGHT + 0.08, _facts(found), va="top")
        if classes is not None:
            _draw_column(ax, len(depths), classes[order], classes[order])
            _say(ax, len(depths), -HEAD / 2, "class", weight="bold")
        for row, name in enumerate(names):
            top, place = 0.1 + row * 0.24, len(depths) + 1
            ax.bar(place + 0.2, 0.16, width=0.14, bottom=top, color=CLASSES[row])
            ax.text(place + 0.34, top + 0.08, name, va="center", fontsize=8, parse_math=False)
        ax.text(-0.12, HEIGHT / 2, f"{self.batch:,} inputs", rotation=90, ha="right", va="center", fontsize=8)
        return ax

    def to_json(self) -> str:
        """Every number but the regions of the single inputs, as JSON: ``batch``, and ``levels`` with their fields."""
        levels = [
            vars(level) | {"together": _numbers(level.together), "itself": _numbers(level.itself)}
            for level in self.levels
        ]
        return json.dumps({"batch": self.batch, "levels": levels}, allow_nan=False)

    def __repr__(self) -> str:
        tables = (f"{heading}\n{text_table(rows, '  ')}" for heading, rows in self._tables())
        return "\n".join([self._title(), *tables])

    def _repr_html_(self) -> str:
        tables = (html_table(rows, heading) for heading, rows in self._tables())
        return f"<p><b>{self._title()}</b></p>{''.join(tables)}"

    def _title(self) -> str:
        return f"RegionHierarchy: {self.batch} inputs, {len(self.levels)} operators (entropy in bits)"

    def _tables(self) -> list[tuple[str, list[tuple[str, ...]]]]:
        return [
            ("operators up to this one", [_COLUMNS, *(_row(level, level.together) for level in self.levels)]),
            ("each operator by itself", [_COLUMNS, *(_row(level, level.itself) for level in self.levels)]),
        ]


def region_hierarchy(
    codes: Codes, labels: torch.Tensor | Sequence[int] | None = None, operators: Iterable[str] | None = None
) -> RegionHierarchy:
    """Count the regions that inputs occupy at every depth, and how they subdivide those of earlier operators.

    The level of operator l holds the partition by (q_1, ..., q_l), which refines that of the level before it, and the
    partition by q_l alone. Only occupied regions are counted; a network has many more.

    Args:
        codes: Codes of N inputs, at least one.
        labels: Class of each input, (N,) integers.
        operators: Names of the operators, in the order of depth; all of them, in the order of the codes, by default.

    Returns:
        One level per operator.

    Raises:
        BadInput: No input or operator; an unknown or repeated operator; labels that are not N integers.

    Example:
        >>> q = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 1]])
        >>> codes = Codes.from_tensors({"a": (q[:, :1], 2), "b": (q[:, 1:], 2)})
        >>> [(level.operator, level.together.regions) for level in region_hierarchy(codes).levels]
        [('a', 2), ('b', 3)]
        >>> region_hierarchy(codes, labels=[0, 1, 1, 1]).levels[0].together.purity
        0.75

    Source: deeper layers subdivide the regions of earlier ones in Balestriero, Cosentino, Aazhang, Baraniuk, "The
    Geometry of Deep Networks: Power Diagram Subdivision" (arXiv 1905.08443).
    """
    names = list(codes if operators is None else operators)
    if unknown := [name for name in names if name not in codes]:
        raise BadInput(f"operators: {unknown} are unknown; the codes have {list(codes)}")
    if not names or len(set(names)) < len(names):
        raise BadInput(f"operators: {names}; give at least one operator, and each once")
    if codes.batch == 0:
        raise BadInput("codes: they hold no input; give those of at least one")
    classes = None if labels is None else as_classes(labels, codes.batch).numpy()
    levels: list[RegionLevel] = []
    together = np.zeros(codes.batch, np.int64)
    for name in names:
        itself = codes.region_ids(name).numpy()
        # Both ids are below N, so that the pair fits into one integer.
        together = _number_by_appearance(together * codes.batch + itself)
        both = (_occupancy(together, classes), _occupancy(itself, classes))
        levels.append(RegionLevel(name, codes[name].unit_count, codes[name].pieces, *both))
    return RegionHierarchy(tuple(levels), None if classes is None else torch.from_numpy(classes))


def _number_by_appearance(keys: np.ndarray) -> np.ndarray:
    # np.unique numbers by value; the argsort of an argsort is a rank, here that of each first appearance.
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]


def _occupancy(ids: np.ndarray, classes: np.ndarray | None) -> Occupancy:
    counts = np.bincount(ids)
    shares = counts / len(ids)
    # Of a region with n inputs, n (n - 1) ordered pairs; those of one class are counted class by class.
    purity = pair_purity = None
    if classes is not None:
        # Only classes that occur in a region are counted, as a table of all regions and classes may be large.
        pairs, joint = np.unique(np.stack([ids, classes]), axis=1, return_counts=True)
        commonest = np.zeros(len(counts), np.int64)
        np.maximum.at(commonest, pairs[0], joint)
        purity = float(commonest.sum() / len(ids))
        all_pairs = int((counts * (counts - 1)).sum())
        pair_purity = float((joint * (joint - 1)).sum() / all_pairs) if all_pairs else None
    return Occupancy(
        ids=torch.from_numpy(ids),
        regions=len(counts),
        entropy=math.fsum(shares * np.log2(1 / shares)),
        largest=int(counts.max()),
        alone=int((counts == 1).sum()),
        purity=purity,
        pair_purity=pair_purity,
    )


def _numbers(found: Occupancy) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name != "ids"}


def _row(level: RegionLevel, found: Occupancy) -> tuple[str, ...]:
    shares = ["" if share is None else f"{share:.3f}" for share in (found.purity, found.pair_purity)]
    counts = (str(found.regions), f"{found.entropy:.2f}", str(found.largest), str(found.alone))
    return (level.operator, str(level.units), *counts, *shares)


def as_classes(labels: torch.Tensor | Sequence[int], count: int) -> torch.Tensor:
    """Check the labels of so many inputs, integers: (count,) int64, on the CPU."""
    try:
        given = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"labels: they cannot be read ({error}); give {count} integers, one for each input") from error
    if given.shape != (count,) or given.is_floating_point() or given.is_complex():
        found = f"{given.dtype} of shape {tuple(given.shape)}"
        raise BadInput(f"labels: {found}; give {count} integers, one for each input")
    return given.long()


def _names(labels: torch.Tensor | None, class_names: Sequence[str] | None) -> list[str]:
    """The names of the classes to be colored, none without labels."""
    if labels is None:
        return []
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(CLASSES):
        raise BadInput(
            f"labels: classes {low} to {high}, but colors tell {len(CLASSES)} apart; number them from 0 to"
            f" {len(CLASSES) - 1}, or count the regions without labels"
        )
    if class_names is not None and len(class_names) <= high:
        raise BadInput(f"class_names: {len(class_names)} names, but class {high} occurs; name every class")
    return [str(c) if class_names is None else class_names[c] for c in range(high + 1)]


def _order(levels: Sequence[RegionLevel], classes: np.ndarray | None) -> np.ndarray:
    """An order of the inputs in which every region of every level is contiguous: fuller regions come first."""
    keys = [] if classes is None else [classes]
    for level in reversed(levels):
        ids = level.together.ids.numpy()
        keys.append((-np.bincount(ids)).argsort(kind="stable").argsort()[ids])
    # The last key is the first level's, which sorts first; regions of a deeper level lie within those.
    return np.lexsort(keys)


def _commonest(ids: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Commonest class of each input's region, (N,); the lowest of equally common ones."""
    counts = np.zeros((ids.max() + 1, classes.max() + 1), np.int64)
    np.add.at(counts, (ids, classes), 1)
    return counts.argmax(1)[ids]


def _draw_column(ax: Axes, place: int, ids: np.ndarray, classes: np.ndarray | None) -> None:
    """One column of blocks; equal neighbors in `ids` make a block."""
    from matplotlib.collections import PolyCollection

    # A block begins at the first input and wherever the region is another than that of the input above.
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    ends = np.append(starts[1:], len(ids))
    tops, bottoms = (HEIGHT / len(ids) * edges for edges in (starts, ends))
    lefts, rights = np.full_like(tops, place), np.full_like(tops, place + BLOCK)
    corners = np.stack([lefts, tops, rights, tops, rights, bottoms, lefts, bottoms], axis=1).reshape(-1, 4, 2)
    colors = [UNLABELED[n % 2] if classes is None else CLASSES[classes[start]] for n, start in enumerate(starts)]
    # Outlines of low blocks would hide their colors.
    edges = np.where(bottoms - tops > OUTLINED, "white", colors).tolist()
    ax.add_collection(PolyCollection(list(corners), facecolors=colors, edgecolors=edges, linewidths=0.4))


def _facts(found: Occupancy) -> str:
    lines = [f"{found.regions:,} region{'s' if found.regions > 1 else ''}", f"{found.entropy:.2f} bits"]
    if found.purity is not None:
        pairs = "–" if found.pair_purity is None else f"{found.pair_purity:.2f}"
        lines += [f"purity {found.purity:.2f}", f"pair purity {pairs}"]
    return "\n".join(lines)


def _say(ax: Axes, place: int, down: float, text: str, va: str = "center", weight: str = "normal") -> None:
    # An operator may be called "$5$", which is not a formula.
    style = {"va": va, "weight": weight, "fontsize": 8, "linespacing": 1.2, "parse_math": False}
    ax.text(place + BLOCK / 2, down, text, None, ha="center", **style)
