"""Branch and bound: the nearest point of another class, or an interval for its distance when time runs out.

A part of the inputs is a box and the signs of some units' arguments. No part is left out before a bound shows that all
of it is as far away as the best point known; the part that may hold the nearest point is divided first. Bounds are the
closer the smaller the box, so the box is grown: once nothing nearer than some radius is left, up to twice as far.

Only places count where the rival draws level. An affine function that its margin is nowhere above leaves no more than a
halfspace of them; bounds of all units are closer beyond it (Kotha et al., "Provably Bounding Neural Network Preimages",
NeurIPS 2023), and lead to a closer such function.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import Any

import numpy as np

from maxaffine._partition.decisions import witness as witnesses
from maxaffine._partition.decisions.bounds import Bounds, LateError, above, enclose, reach, unknown
from maxaffine._partition.decisions.domain import Cut, Domain
from maxaffine._partition.decisions.question import Question, Witness
from maxaffine._partition.decisions.relaxation import Relaxation
from maxaffine.errors import BadInput

GAP = 1e-6  # relative: a part whose bound is this close to the best point holds none that counts as nearer
HALVINGS = 8
TURNS = 4  # at which bounds and the cut that follows from them improve each other
GAINED = 0.2  # of what is missing: as long as a turn gains so much, another follows
WHOLE = 1e-6  # how close to a whole number an entry counts as one while the parts are divided


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of the inputs, and one rival there."""

    bound: float  # nothing is nearer
    rival: int  # its place among the question's
    domain: Domain
    bounds: Bounds
    radius: float  # within which the bounds hold


@dataclass(eq=False)
class Search:
    """The search for one question's answer, and what is known of it so far."""

    question: Question
    deadline: float
    best: Witness | None = None
    lower: float = 0.0  # nothing is nearer
    parts: int = 0  # looked into
    opened: int = 0  # units left open by the first bounds, within the largest radius so far
    _order: Any = field(default_factory=count)
    _passed: float = np.inf  # the least bound of what was left out within the present radius

    def __post_init__(self) -> None:
        self.relaxation = Relaxation(self.question.program, self.question.domain)

    @property
    def distance(self) -> float:
        """Of the best point; infinite without one."""
        return np.inf if self.best is None else self.best.distance

    @property
    def proved(self) -> bool:
        """Whether nothing is nearer than the best point, or nothing is there at all, but for the gap."""
        return self.lower >= self.distance * (1 - GAP)

    def run(self, bar: Any) -> None:
        """Search until it is proved or late."""
        self._improve(witnesses.seek(self.question))
        domain = self.question.domain
        # Nothing in the box is farther away than this.
        far = np.where(domain.high - domain.x > domain.x - domain.low, domain.high, domain.low)
        whole = max(1.001 * float(domain.distance(far[None])[0]), 1e-300)
        if self.best is None and not np.isfinite(whole):
            raise BadInput(
                "bounds: no other class was found near x, and a box without end cannot be searched; bound it"
            )
        try:
            self.lower = self._certain(min(self.distance, whole))
            while not self.proved:
                limit = min(2 * self.lower or self.distance / 16, self.distance, whole)
                limit = self.distance if 1.5 * limit > self.distance else limit
                before = self.lower, self.distance
                self._explore(limit, bar)
                if self.best is None and self.lower >= whole * (1 - GAP):
                    self.lower = np.inf
                # What is left undecided will be so in the next round as well.
                if self.lower <= before[0] * (1 + GAP) and self.distance >= before[1] * (1 - GAP):
                    break
        except LateError:
            pass
        self.lower = min(self.lower, self.distance)

    def _improve(self, found: Witness | None) -> None:
        """Keep a nearer point, the best of its region."""
        if found is not None and found.distance < self.distance:
            self.best = witnesses.polished(self.question, self.relaxation, found)

    def _certain(self, radius: float) -> float:
        """The largest radius within which the first bounds leave nothing."""
        low, high = 0.0, radius
        for turn in range(HALVINGS):
            middle = high if turn == 0 else (low + high) / 2
            domain = self.question.domain.within(middle)
            bounds = enclose(self.question.program, domain, unknown(self.question.program), 0, self.deadline)
            found = float(reach(self.question.program, bounds, domain, self.question.margins, self.question.hair).min())
            if found >= middle:
                low = middle
            else:
                low, high = max(low, found), middle
            if low >= high * (1 - 1 / 2**HALVINGS):
                break
        return low

    def _explore(self, limit: float, bar: Any) -> None:
        """Divide parts until none may hold a point nearer than the best one, or than a limit."""
        program, margins = self.question.program, self.question.margins
        domain = self.question.domain.within(limit)
        bounds = enclose(program, domain, unknown(program), 0, self.deadline)
        self.opened = int(bounds.open.sum())
        found = reach(program, bounds, domain, margins, self.question.hair)
        heap: list[tuple[float, int, _Part]] = []
        self._passed = np.inf
        parts = [_Part(max(float(b), self.lower), r, self.question.domain, bounds, limit) for r, b in enumerate(found)]
        try:
            while True:
                enough = min(limit, self.distance) * (1 - GAP)
                for part in parts:
                    if part.bound < enough:
                        heappush(heap, (part.bound, next(self._order), part))
                    else:
                        self._passed = min(self._passed, part.bound)
                if not heap or heap[0][0] >= enough:
                    break
                parts = self._divide(heap[0][2], min(limit, self.distance))
                heappop(heap)  # only now, for should it be interrupted the part still counts
                bar.set_postfix_str(
                    f"between {max(self.lower, heap[0][0] if heap else 0):.4g} and {self.distance:.4g}", refresh=False
                )
                bar.update()
        finally:
            left = min([self._passed, *(bound for bound, *_ in heap)])
            self.lower = max(self.lower, min(left, limit, self.distance))

    def _divide(self, part: _Part, limit: float) -> list[_Part]:
        """Two halves of a part, or itself with a better bound where that is enough."""
        if monotonic() > self.deadline:
            raise LateError
        self.parts += 1
        domain = part.domain.within(limit)
        if limit < part.radius * (1 - GAP):
            bounds = enclose(self.question.program, domain, part.bounds, 0, self.deadline)
            if bounds.empty:
                return []
            part = replace(part, bounds=bounds, radius=limit)
        margin = self.question.margins[[part.rival]]
        solution = self.relaxation.solve(part.bounds, domain, margin, self.question.hair)
        part = replace(part, bound=max(part.bound, solution.bound))
        self._improve(witnesses.beyond(self.question, solution.point))
        if not part.bounds.open.any() and part.bound < min(limit, self.distance) * (1 - GAP):
            # At a kink the rival may fall back on the way from x on: it is ahead further inside the region.
            inside = self.relaxation.solve(part.bounds, domain, margin, -2 * self.question.hair)
            self._improve(witnesses.beyond(self.question, inside.point))
        limit = min(limit, self.distance)
        if part.bound >= limit * (1 - GAP):
            return [part]
        if not part.bounds.open.any():
            return self._halves(part, solution.point, solution.gaps, limit)
        found = self._within(part, solution.cut, limit)
        if found is None:
            return []
        if not found.bounds.open.any():  # its linear program is exact now
            return [found]
        return self._halves(found, solution.point, solution.gaps, limit)

    def _within(self, part: _Part, cut: Cut, limit: float) -> _Part | None:
        """The same part with a cut and the bounds that hold beyond it; None where nothing is there."""
        if not cut[0].any():
            return part
        domain = replace(part.domain, cut=cut)
        bounds = enclose(self.question.program, domain.within(limit), part.bounds, 0, self.deadline)
        return None if bounds.empty else replace(part, domain=domain, bounds=bounds, radius=limit)

    def _halves(self, part: _Part, point: np.ndarray, gaps: np.ndarray, limit: float) -> list[_Part]:
        """Two parts: below and above a number of a feature, or with a unit's argument of either sign."""
        opened = part.bounds.open
        fractions = np.where(self.question.integers, np.abs(point - np.round(point)), 0)
        place = int(fractions.argmax())
        if fractions[place] > WHOLE:
            halves = self._below_and_above(part, place, np.floor(point[place]), np.ceil(point[place]))
        elif opened.any():
            # The unit whose relaxation is worth the most, by the program's own multipliers.
            unit = int(np.where(opened, gaps, -1).argmax())
            after = next(stage.stop for stage in self.question.program.stages if stage.stop > unit)
            halves = [(replace(part, bounds=part.bounds.split(unit, sign)), after) for sign in (1, -1)]
        elif (wide := self.question.integers & (part.domain.low < part.domain.high)).any():
            # The solver's point is whole but for its tolerance, and no witness: it is told apart from those beside it.
            place = int(wide.argmax())
            below = min(np.round(point[place]), part.domain.high[place] - 1)
            halves = self._below_and_above(part, place, below, below + 1)
        else:  # all is decided, and the solver's point was not good enough: its bound stands
            self._passed = min(self._passed, part.bound)
            return []
        return [half for half in (self._bounded(half, after, limit) for half, after in halves) if half is not None]

    def _below_and_above(self, part: _Part, place: int, below: float, over: float) -> list[tuple[_Part, int]]:
        """A part up to a number of a feature, and from a number on."""
        high, low = part.domain.high.copy(), part.domain.low.copy()
        high[place], low[place] = below, over
        domains = part.domain.restricted(part.domain.low, high), part.domain.restricted(low, part.domain.high)
        return [(replace(part, domain=domain), 0) for domain in domains]

    def _bounded(self, part: _Part, after: int, limit: float) -> _Part | None:
        """A part with bounds of its own, and its margin's cut; None where nothing is in it."""
        program, margin = self.question.program, self.question.margins[[part.rival]]
        domain = part.domain.within(limit)
        if (domain.low > domain.high).any():
            return None
        bounds = enclose(program, domain, part.bounds, after, self.deadline)
        part = replace(part, bounds=bounds, radius=limit)
        for _ in range(TURNS):
            if part.bounds.empty:
                return None
            slopes, values = above(program, part.bounds, domain, margin, self.question.hair)
            (bound,), _ = domain.nearest(slopes, -values)
            gained = float(bound) - part.bound
            missing = limit - part.bound
            part = replace(part, bound=max(part.bound, float(bound)))
            if not GAINED * missing < gained < missing:
                break
            found = self._within(part, (slopes[0], float(values[0])), limit)
            if found is None:
                return None
            part = found
        return part
