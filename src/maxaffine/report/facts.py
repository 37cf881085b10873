"""What a report says, as frozen records: assembled by ``contents``, drawn by ``figures``, laid out by ``page``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from maxaffine.graph import OperatorRecord
from maxaffine.network import ExactnessReport


@dataclass(frozen=True)
class Choices:
    """What a report looks at.

    Attributes:
        images: Number of test inputs to explain.
        classes: Number of top classes whose templates are shown for each of them.
        neighbours: Number of nearest training inputs shown per operator.
        layers: At most this many operators are shown with their neighbours.
        operators: Names of the operators to show in place of evenly spaced ones.
        train_limit: At most this many training inputs are encoded and searched.
        probes: At most this many test inputs are used to count how often neighbours share the class.
        checked: Number of test inputs on which exactness is checked in the model's own dtype.
        checked_double: The same in float64.
        output: ``"as_is"``, or ``"pre_activation"`` to stop before a final softmax, sigmoid or tanh.
        until: Module to stop behind; None for the output.
        output_index: Which output, of a model with several.
    """

    images: int = 6
    classes: int = 3
    neighbours: int = 6
    layers: int = 6
    train_limit: int = 5000
    probes: int = 200
    checked: int = 64
    checked_double: int = 16
    output: str = "as_is"
    until: str | None = None
    output_index: int = 0
    operators: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Origin:
    """Where the network and the data come from.

    Attributes:
        model: What to call the network.
        weights: One sentence on where its weights come from.
        parameters: Number of its parameters.
        data: Name of the data set.
        train_size: Number of training inputs.
        test_size: Number of test inputs.
        input_shape: Shape of one input.
        class_names: C names.
        versions: Version of each program involved, by name.
    """

    model: str
    weights: str
    parameters: int
    data: str
    train_size: int
    test_size: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    versions: Mapping[str, str]


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
class ClassSplit:
    """One class's logit at one input, split into its parts: logit = <A_c, x> + b_c.

    Attributes:
        unit: Flat number of the output c.
        name: What to call it.
        label: Whether it is the input's own class.
        logit: The untouched module's output.
        inner: <A_c, x>.
        offset: b_c.
        residual: logit - (<A_c, x> + b_c).
        bound: What rounding explains of it: the exactness bound times sum_i |A_ci x_i| + |b_c|.
        template: A_c, shaped as the input.
        contributions: The largest parts of b_c by operator, as many and in the same order for every class of the input.
        others: Sum of all further contributions to b_c.
    """

    unit: int
    name: str
    label: bool
    logit: float
    inner: float
    offset: float
    residual: float
    bound: float
    template: np.ndarray
    contributions: tuple[tuple[str, float], ...]
    others: float

    @property
    def exact(self) -> bool:
        """Whether the parts add up to the module's output, but for rounding."""
        return abs(self.residual) <= self.bound


@dataclass(frozen=True)
class Explanation:
    """Why one test input gets its top outputs.

    Attributes:
        index: Its number in the test set.
        input: x.
        label: Name of its class.
        predicted: Name of the largest output.
        right: Whether they agree; None where the outputs are not the data's classes.
        scale: Largest shown entry of all the templates in absolute value: the end of their common colour scale.
        splits: One per shown class, the largest logit first.
    """

    index: int
    input: np.ndarray
    label: str
    predicted: str
    right: bool | None
    scale: float
    splits: tuple[ClassSplit, ...]


@dataclass(frozen=True)
class Neighbour:
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
class Neighbourhood:
    """The nearest training inputs of one test input.

    Attributes:
        index: The test input's number.
        input: The test input.
        label: Name of its class.
        layers: For each shown operator, and for their mean, what to call it and the neighbours, nearest first.
    """

    index: int
    input: np.ndarray
    label: str
    layers: tuple[tuple[str, tuple[Neighbour, ...]], ...]


@dataclass(frozen=True)
class Neighbours:
    """Nearest training inputs in code distance, operator by operator.

    Attributes:
        operators: The chosen piecewise-affine operators in running order.
        available: How many there are in all.
        encoded: Number of training inputs that were encoded and searched.
        count: Neighbours per query K.
        probes: Number of test inputs behind ``shares``.
        shares: By the input itself, each operator and their mean: how many of the K nearest have the query's class.
        chance: What that share would be if neighbours were drawn at random.
        queries: One per explained input.
        inputs: The training inputs shown, by number.
    """

    operators: tuple[str, ...]
    available: int
    encoded: int
    count: int
    probes: int
    shares: tuple[tuple[str, float], ...]
    chance: float
    queries: tuple[Neighbourhood, ...]
    inputs: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Contents:
    """Everything that a report says.

    Attributes:
        origin: Where network and data come from.
        choices: What was looked at.
        operators: The operator table.
        convex: Whether every output is provably convex in the input.
        checks: The exactness checks.
        accuracy: Share of right answers on the test set, in [0, 1]; None where the outputs are not the data's classes.
        explanations: Templates and logit splits.
        neighbours: Nearest training inputs; None for a network without piecewise-affine operators.
    """

    origin: Origin
    choices: Choices
    operators: tuple[OperatorRecord, ...]
    convex: bool
    checks: tuple[Check, ...]
    accuracy: float | None
    explanations: tuple[Explanation, ...]
    neighbours: Neighbours | None

    @property
    def exact(self) -> bool:
        """Whether no check, and no split of a logit, found more than rounding."""
        checked = all(check.report.exact for check in self.checks if check.report is not None)
        return checked and all(split.exact for one in self.explanations for split in one.splits)

    @property
    def piecewise(self) -> tuple[OperatorRecord, ...]:
        """The operators with more than one piece."""
        return tuple(record for record in self.operators if record.pieces > 1)
