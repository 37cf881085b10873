"""Integrated gradients in closed form: the gradient is constant on every piece of the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._network import judged, rounding_bound, size
from maxaffine._partition.inputs import one_input
from maxaffine._partition.lines.line import line
from maxaffine._partition.lines.partition import LinePartition
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

JUMP = 1e-9  # relative to the largest output


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """The share of every input entry in f(x1) - f(x0), along the straight line from x0 to x1.

    Attributes:
        attributions: (*out, *in); one tensor per floating-point input where there are several.
        difference: (*out) f(x1) - f(x0), the network's own.
        completeness: |sum of attributions - difference|, the largest over the outputs, relative to the largest output
            or, where that is small because terms cancelled inside the network, to the largest of those.
        pieces: Pieces of the line, each with a gradient of its own.
    """

    attributions: Tensor | tuple[Tensor, ...]
    difference: Tensor
    completeness: float
    pieces: int

    def __repr__(self) -> str:
        items = self.attributions if isinstance(self.attributions, tuple) else (self.attributions,)
        shapes = ", ".join(str(tuple(item.shape)) for item in items)
        return f"IntegratedGradients: {shapes} from {self.pieces} pieces, complete to {self.completeness:.1e}"


def integrated_gradients(
    net: SplineNetwork,
    x: Any,
    baseline: Any = None,
    *,
    outputs: Sequence[int] | Tensor | None = None,
    until: str | None = None,
    output: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> IntegratedGradients:
    """Integrated gradients, exactly: no number of steps to choose.

    IG = (x - x0) * integral of A[x0 + t (x - x0)] dt = (x - x0) * sum over pieces p of length_p A_p,
    where A_p is the slopes of piece p of :func:`line`.

    Args:
        net: The network.
        x: One input, as at capture (a batch of one; also in float64).
        baseline: x0, likewise; zeros by default.
        outputs: Flat numbers of the outputs to attribute; all by default.
        until: Name of an operator or module to stop after.
        output: Which output, for a network with several.
        progress: Whether to show a progress bar; by default when it takes over two seconds.
        options: ``tolerance`` and ``memory`` of :func:`line`.

    Returns:
        The attributions, in float64.

    Raises:
        BadInput: For bad inputs; for a network that jumps, whose jumps no gradient accounts for; for infinite outputs.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> ma.partition.integrated_gradients(net, torch.tensor([[3.0, 1.0]]), outputs=[0]).attributions
        tensor([[3., 0.]], dtype=torch.float64)

    Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (ICML 2017); in closed form, Sotoudeh
    and Thakur, "Computing Linear Restrictions of Neural Networks" (NeurIPS 2019).
    """
    if baseline is None:
        baseline = _zeros_like(x)
    for given, name in ((x, "x"), (baseline, "baseline")):  # by the names that they have here, not on the line
        one_input(net, given, name)
    parts = line(net, baseline, x, outputs=outputs, until=until, output=output, progress=progress, **options)
    return along(parts, progress)


def along(parts: LinePartition, progress: bool | None = None) -> IntegratedGradients:
    """Integrated gradients of a partition that is known already; see :func:`integrated_gradients`.

    Args:
        parts: A complete partition of a line.
        progress: As there.

    Returns:
        The attributions of its outputs.

    Raises:
        BadInput: For an unfinished partition, or one with jumps.
    """
    if not parts.complete:
        raise BadInput("line: the partition is unfinished; make it again without max_pieces=")
    if parts.ends[-1:].isinf().any() or parts.starts[:1].isinf().any():
        raise BadInput(
            "net: its output is infinite at an end of the line, so there is no difference to share out; name the finite"
            " ones by outputs="
        )
    scale = max(size(parts.starts), size(parts.ends)) or 1.0
    rounding = rounding_bound(parts.target.segment.net)
    _refuse_jumps(parts, scale, rounding)
    mean = _mean_slopes(parts, progress)
    segment = parts.target.segment
    steps = [b - a for a, b in zip(segment.start, segment.end, strict=True) if a.is_floating_point()]
    dims = [d for a, d in zip(segment.start, segment.net.inputs.batch_dims, strict=True) if a.is_floating_point()]
    found = tuple(item * step.squeeze(dim) for item, step, dim in zip(mean, steps, dims, strict=True))
    difference = parts.ends[-1] - parts.starts[0]
    total = torch.stack([item.unsqueeze(difference.dim()).flatten(difference.dim()).sum(-1) for item in found]).sum(0)
    places = torch.cat([parts.breakpoints[:1], parts.middles, parts.breakpoints[-1:]])

    def made_of(u: Tensor) -> Tensor:
        return parts.target.terms(places, u.expand(len(places), *u.shape[1:])).max()

    gap = judged((total - difference)[None], scale, rounding, made_of)
    attributions = found if len(found) > 1 else next(iter(found))
    return IntegratedGradients(attributions, difference, gap, parts.pieces)


def _refuse_jumps(parts: LinePartition, scale: float, rounding: float) -> None:
    jumps = parts.starts[1:] - parts.ends[:-1]
    largest = size(jumps)
    if largest <= JUMP * scale:
        return
    # The outputs may have cancelled: what float64 rounds off their terms is not a jump.
    if judged(jumps, scale, rounding, lambda u: parts.target.terms(parts.breakpoints[1:-1], u)) > rounding:
        raise BadInput(
            f"net: its output jumps by up to {largest:.3g} along the line, which no gradient accounts for; use"
            " line(...).starts and .ends"
        )


def _mean_slopes(parts: LinePartition, progress: bool | None) -> list[Tensor]:
    """The mean of A along the line, (*out, *in) per floating-point input; a few pieces' slopes at a time."""
    target = parts.target
    total: list[Tensor] = []
    with progress_bar(progress, "gradients", total=parts.pieces, unit="piece") as bar:
        done = 0
        for t in target.chunks(parts.middles, target.units):
            slopes = target.maps(t).slopes
            items = slopes if isinstance(slopes, tuple) else (slopes,)
            lengths = parts.lengths[done : done + len(t)]
            means = [torch.tensordot(lengths, item, 1) for item in items]
            total = [a + b for a, b in zip(total, means, strict=True)] if total else means
            done += len(t)
            bar.update(len(t))
    return total


def _zeros_like(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _zeros_like(item) for name, item in x.items()}
    if isinstance(x, tuple | list):
        return tuple(_zeros_like(item) for item in x)
    if isinstance(x, Tensor):
        return torch.zeros_like(x) if x.is_floating_point() else x
    raise BadInput(f"x: expected a tensor for each input, got {type(x).__name__}")
