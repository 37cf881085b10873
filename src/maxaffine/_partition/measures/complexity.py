"""Local complexity: how many units have their boundary in a small neighborhood of a sample.

A unit whose code differs between two points has its boundary between them. So codes at the corners of a neighborhood
are evidence that costs a forward pass, and lines through it are evidence that misses less; both are lower bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._drawing import axes_for
from maxaffine._graph import as_rows
from maxaffine._partition.lines.partition import line
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERTEX_BYTES = 32 * 2**20
METHODS = ("vertices", "lines")
DIRECTIONS = 25


@dataclass(frozen=True, eq=False)
class LocalComplexity:
    """Units whose boundary was found near each sample; from :func:`local_complexity` or :func:`plane_complexity`."""

    per_operator: dict[str, Tensor]  # (samples,) units of every operator, by name
    units: dict[str, int]  # how many every operator has, by name
    radius: float  # of the neighborhoods
    method: str  # how they were searched
    regions: Tensor | None = None  # (samples,) cells that meet each neighborhood, on planes; None elsewhere

    @property
    def total(self) -> Tensor:
        """(samples,) over all operators."""
        return torch.stack(list(self.per_operator.values())).sum(0)

    @property
    def mean(self) -> float:
        """The total's mean over the samples."""
        return float(self.total.double().mean())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean number of units of every operator, with the range over the samples, on axes or new ones."""
        ax = axes_for(ax, 6.0, 3.6, sheet=False)
        counts = torch.stack(list(self.per_operator.values())).double().cpu()
        mean = counts.mean(1)
        ranges = torch.stack([mean - counts.amin(1), counts.amax(1) - mean])
        ax.bar(list(self.per_operator), mean.numpy(), yerr=ranges.numpy(), color="#0072B2", ecolor="gray", capsize=3)
        ax.set_ylabel(f"units changing within {self.radius:g}")
        ax.tick_params(axis="x", rotation=45, labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {float(n.double().mean()):.2f}" for name, n in self.per_operator.items())
        return (
            f"LocalComplexity: {self.mean:.2f} of {sum(self.units.values())} units within {self.radius:g}"
            f" of {len(self.total)} samples, by {self.method} ({parts})"
        )


def local_complexity(
    net: SplineNetwork,
    x: Any,
    radius: float,
    *,
    directions: int | None = None,
    method: str = "vertices",
    seed: int = 0,
    progress: bool | None = None,
) -> LocalComplexity:
    """Count the units whose boundary crosses a small neighborhood of each sample.

    The neighborhood is the cross-polytope with the vertices x +- radius v_p, for orthonormal random directions v_p,
    the same for all samples. ``"vertices"`` counts the units whose codes are not the same at all of its vertices,
    ``"lines"`` the units that change anywhere on one of its diagonals, which are followed exactly. Both count only
    units that do change within the neighborhood. For the first operator with pieces, where each unit has two of them
    after affine operators alone, both are exact; for deeper ones they are lower bounds, lines the larger one. For
    exact numbers on a plane see :func:`plane_complexity`.

    Args:
        net: The network, with one floating-point input.
        x: Samples, as at capture.
        radius: Distance from the sample to the vertices.
        directions: Number of orthonormal directions P, at most the size of one sample; by default 25, or all of them
            where a sample holds fewer numbers.
        method: ``"vertices"`` (2 P forward passes per sample) or ``"lines"`` (P exact lines per sample).
        seed: For the directions.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The counts.

    Raises:
        BadInput: For several inputs, a radius that is not positive, too many directions, or an unknown method.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> x = torch.tensor([[0.01, 1.0], [1.0, 1.0]])
        >>> ma.partition.local_complexity(net, x, 0.1, directions=2).total
        tensor([1, 0])

    Source: Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and Here is Why" (ICML 2024), section 2.
    """
    net.require_regions("counts of kinks")
    tensors = net.inputs.tensors(x)
    if len(tensors) != 1 or net.inputs.keyword or not tensors[0].is_floating_point():
        raise BadInput(f"net: it takes {net.inputs.names}; local complexity is about one floating-point input")
    if not radius > 0:
        raise BadInput(f"radius: expected a positive number, got {radius}")
    if method not in METHODS:
        raise BadInput(f"method: expected one of {METHODS}, got {method!r}")
    operators = [record for record in net.operators if record.pieces > 1]
    if not operators:
        raise BadInput("net: no operator has several pieces, so there is no boundary")
    front = tensors[0].movedim(net.inputs.batch_dims[0], 0)
    steps = radius * _orthonormal(front, directions, seed)
    count = _by_vertices if method == "vertices" else _by_lines
    samples = progress_bar(progress, "local complexity", iterable=front, unit="sample")
    rows = [count(net, sample, steps) for sample in samples]
    found = {record.name: torch.tensor([row[record.name] for row in rows]) for record in operators}
    units = {record.name: prod(record.units) for record in operators}
    return LocalComplexity(found, units, radius, method)


def _orthonormal(front: Tensor, directions: int | None, seed: int) -> Tensor:
    """(directions, *sample) random directions at right angles."""
    size = front[0].numel()
    directions = min(DIRECTIONS, size) if directions is None else directions
    if not 1 <= directions <= size:
        raise BadInput(f"directions: expected 1 to {size}, the size of one sample, got {directions}")
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(size, directions, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(random).Q.T.reshape(directions, *front.shape[1:]).to(front.device)


def _by_vertices(net: SplineNetwork, sample: Tensor, steps: Tensor) -> dict[str, int]:
    """Units of every operator whose codes are not the same at all vertices."""
    first: dict[str, Tensor] = {}
    changed: dict[str, Tensor] = {}
    for part in steps.split(max(1, VERTEX_BYTES // (16 * sample.numel()))):
        vertices = torch.cat([sample + part, sample - part])
        codes = net.codes(vertices.to(sample.dtype).movedim(0, net.inputs.batch_dims[0]).contiguous())
        for name, packed in codes.items():
            rows = as_rows(packed.unpack())
            # Codes are all the same where each is the same as the first.
            differs = (rows != first.setdefault(name, rows[:1])).any(0)
            changed[name] = changed[name] | differs if name in changed else differs
    return {name: int(units.sum()) for name, units in changed.items()}


def _by_lines(net: SplineNetwork, sample: Tensor, steps: Tensor) -> dict[str, int]:
    """Units of every operator that change anywhere on a diagonal."""
    found: dict[str, set[int]] = {record.name: set() for record in net.operators if record.pieces > 1}
    dim = net.inputs.batch_dims[0]
    for step in steps:
        ends = [(sample + sign * step).double().unsqueeze(0).movedim(0, dim) for sign in (-1, 1)]
        crossings = line(net, *ends, progress=False).crossings
        for operator, unit in zip(crossings.operator.tolist(), crossings.unit.tolist(), strict=True):
            found[crossings.operators[operator]].add(unit)
    return {name: len(units) for name, units in found.items()}
