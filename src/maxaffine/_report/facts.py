"""What a report looks at, and the frozen records that several of its sections and commands share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from maxaffine._network import ExactnessReport
from maxaffine._report.labels import LabelOrder


@dataclass(frozen=True)
class Choices:
    """What a report looks at."""

    images: int = 6  # test inputs to explain
    classes: int = 3  # top classes whose templates are shown for each of them
    neighbors: int = 6  # training inputs shown per operator
    # At most so many: operators with neighbors, training inputs searched, test inputs that count how often neighbors
    # share the class, inputs of each part compared with their templates, and (about) regions of the plane.
    layers: int = 6
    train_limit: int = 5000
    probes: int = 200
    memorized: int = 500
    cells: int = 6000
    # Test inputs on which exactness is checked, in the model's own dtype and in float64.
    checked: int = 64
    checked_double: int = 16
    # As `capture` and `ma.report` take them; without a number, the model's only output.
    output: str = "as_is"
    until: str | None = None
    output_index: int | None = 0
    task: str | None = None
    smooth: str = "refuse"
    operators: tuple[str, ...] | None = None  # shown in place of evenly spaced ones


@dataclass(frozen=True)
class LeftOut:
    """A section that does not apply, or costs too much."""

    reason: str  # in one sentence


def share_error(share: float, count: int) -> float:
    """The standard error of a share of ``count`` independent inputs."""
    # As if one more input had fallen on either side: a share of none or all of a few inputs is not certain.
    likely = (share * count + 1) / (count + 2)
    return math.sqrt(likely * (1 - likely) / max(1, count))


@dataclass(frozen=True)
class Accuracy:
    """How many test inputs are answered correctly."""

    share: float
    inputs: int
    order: LabelOrder | None = None  # in which far more would be right

    @property
    def standard_error(self) -> float:
        """Of the share, as of a sample of all inputs there could be."""
        return share_error(self.share, self.inputs)


@dataclass(frozen=True)
class Origin:
    """Where the network and the data come from."""

    model: str
    weights: str  # one sentence on where they come from
    parameters: int | None  # None where only the captured network is at hand
    data: str
    train_size: int
    test_size: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    versions: Mapping[str, str]
    # The test inputs were set aside when the data was read, and the network was not trained since: it may know them.
    doubtful_test: bool = False
    # Of the columns of a table; and of the values to be predicted, where the data has some.
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    rate: int | float | None = None  # of signals, in samples per second, where it is known


@dataclass(frozen=True)
class Check:
    """One exactness check of the spline form against the untouched module."""

    dtype: str
    report: ExactnessReport | None
    reason: str = ""  # why there is no report


@dataclass(frozen=True)
class Neighbor:
    """One training input near a test input."""

    index: int
    label: str
    same: bool  # as the class of the test input
    distance: float


@dataclass(frozen=True)
class Neighborhood:
    """The nearest training inputs of one test input."""

    index: int
    input: np.ndarray
    label: str
    # For each operator shown, and for their mean, what to call it and the neighbors, nearest first.
    layers: tuple[tuple[str, tuple[Neighbor, ...]], ...]


@dataclass(frozen=True)
class Neighborhoods:
    """Nearest training inputs in code distance, operator by operator."""

    operators: tuple[str, ...]
    available: int  # piecewise-affine operators in all
    encoded: int
    count: int  # neighbors per query
    # Over this many test inputs: for the input itself, each operator and their mean, how many of the nearest have the
    # query's class (empty without classes), and how many would have it if they were drawn at random.
    probes: int
    shares: tuple[tuple[str, float], ...]
    chance: float
    together: int  # probes that lie in one region with a training input at all operators
    # Probes that equal a training input, or nearly so and share their region with less than `count` of them, each with
    # one of these.
    twins: tuple[tuple[int, int], ...]
    queries: tuple[Neighborhood, ...]
    inputs: Mapping[int, np.ndarray]  # the training inputs shown, by number
    left_out: tuple[str, ...] = ()  # operators that never switch on the searched inputs

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
    """One thing to try."""

    finding: str
    advice: str
    place: str  # on the page, of the numbers
