"""Training of classifiers and of networks that give values, reproducible and interruptible, and how well they do."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._progress import progress_bar
from .._untouched import evaluating
from ..errors import BadInput, ModelError
from .checkpoint import check_writable, snapshot, write_weights
from .randomness import fixed_seed

Penalty = Callable[[nn.Module, Tensor], Tensor]


@runtime_checkable
class LabeledData(Protocol):
    """What is trained on: `maxaffine.data.Split`, or anything else with these fields, and with ``targets`` or not."""

    @property
    def inputs(self) -> Tensor:
        """Inputs (N, *input_shape), floating-point."""
        ...

    @property
    def labels(self) -> Tensor:
        """Class numbers (N,), int64."""
        ...


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training data came to."""

    number: int  # counted from 1
    # Over the pass, while the weights were changing: mean cross-entropy, or of values the mean squared error, each in
    # units of its variance; share of right answers in [0, 1], or of values R2.
    loss: float
    accuracy: float
    validation_accuracy: float | None  # the same on the validation data after the pass; None without such data
    seconds: float  # duration, validation included


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    history: tuple[Epoch, ...]  # one record per complete epoch
    # Number of the epoch whose weights the model has now: the first one with the highest validation accuracy, or with
    # the lowest loss where there is no validation data; None when no epoch was completed.
    best_epoch: int | None
    interrupted: bool  # whether Ctrl-C ended it early
    checkpoint: Path | None  # the file that holds the same weights, where one was asked for


def train(
    model: nn.Module,
    split: LabeledData,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    validation: LabeledData | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    device: str | torch.device = "cpu",
    after_epoch: Callable[[Epoch], object] | None = None,
    penalty: Penalty | None = None,
) -> TrainingResult:
    """Minimize the mean cross-entropy of a classifier with Adam, and leave it in eval mode with its best weights.

    Where the data has targets, it is the mean squared error, of each target in units of its variance.

    The step size falls from `lr` to zero along half a cosine. The order of the batches and all else that is random
    follow from `seed`; the caller's generators stay as they were. On the CPU the same model, data, seed and number of
    threads give the same weights.

    Ctrl-C ends the training early, as if the epochs so far had been all; before the first epoch is complete the model
    keeps the weights it has at that moment.

    Args:
        model: From inputs (N, *input_shape) to logits (N, C), without a softmax, or to values (N, K); trained in place,
            moved to `device`.
        split: Training data.
        epochs: Passes over the training data.
        batch_size: Inputs per step.
        lr: Largest step size.
        seed: Seed of the training; the initial weights are the model's own.
        validation: Data that the best epoch is chosen by.
        checkpoint: File that holds the best weights so far at any time, whole or not at all: ``.safetensors``, ``.pt``
            or ``.pth``.
        progress: Whether to show a bar on stderr; None shows it on a terminal when it takes over two seconds.
        device: Where to compute.
        after_epoch: Called with the record of every complete epoch, while the model has that epoch's weights and is in
            training mode; e.g. to record how its codes change.
        penalty: From the model and the inputs of a batch to what is added to the loss, such as
            ``maxaffine.learning.OrthogonalTemplates(1.0)``; the history shows the cross-entropy alone.

    Returns:
        The history, and which epoch the weights are from.

    >>> from types import SimpleNamespace
    >>> data = SimpleNamespace(inputs=torch.eye(4), labels=torch.arange(4))
    >>> train(nn.Linear(4, 4), data, epochs=200, lr=0.1).history[-1].accuracy
    1.0

    Source: D. P. Kingma, J. Ba, Adam, ICLR 2015; I. Loshchilov, F. Hutter, SGDR, ICLR 2017, equation 5 (one period).
    """
    _check_numbers(epochs=epochs, batch_size=batch_size, lr=lr)
    best = _Best(model, None if checkpoint is None else check_writable(Path(checkpoint).expanduser()))
    _move(model, device)
    _check_data(model, split, "split")
    if validation is not None:
        _check_data(model, validation, "validation")
    history: list[Epoch] = []
    try:
        with _memory_format(model, split.inputs), fixed_seed(seed, torch.device(device)):
            for epoch in _epochs(model, split, validation, epochs, batch_size, lr, progress, penalty):
                history.append(epoch)
                best.offer(epoch)
                if after_epoch is not None:
                    after_epoch(epoch)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    finally:
        best.restore()
        model.eval().zero_grad()
    best.save()
    return TrainingResult(tuple(history), best.number, interrupted, best.path)


def accuracy(model: nn.Module, split: LabeledData, batch_size: int = 512) -> float:
    """Share of inputs whose largest logit is that of their class, in eval mode; the model's mode is kept.

    Args:
        model: From inputs (N, *input_shape) to logits (N, C).
        split: The data.
        batch_size: Inputs handled together.

    Returns:
        The share, in [0, 1]; of equal logits the lowest class counts.

    >>> from types import SimpleNamespace
    >>> accuracy(nn.Identity(), SimpleNamespace(inputs=torch.eye(4), labels=torch.tensor([0, 1, 2, 0])))
    0.75
    """
    right = 0
    with evaluating(model), torch.no_grad():
        for inputs, labels in zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True):
            logits = model(_like_weights(inputs, model))
            right += int((logits.argmax(1).cpu() == labels.cpu()).sum())
    return right / len(split.labels)


@torch.no_grad()
def r2(model: nn.Module, split: LabeledData, batch_size: int = 512) -> float:
    """R2 of a network that gives values, the mean over its K outputs, in eval mode; the model's mode is kept.

    R2 = 1 - sum (f(x) - t)^2 / sum (t - mean t)^2: 1 where every target t is met, 0 for what the mean alone explains.

    Args:
        model: From inputs (N, *input_shape) to values (N, K).
        split: The data, with targets (N, K).
        batch_size: Inputs handled together.

    Returns:
        At most 1; NaN where a target is constant.

    Raises:
        BadInput: The data has no targets.

    >>> from types import SimpleNamespace
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> r2(nn.Identity(), SimpleNamespace(inputs=x, labels=torch.zeros(3), targets=x))
    1.0
    """
    targets: Tensor | None = getattr(split, "targets", None)
    if targets is None:
        raise BadInput("split: it has labels and no targets; use accuracy")
    with evaluating(model):
        found = torch.cat([model(_like_weights(part, model)).cpu() for part in split.inputs.split(batch_size)])
    return float(explained(found, targets.cpu()).mean())


def explained(values: Tensor, targets: Tensor) -> Tensor:
    """R2 of each of K values (N, K), as `r2` says."""
    errors, spread = (
        x.double().square().sum(0) for x in (values.double() - targets, targets - targets.double().mean(0))
    )
    return torch.where(spread > 0, 1 - errors / spread, torch.nan)


@dataclass
class _Best:
    """The best weights so far, in memory and, where asked for, in a file."""

    model: nn.Module
    path: Path | None
    number: int | None = None
    score: tuple[float, float] = (-math.inf, -math.inf)
    state: dict[str, Tensor] = field(default_factory=dict)
    saved: bool = False

    def offer(self, epoch: Epoch) -> None:
        # Of equal scores the first stays: an epoch counts as better only where it is.
        score = (0.0, -epoch.loss) if epoch.validation_accuracy is None else (epoch.validation_accuracy, 0.0)
        if score > self.score:
            state = snapshot(self.model)
            self.number, self.score, self.state, self.saved = epoch.number, score, state, False
            self.save()

    def restore(self) -> None:
        if self.number is not None:
            self.model.load_state_dict(self.state)

    def save(self) -> None:
        if self.path is not None and not self.saved:
            write_weights(self.state or snapshot(self.model), self.path)
            self.saved = True


def _epochs(
    model: nn.Module,
    split: LabeledData,
    validation: LabeledData | None,
    epochs: int,
    batch_size: int,
    lr: float,
    progress: bool | None,
    penalty: Penalty | None,
) -> Iterator[Epoch]:
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=lr)
    count = len(split.labels)
    targets: Tensor | None = getattr(split, "targets", None)
    scale = None if targets is None else torch.where((s := targets.std(0, correction=0)) > 0, s, 1)
    steps = epochs * len(_batches(torch.arange(count), batch_size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    with progress_bar(progress, "training", total=steps, unit="batch") as bar:
        for number in range(1, epochs + 1):
            bar.set_description(f"epoch {number}/{epochs}")
            start = time.perf_counter()
            model.train()
            loss_sum, right = 0.0, 0.0
            for rows in _batches(torch.randperm(count), batch_size):
                inputs = _like_weights(split.inputs[rows], model)
                outputs = model(inputs)
                if targets is None or scale is None:
                    labels = split.labels[rows].to(inputs.device)
                    loss = F.cross_entropy(outputs, labels)
                    score = (outputs.detach().argmax(1) == labels).sum()
                else:
                    loss = ((outputs - targets[rows].to(outputs)) / scale.to(outputs)).square().mean()
                    score = (1 - loss.detach()) * len(rows)
                optimizer.zero_grad()
                (loss if penalty is None else loss + penalty(model, inputs)).backward()
                optimizer.step()
                schedule.step()
                # Kept as tensors: reading a number would make an accelerator wait for every batch.
                loss_sum = loss_sum + loss.detach() * len(rows)
                right = right + score
                bar.update()
            mean, share = float(loss_sum) / count, float(right) / count
            if not math.isfinite(mean):
                raise ModelError(
                    f"epoch {number}: the loss is {mean}; lower lr, or look for extreme values in the data"
                )
            checked = None if validation is None else (accuracy if targets is None else r2)(model, validation)
            name = "accuracy" if targets is None else "R2"
            bar.set_postfix({"loss": f"{mean:.4f}", name: f"{share if checked is None else checked:.4f}"})
            yield Epoch(number, mean, share, checked, time.perf_counter() - start)


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        # Batch-norm cannot take the variance of a single value: it joins the batch before.
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@contextmanager
def _memory_format(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    if inputs.ndim != 4:
        yield
        return
    # Convolutions are faster with the channels last. The weights go back to the usual layout, which users expect.
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _check_numbers(**numbers: float | int) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise BadInput(f"{name}: {value} is not a positive number; give one")


def _move(model: nn.Module, device: str | torch.device) -> None:
    if not any(weight.requires_grad for weight in model.parameters()):
        raise BadInput("model: none of its parameters requires a gradient; thaw those that are to be trained")
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device: {device} cannot be used ({error}); choose another one, e.g. 'cpu'") from error


def _check_data(model: nn.Module, data: LabeledData, argument: str) -> None:
    """Check, before any work is spent, that a model can be trained or judged on some data."""
    if len(data.inputs) != len(data.labels) or len(data.labels) == 0:
        raise BadInput(f"{argument}: {len(data.inputs)} inputs and {len(data.labels)} labels; give one label per input")
    shape = tuple(data.inputs.shape[1:])
    try:
        with evaluating(model), torch.no_grad():
            logits = model(_like_weights(data.inputs[:1], model))
    except Exception as error:  # a module may check its inputs itself, and raise anything
        raise BadInput(
            f"{argument}: the model does not take inputs of shape {shape} ({error}); build it for them"
        ) from error
    targets: Tensor | None = getattr(data, "targets", None)
    if targets is not None and not (isinstance(logits, Tensor) and logits.shape == (1, targets.shape[1])):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BadInput(
            f"model: it gives {found} for one input, not (1, {targets.shape[1]}) values; change its last layer"
        )
    classes = int(data.labels.max()) + 1
    if targets is None and (not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BadInput(
            f"model: it gives {found} for one input, not (1, C) logits with C >= {classes}; change its last layer"
        )


def _like_weights(inputs: Tensor, model: nn.Module) -> Tensor:
    """Bring inputs to the device and the dtype of the first parameter of a model that has any."""
    weight = next(model.parameters(), inputs)
    return inputs.to(weight.device, weight.dtype)
