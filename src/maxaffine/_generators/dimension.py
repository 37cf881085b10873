"""How many dimensions a generator's image has under dropout, and how many latents a family of generators needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import axes_for
from maxaffine._generators.prior import seeded
from maxaffine._generators.slopes import generator, require_number
from maxaffine._generators.spectrum import limits, singular_values
from maxaffine._graph import as_rows
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class DropoutDimension:
    """Local dimensions under random dropout masks; from :func:`dimension_by_dropout`."""

    dimensions: Tensor  # (masks, N)
    rate: float
    latents: int

    @property
    def mean(self) -> float:
        """Over masks and latents."""
        return float(self.dimensions.double().mean())

    @property
    def shares(self) -> Tensor:
        """(S + 1,) how often each dimension 0..S occurs."""
        return torch.bincount(self.dimensions.flatten(), minlength=self.latents + 1).double() / self.dimensions.numel()

    def plot(self, ax: Axes | None = None, *, size: float = 5.0) -> Axes:
        """Draw the distribution of the dimension over masks; ``size``: inches of width."""
        ax = axes_for(ax, 5.0, 3.2, sheet=False, size=size)
        ax.bar(np.arange(self.latents + 1), self.shares.numpy(), color="#0072B2")
        ax.set_xlabel(f"local dimension at dropout {self.rate:g}")
        ax.set_ylabel("share of masks and latents")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        low, high = int(self.dimensions.min()), int(self.dimensions.max())
        return f"DropoutDimension: {self.mean:.2f} ({low} to {high}) of {self.latents} at dropout {self.rate:g}"


def dimension_by_dropout(
    net: object,
    z: Tensor,
    operators: Sequence[str] | str,
    rate: float = 0.5,
    masks: int = 32,
    seed: int = 0,
    *,
    progress: bool | None = None,
) -> DropoutDimension:
    """The distribution of the local dimension when units of some operators are dropped at random.

    With dropout a generator is a different one at each mask, whose image has as many dimensions as A with the dropped
    units' rows struck out has rank: narrow layers lose dimensions, wide ones keep them. Kept units are scaled by
    1 / (1 - rate), as in training.

    Args:
        net: The generator, captured, with one output.
        z: Latents (N, *latent), as at capture.
        operators: After which operators units are dropped, in running order; every path has to pass each.
        rate: Probability that a unit is dropped.
        masks: How many masks.
        seed: For the masks; torch's random state stays as it was.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The dimensions (masks, N).

    Raises:
        BadInput: For a rate outside [0, 1), an unknown operator, or one that some path leads around.

    Source: Balestriero and Baraniuk, Max-Affine Spline Insights into Deep Generative Networks (arXiv 2002.11912).
    """
    g = generator(net)
    if not 0 <= rate < 1:
        raise BadInput(f"rate: {rate} is not a probability below 1")
    require_number("masks", masks, 1)
    names = [operators] if isinstance(operators, str) else list(operators)
    order = {record.name: place for place, record in enumerate(g.net.operators)}
    if not names or any(order.get(a, 0) >= order.get(b, len(order)) for a, b in zip(names, names[1:], strict=False)):
        raise BadInput(f"operators: give one or more, each once, in running order; there are {list(order)}")
    z = g.checked(z)
    # Between two of the operators the network is one of its own, with the slopes of its own.
    edges = [None, *names, None]
    parts = [g.net.part(after, until) for after, until in zip(edges, edges[1:], strict=False)]
    found = []
    with seeded(g, seed):
        for _ in progress_bar(progress, "masks", iterable=range(masks)):
            value, slopes = z, torch.eye(g.latents, dtype=z.dtype, device=z.device).expand(len(z), -1, -1)
            for place, part in enumerate(parts):
                amap = part.affine_map(value)
                slopes = torch.stack([as_rows(amap @ column.reshape(value.shape)) for column in slopes.unbind(2)], 2)
                value = amap.value
                if place < len(names):
                    kept = (torch.rand(value.shape[1:], device=z.device) >= rate).to(value) / (1 - rate)
                    value, slopes = value * kept, slopes * kept.reshape(1, -1, 1)
            values = singular_values(slopes)
            found.append((values > limits(values, g)).sum(1))
    return DropoutDimension(torch.stack(found), rate, g.latents)


@dataclass(frozen=True, eq=False)
class Elbow:
    """Where reconstruction errors level off; from :func:`elbow`."""

    dimension: int | None  # the number of latents at the bend; None where errors do not level off
    errors: Mapping[int, float]  # by number of latents

    def plot(self, ax: Axes | None = None, *, size: float = 5.0) -> Axes:
        """Draw errors by number of latents, and the bend; ``size``: inches of width."""
        ax = axes_for(ax, 5.0, 3.2, sheet=False, size=size)
        ax.plot(list(self.errors), list(self.errors.values()), color="#0072B2", marker="o")
        if self.dimension is not None:
            ax.axvline(self.dimension, color="gray", linestyle=":")
        ax.set(yscale="log", xlabel="latents S", ylabel="reconstruction error")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        return "Elbow: none" if self.dimension is None else f"Elbow: {self.dimension} latents"


def elbow(errors: Mapping[int, float]) -> Elbow:
    """The number of latents from which more of them do not help: the manifold's dimension, as trained generators see.

    The reconstruction error of generators of more and more latents falls until the image has as many dimensions as the
    data's manifold, and is level after. The bend is that of the two straight lines, joined at one of the numbers, which
    fit the logarithms of the errors best in squares. There is none where one line fits half as well, or the second is
    the steeper.

    Args:
        errors: Number of latents to reconstruction error, at least four, all above 0.

    Returns:
        The bend, with a plot.

    Raises:
        BadInput: For fewer than four numbers, or an error that is not above 0.

    Example:
        >>> import maxaffine as ma
        >>> ma.generators.elbow({1: 8.0, 2: 4.0, 3: 2.0, 4: 1.0, 5: 1.0, 6: 1.0})
        Elbow: 4 latents

    Source: Balestriero and Baraniuk, Max-Affine Spline Insights into Deep Generative Networks (arXiv 2002.11912).
    """
    known = dict(sorted(errors.items()))
    if len(known) < 4 or not all(error > 0 and np.isfinite(error) for error in known.values()):
        raise BadInput("errors: expected at least four numbers of latents, each with an error above 0")
    sizes, logs = np.array(list(known), float), np.log(list(known.values()))

    def fit(bend: float) -> tuple[float, float]:
        """The sum of squares, and by how much the second line is less steep."""
        columns = np.stack([np.ones_like(sizes), sizes, np.maximum(sizes - bend, 0)], 1)
        found = np.linalg.lstsq(columns, logs, rcond=None)[0]
        return float(((columns @ found - logs) ** 2).sum()), float(found[2])

    straight, _ = fit(sizes[-1])
    (misfit, flatter), bend = min((fit(bend), bend) for bend in sizes[1:-1])
    levels_off = flatter > 0 and misfit < straight / 2 and straight > 1e-12 * float(logs @ logs)
    return Elbow(int(bend) if levels_off else None, known)
