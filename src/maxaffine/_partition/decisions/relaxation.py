"""The linear program over a program's relaxation: how near a rival may be, and the multipliers that prove it.

What the solver claims is not relied on: it works to tolerances. Its multipliers are put into the bounds of
``bounds.py``, which hold for any multipliers and are rounded outward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np

from maxaffine._partition.decisions.bounds import Bounds, Multipliers, above
from maxaffine._partition.decisions.domain import Cut, Domain
from maxaffine._partition.decisions.rows import Matrix, Program, Rows, sparse

PENALTY = 1e3  # of violating what must hold, per unit: so every program has a solution, and with it multipliers


@dataclass(frozen=True, eq=False)
class Solution:
    """What a linear program found."""

    bound: float  # no point is nearer
    point: np.ndarray  # (features,) the inputs of its solution
    gaps: np.ndarray  # (size,) what relaxing each open variable is worth to the solution
    cut: Cut  # beyond which the margin is too low


class Relaxation:
    """The linear programs of one x: those parts of them that do not change."""

    def __init__(self, program: Program, domain: Domain) -> None:
        self.program = program
        width, features = program.size, program.features
        every = Rows.stack(
            [Rows(sparse().csr_array((0, width)), np.zeros(0)), *(stage.rows for stage in program.stages)]
        )
        self.arguments, self.offsets = every.wide(width), every.offsets  # of all variables after the inputs
        self.own = sparse().eye_array(width, format="csr")[features:]
        # The distance is one column, no smaller than any feature's move, or the sum of one for each.
        eye, far = sparse().eye_array(features, width, format="csr"), domain.norm == np.inf
        moves = sparse().csr_array(np.ones((features, 1))) if far else sparse().eye_array(features, format="csr")
        self.extra = moves.shape[1] + 1  # these columns, and the violation
        self.costs = np.concatenate([np.zeros(width), np.ones(self.extra - 1), [PENALTY]])
        none = sparse().csr_array((2 * features, 1))
        self.moves = sparse().hstack(
            [sparse().vstack([eye, -eye]), sparse().vstack([-moves, -moves]), none], format="csr"
        )
        self.moved = np.concatenate([domain.x, -domain.x])

    def solve(self, bounds: Bounds, domain: Domain, margin: Rows, allowed: float) -> Solution:
        """The nearest place of the relaxation at which a margin, one row of all variables, is at least -allowed."""
        features, width = self.program.features, self.program.size
        low, high, opened = bounds.low[features:], bounds.high[features:], bounds.open[features:]
        off = (high <= 0) & ~(low >= 0)
        known = np.flatnonzero(bounds.signs[features:])
        # Where bounds hold beyond the cut alone, so does an affine map that they decide. While units are open the cut
        # stays out: it follows from them, and in its place their multipliers say which of them matter.
        a, c = (replace(domain, cut=None) if opened.any() else domain).outward
        cut = Rows(sparse().csr_array(a[None]), np.array([c - a @ domain.x]))
        rows, sides = self._rows(bounds, margin, allowed, known, cut)
        equal = ~opened & ~off
        free = self._padded(self.own[equal] - self.arguments[equal])
        ends = np.zeros((len(self.costs), 2))
        ends[:, 1] = np.inf
        ends[:features] = np.stack([domain.low, domain.high], 1)
        ends[features:width, 0] = np.where(opened | off, 0, -np.inf)
        ends[features:width, 1] = np.where(off, 0, np.inf)
        found = import_module("scipy.optimize").linprog(
            self.costs, rows, sides, free, self.offsets[equal], ends, method="highs"
        )
        if found.x is None:  # the solver failed: nothing is claimed
            return Solution(0.0, domain.x, bounds.open * 1.0, (np.zeros(features), 0.0))
        duals, count = (-found.ineqlin.marginals).clip(min=0), int(opened.sum())
        below, signed, gaps = (np.zeros(width) for _ in range(3))
        below[features:][opened] = duals[:count]
        gaps[features:][opened] = duals[count : 2 * count] * -low[opened] * high[opened] / (high - low)[opened]
        signed[features + known], (inside, weight) = np.split(duals[2 * count :][: len(known) + 2], [len(known)])
        chosen = Multipliers(below, signed)
        times = margin.times(np.array([weight]))
        slopes, values = above(self.program, bounds, domain, times, weight * allowed, chosen)
        slopes, values = slopes + inside * a, values + inside * c
        (bound,), _ = domain.nearest(slopes, -values)
        return Solution(float(bound), found.x[:features], gaps, (slopes[0], float(values[0])))

    def _rows(
        self, bounds: Bounds, margin: Rows, allowed: float, known: np.ndarray, cut: Rows
    ) -> tuple[Matrix, np.ndarray]:
        """The inequalities: v >= d, v <= line (d - low), sign d >= 0, cut, margin >= -allowed, and the distance."""
        features = self.program.features
        low, high, opened = bounds.low[features:], bounds.high[features:], bounds.open[features:]
        d, c, v = self.arguments, self.offsets, self.own[opened]
        low, line = low[opened], high[opened] / (high - low)[opened]
        signs = bounds.signs[features:][known]
        # All but the first may be violated, at a cost: elsewhere than on its part of the inputs, bounds need not hold.
        held = [
            v - sparse().diags_array(line) @ d[opened],
            -(sparse().diags_array(signs) @ d[known]),
            -cut.wide(d.shape[1]),
            -margin.wide(d.shape[1]),
        ]
        rows = [self._padded(d[opened] - v), self._padded(sparse().vstack(held), True), self.moves]
        sides = [
            -c[opened],
            line * (c[opened] - low),
            signs * c[known],
            cut.offsets,
            margin.offsets + allowed,
            self.moved,
        ]
        return sparse().vstack(rows, format="csr"), np.concatenate(sides)

    def _padded(self, rows: Matrix, violable: bool = False) -> Matrix:
        """Rows with the columns of the distance and the violation."""
        last = np.zeros((rows.shape[0], self.extra))
        last[:, -1] = -1.0 * violable
        return sparse().hstack([rows, sparse().csr_array(last)], format="csr")
