"""How the regions of deeper operators subdivide those of earlier ones, counted on the inputs of a data set."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maxaffine._codes.classes import as_classes
from maxaffine._codes.mapping import Codes
from maxaffine._drawing import html_table
from maxaffine.errors import BadInput

_COLUMNS = ("operator", "units", "regions", "entropy", "largest", "alone", "purity", "pair purity")


@dataclass(frozen=True, eq=False)
class Occupancy:
    """The regions of one partition that some inputs occupy.

    Args:
        ids: Region of each input, (N,) int64, counted from 0 in order of first appearance.
        regions: Number of occupied regions M.
        entropy: -sum_m p_m log2 p_m in bits, p_m the share of the inputs in region m; at most log2 N.
        largest: Inputs in the fullest region.
        alone: Inputs that have a region of their own.
        purity: Share of the inputs that belong to the commonest class of their region. A region with one input is
            pure, so it grows with the number of regions alone. None without labels.
        pair_purity: Share of the pairs of different inputs in one region that have the same class: the chance that
            another input of the same region is of the same class, whatever the number of regions. None without labels,
            or where every input is alone.
    """

    ids: torch.Tensor
    regions: int
    entropy: float
    largest: int
    alone: int
    purity: float | None
    pair_purity: float | None


@dataclass(frozen=True, eq=False)
class RegionLevel:
    """One depth of a hierarchy.

    Args:
        operator: Name of the operator.
        units: Its number of units K.
        pieces: Its pieces R.
        together: Regions of the operators up to and including this one; they subdivide those of the level before.
        itself: Regions of this operator alone; two of them may lie in one region of the level before, or the reverse.
    """

    operator: str
    units: int
    pieces: int
    together: Occupancy
    itself: Occupancy


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
            depth: From 1 to the number of levels - 1; anything else is refused with BadInput.

        Returns:
            (F, 3) int64: region at level ``depth - 1``, region at ``depth``, inputs that both hold; by the former, then
            the latter. Each region at ``depth`` occurs once, since it lies within one region before.

        Raises:
            BadInput: There is no such level.
        """
        if not 1 <= depth < len(self.levels):
            raise BadInput(f"depth is {depth}; give the later of two levels, from 1 to {len(self.levels) - 1}")
        pairs = torch.stack([self.levels[d].together.ids for d in (depth - 1, depth)], dim=1)
        found, counts = pairs.unique(dim=0, return_counts=True)
        return torch.cat([found, counts[:, None]], dim=1)

    def to_json(self) -> str:
        """Write down every number but the regions of the single inputs.

        Returns:
            JSON: ``batch`` and ``levels``, each with ``operator``, ``units``, ``pieces``, ``together`` and ``itself``.
        """
        levels = [
            {
                "operator": level.operator,
                "units": level.units,
                "pieces": level.pieces,
                "together": _numbers(level.together),
                "itself": _numbers(level.itself),
            }
            for level in self.levels
        ]
        return json.dumps({"batch": self.batch, "levels": levels}, allow_nan=False)

    def __repr__(self) -> str:
        """Return a table: every level together with those before, and by itself."""
        lines = [self._title()]
        for heading, rows in self._tables():
            lines += [heading, *("  {:<28} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>11}".format(*row) for row in rows)]
        return "\n".join(lines)

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
        raise BadInput(f"operators names unknown {unknown}; the codes have {list(codes)}")
    if not names or len(set(names)) < len(names):
        raise BadInput(f"operators is {names}; give at least one operator, and each once")
    if codes.batch == 0:
        raise BadInput("codes hold no input; give those of at least one")
    classes = None if labels is None else as_classes(labels, codes.batch).numpy()
    levels: list[RegionLevel] = []
    together = np.zeros(codes.batch, np.int64)
    for name in names:
        itself = codes.region_ids(name).numpy()
        # Both ids are below N, so that the pair fits into one integer.
        together = _in_order_of_appearance(together * codes.batch + itself)
        both = (_occupancy(together, classes), _occupancy(itself, classes))
        levels.append(RegionLevel(name, codes[name].unit_count, codes[name].pieces, *both))
    return RegionHierarchy(tuple(levels), None if classes is None else torch.from_numpy(classes))


def _in_order_of_appearance(keys: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _occupancy(ids: np.ndarray, classes: np.ndarray | None) -> Occupancy:
    counts = np.bincount(ids)
    shares = counts / len(ids)
    purity = pair_purity = None
    if classes is not None:
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
