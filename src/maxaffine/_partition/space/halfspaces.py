"""The region of an input as halfspaces of the input space, one for every piece that a unit could change to.

On its region a network is affine, and so is everything that its operators compare. Whatever says which piece a unit is
on is an affine function of the input that must keep its sign: a halfspace. All of them come from one linearization at
the input, pushed along every axis; their number is that of all units, whatever the number of regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence, Graph, Linearization, Step, as_rows
from maxaffine._partition.lines.strip import Track
from maxaffine._partition.space.margins import margins
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
        """Return the number of halfspaces."""
        return len(self.bounds)

    def slack(self, y: np.ndarray) -> np.ndarray:
        """Distances (halfspaces,) of a point (in_features,) to the boundaries, negative outside."""
        return self.bounds - self.normals @ y

    def joined(self, other: Halfspaces) -> Halfspaces:
        """Both sets, the names of both."""
        operator = np.concatenate([self.operator, other.operator + len(self.operators)])
        return Halfspaces(
            np.concatenate([self.normals, other.normals]),
            np.concatenate([self.bounds, other.bounds]),
            operator,
            np.concatenate([self.unit, other.unit]),
            self.operators + other.operators,
        )


def box(low: np.ndarray, high: np.ndarray) -> Halfspaces:
    """The box low <= y <= high as halfspaces of the operator ``bounds``; units count the upper sides first."""
    size = len(low)
    normals = np.concatenate([np.eye(size), -np.eye(size)])
    bounds = np.concatenate([high, -low])
    return Halfspaces(normals, bounds, np.zeros(2 * size, dtype=int), np.arange(2 * size), ("bounds",))


class Space:
    """The input space of a network in float64, up to one output: all its floating-point inputs as one vector."""

    def __init__(self, net: SplineNetwork, like: tuple[Tensor, ...], until: str | None, output: int | None) -> None:
        self.net = net
        self.like = like  # one input, which gives those that are not floating point their values
        self.options = {"until": until, "output": output}
        net.affine_map(net.inputs.given(like), **self.options)  # refuses unknown names
        self.graph = net.graph.part([net.places[until] if until else net.graph.outputs[output or 0]])
        self.steps = [s for s in self.graph.steps if s.records and s.records[0].pieces > 1]
        self.operators = tuple(step.records[0].name for step in self.steps)
        read = {number for step in self.steps for number in step.inputs}
        self.read = [n for n in sorted(read) if self.graph.values[n].dependence is Dependence.AFFINE]
        self.features = sum(item.numel() for item in like if item.is_floating_point())
        self._part = net.graph.part(self.read) if self.read else None
        self._track = Track(self.graph)

    @property
    def entries(self) -> int:
        """Numbers held for the slopes of everything that operators read."""
        return self.features * sum(prod(self.graph.values[n].units) for n in self.read)

    def inputs(self, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Rows (points, in_features) as a batch of inputs."""
        found, start = [], 0
        for item, dim in zip(self.like, self.net.inputs.batch_dims, strict=True):
            shape = [size for axis, size in enumerate(item.shape) if axis != dim]
            if not item.is_floating_point():
                found.append(item.repeat_interleave(len(rows), dim))
                continue
            part = torch.as_tensor(rows[:, start : start + item.numel()], dtype=torch.float64, device=item.device)
            found.append(part.reshape(len(rows), *shape).movedim(0, dim).contiguous())
            start += item.numel()
        return tuple(found)

    def batch(self, rows: np.ndarray) -> Any:
        """Rows as the network takes them."""
        return self.net.inputs.given(self.inputs(rows))

    def flat(self, tensors: tuple[Tensor, ...]) -> np.ndarray:
        """One input as a vector (in_features,)."""
        return torch.cat([item.flatten() for item in tensors if item.is_floating_point()]).cpu().numpy()

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """All codes (points, units of all operators), operators in order."""
        if not self.operators:
            return np.zeros((len(rows), 0), dtype=np.int64)
        found = self.net.codes(self.batch(rows), operators=list(self.operators))
        return torch.cat([as_rows(found[name].unpack()).long() for name in self.operators], 1).numpy()

    def unit_offsets(self) -> np.ndarray:
        """The column of :meth:`codes` at which each operator's units begin."""
        sizes = [prod(self.graph.values[step.result].units) for step in self.steps]
        return np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(int)

    def halfspaces(self, y: np.ndarray) -> Halfspaces:
        """The region of a point (in_features,)."""
        empty = Halfspaces(
            np.zeros((0, self.features)), np.zeros(0), np.zeros(0, int), np.zeros(0, int), self.operators
        )
        if self._part is None:
            return empty
        values = self._affine(y, self._part)
        parts = [self._of(number, step, values, y) for number, step in enumerate(self.steps)]
        normals, bounds, operator, unit = (np.concatenate(items) for items in zip(*parts, strict=True))
        return Halfspaces(normals, bounds, operator, unit, self.operators)

    def _affine(self, y: np.ndarray, part: Graph) -> dict[int, Tensor]:
        """Everything that operators read, at y and one unit along every axis, on the affine map of y."""
        rows = np.concatenate([np.zeros((1, self.features)), np.eye(self.features)])
        at = Linearization(part, self.inputs(np.repeat(y[None], len(rows), 0)))
        moved = at.push(self.inputs(rows), offset=False)
        return {n: value + slope for n, value, slope in zip(part.outputs, at.outputs, moved, strict=True)}

    def _of(
        self, number: int, step: Step, values: dict[int, Tensor], y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Normals, bounds, operator and unit of one operator's halfspaces."""
        rows = self.features + 1
        inputs = self._arguments(step, values, rows)
        shape = self.graph.values[step.result].units
        units = torch.arange(prod(shape)).view(1, *shape).expand(rows, *shape)
        found = list(margins(step, inputs, units, self._track.axis(step.result)))
        at = torch.cat([item.values for item in found], 1)
        sign = torch.cat([item.sign for item in found]).cpu().numpy()
        unit = torch.cat([item.unit for item in found]).cpu().numpy()
        value = at[0].cpu().numpy() * sign
        slopes = ((at[1:] - at[:1]).T.cpu().numpy()) * sign[:, None]
        # value + slopes (y' - y) >= 0, divided by the length of the slopes. A function that does not move within the
        # rounding of its operator's has no boundary, and what a mask has put at infinity has none either.
        length = np.linalg.norm(slopes, axis=1)
        scale = np.abs(value[np.isfinite(value)]).max(initial=0) + length.max(initial=0, where=np.isfinite(length))
        kept = np.isfinite(length) & (length > FLAT * scale)
        normals = -slopes[kept] / length[kept, None]
        bounds = value[kept] / length[kept] + normals @ y
        return normals, bounds, np.full(int(kept.sum()), number), unit[kept]

    def _arguments(self, step: Step, values: dict[int, Tensor], rows: int) -> list[Any]:
        """A step's inputs at all points."""
        held = self._track.held(rows)
        found = []
        for number in step.inputs:
            if number in values:
                found.append(values[number])
            elif number in held:
                found.append(held[number])
            else:
                raise BadInput(
                    f"net: {step.records[0].name} compares values that are constant in each region, which has no"
                    " halfspace of its own; compare the affine values directly"
                )
        return found


def input_space(
    net: SplineNetwork, like: tuple[Tensor, ...], until: str | None, output: int | None, limit: int
) -> Space:
    """The checked input space of a network; see :func:`maxaffine.partition.region`."""
    space = Space(net.double(), like, until, output)
    if space.entries > limit:
        raise BadInput(
            f"net: the slopes of its units in {space.features} input dimensions are {space.entries} numbers"
            f" ({space.entries * 8 / 2**30:.1f} GiB), above limit={limit}; use partition.line or partition.plane, stop"
            " earlier with until=, or raise the limit"
        )
    return space


def sides(bounds: Any, features: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper corner (features,) of a box, each given as one number or one per feature."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise BadInput(f"bounds: expected (low, high), got {bounds!r}")
    given = [np.asarray(side, dtype=float).reshape(-1) for side in bounds]
    if any(len(side) not in (1, features) for side in given):
        raise BadInput(f"bounds: expected one number or {features} for each corner, got {[len(s) for s in given]}")
    low, high = (np.broadcast_to(side, (features,)).copy() for side in given)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise BadInput("bounds: every lower bound must be finite and below its upper one")
    return low, high
