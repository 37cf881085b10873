"""Whether the labels of the data are in another order than the outputs of the network."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

# An order is reported only where it leaves at most this share of the wrong answers, is at least this much of the way
# from always naming the commonest class to being always right, and could be chance at most this often.
LEFT, SKILL, CHANCE = 0.5, 0.5, 1e-3
NAMED = 5
LONGEST = 300


@dataclass(frozen=True)
class LabelOrder:
    """An order of the classes in which far more test inputs are answered correctly than in that of the data."""

    # Shares answered correctly as the labels are numbered, and in the other order.
    given: float
    share: float
    moved: tuple[tuple[str, str], ...]  # output and class, by name, of each class that moves
    # In the order of the outputs; empty where some class has no test input, so that its output is not known.
    class_names: tuple[str, ...]

    @property
    def finding(self) -> str:
        """What was found, in one sentence."""
        meant = [f"{output} means {name!r}" for output, name in self.moved[:NAMED]]
        more = f" and so on for {len(self.moved) - NAMED} more" if len(self.moved) > NAMED else ""
        return (
            "The labels seem to be in another order than the network's outputs: accuracy"
            f" {self.given:.1%} as given, {self.share:.1%} if {', '.join(meant)}{more}."
        )

    @property
    def cure(self) -> str:
        """What to do about it, in one sentence."""
        names = ",".join(self.class_names)
        plain = self.class_names and not any("," in name for name in self.class_names) and len(names) <= LONGEST
        words = shlex.quote(names) if plain else "FILE, with the name of one output on each line"
        return f"Give the names in the order of the outputs: --class-names {words} (in Python data.ordered(names))."


def label_order(
    answers: Tensor, labels: Tensor, class_names: Sequence[str], outputs: Sequence[str] | None = None
) -> LabelOrder | None:
    """Find out whether a network answers well, but in another order of the classes than that of the data."""
    # The best order is the permutation with the largest sum along the matrix of confusions. The best of so many is
    # above the given one by chance already, and follows whatever an untrained network happens to do. So it counts only
    # where it is good by itself and leaves few of the wrong answers, and holds on inputs that did not choose it.
    said, given, count = answers.cpu().numpy(), labels.cpu().numpy(), len(class_names)
    if not len(given):
        return None
    confusions = _confusions(said, given, count)
    best, sizes = _matching(confusions), confusions.sum(1)
    moved = [label for label in range(count) if best[label] != label and confusions[label, best[label]]]
    right, other = confusions.trace() / len(given), confusions[np.arange(count), best].sum() / len(given)
    most = sizes.max() / len(given)
    if not moved or 1 - other > LEFT * (1 - right) or other - most <= SKILL * (1 - most):
        return None
    wins, losses = _trial(said, given, count)
    # Of n inputs that only one of the two orders gets right, Hoeffding's inequality gives so many wins or more, if each
    # order were as good, a probability of at most exp(-2 (wins - n/2)^2 / n).
    lead = wins - (wins + losses) / 2
    if lead <= 0 or 2 * lead**2 < -math.log(CHANCE) * (wins + losses):
        return None
    called = outputs or [f"output {number}" for number in range(count)]
    names = np.empty(count, object)
    names[best] = list(class_names)
    pairs = sorted((int(best[label]), class_names[label]) for label in moved)
    return LabelOrder(
        float(right), float(other), tuple((called[c], name) for c, name in pairs), tuple(names) if sizes.all() else ()
    )


def _confusions(said: np.ndarray, given: np.ndarray, count: int) -> np.ndarray:
    """(C, C) how many inputs of each class (row) get each answer."""
    return np.bincount(given * count + said, minlength=count * count).reshape(count, count)


def _matching(confusions: np.ndarray) -> np.ndarray:
    """The output of each class (C,) for which most inputs are right; of equally good ones, the most that stay."""
    from scipy.optimize import linear_sum_assignment

    # Counts weigh more than all of the ones on the diagonal together, which only tell equal sums apart.
    count = len(confusions)
    return linear_sum_assignment(confusions * (count + 1) + np.eye(count, dtype=np.int64), maximize=True)[1]


def _trial(said: np.ndarray, given: np.ndarray, count: int) -> tuple[int, int]:
    """Inputs that only the order chosen on the other half gets right, and those that only the given order does."""
    ranks = np.empty(len(given), np.int64)
    # The number of each input within its class: every second one is of the other half, however the data is sorted.
    for label in np.unique(given).tolist():
        ranks[given == label] = np.arange(int((given == label).sum()))
    wins = losses = 0
    for half in (0, 1):
        chosen, tried = ranks % 2 == half, ranks % 2 != half
        best = _matching(_confusions(said[chosen], given[chosen], count))
        other, own = best[given[tried]] == said[tried], given[tried] == said[tried]
        wins, losses = wins + int((other & ~own).sum()), losses + int((own & ~other).sum())
    return wins, losses
