"""Cells divided by which of several functions is the largest there, without cuts at which the winner stays the same.

Cutting a cell between every two functions would leave several pieces to one winner. So the cell is lifted by one
dimension, to all points (x, y) with x in the cell and y at or above every function: a polyhedron whose lower sides are
the functions that win somewhere, each above its part of the cell (Edelsbrunner and Seidel 1986, "Voronoi diagrams and
arrangements"). It is found one function after the other, as every polyhedron in double description: corners below the
next function are cut off, and new ones lie on the edges that cross it. Sides above the cell's own are upright, and so
are the edges above its corners, which are raised to the next function where they lie below it.
"""

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.space.cells import WORD, Cells, bits, crossings, facets, grouped, parts, settled, single


@dataclass(frozen=True, eq=False)
class _Lifted:
    """The lower corners of lifted cells."""

    cells: Cells  # their places, and the upright sides that they lie on
    ahead: np.ndarray  # (I, words) the functions that are largest there
    height: np.ndarray  # (I,) y
    ground: np.ndarray  # (I,) whether they are corners of the cell itself


def divide(cells: Cells, columns: np.ndarray, rounds: int, tie: float, flat: float) -> Cells:
    """Cells divided by the winner of some columns of the table, the lowest of equals; then of the next, and so on."""
    # Functions within `tie` are equal at a corner, and one that gets ahead by no more than `flat` does not win.
    lost = np.zeros((len(cells), len(columns)), dtype=bool)  # those that have won an earlier round
    for _ in range(min(rounds, len(columns) - 1)):
        cells, parent, winner = _round(cells, columns, lost, tie, flat)
        lost = lost[parent]
        lost[np.arange(len(cells)), winner] = True
    return cells


def _round(
    cells: Cells, columns: np.ndarray, lost: np.ndarray, tie: float, flat: float
) -> tuple[Cells, np.ndarray, np.ndarray]:
    """The parts of the cells by winner, the cell of each, and its winner."""
    first = lost.argmin(1)
    of = first[cells.owner]
    height = cells.table[cells.corner, cells.size + columns[of]]
    lifted = _Lifted(cells, single(of, -(-len(columns) // WORD)), height, np.ones(len(of), dtype=bool))
    for number, column in enumerate(columns.tolist()):
        playing = ~lost[:, number] & (first < number)
        if playing.any():
            lifted = _raised(lifted, number, column, playing, tie, flat)
    return _projected(lifted)


def _raised(lifted: _Lifted, number: int, column: int, playing: np.ndarray, tie: float, flat: float) -> _Lifted:
    """Above one more function, in the cells (C,) in which it plays."""
    cells, ahead, owner = lifted.cells, lifted.ahead, lifted.cells.owner
    gap = lifted.height - cells.table[cells.corner, cells.size + column]
    gap[np.abs(gap) <= tie] = 0
    met = playing & (np.minimum.reduceat(gap, cells.starts[:-1]) < -flat)
    if not met.any():
        return lifted
    gap = np.where(met[owner], gap, 1)
    # Lower edges lie on a function; the upright ones lead upwards from the corners of the cell itself.
    tight = np.concatenate([cells.tight, ahead], 1)
    lower = np.repeat(~np.uint64(0), tight.shape[1])
    lower[: cells.tight.shape[1]] = 0
    sign, above, below = settled(cells.starts, tight, gap, cells.size, lower, lifted.ground)
    table, fresh = crossings(cells.table, cells.corner[above], cells.corner[below], gap[above], gap[below])
    # A function goes on winning exactly where a corner of its part lies strictly above the new one.
    mine = single(np.array([number]), ahead.shape[1])
    kept = np.bitwise_or.reduceat(np.where(sign[:, None] > 0, ahead, 0), cells.starts[:-1], axis=0)[owner]
    new = np.where(sign[:, None] > 0, ahead, np.where(sign[:, None] < 0, mine, ahead & kept | mine))
    stays = (sign >= 0) | lifted.ground
    share = gap[above] / (gap[above] - gap[below])
    height = lifted.height[above] + share * (lifted.height[below] - lifted.height[above])
    starts, *arrays = grouped(
        np.concatenate([owner[stays], owner[above]]),
        len(cells),
        np.concatenate([cells.corner[stays], fresh]),
        np.concatenate([cells.tight[stays], cells.tight[above] & cells.tight[below]]),
        np.concatenate([new[stays], ahead[above] & ahead[below] & kept[above] | mine]),
        np.concatenate([np.where(sign < 0, lifted.height - gap, lifted.height)[stays], height]),
        np.concatenate([lifted.ground[stays], np.zeros(len(fresh), dtype=bool)]),
    )
    corner, tight, ahead, height, ground = arrays
    return _Lifted(Cells(cells.size, table, starts, corner, tight), ahead, height, ground)


def _projected(lifted: _Lifted) -> tuple[Cells, np.ndarray, np.ndarray]:
    """The lower sides as cells, the number of the lifted cell of each, and its function."""
    cells = lifted.cells
    winners = bits(np.bitwise_or.reduceat(lifted.ahead, cells.starts[:-1], axis=0))
    starts, entry, parent, winner = parts(cells.starts, lifted.ahead, winners)
    # What a part meets at its sides are those of the cell and the other functions; touching one in less is no side.
    tight = np.concatenate([cells.tight, lifted.ahead], 1)[entry]
    tight = _renumbered(starts, tight, facets(starts, tight))
    return Cells(cells.size, cells.table, starts, cells.corner[entry], tight), parent, winner


def _renumbered(starts: np.ndarray, tight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Sets of sides with bits for those that are kept alone, in as few words as they take."""
    owner = np.repeat(np.arange(len(kept)), np.diff(starts))
    number = np.cumsum(kept, axis=1) - 1
    entry, bit = np.nonzero(bits(tight) & kept[owner])
    found = np.zeros((len(tight), -(-int(kept.sum(1).max()) // WORD) * WORD), dtype=bool)
    found[entry, number[owner[entry], bit]] = True
    return np.packbits(found, axis=1, bitorder="little").view(np.uint64)
