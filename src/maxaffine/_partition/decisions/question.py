"""What is asked: a program, where its inputs may move, which classes count, and the network to ask for the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maxaffine._partition.decisions.domain import Domain
from maxaffine._partition.decisions.rows import Program, Rows

HAIR = 1e-12  # how far beyond a tie a witness is taken, relative to the largest logit at x


@dataclass(frozen=True, eq=False)
class Witness:
    """A point of another class."""

    distance: float
    point: np.ndarray  # (features,)
    rival: int
    margin: float  # the rival's logit less the own


@dataclass(frozen=True, eq=False)
class Question:
    """The nearest point of a domain whose logit of a rival reaches that of the class of x."""

    program: Program
    domain: Domain
    own: int
    rivals: np.ndarray  # classes that count
    integers: np.ndarray  # (features,) which take whole numbers only
    logits: Callable[[np.ndarray], np.ndarray]  # points (points, features) to (points, classes), by the network itself
    scale: float  # of the logits

    @cached_property
    def margins(self) -> Rows:
        """The logits of the rivals less the own, a row for each."""
        outputs = self.program.outputs
        return outputs[self.rivals] - outputs[np.full(len(self.rivals), self.own)]

    @property
    def hair(self) -> float:
        """What a witness' margin is at least but at a tie: more than rounding."""
        return HAIR * self.scale

    def allowed(self, points: np.ndarray) -> np.ndarray:
        """The points, each moved to the nearest place that is allowed for it."""
        near = np.where(self.integers, np.round(points), points)
        return np.clip(near, self.domain.low, self.domain.high)

    @property
    def tie(self) -> Witness | None:
        """The input itself, where another class is level with its own."""
        return self.witness(self.domain.x[None], 0.0)

    def witness(self, points: np.ndarray, least: float | None = None) -> Witness | None:
        """The nearest of allowed points (points, features) of another class, by a margin or a hair, or of a tie."""
        logits = self.logits(points)
        margins = logits[:, self.rivals] - logits[:, [self.own]]
        # Between whole numbers nothing lies beyond a tie, so there a tie itself counts.
        least = (0.0 if self.integers.any() else self.hair) if least is None else least
        reached = margins.max(1) >= least
        if not reached.any():  # a tie with nothing beyond it, as on a plateau, counts as well
            reached = margins.max(1) >= 0
        if not reached.any():
            return None
        distances = np.where(reached, self.domain.distance(points), np.inf)
        place = int(distances.argmin())
        rival = int(margins[place].argmax())
        return Witness(float(distances[place]), points[place], int(self.rivals[rival]), float(margins[place, rival]))
