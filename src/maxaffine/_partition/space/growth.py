"""The regions of a network as cells of a box: operator by operator, unit by unit, all cells at once.

On a cell in one piece of all earlier units, what the next operator compares is affine, so it is known by its values at
the corners, each pushed there by the network's affine map inside a cell. A continuous network has one value at a
corner, whichever of the cells around it one comes from, and the two that are computed differ by rounding alone: what is
within it is zero, for all of them. A network that jumps has a value for each, so its cells do not share corners.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._graph import Comparisons, Step
from maxaffine._partition.inputs import known_boundaries
from maxaffine._partition.space.cells import Cells, cut
from maxaffine._partition.space.contest import divide
from maxaffine._partition.space.halfspaces import FLAT, Space, contest

TIE = 1e-12  # of the largest value of a function: it is zero at a corner
ROUNDING = 8  # of the difference of two ways to compute a value
NOISE = 1e-10  # rounding is less than this, or it is a map on the wrong side of a sliver


@dataclass(frozen=True, eq=False)
class _Asked:
    """Functions at corners, in groups: each alone is cut where it is zero; of several the largest wins."""

    values: np.ndarray  # (V, groups, m)
    ties: np.ndarray  # (groups,)
    flat: float
    rounds: int  # how many winners in a row are told apart; 0 where the functions are compared with zero


def grow(space: Space, cells: Cells) -> Iterator[Cells]:
    """Finer and finer cells, after every unit; the last are the regions."""
    for step in space.steps:
        if not space.continuous:
            cells = cells.torn()
        for finer in _answered(_ask(space, step, cells), cells):
            yield finer
            cells = finer
        cells = replace(cells, table=cells.places).pruned()
    yield cells


def split_by_decision(space: Space, cells: Cells, level: float, without: int | None = None) -> tuple[Cells, np.ndarray]:
    """Cells in each of which one class wins, of a single output 1 above the level and 0 elsewhere; (C,) the classes."""
    # One output may be left out: then it is the largest of the others that wins.
    (number,) = space.graph.outputs
    rows = space.graph.values[number].to_rows(_moved(space, [number], cells)[number])
    single = rows.shape[1] == 1
    rows = rows if without is None else rows[:, torch.arange(rows.shape[1]) != without]
    asked = _rounded(rows[:, None] - level if single else rows[:, None], space.continuous, 0 if single else 1)
    for finer in _answered(asked, cells):
        cells = finer
    # An affine function has the mean of its values at the corners in their middle.
    scores = np.add.reduceat(cells.table[cells.corner, cells.size :], cells.starts[:-1]) / cells.counts[:, None]
    wins = scores > asked.ties[0] if single else scores >= scores.max(1, keepdims=True) - asked.ties[0]
    classes = wins[:, 0].astype(np.int64) if single else wins.argmax(1)
    return replace(cells, table=cells.places).pruned(), classes


def _answered(asked: _Asked, cells: Cells) -> Iterator[Cells]:
    """The cells divided by one group after the other, the values of all groups in their table."""
    table = asked.values.reshape(len(asked.values), -1)
    cells = replace(cells, table=np.concatenate([cells.places, table], 1))
    size = asked.values.shape[2]
    for group, tie in enumerate(asked.ties):
        if asked.rounds:
            columns = np.arange(group * size, (group + 1) * size)
            cells = divide(cells, columns, asked.rounds, tie, asked.flat)
        else:
            value = cells.table[:, cells.size + group]
            cells = cut(cells, np.where(np.abs(value) <= tie, 0, value), asked.flat)
        yield cells


def _ask(space: Space, step: Step, cells: Cells) -> _Asked:
    """What the operator of a step asks at the corners of cells."""
    values = _moved(space, space.moving([step]), cells)
    inputs = space.inputs_of(step, values)
    boundaries, axis = known_boundaries(step), space.axis(step)
    if not isinstance(boundaries, Comparisons):
        lines, rounds = contest(step, boundaries, inputs, axis)
        return _rounded(lines, space.continuous, rounds)
    shape = space.graph.values[step.result].units
    pairs = [axis.to_front(pair.difference()) for pair in boundaries.pairs(inputs)]
    lines = torch.cat([pair.expand(len(pair), *shape).reshape(len(pair), -1, 1) for pair in pairs], 1)
    return _rounded(lines, space.continuous, 0)


def _rounded(lines: Tensor, twice: bool, rounds: int) -> _Asked:
    """Values (corners, groups, m), and how well they are known where a second half is the first computed again."""
    values = lines.cpu().numpy()
    # What a mask has put at infinity is beyond all others, and never crosses them.
    finite = np.where(np.isfinite(values), values, 0)
    far = 1 + 2 * np.abs(finite).max(initial=0)
    values = np.where(np.isfinite(values), values, np.copysign(far, values))
    span = np.abs(finite).max((0, 2), initial=0)
    noise = np.zeros_like(span)
    if twice:
        values, other = np.split(values, 2)
        noise = np.abs(values - other).max((0, 2), initial=0)
    ties = TIE * span + np.minimum(ROUNDING * noise, NOISE * span)
    return _Asked(values, ties, FLAT * float(span.max(initial=0)), rounds)


def _moved(space: Space, numbers: list[int], cells: Cells) -> dict[int, Any]:
    """Values at the corners, on the map of the first cell of each, then, of a continuous network, of the last."""
    owner = cells.owner
    first, last = np.empty((2, len(cells.table)), dtype=np.intp)
    first[cells.corner[::-1]] = owner[::-1]
    last[cells.corner] = owner
    middles, places = cells.middles, cells.places
    if space.continuous:
        first, places = np.concatenate([first, last]), np.concatenate([places, places])
    return space.moved(numbers, middles[first], places - middles[first])
