"""The region of an input as halfspaces of the input space, one for every piece that a unit could change to.

On its region a network is affine, and so is everything that its operators compare. Whatever says which piece a unit is
on is an affine function of the input, a margin, that must keep its sign: a halfspace. A unit that compares has one
margin per comparison; one that selects has one for each entry that it did not select, which its winner must stay ahead
of; one that sorts needs few: each entry ahead of the next, and the last ahead of the rest. All of them come from one
linearization at the input, pushed along every axis; their number is that of all units, whatever the number of regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import BatchAxis, Comparisons, Contest, Dependence, Linearization, Order, Step, as_rows
from maxaffine._partition.inputs import ends, known_boundaries, refusal
from maxaffine._partition.lines.track import Track
from maxaffine.errors import BadInput

FLAT = 1e-13  # a margin with a slope this small, relative to the largest of its operator, is constant


@dataclass(frozen=True, eq=False)
class Halfspaces:
    """{y: normals y <= bounds}, every normal of length one."""

    normals: np.ndarray  # (halfspaces, in_features)
    bounds: np.ndarray  # (halfspaces,)
    operator: np.ndarray  # (halfspaces,) number of the operator in ``operators``
    unit: np.ndarray  # (halfspaces,) flat number of the unit among the operator's
    operators: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.bounds)

    def slack(self, y: np.ndarray) -> np.ndarray:
        """Distances (halfspaces,) of a point (in_features,) to the boundaries, negative outside."""
        return self.bounds - self.normals @ y

    def joined(self, other: Halfspaces) -> Halfspaces:
        """Both sets, the names of both."""
        mine = (self.normals, self.bounds, self.operator, self.unit)
        others = (other.normals, other.bounds, other.operator + len(self.operators), other.unit)
        normals, bounds, operator, unit = map(np.concatenate, zip(mine, others, strict=True))
        return Halfspaces(normals, bounds, operator, unit, self.operators + other.operators)


def box(low: np.ndarray, high: np.ndarray) -> Halfspaces:
    """The box low <= y <= high as halfspaces of the operator ``bounds``; units count the upper sides first."""
    size = len(low)
    normals = np.concatenate([np.eye(size), -np.eye(size)])
    bounds = np.concatenate([high, -low])
    return Halfspaces(normals, bounds, np.zeros(2 * size, dtype=int), np.arange(2 * size), ("bounds",))


class Space:
    """The input space of a network in float64, up to one output: all its floating-point inputs as one vector."""

    def __init__(
        self, net: SplineNetwork, like: tuple[Tensor, ...], until: str | None, output: int | str | None, limit: int
    ) -> None:
        self.net = net = net.double()
        self.like = like  # one input, which gives those that are not floating point their values
        self.options = {"until": until, "output": output}
        net.affine_map(net.inputs.nest(like), **self.options)  # refuses unknown names
        self.graph = net.graph.part([net.target(until, output)])
        self.steps = [s for s in self.graph.steps if s.piecewise]
        self.operators = tuple(step.records[0].name for step in self.steps)
        self.sizes = [item.numel() if item.is_floating_point() else 0 for item in like]
        self.features = sum(self.sizes)
        self._track = Track(self.graph)
        self.continuous = self._track.continuous
        self._read = self.moving(self.steps)
        entries = self.features * sum(prod(self.graph.values[n].units) for n in self._read)
        if entries > limit:
            raise BadInput(
                f"net: the slopes of its units in {self.features} input dimensions are {entries} numbers"
                f" ({entries * 8 / 2**30:.1f} GiB), above limit={limit}; use partition.line or partition.plane, stop"
                " earlier with until=, or raise the limit"
            )

    def inputs(self, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Rows (points, in_features) as a batch of inputs."""
        found, parts = [], torch.as_tensor(rows, dtype=torch.float64).split(self.sizes, 1)
        for item, part, dim in zip(self.like, parts, self.net.inputs.batch_dims, strict=True):
            if item.is_floating_point():
                front = part.to(item.device).reshape(len(rows), *item.movedim(dim, 0).shape[1:])
                found.append(front.movedim(0, dim).contiguous())
            else:
                found.append(item.repeat_interleave(len(rows), dim))
        return tuple(found)

    def batch(self, rows: np.ndarray) -> Any:
        """Rows as the network takes them."""
        return self.net.inputs.nest(self.inputs(rows))

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """All codes (points, units of all operators), operators in order."""
        if not self.operators:
            return np.zeros((len(rows), 0), dtype=np.int64)
        found = self.net.codes(self.batch(rows), operators=list(self.operators))
        return torch.cat([as_rows(found[name].unpack()).long() for name in self.operators], 1).numpy()

    def labels(self, columns: np.ndarray) -> list[tuple[str, int]]:
        """(operator, flat unit) of the columns of :meth:`codes` where a mask is true."""
        starts = np.cumsum([0, *(prod(self.graph.values[step.result].units) for step in self.steps)])
        places = np.flatnonzero(columns).tolist()
        owners = np.searchsorted(starts[:-1], places, side="right") - 1
        return [(self.operators[k], int(place - starts[k])) for place, k in zip(places, owners, strict=True)]

    def axis(self, step: Step) -> BatchAxis:
        """Where the first output of a step keeps the points."""
        return self._track.axis(step.result)

    def moving(self, steps: Sequence[Step]) -> list[int]:
        """The numbers of what steps read that moves with the input."""
        read = sorted({number for step in steps for number in step.inputs})
        return [number for number in read if self.graph.values[number].dependence is Dependence.AFFINE]

    def moved(self, numbers: list[int], rows: np.ndarray, moves: np.ndarray) -> dict[int, Any]:
        """Values at rows + moves (points, in_features) on the affine maps of the rows, in their own layout."""
        part = self.net.graph.part(numbers)
        at = Linearization(part, self.inputs(rows))
        ahead = at.push(self.inputs(moves), offset=False)
        # Those that depend on the number of points alone are read as well.
        values = self._track.held(len(rows))
        return values | {n: a + b for n, a, b in zip(part.outputs, at.outputs, ahead, strict=True)}

    def inputs_of(self, step: Step, values: dict[int, Any]) -> list[Any]:
        """What a step reads, of values by number."""
        if any(n not in values for n in step.inputs):
            raise BadInput(
                f"net: {step.records[0].name} compares values that are constant in each region, which has no"
                " halfspace of its own; compare the affine values directly"
            )
        return [values[n] for n in step.inputs]

    def halfspaces(self, y: np.ndarray) -> Halfspaces:
        """The region of a point (in_features,)."""
        nothing = np.zeros(0, dtype=int)
        parts = [(np.zeros((0, self.features)), np.zeros(0), nothing, nothing)]
        if self._read:
            # Everything that operators read, at y and one unit along every axis, on the affine map of y.
            moves = np.concatenate([np.zeros((1, self.features)), np.eye(self.features)])
            values = self.moved(self._read, np.repeat(y[None], len(moves), 0), moves)
            parts += [self._halfspaces(number, step, values, y) for number, step in enumerate(self.steps)]
        normals, bounds, operator, unit = map(np.concatenate, zip(*parts, strict=True))
        return Halfspaces(normals, bounds, operator, unit, self.operators)

    def _halfspaces(self, number: int, step: Step, values: dict[int, Any], y: np.ndarray) -> tuple[np.ndarray, ...]:
        """Normals, bounds, operator and unit of one operator's halfspaces."""
        inputs = self.inputs_of(step, values)
        shape = self.graph.values[step.result].units
        units = torch.arange(prod(shape)).view(1, *shape).expand(self.features + 1, *shape)
        found = margins(step, inputs, units, self.axis(step))
        at, unit = (torch.cat(items, -1).cpu() for items in zip(*found, strict=True))
        value, slopes = at[0].numpy(), (at[1:] - at[:1]).T.numpy()
        # value + slopes (y' - y) >= 0, divided by the length of the slopes. A function that does not move within the
        # rounding of its operator's has no boundary, and what a mask has put at infinity has none either.
        length = np.linalg.norm(slopes, axis=1)
        scale = np.abs(value[np.isfinite(value)]).max(initial=0) + length.max(initial=0, where=np.isfinite(length))
        kept = np.isfinite(length) & (length > FLAT * scale)
        normals = -slopes[kept] / length[kept, None]
        bounds = value[kept] / length[kept] + normals @ y
        return normals, bounds, np.full(int(kept.sum()), number), unit.numpy()[kept]


Margins = tuple[Tensor, Tensor]  # (points, margins) values, and (margins,) the flat number of the unit of each


def margins(step: Step, inputs: Sequence[Any], units: Tensor, axis: BatchAxis) -> Iterator[Margins]:
    """The margins of the operator of a step with pieces, not negative on the piece at the first point, in parts."""
    # The inputs are given at several points, all on the affine map of the first, in their own layout; ``units`` are the
    # numbers of the entries of its first output, (points, *units), which keeps the points in ``axis``.
    boundaries = known_boundaries(step)
    if isinstance(boundaries, Comparisons):
        yield from _pair_margins(boundaries, inputs, units, axis)
        return
    lines, kept = contest(step, boundaries, inputs, axis)
    if boundaries.order is Order.LARGEST:
        yield _winner_margins(lines, units[0].reshape(-1, 1))
    else:
        yield _order_margins(lines, units[0].movedim((boundaries.axis or 0) - 1, -1).reshape(-1, kept))


def contest(step: Step, boundaries: Contest, inputs: Sequence[Any], axis: BatchAxis) -> tuple[Tensor, int]:
    """The entries (points, groups, m) of the groups in which a step selects, and how many of each, largest first."""
    if axis != BatchAxis():
        reason = "it keeps its samples in another axis than the first"
        raise refusal(step, reason, "capture with the batch first")
    scores = boundaries.scores(inputs[0].double())
    lines = scores.reshape(len(scores), -1, scores.shape[-1])
    if boundaries.order is Order.LARGEST:
        return lines, 1
    if boundaries.order is Order.SORTED and boundaries.axis is not None:
        return lines, step.records[0].units[boundaries.axis - 1]
    reason = "the inputs that share a code are not a convex set: which entries lie below the chosen one may vary"
    raise refusal(step, reason, "use partition.line, or sort the entries and pick one by its place")


def _pair_margins(boundaries: Comparisons, inputs: Sequence[Any], units: Tensor, axis: BatchAxis) -> Iterator[Margins]:
    """A margin per unit and comparison; of several that are counted, only the two around each unit's place."""
    # A unit that is above one of those is above all before it, so the others follow from these two.
    pairs = boundaries.pairs(inputs)
    values = [axis.to_front(pair.difference()).expand(units.shape).reshape(len(units), -1) for pair in pairs]
    above = [value[0] >= 0 if pair.reached else value[0] > 0 for pair, value in zip(pairs, values, strict=True)]
    count = sum(item.long() for item in above)
    for place, (value, upper) in enumerate(zip(values, above, strict=True)):
        near = (count == place) | (count == place + 1) if boundaries.counted else torch.ones_like(upper)
        yield torch.where(upper, value, -value)[:, near], units[0].reshape(-1)[near]


def _winner_margins(lines: Tensor, numbers: Tensor) -> Margins:
    """The winner of every group minus each of the others, except what is missing from a window."""
    winner = lines[0].argmax(-1, keepdim=True)
    ahead = lines.gather(-1, winner.expand(len(lines), *winner.shape)) - lines
    others = lines[0].isfinite().scatter(-1, winner, False)
    return ahead[:, others], numbers.expand(others.shape)[others]


def _order_margins(lines: Tensor, numbers: Tensor) -> Margins:
    """Each selected entry against the next, and the last selected against all that were left out."""
    size, kept = lines.shape[-1], numbers.shape[-1]
    order = lines[0].sort(stable=True, dim=-1, descending=True).indices
    ranked = lines.gather(-1, order.expand(lines.shape))
    chain = ranked[..., : kept - 1] - ranked[..., 1:kept]
    rest = ranked[..., kept - 1 : kept] - ranked[..., kept:]
    unit = torch.cat([numbers[:, : kept - 1], numbers[:, kept - 1 :].expand(-1, size - kept)], -1)
    return torch.cat([chain, rest], -1).flatten(1), unit.flatten()


def sides(bounds: Any, features: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper corner (features,) of a box, each given as one number or one per feature."""
    low, high = ends(bounds, features)
    wrong = ~(np.isfinite(low) & np.isfinite(high) & (low < high))
    if wrong.any():
        place = int(wrong.argmax())
        raise BadInput(
            "bounds: every lower bound must be finite and below its upper one; those of feature"
            f" {place} are {low[place]:g} and {high[place]:g}"
        )
    return low, high
