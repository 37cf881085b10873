"""How far a network has memorized its data: the cosines of inputs with their templates, against the optimum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maxaffine._drawing import Spread, html_table, spread_axes, spread_figure
from maxaffine._network import Network
from maxaffine._templates.comparison import array
from maxaffine._templates.feeding import labeled_batches
from maxaffine._templates.layer import find_classifier
from maxaffine._templates.templates import templates
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BATCH = 256
# The templates fit the training data where their mean alignment is this many standard errors above 0. A score whose own
# standard error is above the latter could as well be none or all.
ERRORS, COARSEST = 2.0, 0.5


@dataclass(frozen=True, eq=False, repr=False)
class Alignment:
    """How far the templates at some labeled inputs are those of a network that has memorized them."""

    classes: int  # number of classes C
    labels: Tensor  # class y of each input, (N,)
    own: Tensor  # cosine of the input with the template of its own class, (N,)
    others: Tensor  # mean cosine with the templates of the other classes, (N,)
    ratios: Tensor
    alignments: Tensor
    right: Tensor  # whether the largest logit is that of the class, (N,)
    complete: bool = True  # false when Ctrl-C ended it early

    def __len__(self) -> int:
        """Number of inputs N."""
        return len(self.labels)

    @property
    def summary(self) -> dict[str, float]:
        """The mean of each quantity over the inputs (of the ratios the median)."""
        return {
            "own": float(self.own.mean()),
            "others": float(self.others.mean()),
            "ratio": float(self.ratios.median()),
            "alignment": float(self.alignments.mean()),
            "accuracy": float(self.right.double().mean()),
        }

    @property
    def optimum(self) -> dict[str, float]:
        """What the same are where every input is memorized as far as templates can."""
        return {"own": 1.0, "others": -1.0, "ratio": 1 / (self.classes - 1), "alignment": 1.0, "accuracy": 1.0}

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {value:.3f}" for name, value in self.summary.items())
        return f"Alignment of {len(self)} inputs{'' if self.complete else ' (interrupted)'}: {parts}"

    @property
    def standard_error(self) -> float:
        """Of the mean alignment, over the inputs; NaN for a single one."""
        return float(self.alignments.std()) / math.sqrt(len(self)) if len(self) > 1 else math.nan


@dataclass(frozen=True, eq=False, repr=False)
class Memorization:
    """How far a network's templates fit its training data, and how much of that does not carry over to unseen data.

    Attributes:
        train: The alignment at the training data.
        test: The alignment at unseen data; None where none was given.
    """

    train: Alignment
    test: Alignment | None = None

    @property
    def score(self) -> float:
        """1 - (mean alignment at the test data) / (mean alignment at the training data).

        The share of the templates' alignment with the training data that is memorized: 0 where unseen inputs are
        matched as well as those trained on, 1 where nothing carries over. NaN where it cannot be told (``reason``).

        Raises:
            BadInput: When no test data was given.
        """
        train, test = self._means()
        return math.nan if self.reason else 1 - test / train

    @property
    def standard_error(self) -> float:
        """The standard error of ``score`` over the inputs, of first order, the network held fixed.

        NaN for one input, and where the score cannot be told.

        Raises:
            BadInput: When no test data was given.
        """
        return math.nan if self.reason else self._error()

    @property
    def reason(self) -> str:
        """Why the score cannot be told, in words without a full stop; empty where it can.

        A share of something that is not there is no number: the templates must fit the training data to begin with, by
        a mean alignment of at least two standard errors. And a score with a standard error above 0.5 could be anything.

        Raises:
            BadInput: When no test data was given.
        """
        train, _ = self._means()
        error = self.train.standard_error
        if train <= 0 or train < ERRORS * error:
            spread = "" if math.isnan(error) else f" ± {error:.2g}"
            return f"the templates do not fit the training inputs (mean alignment {train:.2g}{spread})"
        if self._error() > COARSEST:
            inputs = f"{len(self.train)} training and {len(self.test or ())} test inputs"
            return f"{inputs} spread too far (a standard error of {self._error():.0%})"
        return ""

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how the cosines, the lengths' ratio and the alignment spread over the inputs, with their optimum.

        Args:
            ax: What to draw in; None makes a figure of pyplot.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        return spread_axes(ax, memorization_spreads(self), "optimum", self._title())

    def figure(self) -> Figure:
        """Draw the same as a figure of its own, of which pyplot knows nothing.

        Returns:
            The figure.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        return spread_figure(memorization_spreads(self), "optimum", self._title())

    def _title(self) -> str:
        if self.test is None:
            return ""
        if self.reason:
            return f"memorized share: cannot be told, {self.reason}"
        return f"memorized share of the alignment: {self.score:.3f} ± {self.standard_error:.3f}"

    def _means(self) -> tuple[float, float]:
        if self.test is None:
            raise BadInput("test: no unseen data was given, which memorization shows against; pass test=")
        return float(self.train.alignments.mean()), float(self.test.alignments.mean())

    def _error(self) -> float:
        """The standard error of 1 - test / train, where the templates fit the training data."""
        train, test = self._means()
        tested = math.nan if self.test is None else self.test.standard_error
        return math.hypot(tested / train, test * self.train.standard_error / train**2)

    def _words(self) -> str:
        return f"cannot be told: {self.reason}" if self.reason else f"{self.score:.3f} ± {self.standard_error:.3f}"

    def __repr__(self) -> str:
        lines = [f"  training {self.train!r}"]
        if self.test is not None:
            lines += [f"  test     {self.test!r}", f"  score {self._words()}"]
        optimum = ", ".join(f"{name} {value:.3f}" for name, value in self.train.optimum.items())
        return "\n".join(["Memorization", *lines, f"  optimum: {optimum}"])

    def _repr_html_(self) -> str:
        parts = {"training": self.train} if self.test is None else {"training": self.train, "test": self.test}
        rows = [(name, *_cells(part.summary)) for name, part in parts.items()]
        rows.append(("optimum", *_cells(self.train.optimum)))
        score = "" if self.test is None else f": score {self._words()}"
        return f"<p><b>Memorization</b>{score}</p>{html_table([('', *self.train.summary), *rows])}"


def memorization_spreads(found: Memorization) -> list[Spread]:
    """The panels of the figure of a memorization, each to be drawn alone."""
    parts = {"training": found.train} if found.test is None else {"training": found.train, "test": found.test}
    optimum = found.train.optimum
    panels = [
        ("own template", "cos(x, A_y)", "own", optimum["own"]),
        ("other templates", "mean of cos(x, A_c), c ≠ y", "others", optimum["others"]),
        ("lengths", "mean of |A_c| / |A_y|, c ≠ y", "ratios", optimum["ratio"]),
        ("all templates", "alignment with the optimum", "alignments", optimum["alignment"]),
    ]
    return [
        Spread(title, label, {name: array(getattr(part, field)) for name, part in parts.items()}, mark)
        for title, label, field, mark in panels
    ]


def memorization(
    net: Network,
    loader: Any,
    test: Any = None,
    *,
    until: str | None = None,
    output: int | None = None,
    batch_size: int = BATCH,
    progress: bool | None = None,
) -> Memorization:
    """Measure how far a network has memorized its training data: cos(x, A_y) and cos(x, A_c), against the optimum.

    A network that had memorized an input as far as templates can would have all its templates collinear with it.
    Where they match the training data better than unseen data of the same kind, that much is memorized: ``score`` is
    one number to rank networks by, and ``reason`` says why where it cannot be told. Templates are measured batch by
    batch and not kept.

    Args:
        net: The captured network.
        loader: The training data: a data loader of batches (inputs, labels), a pair (inputs, labels), or anything with
            the fields ``inputs`` and ``labels``, such as ``maxaffine.data.load("digits").train``.
        test: Unseen data, likewise, labeled in the same way (at random for a network trained on random labels).
        until: Operator or module that gives the logits; the network's output by default.
        output: Which output, for a network with several.
        batch_size: Inputs handled together; a loader has batches of its own.
        progress: Whether to show a bar; by default when it takes over two seconds.

    Returns:
        The alignment at the training data and, where given, at the test data. After Ctrl-C, what was measured so far.

    Raises:
        BadInput: When no logits are found (lists what there is), or the data has no labels, or others than the classes.
        ExactnessError: When a template misses its logit by more than rounding can explain.

    >>> import torch, maxaffine as ma
    >>> net = ma.capture(torch.nn.Linear(2, 3).eval(), torch.zeros(1, 2))
    >>> len(ma.templates.memorization(net, (torch.rand(8, 2), torch.arange(8) % 3)).train)
    8

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    section 5.
    """
    layer = find_classifier(net, until, output)
    if batch_size < 1:
        raise BadInput(f"batch_size: {batch_size} is less than 1; give how many inputs are handled together")

    def align(data: Any, argument: str) -> Alignment:
        batches = labeled_batches(net, data, argument, batch_size, progress)
        return _collect(_align(net, batches, layer.count, until, output, argument), layer.count, argument)

    train = align(loader, "loader")
    return Memorization(train, None if test is None or not train.complete else align(test, "test"))


def _align(
    net: Network,
    batches: Iterator[tuple[Any, Tensor]],
    classes: int,
    until: str | None,
    output: int | None,
    argument: str,
) -> Iterator[tuple[Tensor, ...]]:
    """Labels, own, others, ratios, alignments and right of each batch."""
    for x, labels in batches:
        found = templates(net, x, until=until, output=output, progress=False)
        if len(labels) != len(found):
            raise BadInput(f"{argument}: {len(found)} inputs and {len(labels)} labels; give one label per input")
        y = labels.to(found.values.device)
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= classes:
            raise BadInput(
                f"{argument}: labels {low}..{high} are not all in 0..{classes - 1}; number the classes from 0"
            )
        quantities = _quantities(found.matches, found.norms, y)
        yield tuple(item.cpu() for item in (y, *quantities, found.values.argmax(1) == y))


def _quantities(cosines: Tensor, norms: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Own, others, ratios and alignments from the cosines with x and the lengths of the templates, (n, C) each."""
    classes = cosines.shape[1]
    own = cosines.gather(1, y[:, None])[:, 0]
    length = norms.gather(1, y[:, None])[:, 0]
    others = (cosines.sum(1) - own) / (classes - 1)
    ratios = (norms.sum(1) - length) / (classes - 1) / length
    heights = cosines * norms
    whole = norms.norm(dim=1) * math.sqrt((classes - 1) / classes)
    alignments = (own * length - heights.mean(1)) / whole
    return own, others, ratios.nan_to_num(nan=math.inf, posinf=math.inf), torch.where(whole > 0, alignments, 0.0)


def _collect(batches: Iterator[tuple[Tensor, ...]], classes: int, argument: str) -> Alignment:
    rows: list[tuple[Tensor, ...]] = []
    complete = True
    try:
        for row in batches:
            rows.append(row)  # noqa: PERF402 - what came before Ctrl-C is kept
    except KeyboardInterrupt:
        if not rows:
            raise
        complete = False
    if not rows:
        raise BadInput(f"{argument}: it gave no batch; give a loader that can be read once more")
    labels, own, others, ratios, alignments, right = (torch.cat(column) for column in zip(*rows, strict=True))
    return Alignment(classes, labels, own, others, ratios, alignments, right, complete)


def _cells(numbers: dict[str, float]) -> list[str]:
    return [f"{value:.3f}".replace("-", "−") for value in numbers.values()]
