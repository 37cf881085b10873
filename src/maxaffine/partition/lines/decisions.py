"""Where the decision of a network changes along a segment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine.partition.lines.envelopes import crossings, takeovers


@dataclass(frozen=True)
class Decisions:
    """The classes along a segment.

    Attributes:
        t: (changes,) where the decision changes, increasing.
        classes: (changes + 1,) the class before the first change, between neighbours, and behind the last.
    """

    t: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """Return the number of changes."""
        return len(self.t)


def decisions(t: Tensor, starts: Tensor, ends: Tensor, threshold: float, tolerance: float) -> Decisions:
    """Find every change of the largest output, or of one output's side of a threshold.

    Args:
        t: (pieces + 1,) breakpoints.
        starts: (pieces, classes) outputs at the left ends.
        ends: (pieces, classes) outputs at the right ends.
        threshold: For a single output: class 1 where it is above.
        tolerance: Relative size of differences that count as zero.

    Returns:
        The changes; the lowest class wins a tie over a whole piece.
    """
    limit = tolerance * float(torch.cat([starts, ends]).abs().max())
    if starts.shape[1] == 1:
        piece, fraction, _ = crossings(starts[:, 0] - threshold, ends[:, 0] - threshold, limit)
    else:
        piece, fraction = takeovers(starts, ends, limit)
    places = t[piece] + fraction * (t[piece + 1] - t[piece])
    cut = torch.cat([t, places]).unique()
    middles = (cut[1:] + cut[:-1]) / 2
    owner = torch.searchsorted(t, middles) - 1
    weight = ((middles - t[owner]) / (t[owner + 1] - t[owner]))[:, None]
    outputs = torch.lerp(starts[owner], ends[owner], weight)
    if outputs.shape[1] == 1:
        found = (outputs[:, 0] > threshold + limit).long()
    else:
        found = (outputs >= outputs.amax(1, keepdim=True) - limit).long().argmax(1)
    changes = torch.nonzero(found[1:] != found[:-1])[:, 0]
    return Decisions(cut[1:-1][changes], torch.cat([found[:1], found[1:][changes]]))
