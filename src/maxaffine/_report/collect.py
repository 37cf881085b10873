"""Assemble the numbers of a report: one section after another, each by plain calls to the other rooms."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from maxaffine._progress import progress_bar
from maxaffine._report.audit import Audit, audit_of
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Accuracy, Choices, LeftOut, Neighborhoods
from maxaffine._report.neighbors import neighbors_among, searched_inputs
from maxaffine._report.sections.answers import answers_of, choose_inputs
from maxaffine._report.sections.cut import cut_of
from maxaffine._report.sections.fit import Fit, fit_of
from maxaffine._report.sections.generated import generated_of
from maxaffine._report.sections.hints import hints_of
from maxaffine._report.sections.level import level_set_of
from maxaffine._report.sections.memory import memory_of
from maxaffine._report.sections.origin import checks_of, origin_of
from maxaffine._report.subject import Subject, spread_evenly

# Numbers that may be computed to answer the test set, and to encode the training set: a minute or two each.
ANSWER_WORK, ENCODE_WORK = 1e10, 5e9
FEWEST_SEARCHED = 12

_Found = TypeVar("_Found")


def assemble(subject: Subject) -> Contents:
    """Check a network against its module, and collect every number that a report shows; no miss is raised."""
    # What a section may compute is bounded: a report on a large network takes minutes, and says what would take more.
    choices = subject.choices
    with progress_bar(None, "report", total=8, unit="section") as bar:

        def step(does: str, find: Callable[[], _Found]) -> _Found:
            bar.set_description(f"report: {does}")
            found = find()
            bar.update()
            return found

        accuracy, fit, chosen = step("test set", lambda: _choose(subject, choices))
        checks = step("check", lambda: checks_of(subject, chosen, choices))
        answers = step("templates", lambda: tuple(answers_of(subject, chosen, choices.classes)))
        memory = step("memorization", lambda: memory_of(subject, choices))
        neighbors, audit = step("neighbors", lambda: _alike(subject, chosen, choices))
        cut = step("plane", lambda: cut_of(subject, chosen, choices))
        generated = step("samples", lambda: generated_of(subject, cut))
        level_set = step("surface", lambda: level_set_of(subject))
    whole = Contents(
        origin=origin_of(subject),
        choices=choices,
        meaning=subject.meaning,
        units=subject.units,
        operators=subject.net.operators,
        convex=subject.net.convex,
        checks=checks,
        accuracy=accuracy,
        answers=answers,
        memory=memory,
        neighbors=neighbors,
        audit=audit,
        cut=cut,
        fit=fit,
        generated=generated,
        level_set=level_set,
    )
    return replace(whole, hints=hints_of(whole))


def _choose(subject: Subject, choices: Choices) -> tuple[Accuracy | None, Fit | LeftOut | None, list[int]]:
    """How many test inputs are answered correctly, or how well targets are predicted, and which to explain."""
    labels = subject.data.test.labels
    if not subject.classifies:
        return None, *fit_of(subject, ANSWER_WORK, choices)
    # A network too large for the whole test set is judged by a part of it, which holds what is explained.
    asked = spread_evenly(len(labels), max(choices.images, subject.affordable(ANSWER_WORK, len(labels))))
    answers = subject.ask(subject.test[asked])
    right = answers == labels[asked]
    chosen = asked[choose_inputs(right, labels[asked], choices.images)]
    accuracy = Accuracy(float(right.double().mean()), len(asked), subject.order(answers, asked))
    return accuracy, None, chosen.tolist()


def _alike(subject: Subject, chosen: list[int], choices: Choices) -> tuple[Neighborhoods | LeftOut, Audit | LeftOut]:
    """The nearest training inputs, and what their codes say about the training set."""
    wanted = min(choices.train_limit, len(subject.train))
    searched = subject.affordable(ENCODE_WORK, wanted)
    if searched < min(FEWEST_SEARCHED, wanted):
        costs = f"The network computes {subject.work:,} numbers per input, too much to encode {FEWEST_SEARCHED} of them"
        reason = LeftOut(f"{costs} for a report; maxaffine encode writes codes once, to be searched later.")
        return reason, reason
    # A search costs less than encoding what is searched, but the probes are encoded too.
    probes = max(1, subject.affordable(ENCODE_WORK / 4, choices.probes))
    found = searched_inputs(subject, replace(choices, train_limit=searched))
    if isinstance(found, LeftOut):
        return found, found
    near = neighbors_among(found, subject, chosen, replace(choices, probes=probes))
    return near, audit_of(found, subject) if searched > 1 else LeftOut("There is a single training input.")
