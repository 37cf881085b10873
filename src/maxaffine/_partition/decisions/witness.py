"""Points of another class, as near as can be found quickly: they bound the distance from above.

From x, the plane on which a rival draws level on the piece of the current point is approached again and again, by the
shortest way from x (FAB: Croce and Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
Attack", ICML 2020). What it finds is then the best of its region, by a linear program.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from maxaffine._partition.decisions.bounds import Bounds
from maxaffine._partition.decisions.question import Question, Witness
from maxaffine._partition.decisions.relaxation import Relaxation
from maxaffine._partition.decisions.rows import Rows

ROUNDS = 25
STARTS = 3  # per rival: x itself, and places around it
RIVALS = 10  # those that x is nearest to, by its own piece
PAST = 1.001  # how far beyond the plane a step aims
BEYOND = np.array([0.0, *10.0 ** np.arange(-13, -3)])  # relative: how far beyond a tie a point is moved, in turn


def seek(question: Question) -> Witness | None:
    """A point of another class, by repeated steps to the planes where rivals draw level."""
    domain = question.domain
    x, random = domain.x, np.random.default_rng(0)
    margins = question.margins
    slopes, values = _planes(question, x[None].repeat(len(margins), 0), margins)
    away, _ = domain.nearest(slopes, -values)
    kept = np.argsort(away, kind="stable")[:RIVALS]
    finite = away[np.isfinite(away)]
    spread = 2 * float(finite.min()) / (1 if domain.norm == np.inf else len(x)) if len(finite) else 0.1
    every = Rows.stack([margins[kept]] * STARTS)
    points = x + spread * random.uniform(-1, 1, (len(every), len(x)))
    points[: len(kept)] = x
    points, best = np.clip(points, domain.low, domain.high), None
    for _ in range(ROUNDS):
        slopes, values = _planes(question, points, every)
        missing = -(values + (slopes * (x - points)).sum(1))
        away, places = domain.nearest(slopes, missing)
        aim = np.where(np.isfinite(away)[:, None], x + PAST * (places - x), points)
        points = np.clip(0.2 * points + 0.8 * aim, domain.low, domain.high)
        best = nearer(best, question.witness(question.allowed(np.concatenate([points, aim]))))
    return None if best is None else approach(question, best)


def _planes(question: Question, points: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and values of rows, each at its own point."""
    values, slopes = question.program.run(points), rows.wide(question.program.size).toarray()
    return question.program.pull(values, slopes), (slopes * values).sum(1) + rows.offsets


def nearer(first: Witness | None, second: Witness | None) -> Witness | None:
    """The nearer of two."""
    if first is None or second is None:
        return second if first is None else first
    return second if second.distance < first.distance else first


def approach(question: Question, witness: Witness) -> Witness:
    """The nearest witness on the way from x to one, by sections."""
    x, low, high = question.domain.x, 0.0, 1.0
    for _ in range(4):
        shares = np.linspace(low, high, 17)[1:, None]
        found = question.witness(question.allowed(x + shares * (witness.point - x)))
        if found is None or found.distance >= witness.distance:
            return witness
        witness, low, high = found, 1 - 1 / 16, 1.0
    return witness


def beyond(question: Question, point: np.ndarray) -> Witness | None:
    """The witness at a point where classes tie, or a hair beyond it."""
    x = question.domain.x
    return question.witness(question.allowed(x + (1 + BEYOND[:, None]) * (point - x)))


def polished(question: Question, relaxation: Relaxation, witness: Witness) -> Witness:
    """The nearest witness of the region of one, and of the regions that this leads to."""
    for better in _polishing(question, relaxation, witness):
        if better is None or better.distance >= witness.distance * (1 - 1e-9):
            break
        witness = better
    return witness


def _polishing(question: Question, relaxation: Relaxation, witness: Witness) -> Iterator[Witness | None]:
    program, domain = question.program, question.domain
    for _ in range(5):
        values = program.run(witness.point[None])[0]
        signs = np.zeros(program.size)
        for stage in program.stages:
            if stage.rectified:
                signs[stage.start : stage.stop] = np.where(values[stage.start : stage.stop] > 0, 1, -1)
        fixed = np.where(question.integers, witness.point, np.nan)
        part = domain.restricted(np.fmax(domain.low, fixed), np.fmin(domain.high, fixed)).within(witness.distance)
        # Decided everywhere: on the region of the witness its linear program is exact.
        region = Bounds(np.where(signs < 0, -1.0, 0.0), np.where(signs < 0, 0.0, 1.0), signs, np.zeros(program.size))
        place = int(np.flatnonzero(question.rivals == witness.rival)[0])
        solution = relaxation.solve(region, part, question.margins[[place]], -2 * question.hair)
        found = beyond(question, solution.point)
        yield found
        witness = found or witness
