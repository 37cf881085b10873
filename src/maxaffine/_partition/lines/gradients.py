"""Integrated gradients in closed form: the gradient is constant on every piece of the line.

The integral of the gradient along the line is usually a sum at some hundred steps, off by what happens between them.
Here it is a finite sum: the slopes of each piece times its length. That the attributions add up to the difference of
the outputs is then no hope but a check, which fails only where the network jumps, and such networks are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._capture import SplineNetwork
from maxaffine._drawing import Panel, axes_for, draw_panel
from maxaffine._network import relative_error, rounding_bound, size
from maxaffine._partition.inputs import as_double
from maxaffine._partition.lines.means import mean_slopes
from maxaffine._partition.lines.partition import LinePartition, line
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

JUMP = 1e-9  # relative to the largest output


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """The share of every input entry in f(x1) - f(x0), along the straight line from x0 to x1, or the mean over many x0.

    Of several inputs x1 at once, attributions and differences have an axis of N in front.
    """

    attributions: Tensor | tuple[Tensor, ...]  # (*out, *in), one per floating-point input where there are several
    difference: Tensor  # (*out) f(x1) - f(x0), the network's own
    # |sum of attributions - difference|, the largest over the outputs and over all lines followed, relative to the
    # largest output or, where that is small because terms cancelled inside the network, to the largest of those.
    completeness: float
    bound: float  # what rounding explains of it
    pieces: int  # pieces of all lines, each with a gradient of its own
    samples: int | None = None  # N, where several inputs were given

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
        sample: int = 0,
        share: float = 0.995,
        cmap: str | Colormap | None = None,
        size: float = 4.5,
    ) -> Axes:
        """Draw the attributions of one output to one floating-point input: a signed picture, lines or bars.

        Args:
            ax: Where to draw; axes of a new figure by default.
            output: Number of the output among those attributed.
            item: Which floating-point input, where there are several.
            sample: Which of several inputs.
            share: Share of a picture's values that lie within its colors, so that a few do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red.
            size: Side of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: When there is no such output or input, or it has no plain picture.
            MaxAffineError: When matplotlib is absent.
        """
        several = self.samples is not None
        difference = self.difference.unsqueeze(0) if not several else self.difference
        count = difference[0].numel() if len(difference) else 0
        if not 0 <= sample < len(difference):
            raise BadInput(f"sample: there are {len(difference)}, got {sample}")
        if not 0 <= output < count or not 0 <= item < len(self._items):
            raise BadInput(f"output: there are {count} outputs and {len(self._items)} inputs, got {output} and {item}")
        rows = self._items[item][sample] if several else self._items[item]
        rows = rows.unsqueeze(0).flatten(0, difference.dim() - 1)
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
    background: Any = None,
    outputs: Sequence[int] | Tensor | None = None,
    until: str | None = None,
    output: int | str | None = None,
    progress: bool | None = None,
    **options: Any,
) -> IntegratedGradients:
    """Integrated gradients, exactly, with no number of steps to choose; and their mean over a background.

    IG = (x - x0) * integral of A[x0 + t (x - x0)] dt = (x - x0) * sum over pieces p of length_p A_p,
    where A_p is the slopes of piece p of :func:`line`. Expected gradients are the mean over the x0
    of a background, and add up to f(x) - mean f(x0).

    Args:
        net: The network.
        x: Inputs, as at capture (also in float64). Of several, the result has an axis of N in front.
        baseline: x0, one for all inputs or one for each; zeros by default.
        background: Several x0, over which the mean is taken, instead of a baseline.
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
        >>> among = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
        >>> ma.partition.integrated_gradients(net, torch.tensor([[3.0, 1.0]]), background=among).difference
        tensor([2.5000, 1.0000], dtype=torch.float64)

    Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (ICML 2017); in closed form, Sotoudeh
    and Thakur, "Computing Linear Restrictions of Neural Networks" (NeurIPS 2019); the mean, Erion et al., "Improving
    performance of deep learning models with axiomatic attribution priors and expected gradients" (2021).
    """
    if baseline is not None and background is not None:
        raise BadInput("background: it takes the place of baseline; give one of them")
    ends = _samples(net, x, "x")
    given = _zeros_like(x) if baseline is None else baseline
    starts = _samples(net, given, "baseline") if background is None else _samples(net, background, "background")
    if background is None and len(starts) not in (1, len(ends)):
        raise BadInput(
            f"baseline: it holds {len(starts)} samples, and x {len(ends)}; give one for all, one for each, or several"
            " over which the mean is taken as background="
        )
    names: dict[str, Any] = {"outputs": outputs, "until": until, "output": output} | options
    found: list[IntegratedGradients] = []
    lines = len(ends) * (1 if background is None else len(starts))
    with progress_bar(progress if lines > 1 else False, "integrated gradients", total=lines, unit="line") as bar:
        for place, end in enumerate(ends):
            own = starts if background is not None or len(starts) == 1 else starts[place : place + 1]
            each = []
            for start in own:
                shown = progress if lines == 1 else False
                each.append(along(line(net, start, end, progress=shown, **names), shown))
                bar.update(1)
            found.append(each[0] if len(each) == 1 else _joined(each, lambda items: torch.stack(items).mean(0)))
    return found[0] if len(ends) == 1 else replace(_joined(found, torch.stack), samples=len(ends))


def _samples(net: SplineNetwork, x: Any, name: str) -> list[Any]:
    """The samples of checked inputs, each as the network takes it; errors name the argument."""
    tensors = as_double(net, x, name)
    dims = net.inputs.batch_dims
    parts = zip(*(item.split(1, dim) for item, dim in zip(tensors, dims, strict=True)), strict=True)
    return [net.inputs.nest(part) for part in parts]


def _joined(found: list[IntegratedGradients], join: Callable[[list[Tensor]], Tensor]) -> IntegratedGradients:
    """Several results as one."""
    items: tuple[Tensor, ...] = tuple(join(list(parts)) for parts in zip(*(one._items for one in found), strict=True))
    difference = join([one.difference for one in found])
    worst, bound = max(one.completeness for one in found), max(one.bound for one in found)
    return IntegratedGradients(
        items if len(items) > 1 else next(iter(items)), difference, worst, bound, sum(one.pieces for one in found)
    )


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
    mean = mean_slopes(parts, progress)
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


def _zeros_like(x: Any) -> Any:
    """Zeros in place of every floating-point input."""
    if wrong := [item for item in tree_leaves(x) if not isinstance(item, Tensor)]:
        raise BadInput(f"x: expected a tensor for each input, got {type(wrong[0]).__name__}")
    return tree_map(lambda item: torch.zeros_like(item) if item.is_floating_point() else item, x)
