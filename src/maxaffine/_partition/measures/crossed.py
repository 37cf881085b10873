"""How many regions lie between samples, and how densely: exact lines from one to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._drawing import axes_for
from maxaffine._graph import as_rows
from maxaffine._network import Task
from maxaffine._partition.lines.partition import line
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class CrossedRegions:
    """What lies between pairs of samples; made by :func:`crossed_regions`."""

    breakpoints: Tensor  # (pairs,) boundaries crossed on the way: one fewer than regions
    decisions: Tensor  # (pairs,) changes of the class; none where they were not counted
    lengths: Tensor  # (pairs,) distance of each pair

    @property
    def density(self) -> Tensor:
        """(pairs,) boundaries per unit of length."""
        return self.breakpoints / self.lengths

    def __len__(self) -> int:
        return len(self.breakpoints)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how many boundaries lie between two samples over how far apart they are, on axes or new ones."""
        ax = axes_for(ax, 6.0, 3.6, sheet=False)
        ax.scatter(self.lengths.cpu(), self.breakpoints.cpu(), s=12, color="#0072B2")
        ax.set_xlabel("distance of the pair")
        ax.set_ylabel("boundaries between")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        mean = float(self.breakpoints.double().mean())
        density = float(self.density.mean())
        return f"CrossedRegions: {mean:.1f} boundaries between {len(self)} pairs, {density:.4g} per unit of length"


def crossed_regions(
    net: SplineNetwork, x0: Tensor, x1: Tensor, *, decisions: bool | None = None, progress: bool | None = None
) -> CrossedRegions:
    """Count the regions that the segments between pairs of samples cross, exactly.

    For the density near data against away from it, give segments around samples and around other inputs, e.g.
    ``crossed_regions(net, x - step, x + step)``.

    Args:
        net: The network, with one floating-point input.
        x0: (pairs, ...) where the segments start, a batch as at capture.
        x1: (pairs, ...) where they end.
        decisions: Whether changes of the class are counted; by default where the network answers classes.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The counts.

    Raises:
        BadInput: For batches of different sizes, equal samples, or several inputs.

    Example:
        >>> import torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> ma.partition.crossed_regions(net, -torch.ones(1, 2), torch.tensor([[1.0, 0.5]])).breakpoints
        tensor([2])
    """
    starts, ends = net.inputs.tensors(x0), net.inputs.tensors(x1)
    if len(starts) != 1 or net.inputs.keyword or not starts[0].is_floating_point():
        raise BadInput(f"net: it takes {net.inputs.names}; segments are about one floating-point input")
    dim = net.inputs.batch_dims[0]
    if starts[0].shape != ends[0].shape:
        raise BadInput(f"x1: shape {tuple(ends[0].shape)}, but x0 has {tuple(starts[0].shape)}")
    front = [item[0].double().movedim(dim, 0) for item in (starts, ends)]
    lengths = as_rows(front[1] - front[0]).norm(dim=1)
    if not (lengths > 0).all():
        raise BadInput(f"x1: sample {int((lengths <= 0).int().argmax())} equals that of x0; a segment has two ends")
    pairs = zip(*(item.unsqueeze(1).movedim(1, dim + 1) for item in front), strict=True)
    bar = progress_bar(progress, "lines", iterable=pairs, total=len(lengths), unit="line")
    lines = [line(net, start, end, progress=False) for start, end in bar]
    counted = net.task() is Task.CLASSES if decisions is None else decisions
    changes = torch.tensor([len(found.decisions()) for found in lines] if counted else [])
    return CrossedRegions(torch.tensor([found.pieces - 1 for found in lines]), changes, lengths)
