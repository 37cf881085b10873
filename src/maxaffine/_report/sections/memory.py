"""Whether a network has memorized its training data."""

from torch import Tensor

from maxaffine._data import without_classes
from maxaffine._report.facts import Choices, LeftOut
from maxaffine._report.subject import Meaning, Subject, spread_evenly
from maxaffine._templates import Memorization, memorization

# Numbers that may be computed to pull templates back: about a minute.
WORK = 4e9
FEWEST = 20
# A share of memorization calls for something where it is above this by as many standard errors.
LITTLE, ERRORS = 0.05, 2.0


def memory_of(subject: Subject, choices: Choices) -> Memorization | LeftOut:
    """Compare how well the templates match training and test inputs, or say why they cannot be."""
    # Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576), section 5.
    if subject.meaning.valued:
        return LeftOut(
            f"Memorization is measured on the templates of classifiers; the network gives {subject.meaning.value}."
        )
    if subject.meaning is not Meaning.CLASSES:
        lacking = without_classes(subject.data.class_names)
        return LeftOut(
            "Memorization is measured on the templates of all classes of labeled data; here "
            + (f"{lacking}." if lacking else f"the network has {subject.meaning.value}.")
        )
    if min(len(subject.train), len(subject.test)) < 2:
        return LeftOut("Memorization shows in how training and test inputs spread, which takes two of each.")
    # Half of the budget for each part, a template per class and input.
    count = int(subject.affordable(WORK / 2, choices.memorized * subject.data.classes) / subject.data.classes)
    if count < min(FEWEST, choices.memorized, len(subject.train), len(subject.test)):
        return LeftOut(
            f"It would take {2 * FEWEST * subject.data.classes:,} templates through {subject.work:,} numbers each,"
            " which is too much for a report; ma.templates.memorization(net, train, test) measures it by itself."
        )
    train = _part(subject.train, subject.data.train.labels, count)
    test = _part(subject.test, subject.data.test.labels, count)
    found = memorization(subject.net, train, test, output=subject.output, batch_size=min(64, subject.at_once))
    # After Ctrl-C it returns what it has, but half of the measures would mislead.
    if found.test is None or not (found.train.complete and found.test.complete):
        raise KeyboardInterrupt
    return found


def much_memorized(found: Memorization) -> bool:
    """Whether the score is more than little even at the lower end of what it may be."""
    # NaN, where the score cannot be told, is not above anything.
    return found.score - ERRORS * found.standard_error > LITTLE


def _part(inputs: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    chosen = spread_evenly(len(labels), count)
    return inputs[chosen], labels[chosen]
