"""Integrated gradients in closed form: the gradient is constant on every piece of the line.

The integral of the gradient along the line is usually a sum at some hundred steps, off by what happens between them.
Here it is a finite sum: the slopes of each piece times its length. That the attributions add up to the difference of
the outputs is then no hope but a check, which fails only where the network jumps, and such networks are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._capture import SplineNetwork
from maxaffine._drawing import Panel, axes_for, draw_panel
from maxaffine._network import relative_error, rounding_bound, size
from maxaffine._partition.inputs import one_input
from maxaffine._partition.lines.partition import LinePartition, line
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

JUMP = 1e-9  # relative to the largest output


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """The share of every input entry in f(x1) - f(x0), along the straight line from x0 to x1."""

    attributions: Tensor | tuple[Tensor, ...]  # (*out, *in), one per floating-point input where there are several
    difference: Tensor  # (*out) f(x1) - f(x0), the network's own
    # |sum of attributions - difference|, the largest over the outputs, relative to the largest output or, where that is
    # small because terms cancelled inside the network, to the largest of those.
    completeness: float
    bound: float  # what rounding explains of it
    pieces: int  # pieces of the line, each with a gradient of its own

    @property
    def exact(self) -> bool:
        """Whether the attributions add up to the difference, but for rounding."""
        return self.completeness <= self.bound

    @property
    def _items(self) -> tuple[Tensor, ...]:
        return self.attributions if isinstance(self.attributions, tuple) else (self.attributions,)

    def plot(
        self,
        ax: Axes | None = None,
        output: int = 0,
        item: int = 0,
        *,
        share: float = 0.995,
        cmap: str | Colormap | None = None,
        size: float = 4.5,
    ) -> Axes:
        """Draw the attributions of one output to one floating-point input: a signed picture, lines or bars.

        Args:
            ax: Where to draw; axes of a new figure by default.
            output: Number of the output among those attributed.
            item: Which floating-point input, where there are several.
            share: Share of a picture's values that lie within its colors, so that a few do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red.
            size: Side of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: When there is no such output or input, or it has no plain picture.
            MaxAffineError: When matplotlib is absent.
        """
        count = self.difference.numel()
        if not 0 <= output < count or not 0 <= item < len(self._items):
            raise BadInput(f"output: there are {count} outputs and {len(self._items)} inputs, got {output} and {item}")
        rows = self._items[item].unsqueeze(0).flatten(0, self.difference.dim())
        ax = axes_for(ax, 4.5, 4.5, sheet=False, size=size)
        draw_panel(ax, Panel(rows[output].cpu().numpy(), f"attributions of output {output}"), share, cmap)
        return ax

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(item.shape)) for item in self._items)
        return f"IntegratedGradients: {shapes} from {self.pieces} pieces, complete to {self.completeness:.1e}"


def integrated_gradients(
    net: SplineNetwork,
    x: Any,
    baseline: Any = None,
    *,
    outputs: Sequence[int] | Tensor | None = None,
    until: str | None = None,
    output: int | str | None = None,
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
        output: Which output, by number or name, for a network with several.
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
    """Integrated gradients of a complete partition that is known already; see :func:`integrated_gradients`."""
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
    steps = [(b - a).squeeze(dim) for a, b, dim in parts.target.segment.inputs if a.is_floating_point()]
    found = tuple(item * step for item, step in zip(mean, steps, strict=True))
    difference = parts.ends[-1] - parts.starts[0]
    total = torch.stack([item.unsqueeze(difference.dim()).flatten(difference.dim()).sum(-1) for item in found]).sum(0)
    places = torch.cat([parts.breakpoints[:1], parts.middles, parts.breakpoints[-1:]])

    def terms_of(u: Tensor) -> Tensor:
        return parts.target.terms(places, u.expand(len(places), *u.shape[1:])).max()

    gap = relative_error((total - difference)[None], scale, rounding, terms_of)
    return IntegratedGradients(found if len(found) > 1 else next(iter(found)), difference, gap, rounding, parts.pieces)


def _refuse_jumps(parts: LinePartition, scale: float, rounding: float) -> None:
    """Refuse a line at whose breakpoints the output jumps."""
    jumps = parts.starts[1:] - parts.ends[:-1]
    largest = size(jumps)
    if largest <= JUMP * scale:
        return
    # The outputs may have cancelled: what float64 rounds off their terms is not a jump.
    if relative_error(jumps, scale, rounding, lambda u: parts.target.terms(parts.breakpoints[1:-1], u)) > rounding:
        raise BadInput(
            f"net: its output jumps by up to {largest:.3g} along the line, which no gradient accounts for; use"
            " line(...).starts and .ends"
        )


def _mean_slopes(parts: LinePartition, progress: bool | None) -> list[Tensor]:
    """The mean of A along the line, (*out, *in) per floating-point input; a few pieces' slopes at a time."""
    target = parts.target
    total: list[Tensor] = []
    chunks = target.chunks(parts.middles, prod(target.out_shape))
    # Pieces cover the line, so that their lengths are the weights of the mean.
    weights = parts.lengths.split([len(t) for t in chunks])
    with progress_bar(progress, "gradients", total=parts.pieces, unit="piece") as bar:
        for t, lengths in zip(chunks, weights, strict=True):
            slopes = target.maps(t).slopes
            means = [torch.tensordot(lengths, item, 1) for item in tree_leaves(slopes)]
            total = [a + b for a, b in zip(total, means, strict=True)] if total else means
            bar.update(len(t))
    return total


def _zeros_like(x: Any) -> Any:
    """Zeros in place of every floating-point input."""
    if wrong := [item for item in tree_leaves(x) if not isinstance(item, Tensor)]:
        raise BadInput(f"x: expected a tensor for each input, got {type(wrong[0]).__name__}")
    return tree_map(lambda item: torch.zeros_like(item) if item.is_floating_point() else item, x)
