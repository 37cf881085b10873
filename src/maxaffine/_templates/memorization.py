"""How far a network has memorized its data: the cosines of inputs with their templates, against the optimum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maxaffine._drawing import Spread, Tabular, spread_axes, spread_figure
from maxaffine._graph import as_rows
from maxaffine._network import Network
from maxaffine._progress import progress_bar
from maxaffine._templates.layer import Layer, find_classifier
from maxaffine._templates.result import Templates, array
from maxaffine._templates.templates import templates
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BATCH = 256
FORMS = (
    "expected a data loader of batches (inputs, labels), a pair (inputs, labels) of tensors, or anything with the"
    " fields inputs and labels"
)
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
    ratios: Tensor  # mean length of the others over the length of the own, (N,); infinite where that is zero
    # Cosine of all C templates together, as one vector, with the optimum, (N,):
    # (<A_y, x> - mean_c <A_c, x>) / (|x| |A| sqrt((C-1)/C)). A cosine with something that is zero counts as 0.
    alignments: Tensor
    right: Tensor  # whether the largest logit is that of the class, (N,)
    complete: bool = True  # false when Ctrl-C ended it early

    def __len__(self) -> int:
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
class Memorization(Tabular):
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
        """The standard error of ``score`` over the inputs, the network held fixed; NaN where that is NaN."""
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

    def plot(self, ax: Axes | None = None, *, size: float | None = None) -> Axes:
        """Draw how the cosines, the lengths' ratio and the alignment spread over the inputs, with their optimum.

        Args:
            ax: What to draw in; None makes a figure of pyplot.
            size: Width of a new figure in inches; by default what its panels take.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        return spread_axes(ax, memorization_spreads(self), "optimum", self._heading(), size)

    def figure(self) -> Figure:
        """Draw the same as a figure of its own, of which pyplot knows nothing."""
        return spread_figure(memorization_spreads(self), "optimum", self._heading())

    @property
    def _parts(self) -> dict[str, Alignment]:
        """The alignment at the training data and, where there are any, at unseen data."""
        return {"training": self.train} | ({} if self.test is None else {"test": self.test})

    def _heading(self) -> str:
        return "" if self.test is None else f"memorized share of the alignment: {self._words()}"

    def _means(self) -> tuple[float, float]:
        if self.test is None:
            raise BadInput("test: no unseen data was given, which memorization shows against; pass test=")
        return float(self.train.alignments.mean()), float(self.test.alignments.mean())

    def _error(self) -> float:
        """The standard error of 1 - test / train, where the templates fit the training data."""
        # To first order the errors of a ratio of independent means add up in squares, each times its derivative.
        train, test = self._means()
        tested = math.nan if self.test is None else self.test.standard_error
        return math.hypot(tested / train, test * self.train.standard_error / train**2)

    def _words(self) -> str:
        return f"cannot be told: {self.reason}" if self.reason else f"{self.score:.3f} ± {self.standard_error:.3f}"

    def _title(self) -> str:
        return "Memorization" if self.test is None else f"Memorization: score {self._words()}"

    def _table(self) -> list[tuple[str, ...]]:
        rows = [
            (name, f"{len(part)}{'' if part.complete else ' (interrupted)'}", *_cells(part.summary))
            for name, part in self._parts.items()
        ]
        return [("", "inputs", *self.train.summary), *rows, ("optimum", "", *_cells(self.train.optimum))]


def memorization_spreads(found: Memorization) -> list[Spread]:
    """How each measure spreads over training and test inputs, its optimum marked: the panels of the figure."""
    optimum = found.train.optimum
    panels = [
        ("own template", "cos(x, A_y)", "own", optimum["own"]),
        ("other templates", "mean of cos(x, A_c), c ≠ y", "others", optimum["others"]),
        ("lengths", "mean of |A_c| / |A_y|, c ≠ y", "ratios", optimum["ratio"]),
        ("all templates", "alignment with the optimum", "alignments", optimum["alignment"]),
    ]
    return [
        Spread(title, label, {name: array(getattr(part, field)) for name, part in found._parts.items()}, mark)
        for title, label, field, mark in panels
    ]


def memorization(
    net: Network,
    loader: Any,
    test: Any = None,
    *,
    until: str | None = None,
    output: int | str | None = None,
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
        output: Which output, by number or name, for a network with several.
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
    train = _align(layer, loader, "loader", batch_size, progress)
    unseen = test is not None and train.complete
    return Memorization(train, _align(layer, test, "test", batch_size, progress) if unseen else None)


def _align(layer: Layer, data: Any, argument: str, batch_size: int, progress: bool | None) -> Alignment:
    """Measure labeled data batch by batch; Ctrl-C ends it with what was measured so far."""
    output = layer.output if layer.until is None else None
    rows, complete = [], True
    try:
        for x, labels in _labeled_batches(layer.net, data, argument, batch_size, progress):
            found = templates(layer.net, x, until=layer.until, output=output, progress=False)
            rows.append(_quantities(found, labels, argument))
    except KeyboardInterrupt:
        if not rows:
            raise
        complete = False
    if not rows:
        raise BadInput(f"{argument}: it gave no batch; give a loader that can be read once more")
    return Alignment(layer.count, *(torch.cat(column) for column in zip(*rows, strict=True)), complete=complete)


def _quantities(found: Templates, labels: Tensor, argument: str) -> tuple[Tensor, ...]:
    """Labels, own, others, ratios, alignments and right of a batch."""
    if len(labels) != len(found):
        raise BadInput(f"{argument}: {len(found)} inputs and {len(labels)} labels; give one label per input")
    cosines, norms, classes = found.matches, found.norms, len(found.units)
    y = labels.to(norms.device)
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise BadInput(f"{argument}: labels {low}..{high} are not all in 0..{classes - 1}; number the classes from 0")
    own, length = (item.gather(1, y[:, None])[:, 0] for item in (cosines, norms))
    others = (cosines.sum(1) - own) / (classes - 1)
    # A template of zero length makes any ratio to it infinite, 0 / 0 too.
    ratios = ((norms.sum(1) - length) / (classes - 1) / length).nan_to_num(nan=math.inf, posinf=math.inf)
    # The optimum of class y (`optimal_templates`) has sqrt((C-1)/C) at A_y and -1/sqrt(C (C-1)) at the others, times
    # x/|x|: its product with all the templates is sqrt(C/(C-1)) (h_y - mean_c h_c) with the heights h_c = <A_c, x>/|x|.
    heights = cosines * norms
    whole = norms.norm(dim=1) * math.sqrt((classes - 1) / classes)
    alignments = torch.where(whole > 0, (own * length - heights.mean(1)) / whole, 0.0)
    return tuple(item.cpu() for item in (y, own, others, ratios, alignments, found.values.argmax(1) == y))


def _cells(numbers: dict[str, float]) -> list[str]:
    return [f"{value:.3f}".replace("-", "−") for value in numbers.values()]


def _labeled_batches(
    net: Network, data: Any, argument: str, batch_size: int, progress: bool | None
) -> Iterator[tuple[Any, Tensor]]:
    """Labeled data batch by batch: the inputs as the network takes them, and their class numbers (n,)."""
    if hasattr(data, "inputs") and hasattr(data, "labels"):
        data = (data.inputs, data.labels)
    if hasattr(data, "train") and hasattr(data, "test"):
        raise BadInput(f"{argument}: give one part of the data set, data.train, and the other as test=data.test")
    if not isinstance(data, Iterable) or isinstance(data, Tensor | dict | str):
        raise BadInput(f"{argument}: {FORMS}; got {type(data).__name__}")
    # (inputs, labels) itself, and not a sequence of two such batches, whose second is no tensor.
    if isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor):
        numbers = _class_numbers(data[1], argument)
        batches, total = _split(net, data[0], numbers, argument, batch_size), -(-len(numbers) // batch_size)
    else:
        batches = (_take_apart(net, item, argument) for item in data)
        total = len(data) if hasattr(data, "__len__") else None  # pyright: ignore[reportArgumentType]
    for x, labels in progress_bar(progress, argument, iterable=batches, total=total, unit="batch"):
        yield x, _class_numbers(labels, argument)


def _split(net: Network, inputs: Any, labels: Tensor, argument: str, size: int) -> Iterator[tuple[Any, Tensor]]:
    tensors = net.inputs.tensors(inputs)
    axes = net.inputs.batch_dims
    count = tensors[0].shape[axes[0]]
    if count != len(labels):
        raise BadInput(f"{argument}: {count} inputs and {len(labels)} labels; give one label per input")
    pieces = zip(*(item.split(size, axis) for item, axis in zip(tensors, axes, strict=True)), strict=True)
    for part, numbers in zip(pieces, labels.split(size), strict=True):
        yield net.inputs.nest(part), numbers


def _take_apart(net: Network, item: Any, argument: str) -> tuple[Any, Tensor]:
    if not isinstance(item, tuple | list) or len(item) < 2 or not isinstance(item[-1], Tensor):
        raise BadInput(f"{argument}: {FORMS}; a batch was {type(item).__name__}")
    if len(item) == 2:
        return item[0], item[1]
    names = net.inputs.names
    if len(item) != len(names) + 1:
        raise BadInput(f"{argument}: a batch has {len(item)} entries; give one for each input of {names}, and labels")
    return net.inputs.nest(item[:-1]), item[-1]


def _class_numbers(labels: Tensor, argument: str) -> Tensor:
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise BadInput(
            f"{argument}: labels are class numbers of shape (n,), got {tuple(labels.shape)} {labels.dtype}; one-hot"
            " rows become numbers with .argmax(1)"
        )
    return labels.long()


def optimal_templates(x: Tensor, labels: Tensor, classes: int, budget: float = 1.0) -> Tensor:
    """The templates with sum_c |A_c|^2 <= alpha, and no offsets, whose cross-entropy at a given input is the least.

    With x of class y, A_y = sqrt((C-1) alpha / C) x/|x| and A_c = -sqrt(alpha / (C (C-1))) x/|x| for every other c: all
    collinear with the input, the own one along it, the others against it and shorter by the factor C - 1.

    Args:
        x: Inputs (N, *in), none of them zero.
        labels: Their classes (N,).
        classes: Number of classes C, at least 2.
        budget: alpha.

    Returns:
        The templates (N, C, *in).

    Raises:
        BadInput: When there is one class, an input is zero, a label is out of range, or the budget is negative.

    >>> optimal_templates(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), classes=2, budget=2.0)
    tensor([[[-0.6000, -0.8000],
             [ 0.6000,  0.8000]]])

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    section 5, the theorem on data set memorization.
    """
    if classes < 2:
        raise BadInput(f"classes: {classes} is less than 2; there is nothing to tell apart")
    if budget < 0:
        raise BadInput(f"budget: {budget} is negative; give at least 0")
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise BadInput(f"labels: some are not in 0..{classes - 1}; number the classes from 0")
    lengths = as_rows(x).norm(dim=1)
    if not bool((lengths > 0).all()):
        raise BadInput("x: an input is zero, and no template is collinear with it; leave it out")
    weights = x.new_full((len(x), classes), -((budget / (classes * (classes - 1))) ** 0.5))
    weights[torch.arange(len(x)), labels] = (budget * (classes - 1) / classes) ** 0.5
    directions = x / lengths.reshape(-1, *[1] * (x.dim() - 1))
    return weights.reshape(*weights.shape, *[1] * (x.dim() - 1)) * directions[:, None]
