"""Bounds of a program by linear relaxation, from the outputs backward, rounded outward.

A rectified value of d between l < 0 < u lies between alpha d, for any alpha in [0, 1], and the line from (l, 0) to
(u, u). Put in its place, from the last stage to the first, they bound any affine function of the variables by one of
the inputs alone (CROWN: Zhang et al., "Efficient Neural Network Robustness Certification", NeurIPS 2018). On a part of
the inputs where d has a known sign, any multiple of sign * d may be added (beta-CROWN: Wang et al., NeurIPS 2021).
Every choice of alpha and beta gives a true bound, the best choice that of the linear program over the same relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic

import numpy as np

from maxaffine._chunks import slices
from maxaffine._partition.decisions.domain import EPS, Domain
from maxaffine._partition.decisions.rows import Program, Rows, Stage

AT_ONCE = 2**24  # numbers in the rows that are bounded together


class LateError(Exception):
    """The time is over."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """What is known of the arguments of a program's rectified variables on a part of the inputs."""

    low: np.ndarray  # (size,), NaN of variables that are not rectified
    high: np.ndarray
    signs: np.ndarray  # (size,) 1 or -1 where the part is restricted to arguments of this sign, else 0
    terms: np.ndarray  # (size,) the absolute terms that a variable is the sum of: what it may be rounded in

    @property
    def open(self) -> np.ndarray:
        """(size,) whether a rectified variable is on both of its pieces."""
        return (self.low < 0) & (self.high > 0)

    @property
    def empty(self) -> bool:
        """Whether no input has such arguments."""
        return bool((self.low > self.high).any())

    def split(self, variable: int, sign: int) -> Bounds:
        """The same where the argument of a variable has a sign."""
        found = replace(self, low=self.low.copy(), high=self.high.copy(), signs=self.signs.copy())
        found.signs[variable] = sign
        side = found.low if sign > 0 else found.high
        side[variable] = max(side[variable], 0) if sign > 0 else min(side[variable], 0)
        return found


@dataclass(frozen=True, eq=False)
class Multipliers:
    """A choice of alpha and beta for one function."""

    lower: np.ndarray  # (size,) alpha times the size of the coefficient, of which no more than that counts
    signs: np.ndarray  # (size,) beta, not negative


Affine = tuple[np.ndarray, np.ndarray, np.ndarray]  # slopes (rows, features), offsets and errors (rows,)


def upper(
    program: Program, bounds: Bounds, slopes: np.ndarray, offsets: np.ndarray, chosen: Multipliers | None = None
) -> Affine:
    """Slopes (rows, size) v + offsets (rows,) of all variables as functions of the inputs that are nowhere smaller."""
    slopes, terms = slopes.copy(), np.abs(offsets)
    for stage in reversed(program.stages):
        at = slice(stage.start, stage.stop)
        part = slopes[:, at]
        if chosen is None and not part.any():
            continue
        if stage.rectified:
            part, added = _relaxed(stage, bounds, part, chosen)
            offsets, terms = offsets + added, terms + np.abs(added)
        added = part @ stage.rows.offsets
        offsets, terms = offsets + added, terms + np.abs(part) @ bounds.terms[at]
        slopes[:, : stage.width] += part @ stage.slopes
    found = slopes[:, : program.features]
    terms = terms + np.abs(found) @ bounds.terms[: program.features]
    # A sum of n terms is off by n eps of their sizes at most, and so is every sum on the way.
    return found, offsets, 4 * (program.size + 64) * EPS * terms


def _relaxed(
    stage: Stage, bounds: Bounds, part: np.ndarray, chosen: Multipliers | None
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a rectified stage as those of its arguments, and what is added to the offsets."""
    at = slice(stage.start, stage.stop)
    low, high, opened = bounds.low[at], bounds.high[at], bounds.open[at]
    line = np.where(opened, high / np.where(opened, high - low, 1), low >= 0)
    above, below = part.clip(min=0), part.clip(max=0)
    added = above @ np.where(opened, -low * line, 0)
    if chosen is None:
        return above * line + below * np.where(opened, high > -low, low >= 0), added
    below = np.where(opened, np.maximum(below, -chosen.lower[at]), below * (low >= 0))
    return above * line + below + chosen.signs[at] * bounds.signs[at], added


def unknown(program: Program) -> Bounds:
    """Nothing known yet."""
    size = program.size
    found = Bounds(np.full(size, np.nan), np.full(size, np.nan), np.zeros(size), np.zeros(size))
    for stage in program.stages:
        if stage.rectified:
            found.low[stage.start : stage.stop], found.high[stage.start : stage.stop] = -np.inf, np.inf
    return found


def enclose(program: Program, domain: Domain, known: Bounds, after: int = 0, deadline: float = np.inf) -> Bounds:
    """Closer bounds of the open variables, from a number on, on a domain on which what is known holds."""
    found = replace(known, low=known.low.copy(), high=known.high.copy(), terms=np.zeros(program.size))
    low, high, terms = found.low, found.high, found.terms
    terms[: program.features] = np.abs([domain.low, domain.high, domain.x]).max(0)
    for stage in program.stages:
        # What later stages see of a variable is no larger than its bounds.
        seen = np.fmin(terms, np.maximum(np.abs(low), np.abs(high)))[: stage.width]
        terms[stage.start : stage.stop] = stage.sizes @ seen + np.abs(stage.rows.offsets)
        if not stage.rectified or stage.stop <= after:
            continue
        places = np.flatnonzero(found.open[stage.start : stage.stop])
        for at in slices(len(places), AT_ONCE // (2 * program.size)):
            if monotonic() > deadline:
                raise LateError
            rows, where = stage.rows[places[at]], stage.start + places[at]
            slopes = np.concatenate([sign * rows.dense(program.size) for sign in (1, -1)])
            offsets = np.concatenate([rows.offsets, -rows.offsets])
            slopes, offsets, errors = upper(program, found, slopes, offsets)
            most = np.split(slopes @ domain.x + domain.gain(slopes) + offsets + errors, 2)
            high[where], low[where] = np.minimum(high[where], most[0]), np.maximum(low[where], -most[1])
    return found


def above(
    program: Program,
    bounds: Bounds,
    domain: Domain,
    rows: Rows,
    allowed: float | np.ndarray = 0.0,
    chosen: Multipliers | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (rows, features) and values (rows,) at x of functions that rows plus what is allowed are nowhere above."""
    slopes, offsets, errors = upper(program, bounds, rows.dense(program.size), rows.offsets, chosen)
    return slopes, slopes @ domain.x + offsets + allowed + errors


def reach(program: Program, bounds: Bounds, domain: Domain, margins: Rows, allowed: float) -> np.ndarray:
    """No nearer than this (rows,) are places of a domain where margins are at least -allowed; infinite without any."""
    slopes, values = above(program, bounds, domain, margins, allowed)
    return domain.nearest(slopes, -values)[0]
