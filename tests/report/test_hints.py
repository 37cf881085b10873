"""What to do next is said when, and only when, the numbers ask for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from maxaffine._network import ExactnessReport
from maxaffine._report import Contents, as_text
from maxaffine._report.audit import Audit, Pair, Suspect
from maxaffine._report.facts import Accuracy, Check, Hint, Neighborhoods
from maxaffine._report.labels import label_order
from maxaffine._report.neighbors import INPUT
from maxaffine._report.page import render
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.hints import hints_of
from maxaffine._templates import Memorization


@pytest.fixture
def calm(contents: Contents) -> Contents:
    """A report whose numbers ask for nothing."""
    assert isinstance(contents.audit, Audit) and isinstance(contents.neighbors, Neighborhoods)
    assert isinstance(contents.memory, Memorization)
    up = {"inner": 2.0, "offset": 0.1, "margin": 2.1, "distance": 1.0, "size": 2.0, "cosine": 0.1}
    answers = tuple(
        dataclasses.replace(one, right=True, runner_up=dataclasses.replace(one.runner_up, **up))
        for one in contents.answers
        if one.runner_up is not None
    )
    same = dataclasses.replace(contents.memory, test=contents.memory.train)
    shares = tuple(zip((INPUT, "1 (relu)", "5 (relu)"), (0.5, 0.6, 0.9), strict=True))
    return dataclasses.replace(
        contents,
        answers=answers,
        accuracy=Accuracy(1.0, 30),
        memory=same,
        audit=dataclasses.replace(contents.audit, pairs=(), suspects=()),
        neighbors=dataclasses.replace(contents.neighbors, twins=(), shares=shares),
    )


def _first(contents: Contents, **changes: Any) -> tuple[Hint, ...]:
    return hints_of(dataclasses.replace(contents, **changes))


def _with(contents: Contents, **changes: Any) -> tuple[Answer, ...]:
    first, *others = contents.answers
    assert first.runner_up is not None
    return (dataclasses.replace(first, runner_up=dataclasses.replace(first.runner_up, **changes)), *others)


def test_nothing_is_said_where_nothing_is_asked_for(calm: Contents) -> None:
    assert hints_of(calm) == ()


def test_labels_and_copies(calm: Contents) -> None:
    assert isinstance(calm.audit, Audit)
    apart = Pair(1, 2, ("a", "a"), 0.02, 0.7, False, 0.3, False), Pair(1, 6, ("a", "b"), 0.0, 1.0, False, 0.11, False)
    copies = Pair(3, 9, ("a", "b"), 0.0, 1.0, True, 0.0, True), Pair(4, 5, ("a", "a"), 0.02, 0.7, False, 0.05, True)
    pairs = (*copies, *apart)
    suspect = Suspect(7, "a", "b", 1.0, ((1, "b"),))
    clash, wrong, twice = _first(calm, audit=dataclasses.replace(calm.audit, pairs=pairs, suspects=(suspect,)))
    assert "1 pair of training inputs" in clash.finding and clash.advice == "Correct the labels of 3 and 9 (a / b)."
    assert "1 training label of 60" in wrong.finding and "7 (a, or b?)" in wrong.advice
    assert "copies, equal (in 0) or at most 5.0% of the usual distance apart" in twice.finding
    assert twice.advice == "Drop one of 4 and 5." and {clash.place, wrong.place, twice.place} == {"same"}
    # One code, but inputs that differ, are not copies, whatever their labels.
    assert _first(calm, audit=dataclasses.replace(calm.audit, pairs=apart)) == ()
    many = dataclasses.replace(calm.audit, suspects=(suspect,) * 8)
    assert "and 3 more" in _first(calm, audit=many)[0].advice


def test_twins(calm: Contents) -> None:
    assert isinstance(calm.neighbors, Neighborhoods)
    (hint,) = _first(calm, neighbors=dataclasses.replace(calm.neighbors, twins=((2, 31),)))
    assert "3.3% (± 4.4%) of the test inputs are in the training data too" in hint.finding
    assert "test 2 is training 31" in hint.advice


def _memory(calm: Contents, scores: list[float]) -> Memorization:
    """What is memorized where the alignments on test inputs are these, and 0.5 on training inputs."""
    assert isinstance(calm.memory, Memorization)
    sharp = dataclasses.replace(calm.memory.train, alignments=torch.full((60,), 0.5, dtype=torch.float64))
    spread = torch.tensor(scores, dtype=torch.float64).repeat(60 // len(scores))
    return Memorization(sharp, dataclasses.replace(sharp, alignments=spread))


def test_memorization_counts_where_it_is_surely_more_than_little(calm: Contents) -> None:
    (hint,) = _first(calm, memory=_memory(calm, [0.25]))
    assert "50.0% (± 0.0%)" in hint.finding and hint.place == "memorized"
    assert "weight decay did not" in hint.advice
    # Tiny, and not different from none by more than chance.
    assert _first(calm, memory=_memory(calm, [0.48])) == ()
    noisy = _memory(calm, [0.1, 0.8])
    assert noisy.score > 0.05 and _first(calm, memory=noisy) == ()


def test_answers_near_a_boundary(calm: Contents) -> None:
    answers = _with(calm, distance=0.01, margin=0.01)
    (hint,) = _first(calm, answers=answers)
    assert "1 of 3 explained answers are close" in hint.finding and "0.50%" in hint.advice
    assert hint.place == f"input-{calm.answers[0].index}"
    # The weights of a smooth network hold at the input alone.
    smooth = tuple(dataclasses.replace(one, held="gate") for one in calm.operators)
    assert _first(calm, answers=answers, operators=smooth) == ()


@pytest.mark.parametrize("changes", [{"offset": 2.5}, {"cosine": 0.95}])
def test_what_no_measurement_supports_is_not_advised(calm: Contents, changes: dict[str, float]) -> None:
    assert _first(calm, answers=_with(calm, **changes)) == ()


def test_wrong_answers(calm: Contents) -> None:
    first, *others = calm.answers
    wrong = (*others, dataclasses.replace(first, right=False, predicted="other"))
    (hint,) = _first(calm, answers=wrong, accuracy=Accuracy(0.875, 30))
    assert "12.5% (± 6.5%) of the test inputs" in hint.finding
    assert f"test input {first.index} ({first.label} as other)" in hint.advice


@pytest.mark.parametrize(
    ("shares", "finding"),
    [
        ((0.99, 0.6, 0.5), "by their plain numbers it is 99.0% (± 3.6%)"),
        ((0.5, 0.99, 0.6), "by the codes of 1 (relu) it is 99.0%"),
        # No more than chance explains, over 30 inputs.
        ((0.95, 0.6, 0.9), ""),
        ((0.5, 0.9, 0.9), ""),
    ],
)
def test_search(calm: Contents, shares: tuple[float, ...], finding: str) -> None:
    assert isinstance(calm.neighbors, Neighborhoods)
    named = tuple(zip((INPUT, "1 (relu)", "5 (relu)"), shares, strict=True))
    hints = _first(calm, neighbors=dataclasses.replace(calm.neighbors, shares=named))
    assert len(hints) == bool(finding) and all(finding in hint.finding for hint in hints)


def test_what_follows_most_comes_first(calm: Contents) -> None:
    assert isinstance(calm.audit, Audit) and isinstance(calm.neighbors, Neighborhoods)
    labels = torch.arange(60) % 3
    order = label_order((labels + 1) % 3, labels, calm.origin.class_names)
    first, *others = calm.answers
    bad = ExactnessReport(0.5, 1.0, 0.0, 0.0, 1e-6, 64, torch.float32)
    pairs = (Pair(4, 5, ("a", "a"), 0.02, 0.7, True, 0.0, True),)
    found = dataclasses.replace(
        calm,
        checks=(Check("float32", bad),),
        accuracy=Accuracy(0.5, 30, order),
        audit=dataclasses.replace(calm.audit, pairs=pairs, suspects=(Suspect(7, "a", "b", 1.0, ((1, "b"),)),)),
        neighbors=dataclasses.replace(calm.neighbors, twins=((2, 31),)),
        memory=_memory(calm, [0.25]),
        answers=(dataclasses.replace(first, right=False), *others),
    )
    # The pictures of these pairs and suspects are not there to be drawn.
    found = dataclasses.replace(found, hints=hints_of(found), audit=calm.audit)
    assert order is not None
    heads = ("The spline form", order.finding, "1 training label", "3.3%", "50.0%", "50.0%", "1 pair of 60")
    assert [hint.finding.startswith(head) for hint, head in zip(found.hints, heads, strict=True)] == [True] * len(heads)
    # The page begins with them, and the console's lines are in the same order.
    page, lines = render(found), as_text(found).splitlines()
    assert page.index("What to do next") < page.index("What is the network made of?")
    assert lines[0].startswith(order.finding) and lines[1].startswith("NOT exact")
    told = [line.removeprefix("to do next: ") for line in lines if line.startswith("to do next: ")]
    assert told == [f"{hint.finding} {hint.advice}" for hint in found.hints if hint.finding != order.finding]


def test_a_line_says_that_nothing_is_to_be_done(calm: Contents) -> None:
    nothing = dataclasses.replace(calm, hints=())
    assert as_text(nothing).count("to do next: nothing") == 1
    assert "no number on this page calls for a next step" in render(nothing)
