"""What is found of single units: idle, affine, duplicated, opposite and nearly duplicated ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._pruning.boundaries import cosines, distances_between
from maxaffine._pruning.counting import Activity
from maxaffine._pruning.layers import Layer, Rows

KINDS = ("never", "always", "duplicate", "opposite", "near")


@dataclass(frozen=True)
class Finding:
    """What was found of one unit.

    Attributes:
        unit: Its channel.
        kind: ``"never"`` active: on one flat piece at every input, or without weights, so that its value is constant;
            ``"always"`` active: on one sloped piece at every input, so that it is affine; ``"duplicate"``: a positive
            multiple of ``other`` at every input there is; ``"opposite"``: a negative multiple, so that both share a
            boundary and are never merged; ``"near"``: close to ``other`` by its boundary or by its codes; ``"other"``:
            none of these.
        other: The unit that it is like; None for the first two.
        factor: What stands in for it: factor * (the value of ``other``, or its own argument) + shift.
        shift: See ``factor``.
        distance: Between the two boundaries; NaN without another.
        disagreement: Share of entries of the data at which the codes differ; NaN without another.
        change: The largest change of each output on the data when that stands in for it, all outputs in one row; empty
            where nothing can.
        proved: Whether it holds over the box too; None where no bounds were given. Duplicates and opposites hold
            everywhere.
    """

    unit: int
    kind: str
    other: int | None
    factor: float
    shift: float
    distance: float
    disagreement: float
    change: tuple[float, ...] = ()
    proved: bool | None = None

    @property
    def largest_change(self) -> float:
        """The largest of the changes; NaN without any."""
        return max(self.change, default=float("nan"))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of the units of one layer."""

    layer: Layer
    activity: Activity
    rows: Rows | None
    tolerance: float  # relative, of rounding
    box: tuple[np.ndarray, np.ndarray] | None = None  # the least and largest arguments, of all entries

    @property
    def empty(self) -> Tensor:
        """(channels,) whether a unit has no weights at all."""
        if self.rows is None:
            return torch.zeros(self.layer.channels, dtype=torch.bool)
        return (self.rows.weights == 0).all(1) & (self.rows.mixed[:, :-1] == 0).all(1)

    @property
    def idle(self) -> Tensor:
        """(channels,) whether the value is the same at every input of the data."""
        return self.activity.flat | (self.empty & self.activity.single & (self.activity.least == self.activity.most))

    @property
    def affine(self) -> Tensor:
        """(channels,) whether one sloped piece is used alone on the data."""
        return self.activity.sloped & ~self.idle

    def proved(self) -> Tensor | None:
        """(channels,) whether a unit stays over the box on the one piece that it uses on the data; None without."""
        if self.box is None:
            return None
        low, high = (self.layer.by_entry(side) for side in self.box)
        low, high = low.amin(1), high.amax(1)
        single, piece = self.activity.single.clone(), torch.zeros(self.layer.channels, dtype=torch.uint8)
        for knot in self.layer.knots:
            single &= (high <= knot) | (low > knot)
            piece += low > knot
        return single & (piece == self.activity.low)

    def distances(self, rho: float) -> Tensor:
        """Between the boundaries of all units, (channels, channels)."""
        if self.rows is None:
            return torch.full((self.layer.channels,) * 2, torch.inf)
        return distances_between(self.rows.weights, self.rows.offsets, rho)

    def ratios(self) -> Tensor:
        """(channels, channels) the c with which row k' is c times row k, entry (k, k'), offsets too; NaN for none."""
        if self.rows is None:
            return torch.full((self.layer.channels,) * 2, torch.nan)
        middle = torch.cat([self.rows.weights, self.rows.offsets[:, None]], 1)
        square = (middle * middle).sum(1)
        found = (middle @ middle.mT) / square[:, None]
        # Rows that are parallel up to rounding are few: those alone are compared entry by entry.
        close = (cosines(middle).abs() > 1 - 1e-6) & ~self.empty[:, None] & ~self.empty[None, :]
        for first, second in close.nonzero().tolist():
            if first == second or not self._parallel(middle, first, second, float(found[first, second])):
                close[first, second] = False
        return torch.where(close, found, torch.nan)

    def _parallel(self, middle: Tensor, first: int, second: int, factor: float) -> bool:
        # A random sum over all positions too: where a border cuts the kernel, the middle shows a part of it alone.
        for rows in (middle, self.rows.mixed if self.rows else middle):
            apart = (rows[second] - factor * rows[first]).norm()
            if apart > self.tolerance * rows[second].norm():
                return False
        return True


def findings(evidence: Evidence, rho: float, near: float, every: bool) -> list[Finding]:
    """What there is to say of the units of a layer, before any change is computed."""
    activity, proved = evidence.activity, evidence.proved()
    found = _single(evidence, proved)
    taken = {one.unit for one in found if one.kind == "never"}
    distances, ratios = evidence.distances(rho), evidence.ratios()
    found += _duplicates(evidence, distances, ratios, taken)
    found += _opposites(evidence, distances, ratios, taken)
    taken |= {one.unit for one in found if one.kind == "duplicate"}
    found += _near(evidence, distances, taken, near)
    if every:
        named = {one.unit for one in found if one.kind != "opposite"}
        rest = [unit for unit in range(evidence.layer.channels) if unit not in named]
        found += [_alone(unit, "other", 0.0, float(activity.mean[unit])) for unit in rest]
    return sorted(found, key=lambda one: (KINDS.index(one.kind) if one.kind in KINDS else len(KINDS), one.unit))


def _alone(unit: int, kind: str, factor: float, shift: float, proved: bool | None = None) -> Finding:
    return Finding(unit, kind, None, factor, shift, float("nan"), float("nan"), (), proved)


def _single(evidence: Evidence, proved: Tensor | None) -> list[Finding]:
    activity, found = evidence.activity, []
    for kind, chosen in (("never", evidence.idle), ("always", evidence.affine)):
        for unit in chosen.nonzero()[:, 0].tolist():
            held = kind == "never"
            factor, shift = (0.0, activity.least[unit]) if held else (activity.slope[unit], activity.shift[unit])
            # Without weights the argument is the same everywhere.
            certain = None if proved is None else bool(proved[unit] | evidence.empty[unit])
            found.append(_alone(unit, kind, float(factor), float(shift), certain))
    return found


def _duplicates(evidence: Evidence, distances: Tensor, ratios: Tensor, taken: set[int]) -> list[Finding]:
    """Each later unit that is a positive multiple of an earlier one; without scaling, of the same size."""
    found, gone = [], set(taken)
    same = ratios > 0 if evidence.layer.scales else (ratios - 1).abs() <= evidence.tolerance
    if evidence.rows is not None:  # slopes of a PReLU may differ from channel to channel
        same = same & (evidence.rows.functions[:, None] == evidence.rows.functions[None, :])
    for first in range(evidence.layer.channels):
        if first in gone:
            continue
        for second in same[first].nonzero()[:, 0].tolist():
            if second > first and second not in gone:
                gone.add(second)
                factor = float(ratios[first, second]) if evidence.layer.scales else 1.0
                found.append(_pair(evidence, distances, "duplicate", second, first, factor, True))
    return found


def _opposites(evidence: Evidence, distances: Tensor, ratios: Tensor, taken: set[int]) -> list[Finding]:
    pairs = [(first, second) for first, second in (ratios < 0).nonzero().tolist() if first < second]
    free = [(first, second) for first, second in pairs if not {first, second} & taken]
    return [_pair(evidence, distances, "opposite", b, a, float(ratios[a, b]), True) for a, b in free]


def _near(evidence: Evidence, distances: Tensor, taken: set[int], near: float) -> list[Finding]:
    """Pairs of one direction that are close by boundary or codes, the closest first, each unit merged once at most."""
    activity, rows = evidence.activity, evidence.rows
    alike = activity.products.diagonal() > 0
    forward = torch.ones_like(distances, dtype=torch.bool) if rows is None else cosines(rows.weights) > 0
    by_codes = (activity.disagreement <= near) & ~evidence.activity.single[:, None] & ~activity.single[None, :]
    close = ((distances <= near) | by_codes) & forward & alike[:, None] & alike[None, :]
    close &= ~torch.eye(len(close), dtype=torch.bool)
    score = torch.minimum(distances, activity.disagreement)
    pairs = sorted((pair for pair in close.nonzero().tolist() if pair[0] < pair[1]), key=lambda p: float(score[*p]))
    found, used, gone = [], set(), set(taken)
    for first, second in pairs:
        if first in gone or second in gone or second in used:
            continue
        gone.add(second)
        used.add(first)
        factor = float(activity.products[first, second] / activity.products[first, first])  # least squares
        found.append(_pair(evidence, distances, "near", second, first, factor, None))
    return found


def _pair(
    evidence: Evidence, distances: Tensor, kind: str, unit: int, other: int, factor: float, proved: bool | None
) -> Finding:
    apart, codes = float(distances[unit, other]), float(evidence.activity.disagreement[unit, other])
    return Finding(unit, kind, other, factor, 0.0, max(0.0, apart), max(0.0, codes), (), proved)
