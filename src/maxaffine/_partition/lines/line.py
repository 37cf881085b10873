"""Every piece of a network along a segment, exactly.

The walk gives blocks of finished pieces in the order of the line; here they are shown in a progress bar, cut short
where somebody asks for that, and joined.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import all_finite, refuse_overflow
from maxaffine._partition.lines.partition import Crossings, LinePartition
from maxaffine._partition.lines.segment import Target, segment
from maxaffine._partition.lines.walk import Block, Walk
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

TOLERANCE = 1e-12
MEMORY = 256 * 2**20


def line(
    net: SplineNetwork,
    x0: Any,
    x1: Any,
    *,
    outputs: Sequence[int] | Tensor | None = None,
    until: str | None = None,
    output: int | None = None,
    tolerance: float = TOLERANCE,
    memory: int = MEMORY,
    max_pieces: int | None = None,
    progress: bool | None = None,
) -> LinePartition:
    """Cut the segment from x0 to x1 at every place where a unit changes its piece.

    x(t) = (1 - t) x0 + t x1; between neighboring breakpoints every unit keeps its piece, so f(x(t)) is affine in t.
    The network is followed operator by operator: its values at the breakpoints known so far give, by linear
    interpolation, the places where the operator's units change, which become breakpoints in turn. All in float64.

    Args:
        net: The network. One captured in another type is computed in float64, with the parameters as they are.
        x0: One input, as at capture (a batch of one; also in float64).
        x1: Another.
        outputs: Flat numbers of the units of the output to keep; all by default.
        until: Name of an operator or module to stop after; breakpoints of what follows it are left out.
        output: Which output, for a network with several.
        tolerance: Breakpoints closer than this in t are one; values below it, relative to the largest of their
            operator's inputs, count as zero.
        memory: About how many bytes the values of one block of pieces may take; the rest is queued, depth first.
        max_pieces: Stop after about so many pieces; the result then covers a part of the segment and says so.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The partition. Ctrl-C returns what is done by then, with a warning.

    Raises:
        BadInput: For bad inputs, an unknown name, an output that is not a number, or one that overflows float64.
        NotPiecewiseAffine: For an operator of a user's own whose boundaries are not known.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> ma.partition.line(net, torch.tensor([[-1.0, 1.0]]), torch.tensor([[1.0, -3.0]])).breakpoints
        tensor([0.0000, 0.2500, 0.5000, 1.0000], dtype=torch.float64)

    Source: restriction of networks to lines, Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks"
    (NeurIPS 2019).
    """
    if not 0 < tolerance < 1e-3:
        raise BadInput(f"tolerance: expected a number between 0 and 1e-3, got {tolerance}")
    if max_pieces is not None and max_pieces < 1:
        raise BadInput(f"max_pieces: expected at least 1, got {max_pieces}")
    target = Target(net, segment(net, x0, x1), outputs, until, output)
    walk = Walk(target.graph, target.segment, tolerance, memory)
    names = tuple(target.graph.steps[place].records[0].name for place in walk.operators)
    with torch.no_grad():
        found = _assemble(_blocks(walk, target, max_pieces, progress), target, names, tolerance)
        if not (all_finite(found.starts) and all_finite(found.ends)):
            refuse_overflow(target.graph, target.segment.points(found.breakpoints[[0, -1]]))
        return found


def _blocks(walk: Walk, target: Target, max_pieces: int | None, progress: bool | None) -> Iterator[Block]:
    """Blocks with the wanted units alone, until the segment ends or there are enough pieces."""
    pieces = 0
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with progress_bar(progress, "line", total=1.0, bar_format=layout) as bar:
        try:
            for block in walk.blocks():
                pieces += len(block.t) - 1
                bar.set_postfix_str(f"{pieces} pieces", refresh=False)
                bar.update(float(block.t[-1]) - bar.n)
                yield replace(block, starts=target.chosen(block.starts), ends=target.chosen(block.ends))
                if max_pieces is not None and pieces >= max_pieces:
                    return
        except KeyboardInterrupt:
            if not pieces:
                raise
            warnings.warn(f"interrupted: the partition ends after {pieces} pieces", stacklevel=3)


def _assemble(blocks: Iterator[Block], target: Target, operators: tuple[str, ...], tolerance: float) -> LinePartition:
    """All blocks as one partition; vertices at which no unit changes (a block's end, a cut in vain) are dropped."""
    parts = list(blocks)
    t = torch.cat([parts[0].t[:1], *(block.t[1:] for block in parts)])
    at, operator, unit = (torch.cat([getattr(b, name) for b in parts]) for name in ("at", "operator", "unit"))
    kept = torch.isin(t, at)
    kept[0] = kept[-1] = True
    breakpoints = t[kept]
    return LinePartition(
        breakpoints,
        torch.cat([block.starts for block in parts])[kept[:-1]],
        torch.cat([block.ends for block in parts])[kept[1:]],
        Crossings(torch.searchsorted(breakpoints, at), operator, unit, operators),
        complete=bool(breakpoints[-1] == 1),
        tolerance=tolerance,
        target=target,
    )
