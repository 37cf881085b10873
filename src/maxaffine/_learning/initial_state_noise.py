"""Noise on the initial state of a recurrent network, the penalty that it is to second order, and the rest of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from maxaffine._capture import changed_states
from maxaffine._drawing import Tabular, axes_for
from maxaffine._learning.classifier import unwrap
from maxaffine._learning.second_order import (
    Hessian,
    StateMap,
    as_rows,
    by_sample,
    known_loss,
    require_targets,
    run,
    state_map,
)
from maxaffine._network import copy_module
from maxaffine._progress import progress_bar
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class NoiseEffect(Tabular):
    """What noise on the initial state adds to a loss at a batch, in expectation; from `InitialStateNoise.effect`.

    Attributes:
        sigma: Of the noise.
        draws: Of the noise, each with its negative.
        loss: Without noise.
        second_order: The formula, sigma^2/(2N) sum_n tr(A_h^T H A_h).
        held: The loss of the map that the network is at h_0 (its codes held), over the draws, less `loss`.
        held_error: Its standard error.
        network: The loss of the network itself, over the same draws, less `loss`.
        network_error: Its standard error.
        crossing: network - held: what the noise does by carrying units across their kinks, or along their curves where
            a unit is smooth. The formula knows nothing of it.
        crossing_error: Its standard error, over the same draws: smaller than those of the two.
    """

    sigma: float
    draws: int
    loss: float
    second_order: float
    held: float
    held_error: float
    network: float
    network_error: float
    crossing: float
    crossing_error: float

    @property
    def crossing_share(self) -> float:
        """What the penalty leaves out of the effect, crossing / network; below 0 where the two differ in sign."""
        return self.crossing / self.network if self.network else math.nan

    def to_dict(self) -> dict[str, float]:
        """All numbers by name."""
        return {**asdict(self), "crossing_share": self.crossing_share}

    def plot(self, *, ax: Axes | None = None, size: float | None = None) -> Axes:
        """Draw formula, held map, network and crossings as bars with their standard errors; `size` is in inches."""
        axes = axes_for(ax, 4.6, 2.8, sheet=False, size=size)
        heights = [self.second_order, self.held, self.network, self.crossing]
        errors = [0, self.held_error, self.network_error, self.crossing_error]
        colors = ["0.6", "C0", "C1", "C3"]
        axes.bar(["second\norder", "held\nmap", "network", "crossings"], heights, yerr=errors, color=colors, capsize=3)
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_ylabel("added to the loss")
        axes.set_title(f"noise of {self.sigma:g} on the initial state, {self.draws} draws", fontsize=9)
        return axes

    def _title(self) -> str:
        share = f"{self.crossing_share:.1%}"
        return f"NoiseEffect: sigma {self.sigma:g} on the initial state, {self.draws} draws; crossing share {share}"

    def _table(self) -> list[tuple[str, ...]]:
        rows = [("second order (formula)", self.second_order, 0.0), ("held map", self.held, self.held_error)]
        rows += [("network", self.network, self.network_error), ("crossings", self.crossing, self.crossing_error)]
        return [
            ("added to the loss", "mean", "standard error"),
            *((name, f"{a:.3g}", f"{b:.2g}") for name, a, b in rows),
        ]


class Attached:
    """The noise on one module, until `remove` or the end of a ``with`` block."""

    def __init__(self, noise: InitialStateNoise, model: nn.Module) -> None:
        def add(module: nn.Module, name: str, state: Tensor) -> Tensor:
            return state + noise.sigma * torch.randn_like(state) if module.training and noise.sigma else state

        self._changed = changed_states(model, add, noise.argument)
        self._changed.__enter__()

    def remove(self) -> None:
        """Take the noise off the module."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.__exit__(None, None, None)

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()


class InitialStateNoise:
    """Gaussian noise on the initial state of a recurrent network in training: h_0 + sigma N(0, I), anew at every pass.

    E loss(z(h_0 + sigma xi)) = loss + R + crossings,   R = sigma^2/(2N) sum_n tr(A_h^T H A_h)

    A_h is the map from the initial state to the outputs and H the second derivative of the loss at them: diag p - p p^T
    of the cross-entropy, the identity of half the squared error. R is `penalty`; `effect` measures all of it. Where
    units are near their kinks at h_0 (without biases, at inputs of zero, they stand on them) crossings are most of it.

    Noise is drawn from torch's own generator, as dropout draws, and only by modules in training mode. It enters where
    nn.RNN, nn.GRU, nn.LSTM and their cells begin: at a state that the module gives them or at the zeros that they make
    themselves; both states of an LSTM, all layers and directions.

    Args:
        sigma: Standard deviation of the noise; finite, at least 0. It may be changed during training.
        argument: For a network written by hand: name or place of the argument of its forward that is the initial state.

    Raises:
        BadInput: ``sigma`` is not such a number.

    Example:
        >>> model = nn.RNN(1, 4, nonlinearity="relu", batch_first=True)
        >>> x, _ = torch.ones(2, 3, 1), torch.manual_seed(0)
        >>> with InitialStateNoise(0.1).attach(model):
        ...     noisy = model(x)[1]
        >>> bool((noisy != model(x)[1]).any())
        True

    Source: Wang, Balestriero and Baraniuk, "A Max-Affine Spline Perspective of Recurrent Neural Networks" (ICLR 2019),
    whose theorem holds the codes; the second-order term is derived here anew, and the crossings are our own.
    """

    def __init__(self, sigma: float, *, argument: str | int | None = None) -> None:
        if not 0 <= sigma < math.inf:
            raise BadInput(f"sigma: {sigma} is not a finite number of at least 0; 0 turns the noise off")
        self.sigma = sigma
        self.argument = argument

    def attach(self, model: nn.Module) -> Attached:
        """Add the noise in every pass of a module in training mode, until ``remove()`` or the end of a ``with`` block.

        Args:
            model: The network; its parameters, and what it does in evaluation mode, stay as they are.

        Returns:
            The handle.

        Raises:
            BadInput: When it has no recurrent layer of PyTorch's own, and ``argument`` names none.
        """
        return Attached(self, unwrap(model))

    def penalty(
        self, model: nn.Module, x: Any, loss: Any = "cross-entropy", *, hessian: Hessian | None = None
    ) -> Tensor:
        """R = sigma^2/(2N) sum_n tr(A_h^T H A_h), what the noise adds to the loss to second order, to be added instead.

        It is differentiable in the live parameters, H too, and computed in evaluation mode by one backward pass for
        each output; of a large batch a part will do.

        Args:
            model: The network in training.
            x: The batch: a tensor (N, ...), a tuple of positional inputs or a mapping of keyword inputs.
            loss: ``"cross-entropy"``, ``"half-squared-error"`` (summed over outputs), ``nn.CrossEntropyLoss()`` or
                ``nn.MSELoss()``; the mean over samples in each case.
            hessian: Of any other loss: from outputs (N, K) to the second derivatives at each sample, (N, K, K).

        Returns:
            A scalar.

        Raises:
            BadInput: For a loss without a known second order, outputs that are no rows (N, K) or NaN, an empty batch,
                or no initial state, or not one for each row.

        Example:
            >>> class Last(nn.Module):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.cell = nn.RNNCell(1, 2, nonlinearity="relu")
            ...
            ...     def forward(self, x):
            ...         return self.cell(x)
            >>> model = Last()
            >>> with torch.no_grad():
            ...     for p in model.parameters():
            ...         _ = p.fill_(0.5)
            >>> found = InitialStateNoise(0.1).penalty(model, torch.ones(3, 1), "half-squared-error")
            >>> round(found.item(), 6)  # A_h has four entries of 1/2
            0.005
        """
        own = known_loss(loss, hessian)
        return state_map(unwrap(model), x, self.argument).penalty(own.hessian, self.sigma)

    def effect(
        self,
        model: nn.Module,
        x: Any,
        y: Any,
        loss: Any = "cross-entropy",
        *,
        draws: int = 200,
        hessian: Hessian | None = None,
        seed: int = 0,
        progress: bool | None = None,
    ) -> NoiseEffect:
        """Measure what the noise adds to the loss: by the formula, by the map held at h_0, and by the network itself.

        Held map and network see the same draws, each with its negative (which takes the first order out), on a copy
        of the network in float64 and in evaluation mode.

        Args:
            model: The network.
            x: A batch, as of `penalty`.
            y: Its targets.
            loss: As of `penalty`; with ``hessian`` any function of outputs and targets that is a mean over samples.
            draws: Pairs of draws, at least 2.
            hessian: As of `penalty`.
            seed: Of the draws, which leave torch's own generator alone.
            progress: Whether to show a bar; by default when it takes over two seconds.

        Returns:
            The three numbers, the crossings, and their standard errors.

        Raises:
            BadInput: As `penalty`, for another number of targets than of sequences, for labels to be ignored or
                probabilities that do not add up to 1 in a cross-entropy, and for fewer than two draws.

        Example:
            >>> rnn, x = nn.RNN(1, 8, nonlinearity="relu", bias=False, batch_first=True), torch.zeros(1, 3, 1)
            >>> class Sum(nn.Module):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.rnn = rnn
            ...
            ...     def forward(self, x):
            ...         return self.rnn(x)[0][:, -1].sum(1, keepdim=True)
            >>> found = InitialStateNoise(0.1).effect(Sum(), x, torch.ones(1, 1), "half-squared-error", draws=50)
            >>> found.second_order, found.crossing_share  # at zero every unit stands on its kink, its slope there 0
            (0.0, 1.0)
        """
        own = known_loss(loss, hessian)
        if draws < 2:
            raise BadInput(f"draws: {draws} leave no standard error; give at least 2")
        copy = copy_module(unwrap(model), shared=()).double()
        x, y = tree_map(_in_float64, (x, y))
        generator = torch.Generator().manual_seed(seed)
        found = []
        with torch.no_grad(), evaluating(copy):
            held = state_map(copy, x, self.argument)
            require_targets(own, held.outputs, y)
            base = own.value(held.outputs, y)
            for _ in progress_bar(progress, "draws", iterable=range(draws), unit="draw"):
                found.append(self._pair(copy, x, lambda outputs: own.value(outputs, y) - base, held, generator))
        pairs = torch.stack(found)
        added = torch.cat([pairs, pairs[:, 1:] - pairs[:, :1]], 1)
        means, errors = added.mean(0).tolist(), (added.std(0) / draws**0.5).tolist()
        named = {name: value for name, value in zip(("held", "network", "crossing"), means, strict=True)}
        named |= {f"{name}_error": error for name, error in zip(list(named), errors, strict=True)}
        second = held.penalty(own.hessian, self.sigma)
        return NoiseEffect(self.sigma, draws, float(base), float(second), **named)

    def _pair(self, model: nn.Module, x: Any, gain: Any, held: StateMap, generator: torch.Generator) -> Tensor:
        """What one draw and its negative add to the loss, of the held map and of the network: (2,)."""
        noise: list[Tensor] = []
        rows: list[Tensor] = []

        def draw(module: nn.Module, name: str, state: Tensor) -> Tensor:
            noise.append(self.sigma * torch.randn(state.shape, generator=generator).to(state))
            rows.append(by_sample(module, noise[-1]))
            return state + noise[-1]

        with changed_states(model, draw, self.argument):
            above = gain(as_rows(run(model, x)))
        again = iter(noise)
        with changed_states(model, lambda module, name, state: state - next(again), self.argument):
            below = gain(as_rows(run(model, x)))
        moved = (held.rows @ torch.cat(rows, 1)[:, :, None])[:, :, 0]
        flat = (gain(held.outputs + moved) + gain(held.outputs - moved)) / 2
        return torch.stack([flat, (above + below) / 2])

    def __repr__(self) -> str:
        return f"InitialStateNoise({self.sigma}, argument={self.argument!r})"


def _in_float64(item: Any) -> Any:
    return item.double() if isinstance(item, Tensor) and item.is_floating_point() else item
