"""What a report looks at, and the frozen records that several of its sections and commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from maxaffine._network import ExactnessReport
from maxaffine._report.labels import LabelOrder


@dataclass(frozen=True)
class Choices:
    """What a report looks at.

    Attributes:
        images: Number of test inputs to explain.
        classes: Number of top classes whose templates are shown for each of them.
        neighbors: Number of nearest training inputs shown per operator.
        layers: At most this many operators are shown with their neighbors.
        operators: Names of the operators to show in place of evenly spaced ones.
        train_limit: At most this many training inputs are encoded and searched.
        probes: At most this many test inputs are used to count how often neighbors share the class.
        memorized: At most this many inputs of each part are compared with their templates.
        cells: At most about this many regions of the plane are shown.
        checked: Number of test inputs on which exactness is checked in the model's own dtype.
        checked_double: The same in float64.
        output: ``"as_is"``, or ``"pre_activation"`` to stop before a final softmax, sigmoid or tanh.
        until: Module to stop after; None for the output.
        output_index: Which output, of a model with several; None for its only one.
        task: What it answers (``"classes"``, ``"value"``, ``"values"``, ``"field"``); None where that is inferred from
            the network and the labels of the data.
        smooth: Whether smooth operators are refused, or their gates held, or their tangents taken: as ``capture`` does.
    """

    images: int = 6
    classes: int = 3
    neighbors: int = 6
    layers: int = 6
    train_limit: int = 5000
    probes: int = 200
    memorized: int = 500
    cells: int = 6000
    checked: int = 64
    checked_double: int = 16
    output: str = "as_is"
    until: str | None = None
    output_index: int | None = 0
    task: str | None = None
    smooth: str = "refuse"
    operators: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A section that does not apply, or costs too much.

    Attributes:
        reason: Why, in one sentence.
    """

    reason: str


@dataclass(frozen=True)
class Accuracy:
    """How many test inputs are answered correctly.

    Attributes:
        share: In [0, 1].
        inputs: Number of test inputs that were answered.
        order: Another order of the labels, where far more would be right in it.
    """

    share: float
    inputs: int
    order: LabelOrder | None = None


@dataclass(frozen=True)
class Origin:
    """Where the network and the data come from.

    Attributes:
        model: What to call the network.
        weights: One sentence on where its weights come from.
        parameters: Number of its parameters; None where only the captured network is at hand.
        data: Name of the data set.
        train_size: Number of training inputs.
        test_size: Number of test inputs.
        input_shape: Shape of one input.
        class_names: C names.
        versions: Version of each program involved, by name.
        doubtful_test: Whether the network may have been trained on the test inputs: they were set aside when the data
            was read, and it was not trained since.
    """

    model: str
    weights: str
    parameters: int | None
    data: str
    train_size: int
    test_size: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    versions: Mapping[str, str]
    doubtful_test: bool = False


@dataclass(frozen=True)
class Check:
    """One exactness check of the spline form against the untouched module.

    Attributes:
        dtype: What it ran in, e.g. ``"float32"``.
        report: The residuals and their bound; None where the check could not run.
        reason: Why it could not run, empty otherwise.
    """

    dtype: str
    report: ExactnessReport | None
    reason: str = ""


@dataclass(frozen=True)
class Neighbor:
    """One training input near a test input.

    Attributes:
        index: Its number in the training set.
        label: Name of its class.
        same: Whether the test input has the same class.
        distance: Its code distance, in [0, 1].
    """

    index: int
    label: str
    same: bool
    distance: float


@dataclass(frozen=True)
class Neighborhood:
    """The nearest training inputs of one test input.

    Attributes:
        index: The test input's number.
        input: The test input.
        label: Name of its class.
        layers: For each shown operator, and for their mean, what to call it and the neighbors, nearest first.
    """

    index: int
    input: np.ndarray
    label: str
    layers: tuple[tuple[str, tuple[Neighbor, ...]], ...]


@dataclass(frozen=True)
class Neighborhoods:
    """Nearest training inputs in code distance, operator by operator.

    Attributes:
        operators: The chosen piecewise-affine operators in running order.
        available: How many there are in all.
        encoded: Number of training inputs that were encoded and searched.
        count: Neighbors per query K.
        probes: Number of test inputs that ``shares`` is over.
        shares: For the input itself, each operator and their mean: how many of the K nearest have the query's class;
            empty where the data has no classes.
        chance: What that share would be if neighbors were drawn at random.
        together: How many probes lie in one region with a training input at all the operators.
        twins: Test and training input of every probe that equals a training input, or lies in one region with less
            than K of them.
        queries: One per explained input.
        inputs: The training inputs shown, by number.
        left_out: The operators that would be among these, but never switch on the searched training inputs.
    """

    operators: tuple[str, ...]
    available: int
    encoded: int
    count: int
    probes: int
    shares: tuple[tuple[str, float], ...]
    chance: float
    together: int
    twins: tuple[tuple[int, int], ...]
    queries: tuple[Neighborhood, ...]
    inputs: Mapping[int, np.ndarray]
    left_out: tuple[str, ...] = ()

    @property
    def left_out_words(self) -> str:
        """Which operators are left out and why, in one sentence; empty where none is."""
        if not self.left_out:
            return ""
        names = ", ".join(self.left_out)
        if len(self.left_out) == 1:
            return f"Left out: {names}, which never switches on the searched training inputs."
        return f"Left out: {len(self.left_out)} operators that never switch on the searched training inputs ({names})."


@dataclass(frozen=True)
class Hint:
    """One thing to try.

    Attributes:
        finding: What the numbers say.
        advice: What to do.
        place: Where on the page the numbers are.
    """

    finding: str
    advice: str
    place: str
