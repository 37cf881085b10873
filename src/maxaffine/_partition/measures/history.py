"""Local complexity during training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from maxaffine._capture import capture
from maxaffine._drawing import axes_for
from maxaffine._partition.measures.complexity import LocalComplexity, local_complexity
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = "osv^Dx"


class ComplexityHistory:
    """Record the local complexity of a network while it trains: call it after every epoch or step.

    It captures a copy of the model in evaluation mode, so the model, its mode and its random state are left alone.

    Args:
        model: The model that is trained.
        samples: Inputs by name, e.g. ``{"training": ..., "test": ...}``, each a batch.
        radius: See :func:`local_complexity`.
        every: Record at the first call, and at every so many after it.
        options: ``directions``, ``method`` and ``seed`` of :func:`local_complexity`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> history = ComplexityHistory(model, {"data": torch.randn(5, 2)}, radius=0.1, directions=2)
        >>> history(0), history(1)
        (None, None)
        >>> history.moments, len(history.means("data"))
        ([0.0, 1.0], 2)

    Source: Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and Here is Why" (ICML 2024).
    """

    def __init__(
        self, model: nn.Module, samples: Mapping[str, Tensor], radius: float, every: int = 1, **options: Any
    ) -> None:
        if not samples:
            raise BadInput("samples: it is empty; give at least one batch by name")
        if every < 1:
            raise BadInput(f"every: expected at least 1, got {every}")
        self.model = model
        self.samples = dict(samples)
        self.radius = radius
        self.every = every
        self.options = options
        self.moments: list[float] = []
        self.records: dict[str, list[LocalComplexity]] = {name: [] for name in samples}
        self._calls = 0

    def __call__(self, moment: Any = None) -> None:
        """Record the model as it is now.

        Args:
            moment: Number of the step or epoch; anything else stands for the number of calls so far.
        """
        self._calls += 1
        if (self._calls - 1) % self.every:
            return
        still = copy.deepcopy(self.model).eval()
        net = capture(still, next(iter(self.samples.values()))[:2])
        found = {
            name: local_complexity(net, x, self.radius, progress=False, **self.options)
            for name, x in self.samples.items()
        }
        number = isinstance(moment, int | float) and not isinstance(moment, bool)
        self.moments.append(float(moment) if number else float(self._calls - 1))
        for name, item in found.items():
            self.records[name].append(item)

    def means(self, name: str, operator: str | None = None) -> list[float]:
        """The mean over the samples at every moment.

        Args:
            name: Name of the samples.
            operator: One operator; all together by default.

        Returns:
            One number per moment.
        """
        if operator is None:
            return [item.mean for item in self.records[name]]
        return [float(item.per_operator[operator].double().mean()) for item in self.records[name]]

    def plot(self, ax: Axes | None = None, *, xlabel: str = "epoch", log: bool = False) -> Axes:
        """Draw one curve per batch of samples.

        Args:
            ax: Where to draw; axes of a new figure by default.
            xlabel: What the moments are.
            log: Whether their axis is logarithmic.

        Returns:
            The axes; ``.figure.savefig(path)`` writes a new figure.

        Raises:
            BadInput: Where nothing was recorded.
            MaxAffineError: When matplotlib is absent.
        """
        if not self.moments:
            raise BadInput("nothing was recorded; call the history after every epoch, e.g. train(after_epoch=history)")
        ax = axes_for(ax, 6.0, 3.6, sheet=False)
        for place, name in enumerate(self.records):
            color, mark = COLORS[place % len(COLORS)], MARKS[place % len(MARKS)]
            ax.plot(self.moments, self.means(name), label=name, markersize=3, color=color, marker=mark)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(f"units changing within {self.radius:g} of a sample")
        if log:
            ax.set_xscale("symlog")
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
        return ax
