"""What a network answers: inferred by one rule, or said; and refused where a question about it has no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._network import Task


def _net(inputs: int, outputs: int, ending: nn.Module | None = None, task: str | None = None) -> ma.SplineNetwork:
    layers = [nn.Linear(inputs, 4), nn.ReLU(), nn.Linear(4, outputs)]
    model = nn.Sequential(*layers, *([] if ending is None else [ending])).double()
    output = "as_is" if ending is None else "pre_activation"
    return ma.capture(model, torch.zeros(2, inputs, dtype=torch.float64), output=output, task=task)


@pytest.mark.parametrize(
    ("inputs", "outputs", "ending", "labels", "expected"),
    [
        (5, 3, None, None, "classes"),
        (5, 3, None, 3, "classes"),
        (5, 3, None, 7, "classes"),  # classes that are not those of the data
        (5, 3, None, 1, "values"),  # data without labels
        (5, 3, nn.Softmax(1), 1, "classes"),
        (5, 3, nn.LogSoftmax(1), None, "classes"),
        (5, 3, nn.Sigmoid(), None, "values"),
        (5, 3, nn.Sigmoid(), 3, "classes"),
        (5, 3, nn.Sigmoid(), 4, "values"),
        (5, 3, nn.Tanh(), None, "values"),
        (5, 1, None, None, "value"),
        (5, 1, None, 2, "classes"),  # the logit of the second of two classes
        (5, 1, None, 9, "value"),  # whole numbers to be predicted
        (5, 1, nn.Sigmoid(), None, "classes"),
        (5, 1, nn.LogSigmoid(), 1, "classes"),
        (5, 1, nn.Tanh(), None, "value"),
        (2, 1, None, None, "field"),
        (3, 1, nn.Tanh(), 1, "field"),
        (2, 3, nn.Sigmoid(), None, "field"),
        (2, 3, None, 1, "field"),
        (2, 3, None, None, "classes"),  # as of any plane of points with classes; a picture says task="field"
        (2, 1, None, 2, "classes"),
    ],
)
def test_the_rule(inputs: int, outputs: int, ending: nn.Module | None, labels: int | None, expected: str) -> None:
    net = _net(inputs, outputs, ending)
    assert net.task(labels=labels) is net.double().task(labels=labels) is Task(expected)
    if labels is not None:
        assert net.with_labels(labels).task() is Task(expected)
    assert repr(net).splitlines()[0].endswith(f"answers: {net.task().value}")


def test_other_shapes_are_values() -> None:
    x = torch.zeros(2, 2)
    picture = ma.capture(nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (2, 3))), x)
    number = ma.capture(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), x)
    assert (picture.task(), number.task()) == (Task.VALUES, Task.FIELD)


def test_a_single_output_with_further_axes_is_a_value_beside_data_of_two_classes() -> None:
    net = ma.capture(nn.Conv2d(1, 1, 3), torch.zeros(2, 1, 3, 3))
    assert net.with_labels(2).task() is Task.VALUE


def test_a_task_may_be_the_word_or_the_thing() -> None:
    net = ma.capture(nn.Linear(4, 3), torch.zeros(2, 4), task=Task.VALUES)
    assert net.task() is Task.VALUES


def test_what_is_said_holds() -> None:
    for said in ("classes", "values", "field"):
        net = _net(2, 3, task=said)
        assert net.task() is net.task(labels=3) is net.double().task() is net.with_labels(3).task() is Task(said)
    assert _net(5, 1, task="classes").with_labels(1).task() is Task.CLASSES
    assert _net(5, 1, task="values").task() is Task.VALUE and _net(5, 3, task="value").task() is Task.VALUES
    assert _net(5, 3).with_labels(3, "values").task() is Task.VALUES


class _Two(nn.Module):
    """A class and a value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first(x), self.second(x)


def test_every_output_has_its_own() -> None:
    net = ma.capture(_Two(), torch.zeros(2, 4))
    assert (net.task(0), net.task(1)) == (Task.CLASSES, Task.VALUE)
    assert net.with_labels(3, "classes", 1).task(1) is Task.CLASSES
    told = ma.capture(_Two(), torch.zeros(2, 4), task=["values", "classes"])
    assert (told.task(0), told.task(1)) == (Task.VALUES, Task.CLASSES)
    assert told.templates(torch.ones(1, 4), output=0).names == ("value 0", "value 1", "value 2")
    with pytest.raises(ma.BadInput, match="choose one of 0..1"):
        net.task()


def test_parts_answer_what_the_whole_does() -> None:
    values, classes = _net(5, 3, task="values"), _net(5, 3)
    assert values.part(after="1").task() is values.part(until="1").task() is Task.VALUES
    assert classes.part(after="1").task() is classes.part(until="1").task() is Task.CLASSES


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("regression", "task: 'regression' is not a task; choose one of classes, value, values, field"),
        ("field", "task: a field is"),
        (["values", "values"], "task: 2 for 1 outputs"),
    ],
)
def test_bad_tasks(task: str | list[str], message: str) -> None:
    with pytest.raises(ma.BadInput, match=message):
        ma.capture(nn.Linear(5, 3), torch.zeros(2, 5), task=task)
    with pytest.raises(ma.BadInput, match="classes need a row of outputs"):
        ma.capture(nn.Unflatten(1, (2, 3)), torch.zeros(2, 6), task="classes")


X = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
QUESTIONS: dict[str, tuple[Callable[[ma.SplineNetwork], object], str]] = {
    "runner-up": (lambda net: net.templates(X).runner_up(), "compare"),
    "memorization": (lambda net: ma.templates.memorization(net, (X, torch.tensor([0, 1, 1]))), "templates"),
    "decisions": (lambda net: ma.partition.line(net, X[:1], X[1:2]).decisions(), "level_set"),
    "counted decisions": (lambda net: ma.partition.crossed_regions(net, X[:1], X[1:2], decisions=True), "level_set"),
    "classes": (lambda net: _plane(net).classes, "level_set"),
    "decided": (lambda net: _plane(net).decided, "level_set"),
    "boundary": (lambda net: _plane(net).decision_boundary(), "level_set"),
    "divided": (lambda net: _plane(net).divided_by_class(), "level_set"),
    "region": (lambda net: ma.partition.region(net, X[:1], bounds=(-2.0, 2.0)).decision, "affine_map"),
}


def _plane(net: ma.SplineNetwork) -> ma.partition.PlanePartition:
    axes = torch.eye(2, dtype=torch.float64)
    return ma.partition.plane(net, origin=torch.zeros(1, 2, dtype=torch.float64), basis=axes, progress=False)


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_about_classes_are_refused_where_there_are_none(question: str) -> None:
    ask, instead = QUESTIONS[question]
    for task, words in (("values", "values"), ("field", "a field of values")):
        with pytest.raises(ma.BadInput, match=rf"the network gives {words}, not classes; .*{instead}.*task='classes'"):
            ask(_net(2, 2, task=task))
    assert ask(_net(2, 2, task="classes")) is not None or question == "region"


def test_values_are_never_called_classes() -> None:
    found = _net(5, 3, task="values").templates(torch.ones(2, 5, dtype=torch.float64))
    said = repr(found) + repr(found.compare(0, 2)) + found._repr_html_()
    both: Any = found.plot([0, 1]).child_axes
    panels: Any = found.plot().child_axes
    said += "".join(text.get_text() for ax in both for text in ax.texts)
    said += "".join(ax.get_title(loc="left") for ax in panels)
    assert "class" not in said and "over" not in said and "value 0 minus value 2" in said
    # Values do not compete, so that the first ones are shown, whatever their size.
    titles = [ax.get_title(loc="left") for ax in panels]
    assert [word for word in ("value 0", "value 1", "value 2") if any(word in title for title in titles)] == list(
        found.names
    )
    single = _net(5, 1).templates(torch.ones(1, 5, dtype=torch.float64))
    assert single.names == ("the output",)
    assert _net(5, 3).templates(torch.ones(1, 5, dtype=torch.float64)).names == ("class 0", "class 1", "class 2")
    assert len(ma.partition.crossed_regions(_net(2, 1), X[:1], X[1:2]).decisions) == 0
