"""tune: the beta at which new linear probes predict validation data best."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork
from maxaffine._curvature.probe import fit_probe
from maxaffine._curvature.soften import captured, soften
from maxaffine._drawing import Tabular, axes_for
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = tuple(round(0.70 + 0.01 * step, 2) for step in range(30))
BATCH = 256
LINEAR = "linear"


@dataclass(frozen=True)
class Trial:
    """What one beta came to.

    Attributes:
        beta: In [0, 1]; 1 is the network itself with a new probe.
        train: Share of right answers on the training data.
        validation: The same on the validation data.
        gain: Its difference from that of beta = 1, on the same inputs.
        error: The standard error of the gain, from the inputs on which one of the two is right and the other wrong.
    """

    beta: float
    train: float
    validation: float
    gain: float
    error: float


@dataclass(frozen=True, eq=False, repr=False)
class Tuning(Tabular):
    """What curvature tuning found.

    Attributes:
        trials: One for each beta, the network itself first.
        best: The beta with the most right answers on the validation data; the largest of several.
        model: The features softened at ``best`` and their probe, an ordinary module.
        features: Name of the operator whose output the probes take.
        samples: Numbers of training and validation inputs.
        interrupted: Whether Ctrl-C ended it, so that betas are missing.
    """

    trials: tuple[Trial, ...]
    best: float
    model: nn.Sequential
    features: str
    samples: tuple[int, int]
    interrupted: bool = False

    @property
    def baseline(self) -> Trial:
        """The network itself, beta = 1, with a new probe."""
        return self.trials[0]

    @property
    def chosen(self) -> Trial:
        """The trial of ``best``."""
        return next(trial for trial in self.trials if trial.beta == self.best)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        fields = ("beta", "train", "validation", "gain", "error")
        return {
            "best": self.best,
            "features": self.features,
            "samples": list(self.samples),
            "interrupted": self.interrupted,
            "trials": [{field: getattr(trial, field) for field in fields} for trial in self.trials],
        }

    def plot(self, ax: Axes | None = None, *, size: float | None = None) -> Axes:
        """Draw validation accuracy against beta, with the standard error of the difference from beta = 1.

        Args:
            ax: Where to draw; a new figure by default.
            size: Width of a new figure in inches.

        Returns:
            The axes.
        """
        ax = axes_for(ax, 6.0, 3.5, sheet=False, size=size)
        trials = sorted(self.trials[1:], key=lambda trial: trial.beta)
        columns = zip(*((trial.beta, trial.validation, trial.error) for trial in trials), strict=True)
        betas, shares, errors = columns if trials else ((), (), ())
        ax.errorbar(betas, shares, yerr=errors, fmt="o-", markersize=3, linewidth=1, elinewidth=0.7, label="softened")
        ax.axhline(self.baseline.validation, color="0.4", linewidth=1, linestyle="--", label="the network (beta = 1)")
        ax.plot([self.best], [self.chosen.validation], "D", color="C3", label=f"chosen: {self.best:g}")
        ax.set_xlabel("beta")
        ax.set_ylabel("validation accuracy")
        ax.legend(frameon=False)
        return ax

    def _title(self) -> str:
        chosen = self.chosen
        said = (
            f"beta = {self.best:g}: {chosen.validation:.2%} of the validation inputs, {chosen.gain:+.2%} against"
            f" beta = 1 (standard error {chosen.error:.2%})"
        )
        if self.best == 1:
            said = f"beta = 1, the network itself, {chosen.validation:.2%} of the validation inputs: no other is better"
        return f"Tuning: {said}{'; interrupted, betas are missing' if self.interrupted else ''}"

    def _table(self) -> list[tuple[str, ...]]:
        rows = [
            (f"{t.beta:g}", f"{t.train:.2%}", f"{t.validation:.2%}", f"{t.gain:+.2%}", f"{t.error:.2%}")
            for t in self.trials
        ]
        return [("beta", "train", "validation", "gain", "its error"), *rows]


def tune(
    model: nn.Module | SplineNetwork,
    train: Any,
    validation: Any,
    grid: Sequence[float] = GRID,
    *,
    form: str = "mixed",
    mix: float = 0.5,
    operators: Sequence[str] | None = None,
    features: str | None = None,
    penalty: float = 1e-3,
    batch_size: int = BATCH,
    progress: bool | None = None,
) -> Tuning:
    r"""Curvature tuning: soften a network at each beta, fit a new linear probe, and keep the beta that validates best.

    The weights stay as they are. For every beta, and for the network itself (beta = 1), the features before the last
    linear layer are computed, and a classifier of them is fitted to the training data:

    .. math:: \min_{W, b} \frac1N \sum_n \text{cross-entropy}(W z_n + b, y_n) + \tfrac{\lambda}{2} \|W\|^2

    over features z of mean 0 and mean square 1, the same :math:`\lambda` for all. Give no test data: the best of many
    betas looks better on the data that chose it than it is, by up to some standard errors of its gain.

    Args:
        model: A module, or a captured network of one input whose samples lie along its first axis.
        train: Inputs and labels (N,) that the probes are fitted to: a pair of tensors, or anything with these fields,
            such as a split of :func:`maxaffine.data.load`.
        validation: The same, of other inputs, that beta is chosen on.
        grid: The betas to try, in [0, 1).
        form: As of :func:`soften`.
        mix: As of :func:`soften`.
        operators: Names of the operators to soften; all in the features by default.
        features: Name of the operator or module whose output, flattened, the probes take; by default what the last
            linear layer takes.
        penalty: The weight lambda.
        batch_size: Inputs at a time.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Returns:
        The trials, the best beta and the model with it. Ctrl-C after the first trials returns those there are.

    Raises:
        BadInput: For a beta outside [0, 1), data that do not fit, or a network that does not end in a linear layer
            where ``features`` names none; and as :func:`soften` does.

    Example:
        >>> import torch
        >>> from maxaffine import curvature
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> x = torch.randn(80, 2)
        >>> y = (x.norm(dim=1) > 1).long()
        >>> found = curvature.tune(model, (x[:40], y[:40]), (x[40:], y[40:]), grid=(0.7, 0.9))
        >>> [trial.beta for trial in found.trials], found.features
        ([1.0, 0.7, 0.9], '1')

    Source: Hu, Gamba and Balestriero, Curvature Tuning: Provable Training-free Model Steering From a Single Parameter
    (NeurIPS 2025, arXiv 2502.07783): one beta for all units, from 0.70 to 0.99 in steps of 0.01.
    """
    fit_on, judged_on = _data("train", train), _data("validation", validation)
    betas = _betas(grid)
    if not penalty > 0 or batch_size < 1:
        raise BadInput(f"penalty, batch_size: {penalty} and {batch_size} must be above 0")
    net = captured(model, None if isinstance(model, SplineNetwork) else fit_on[0][:2])
    part, name = _feature_network(net, features)
    classes = _classes(fit_on[1], judged_on[1])

    def attempt(beta: float) -> _Attempt:
        soft = soften(part, beta, form, operators, mix=mix).requires_grad_(False)
        rows = [_features(soft, inputs, batch_size) for inputs, _ in (fit_on, judged_on)]
        probe = fit_probe(rows[0], fit_on[1], classes, penalty)
        with torch.no_grad():
            fitted, judged = (probe(z).argmax(1) == y for z, (_, y) in zip(rows, (fit_on, judged_on), strict=True))
        parts = OrderedDict[str, nn.Module](features=soft, flatten=nn.Flatten(), probe=probe)
        return _Attempt(beta, nn.Sequential(parts), fitted, judged)

    first = attempt(1.0)
    best, trials, interrupted = first, [_trial(first, first)], False
    try:
        for beta in progress_bar(progress, "tuning", iterable=betas, unit="beta"):
            found = attempt(beta)
            trials.append(_trial(found, first))
            # The largest beta, which changes the network least, of those that are right equally often.
            score, known = int(found.judged.sum()), int(best.judged.sum())
            if score > known or score == known and found.beta > best.beta:
                best = found
    except KeyboardInterrupt:
        interrupted = True
    model_found = best.model.requires_grad_(True)
    return Tuning(tuple(trials), best.beta, model_found, name, (len(fit_on[1]), len(judged_on[1])), interrupted)


@dataclass(frozen=True, eq=False)
class _Attempt:
    """One beta's model, and which answers of it are right."""

    beta: float
    model: nn.Sequential
    fitted: Tensor
    judged: Tensor


def _trial(found: _Attempt, first: _Attempt) -> Trial:
    difference = found.judged.double() - first.judged.double()
    error = float(difference.std()) / sqrt(len(difference)) if len(difference) > 1 else nan
    train, judged = (float(right.double().mean()) for right in (found.fitted, found.judged))
    return Trial(found.beta, train, judged, float(difference.mean()), error)


def _features(soft: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([soft(batch).flatten(1) for batch in inputs.split(batch_size)])


def _feature_network(net: SplineNetwork, features: str | None) -> tuple[SplineNetwork, str]:
    """The part of a network up to its features, and the name of the operator that gives them."""
    if len(net.inputs.names) > 1 or net.inputs.keyword or net.inputs.batch_dims != (0,):
        raise BadInput("model: tune takes networks of one input whose samples lie along the first axis")
    if features is None:
        last = next((step for step in net.graph.steps if net.graph.outputs[0] in step.outputs), None)
        if len(net.graph.outputs) > 1 or last is None or [record.kind for record in last.records] != [LINEAR]:
            raise BadInput(
                "features: the network does not end in a linear layer; name the operator or module whose output the"
                f" probes take, e.g. features={(net.operators[-1].name if net.operators else 'layer4')!r}"
            )
        places = [name for name, number in net.places.items() if number == last.inputs[0]]
        if not places:
            raise BadInput("model: it is linear in its inputs, so there is no curvature in it to change")
        # An operator's own name stands after those of the modules around it.
        features = next((record.name for record in net.operators if record.name in places), places[-1])
    return net.part(until=features), features


def _data(argument: str, given: Any) -> tuple[Tensor, Tensor]:
    """Inputs and labels."""
    if getattr(given, "targets", None) is not None:
        raise BadInput(f"{argument}: it holds values to predict; tune chooses beta for classes")
    fields = (getattr(given, "inputs", None), getattr(given, "labels", None))
    inputs, labels = given if isinstance(given, tuple | list) and len(given) == 2 else fields
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        raise BadInput(f"{argument}: expected a pair of tensors, inputs and labels; got {type(given).__name__}")
    if labels.shape != (len(inputs),) or not len(labels) or labels.is_floating_point() or bool((labels < 0).any()):
        raise BadInput(
            f"{argument}: labels {tuple(labels.shape)} {labels.dtype} for {len(inputs)} inputs; give one class number"
            " from 0 for each input"
        )
    if not bool(inputs.isfinite().all()):
        raise BadInput(f"{argument}: the inputs hold NaN or infinity; clean the data")
    return inputs, labels.long()


def _classes(fitted: Tensor, judged: Tensor) -> int:
    found = fitted.unique()
    if len(found) < 2:
        raise BadInput(f"train: all labels are {int(found[0])}; there is nothing to tell apart")
    return int(max(fitted.max(), judged.max())) + 1


def _betas(grid: Sequence[float]) -> list[float]:
    betas = [float(beta) for beta in grid]
    if not betas or not all(0 <= beta < 1 for beta in betas) or len(set(betas)) < len(betas):
        raise BadInput(f"grid: {betas} must be different numbers in [0, 1); beta = 1 is always tried")
    return betas
