"""What to try next is said when, and only when, the numbers ask for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from maxaffine._report import Contents
from maxaffine._report.audit import Audit, Pair, Suspect
from maxaffine._report.facts import Accuracy, Hint, Neighborhoods
from maxaffine._report.neighbors import INPUT
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
    pairs = (Pair(3, 9, ("a", "b"), 0.0, 1.0, True), Pair(4, 5, ("a", "a"), 0.02, 0.7, False))
    suspect = Suspect(7, "a", "b", 1.0, ((1, "b"),))
    clash, wrong, twice = _first(calm, audit=dataclasses.replace(calm.audit, pairs=pairs, suspects=(suspect,)))
    assert "1 pair of training inputs" in clash.finding and "3 and 9 (a / b)" in clash.advice
    assert "1 training input of 60" in wrong.finding and "7 (a, or b?)" in wrong.advice
    assert "2.0% of the codes differ, or less. In 0 of these pairs" in twice.finding
    assert "4 and 5" in twice.advice and {clash.place, wrong.place, twice.place} == {"same"}
    many = dataclasses.replace(calm.audit, suspects=(suspect,) * 8)
    assert "and 3 more" in _first(calm, audit=many)[0].advice


def test_twins(calm: Contents) -> None:
    assert isinstance(calm.neighbors, Neighborhoods)
    (hint,) = _first(calm, neighbors=dataclasses.replace(calm.neighbors, twins=((2, 31),)))
    assert "1 of 30 test inputs equal a training input" in hint.finding and "test 2 and training 31" in hint.advice


def test_memorization_counts_beyond_chance(calm: Contents) -> None:
    assert isinstance(calm.memory, Memorization)
    worse = dataclasses.replace(calm.memory.train, alignments=calm.memory.train.alignments * 0.2)
    found = Memorization(calm.memory.train, worse)
    if found.score > 2 * found.standard_error:
        (hint,) = _first(calm, memory=found)
        assert f"{found.score:.1%}" in hint.finding and hint.place == "memorized"
    sharp = dataclasses.replace(calm.memory.train, alignments=torch.full((60,), 0.5, dtype=torch.float64))
    half = dataclasses.replace(sharp, alignments=sharp.alignments / 2)
    (hint,) = _first(calm, memory=Memorization(sharp, half))
    assert "50.0% (± 0.0%)" in hint.finding


@pytest.mark.parametrize(
    ("changes", "finding", "advice"),
    [
        (
            {"distance": 0.01, "margin": 0.01},
            "1 of 3 explained answers the runner-up would win",
            "0.50%",
        ),
        ({"offset": 2.5}, "In 1 of 3 explained answers the offsets add more", "bias=False"),
        (
            {"cosine": 0.95},
            "In 1 of 3 explained answers winner and runner-up have almost the same",
            "OrthogonalTemplates",
        ),
    ],
)
def test_answers(calm: Contents, changes: dict[str, float], finding: str, advice: str) -> None:
    (hint,) = _first(calm, answers=_with(calm, **changes))
    assert finding in hint.finding and advice in hint.advice
    assert hint.place == f"input-{calm.answers[0].index}"


def test_wrong_answers(calm: Contents) -> None:
    first, *others = calm.answers
    wrong = (*others, dataclasses.replace(first, right=False, predicted="other"))
    (hint,) = _first(calm, answers=wrong, accuracy=Accuracy(0.875, 30))
    assert "12.5% of the test inputs" in hint.finding
    assert f"test input {first.index} ({first.label} as other)" in hint.advice


@pytest.mark.parametrize(
    ("shares", "finding"),
    [
        ((0.9, 0.6, 0.9), "as often as those"),
        ((0.95, 0.6, 0.9), "more often than those"),
        ((0.5, 0.9, 0.9), "share the class at 1 (relu) already (90.0%)"),
    ],
)
def test_depth(calm: Contents, shares: tuple[float, ...], finding: str) -> None:
    assert isinstance(calm.neighbors, Neighborhoods)
    named = tuple(zip((INPUT, "1 (relu)", "5 (relu)"), shares, strict=True))
    (hint,) = _first(calm, neighbors=dataclasses.replace(calm.neighbors, shares=named))
    assert finding in hint.finding
