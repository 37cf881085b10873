"""How what bends at the inputs of an affine step bends its outputs, without the step run at every vertex.

Between the ends of a stretch, what an affine step gives is what it gives on the straight line, plus its linear part of
how far its inputs deviate from that line. Few units do, and of the linear part only their columns are needed. Steps
that move entries about, or scale them, are recognized by what they make of three vectors; others offer their columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine._graph import LocalMap, Operator
from maxaffine._partition.lines.strip import Course, Strip, mixed

DENSE = 4  # a value of which more than a quarter bends is kept at every vertex in full
MATRIX = 2**23  # entries of the largest matrix that is kept for a step
EXACT = 1e-13  # by how much a recognized factor may be off, relative to it


@dataclass(frozen=True)
class Bend:
    """What the bent units of one input bend of one output."""

    units: Tensor  # (k,) flat numbers of the output's units, increasing
    move: Callable[[Tensor], Tensor]  # deviations of the input's bent units, (rows, k'), to theirs, (rows, k)


@dataclass(frozen=True)
class Picks:
    """A linear map of which every output is one input's entry times a factor, or nothing."""

    source: Tensor  # (outputs,) flat number of the entry, -1 for none
    factor: Tensor  # (outputs,)

    @staticmethod
    def probes(count: int, device: torch.device) -> Tensor:
        """Three inputs that such a map is known by: ones, the numbers 1, 2, ..., and random ones, (3, count)."""
        generator = torch.Generator().manual_seed(0)
        given = 0.5 + torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.stack([torch.ones_like(given), torch.arange(1.0, count + 1, dtype=torch.float64), given]).to(
            device
        )

    @classmethod
    def recognized(cls, made: Tensor, given: Tensor) -> Picks | None:
        """From what it makes of the probes, (3, outputs), the last of which was given; None if it is no such map."""
        factor, numbers, random = made
        source = torch.where(factor != 0, numbers / factor, 0).round().long() - 1
        if not bool(((source >= -1) & (source < len(given))).all()):
            return None
        # Of a sum of several entries, random numbers cannot make what they make of a single one.
        expected = torch.where(source >= 0, factor * given[source], 0)
        same = ((random - expected).abs() <= EXACT * factor.abs()) & ((factor != 0) | (numbers == 0))
        return cls(source, factor) if bool(same.all()) else None

    def bend(self, bent: Tensor, count: int) -> Bend:
        """Of the bent ones among so many units of the input."""
        place = torch.full((count + 1,), -1, device=bent.device)
        place[bent] = torch.arange(len(bent), device=bent.device)
        at = place[self.source]  # -1, for none, reads the last place
        units = torch.nonzero(at >= 0)[:, 0]
        at, factor = at[units], self.factor[units]
        return Bend(units, lambda deviation: deviation[:, at] * factor)


def by_columns(local: LocalMap, gain: float, bent: Tensor, count: int, outputs: int) -> Bend | None:
    """By the matrix of the columns of the bent ones among so many units; None where that would not pay."""
    columns = local.columns(bent)
    if columns is None:
        return None
    reached = torch.zeros(outputs, dtype=torch.bool, device=bent.device)
    reached[columns.row] = True
    units = torch.nonzero(reached)[:, 0]
    # The step itself takes about so many products: those of the columns, had all units been asked for.
    products = len(columns.row) * (count / max(1, len(bent)))
    if len(bent) * len(units) > gain * products:
        return None
    size = len(bent), len(units)
    if len(columns.row) == size[0] * size[1] and bool((columns.row.view(size) == units).all()):
        matrix = columns.value.view(size)
    else:
        place = reached.cumsum(0) - 1
        matrix = columns.value.new_zeros(size)
        matrix[columns.column, place[columns.row]] = columns.value
    return Bend(units, lambda deviation: deviation @ matrix)


def full_matrix(local: LocalMap, operator: Operator, count: int, outputs: int, device: torch.device) -> Tensor | None:
    """The blocks (blocks, inputs, outputs) of a step's matrix, where a product with them is faster than the step."""
    blocks = operator.blocks
    if count * outputs > MATRIX * blocks:
        return None
    columns = local.columns(torch.arange(count, device=device))
    if columns is None or count * outputs > operator.gain * blocks * len(columns.row):
        return None
    matrix = columns.value.new_zeros(blocks, count // blocks, outputs // blocks)
    column, row = columns.column % (count // blocks), columns.row % (outputs // blocks)
    matrix[columns.column // (count // blocks), column, row] = columns.value
    return matrix


def bent_course(ends: Tensor, bends: list[tuple[Bend, Course]], strip: Strip) -> Course:
    """A step's output with these ends, bent as its inputs bend it."""
    count = ends[0].numel()
    mask = torch.zeros(count, dtype=torch.bool, device=ends.device)
    for bend, _ in bends:
        mask[bend.units] = True
    units = torch.nonzero(mask)[:, 0]
    flat = ends.reshape(2, count)
    full = len(units) * DENSE > count
    rows = mixed(flat if full else flat[:, units], strip.share).contiguous()
    place = torch.arange(count, device=ends.device) if full else mask.cumsum(0) - 1
    for bend, course in bends:
        rows[:, place[bend.units]] += bend.move(course.deviation(strip.share))
    return Course.full(rows.view(len(rows), *ends.shape[1:])) if full else Course(ends, units, rows)
