"""Where the decision of a network changes along a segment, and where a value is reached.

Outputs are affine on every piece, so both follow from their values at its ends, as exactly as the breakpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine._network import size, without_infinities
from maxaffine._partition.lines.envelopes import crossings, takeovers


@dataclass(frozen=True)
class Decisions:
    """The classes along a segment.

    Attributes:
        t: (changes,) where the decision changes, increasing.
        classes: (changes + 1,) the class before the first change, between neighbors, and after the last.
    """

    t: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """Return the number of changes."""
        return len(self.t)


def decisions(t: Tensor, starts: Tensor, ends: Tensor, threshold: float, tolerance: float) -> Decisions:
    """Every change of the largest output (pieces, classes), or of a single output's side of a threshold."""
    # A class may win at the end of one piece and another at the start of the next, where the network jumps. So the line
    # is cut wherever the winner can change, and the class is read off in the middle of every part: the lowest wins a
    # tie over a whole part.
    limit = tolerance * size(without_infinities(torch.cat([starts, ends])))
    if starts.shape[1] == 1:
        piece, fraction, _ = crossings(starts[:, 0] - threshold, ends[:, 0] - threshold, limit)
    else:
        piece, fraction = takeovers(starts, ends, limit)
    places = t[piece] + fraction * (t[piece + 1] - t[piece])
    cut = torch.cat([t, places]).unique()
    middles = (cut[1:] + cut[:-1]) / 2
    owner = torch.searchsorted(t, middles) - 1
    weight = ((middles - t[owner]) / (t[owner + 1] - t[owner]))[:, None]
    left, right = starts[owner], ends[owner]
    outputs = torch.where(left == right, left, torch.lerp(left, right, weight))  # equal infinities too
    if outputs.shape[1] == 1:
        found = (outputs[:, 0] > threshold + limit).long()
    else:
        found = (outputs >= outputs.amax(1, keepdim=True) - limit).long().argmax(1)
    changes = torch.nonzero(found[1:] != found[:-1])[:, 0]
    return Decisions(cut[1:-1][changes], torch.cat([found[:1], found[1:][changes]]))


def levels(t: Tensor, starts: Tensor, ends: Tensor, level: float, tolerance: float) -> Tensor:
    """Every place where one output (pieces,) has a given value; a piece that has it all over counts with its ends."""
    limit = tolerance * max(size(without_infinities(torch.cat([starts, ends]))), abs(level))
    left, right = starts - level, ends - level
    piece, fraction, _ = crossings(left, right, limit)
    inside = t[piece] + fraction * (t[piece + 1] - t[piece])
    # Crossings leave out ends that are within the limit of the level: those are places themselves.
    reached = torch.cat([t[:-1][left.abs() <= limit], t[1:][right.abs() <= limit]])
    return torch.cat([inside, reached]).unique()
