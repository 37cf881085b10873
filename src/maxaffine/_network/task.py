"""What a network answers: a class, a value, several values, or a field over coordinates.

The same numbers mean different things: the largest of ten logits is an answer, the largest of an age and an income is
nothing. So it is settled here, once per output of a network, and templates, partitions, report and explorer read it.
"""

from enum import Enum
from math import prod

from maxaffine.errors import BadInput

# Endings after which the largest output is the answer, those that make a single one the logit of two classes, and one
# that scales values.
SOFTMAX = ("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax")
SIGMOID, TANH = ("sigmoid", "log_sigmoid"), ("tanh",)
COORDINATES = (2, 3)


class Task(Enum):
    """What one output of a network answers."""

    # The largest of several outputs is the answer; a single one is the logit of the second of two classes, which is the
    # answer where it is above 0.
    CLASSES = "classes"
    VALUE = "value"  # a number
    VALUES = "values"  # several numbers, none of which competes with another
    FIELD = "field"  # one or several numbers at every point of a space of 2 or 3 coordinates


def infer_task(units: tuple[int, ...], coordinates: bool, ending: str, labels: int | None) -> Task:
    """The task of an output where nobody says it; `labels` counts the data's classes, None where there is no data."""
    single, outputs = prod(units) == 1, units[0] if len(units) == 1 else 1
    # A single output is the logit of two classes before a sigmoid, or where the data has two.
    if single and len(units) < 2 and (ending in SIGMOID or labels == 2):
        return Task.CLASSES
    # A row is classes after a softmax, or where the data has as many. Otherwise it is where no sigmoid or tanh follows,
    # which bound values, unless there is data and it has no labels.
    if outputs > 1:
        bounded = ending in (*SIGMOID, *TANH)
        if ending in SOFTMAX or labels == outputs or not bounded and (labels is None or labels > 1):
            return Task.CLASSES
    if coordinates and len(units) < 2:
        return Task.FIELD
    return Task.VALUE if single else Task.VALUES


def as_task(task: Task | str, units: tuple[int, ...], coordinates: bool) -> Task:
    """A task that was given, once it fits the output: a value and values by the number of outputs."""
    known = [item.value for item in Task]
    if not isinstance(task, Task) and task not in known:
        raise BadInput(f"task: {task!r} is not a task; choose one of {', '.join(known)}")
    found = Task(task)
    if found is Task.CLASSES and len(units) > 1:
        raise BadInput(
            f"task: classes need a row of outputs, or a single one, but an input gives {units}; choose 'values'"
        )
    if found is Task.FIELD and not (coordinates and len(units) < 2):
        raise BadInput(
            "task: a field is a row of outputs, or a single one, over one input of 2 or 3 coordinates, which this"
            " network does not have; choose 'value' or 'values'"
        )
    if found in (Task.VALUE, Task.VALUES):
        return Task.VALUE if prod(units) == 1 else Task.VALUES
    return found


def require_classes(task: Task, question: str, instead: str) -> None:
    """Refuse a question about classes where there are none, and say what to call instead."""
    if task is not Task.CLASSES:
        words = {Task.VALUE: "a value", Task.VALUES: "values", Task.FIELD: "a field of values"}[task]
        raise BadInput(
            f"{question}: the network gives {words}, not classes; {instead}. If it does give the logits of classes, say"
            " so: capture(..., task='classes')"
        )
