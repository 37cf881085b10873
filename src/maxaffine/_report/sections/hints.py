"""What to do next: what the numbers of the other sections mean for the user, each with the place of its numbers."""

from collections.abc import Iterable, Iterator

from maxaffine._report.audit import Audit
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Hint, Neighborhoods, share_error
from maxaffine._report.neighbors import INPUT, MEAN
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.fit import fit_hints
from maxaffine._report.sections.memory import much_memorized
from maxaffine._templates import Memorization

NAMED = 5
# Shares differ where they are this many standard errors apart, and an input lies near a boundary within this share of
# its own length.
ERRORS, NEAR = 2.0, 0.01


def hints_of(contents: Contents) -> tuple[Hint, ...]:
    """What the numbers of a report, still without hints, ask for, by how much follows from it."""
    audit = contents.audit if isinstance(contents.audit, Audit) else None
    near = contents.neighbors if isinstance(contents.neighbors, Neighborhoods) else None
    return tuple(
        [
            # What makes the page wrong, then what makes the data or the test wrong, then what the network could do
            # better, and last what only saves work.
            *_exactness(contents),
            *_order(contents),
            *_doubt(contents),
            *(_labels(audit) if audit else ()),
            *(_twins(near) if near else ()),
            *(_memory(contents.memory) if isinstance(contents.memory, Memorization) else ()),
            *fit_hints(contents.fit),
            *_mistakes(contents),
            *_boundary(contents),
            *(_copies(audit) if audit else ()),
            *(_search(near) if near else ()),
        ]
    )


def _exactness(contents: Contents) -> Iterator[Hint]:
    if isinstance(contents.cut, Cut) and not contents.cut.check.exact:
        yield Hint(
            "The plane and the module disagree by more than rounding explains: a relative difference of"
            f" {contents.cut.check.error:.1e}.",
            "Do not rely on the picture of the plane; run the report on the network in float64.",
            "space",
        )
    elif not contents.exact:
        yield Hint(
            "The spline form and the module differ by more than rounding explains.",
            "Do not rely on this page's numbers. If it differs in float64 too, this is a fault of maxaffine: report"
            " it.",
            "exact",
        )


def _order(contents: Contents) -> Iterator[Hint]:
    if contents.accuracy is not None and contents.accuracy.order is not None:
        order = contents.accuracy.order
        yield Hint(order.finding, order.cure, "network")


def _doubt(contents: Contents) -> Iterator[Hint]:
    if contents.accuracy is not None and contents.origin.doubtful_test:
        yield Hint(
            f"The accuracy of {contents.accuracy.share:.1%} may not be a test: its inputs were set aside here, and the"
            " network may have been trained on them.",
            "Give the data in two parts, such as folders train and test, if it was.",
            "network",
        )


def _labels(audit: Audit) -> Iterator[Hint]:
    clashing = [pair for pair in audit.pairs if pair.copies and pair.clashing]
    if clashing:
        pairs = (f"{pair.first} and {pair.second} ({' / '.join(pair.labels)})" for pair in clashing)
        yield Hint(
            f"{_count(len(clashing), 'pair')} of training inputs are equal or nearly so, at most"
            f" {max(pair.apart for pair in clashing):.1%} of the usual distance apart, but carry different labels: at"
            " most one of the two can be right.",
            f"Correct the labels of {_named(pairs)}.",
            "same",
        )
    if audit.suspects:
        names = (f"{one.index} ({one.label}, or {one.suggested}?)" for one in audit.suspects)
        yield Hint(
            f"{_count(len(audit.suspects), 'training label')} of {audit.inputs:,} may be wrong: at least"
            f" {audit.threshold:.0%} of the {audit.judges} nearest training inputs carry another one.",
            f"Look at {_named(names)}; correct what is wrong, and keep what is only unusual.",
            "same",
        )


def _twins(found: Neighborhoods) -> Iterator[Hint]:
    if found.twins:
        share = len(found.twins) / found.probes
        yield Hint(
            f"{share:.1%} (± {share_error(share, found.probes):.1%}) of the test inputs are in the training data too,"
            f" equal or nearly so ({len(found.twins)} of {found.probes}), so the test is easier than it seems.",
            "Take them out of one part: "
            + _named(f"test {test} is training {train}" for test, train in found.twins)
            + ".",
            "same",
        )


def _memory(found: Memorization) -> Iterator[Hint]:
    if found.test is None or not much_memorized(found):
        return
    train, test = (
        f"{share:.1%} (± {share_error(share, len(part)):.1%})"
        for part in (found.train, found.test)
        for share in [part.summary["accuracy"]]
    )
    # What moved the score in the study of docs/memorization.md, and what did not.
    yield Hint(
        f"{found.score:.1%} (± {found.standard_error:.1%}) of what its templates know of the training inputs does not"
        f" carry over to new ones: {train} of the former and {test} of the latter are answered correctly.",
        "Look for wrong labels, and train on more inputs: both lowered this share where it was studied; weight decay"
        " did not.",
        "memorized",
    )


def _mistakes(contents: Contents) -> Iterator[Hint]:
    wrong = [one for one in contents.answers if one.right is False]
    if wrong and contents.accuracy is not None:
        share, error = 1 - contents.accuracy.share, contents.accuracy.standard_error
        names = (f"test input {one.index} ({one.label} as {one.predicted})" for one in wrong)
        yield Hint(
            f"{share:.1%} (± {error:.1%}) of the test inputs are answered wrongly.",
            f"See what outweighed the right class in {_named(names)}.",
            f"input-{wrong[0].index}",
        )


def _boundary(contents: Contents) -> Iterator[Hint]:
    # The gates of a smooth network hold at the input alone, so its weights say nothing of a move.
    if contents.held:
        return
    decided = [(one.index, one.runner_up) for one in contents.answers if one.runner_up is not None]
    near = [(index, up) for index, up in decided if up.distance < NEAR * up.size]
    if near:
        names = (f"test input {index} ({up.winner} or {up.loser}, {up.distance / up.size:.2%})" for index, up in near)
        yield Hint(
            f"{len(near)} of {len(decided)} explained answers are close: by the weights at the input, a move of less"
            f" than {NEAR:.0%} of its length is enough for the runner-up.",
            f"Do not rely on such an answer where inputs vary by that much: {_named(names)}.",
            f"input-{near[0][0]}",
        )


def _copies(audit: Audit) -> Iterator[Hint]:
    if twice := [pair for pair in audit.pairs if pair.copies and not pair.clashing]:
        yield Hint(
            f"{_count(len(twice), 'pair')} of {audit.inputs:,} training inputs are copies, equal (in"
            f" {sum(pair.equal for pair in twice)}) or at most {max(pair.apart for pair in twice):.1%} of the usual"
            " distance apart, and count twice in training.",
            f"Drop one of {_named(f'{pair.first} and {pair.second}' for pair in twice)}.",
            "same",
        )


def _search(found: Neighborhoods) -> Iterator[Hint]:
    shares = dict(found.shares)
    operators = [name for name in shares if name not in (INPUT, MEAN)]
    if not operators:
        return
    last, best = operators[-1], max(shares, key=lambda name: shares[name])
    # The shares of one probe's neighbors vary no more than a single draw of all or none does.
    high, low = (share_error(shares[name], found.probes) for name in (best, last))
    if shares[best] - shares[last] <= ERRORS * (high**2 + low**2) ** 0.5:
        return
    where = "their plain numbers" if best == INPUT else "the mean distance" if best == MEAN else f"the codes of {best}"
    yield Hint(
        f"Searched by the codes of {last}, {shares[last]:.1%} (± {low:.1%}) of the nearest training inputs share the"
        f" class; by {where} it is {shares[best]:.1%} (± {high:.1%}).",
        f"To find similar inputs, search by {where}.",
        "same",
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _named(items: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    names = list(items)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
