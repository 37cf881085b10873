"""What to try next: sentences that the numbers of the other sections back, each with the place of its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from maxaffine._report.audit import Audit
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Hint, Neighborhoods
from maxaffine._report.neighbors import INPUT, MEAN
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.fit import fit_hints
from maxaffine._templates import Memorization

NAMED = 5
# A score of memorization counts from this many standard errors, templates are alike from this cosine on, an input lies
# near a boundary within this share of its own length, and shares of neighbors are equal within this.
ERRORS, ALIKE, NEAR, EQUAL = 2.0, 0.9, 0.01, 0.005


def hints_of(contents: Contents) -> tuple[Hint, ...]:
    """What the numbers of a report, still without hints, ask for, the most pressing first."""
    return tuple(
        [
            *_exactness(contents),
            *_order(contents),
            *fit_hints(contents.fit),
            *(_data(contents.audit) if isinstance(contents.audit, Audit) else ()),
            *(_twins(contents.neighbors) if isinstance(contents.neighbors, Neighborhoods) else ()),
            *(_memory(contents.memory) if isinstance(contents.memory, Memorization) else ()),
            *_answers(contents),
            *(_depth(contents.neighbors) if isinstance(contents.neighbors, Neighborhoods) else ()),
        ]
    )


def _exactness(contents: Contents) -> Iterator[Hint]:
    if isinstance(contents.cut, Cut) and not contents.cut.check.exact:
        yield Hint(
            "The plane and the module disagree by more than rounding explains.",
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


def _data(audit: Audit) -> Iterator[Hint]:
    clashing = [pair for pair in audit.pairs if len(set(pair.labels)) > 1]
    if clashing:
        pairs = ", ".join(f"{pair.first} and {pair.second} ({' / '.join(pair.labels)})" for pair in clashing[:NAMED])
        yield Hint(
            f"{_count(len(clashing), 'pair')} of training inputs are at most half as far from each other as from the"
            " inputs around them, but carry different labels.",
            f"Look at the labels of {pairs}{_more(clashing)}.",
            "same",
        )
    if audit.suspects:
        named = ", ".join(f"{one.index} ({one.label}, or {one.suggested}?)" for one in audit.suspects[:NAMED])
        yield Hint(
            f"{_count(len(audit.suspects), 'training input')} of {audit.inputs:,} lie among inputs of another class: at"
            f" least {audit.threshold:.0%} of their nearest carry another label.",
            f"Look at the labels of {named}{_more(audit.suspects)}.",
            "same",
        )
    if twice := [pair for pair in audit.pairs if len(set(pair.labels)) == 1]:
        pairs = ", ".join(f"{pair.first} and {pair.second}" for pair in twice[:NAMED])
        yield Hint(
            f"{_count(len(twice), 'pair')} of training inputs are at most half as far from each other as from the"
            f" inputs around them: {max(pair.distance for pair in twice):.1%} of the codes differ, or less. In"
            f" {sum(pair.equal for pair in twice)} of these pairs the inputs are equal number by number.",
            f"See whether {pairs}{_more(twice)} are copies that could go.",
            "same",
        )


def _twins(found: Neighborhoods) -> Iterator[Hint]:
    if found.twins:
        pairs = ", ".join(f"test {test} and training {train}" for test, train in found.twins[:NAMED])
        yield Hint(
            f"{len(found.twins)} of {found.probes} test inputs equal a training input, or share all their codes with it"
            f" and with fewer than {found.count} training inputs in all.",
            f"See whether they are in both parts of the data, which flatters the test: {pairs}{_more(found.twins)}.",
            "same",
        )


def _memory(found: Memorization) -> Iterator[Hint]:
    if found.test is None or not found.score > ERRORS * found.standard_error:
        return
    train, test = found.train.summary["accuracy"], found.test.summary["accuracy"]
    yield Hint(
        f"{found.score:.1%} (± {found.standard_error:.1%}) of the templates' fit to the training inputs is not there on"
        f" test inputs; {train:.1%} of the former and {test:.1%} of the latter are answered correctly.",
        "Train once more with weight decay or more varied data, and compare this number and the test accuracy.",
        "memorized",
    )


def _answers(contents: Contents) -> Iterator[Hint]:
    wrong = [one for one in contents.answers if one.right is False]
    if wrong and contents.accuracy is not None:
        yield Hint(
            f"{1 - contents.accuracy.share:.1%} of the test inputs are answered wrongly.",
            "Read what outweighed the right class in "
            + ", ".join(f"test input {one.index} ({one.label} as {one.predicted})" for one in wrong[:NAMED])
            + ".",
            f"input-{wrong[0].index}",
        )
    decided = [(one.index, one.runner_up) for one in contents.answers if one.runner_up is not None]
    near = [(index, up) for index, up in decided if up.distance < NEAR * up.size]
    if near:
        named = ", ".join(
            f"test input {index} ({up.winner} or {up.loser}, {up.distance / up.size:.2%})" for index, up in near[:NAMED]
        )
        yield Hint(
            f"In {len(near)} of {len(decided)} explained answers the runner-up would win after a move of less than"
            f" {NEAR:.0%} of the input's own length, if the weights at the input held that far.",
            f"Ask whether your inputs vary by that much: {named}.",
            f"input-{near[0][0]}",
        )
    biased = [index for index, up in decided if up.offset > up.inner]
    if biased:
        yield Hint(
            f"In {len(biased)} of {len(decided)} explained answers the offsets add more to the margin over the"
            " runner-up than the match with the input does.",
            "Train once more with bias=False (batch-norm and ReLU6 bring offsets of their own, too) and compare the"
            " test accuracy: without offsets the templates alone decide.",
            f"input-{biased[0]}",
        )
    alike = [(index, up) for index, up in decided if up.cosine > ALIKE]
    if alike:
        named = ", ".join(f"{up.winner} and {up.loser} ({up.cosine:.2f})" for _, up in alike[:NAMED])
        yield Hint(
            f"In {len(alike)} of {len(decided)} explained answers winner and runner-up have almost the same template"
            f" (cosine above {ALIKE}): {named}.",
            "Train once more with ma.learning.OrthogonalTemplates, which penalizes that, and compare the accuracy.",
            f"input-{alike[0][0]}",
        )


def _depth(found: Neighborhoods) -> Iterator[Hint]:
    shares = {name: share for name, share in found.shares if name not in (INPUT, MEAN)}
    if not shares:
        return
    *earlier, last = shares
    pixels = dict(found.shares)[INPUT]
    if pixels >= shares[last] - EQUAL:
        often = "as often as" if pixels <= shares[last] + EQUAL else "more often than"
        yield Hint(
            f"The nearest inputs by their plain numbers share the class {often} those by the codes of the last"
            f" operator: {pixels:.1%} and {shares[last]:.1%}.",
            "For finding inputs of one class, this network's last codes are no better than the inputs themselves.",
            "same",
        )
        return
    early = next((name for name in earlier if shares[name] >= shares[last] - EQUAL), None)
    if early is not None:
        yield Hint(
            f"Nearest inputs share the class at {early} already ({shares[early]:.1%}) as often as at the last operator"
            f" ({shares[last]:.1%}).",
            f"For searching similar inputs the codes up to {early} are enough.",
            "same",
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _more(items: tuple | list) -> str:
    return f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
