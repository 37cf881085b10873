"""Signs of many functions at many vertices, packed into bits: which edges and cells does a zero set cross?

An edge is crossed by few of hundreds of functions, and finding these pairs is where most of the time would go. A sign
is two bits, so one word holds 64 functions, and "opposite signs at the ends" is two ANDs and an OR over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from maxaffine._chunks import slices
from maxaffine._partition.planes.complex.cells import Complex

WORD = 64
CHUNK_WORDS = 2**20


@dataclass(frozen=True, eq=False)
class Signs:
    """The sign of M functions at V vertices."""

    above: np.ndarray  # (V, words) uint64, bit j of a row set where function j is positive
    below: np.ndarray  # the same where it is negative
    count: int  # functions M

    @classmethod
    def of(cls, table: np.ndarray) -> Signs:
        """The signs of a table (V, M)."""
        return cls(_pack(table > 0), _pack(table < 0), table.shape[1])

    def crossed_edges(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(edge, function) wherever a function has strictly opposite signs at the ends, sorted by edge."""

        def crossed(part: slice) -> tuple[np.ndarray, np.ndarray]:
            a, b = ends[part].T
            return _set_bits((self.above[a] & self.below[b]) | (self.below[a] & self.above[b]), part.start)

        # As many edges at once as leave their words in a cache.
        return _join(map(crossed, slices(len(ends), CHUNK_WORDS // max(1, self.above.shape[1]))))

    def touched_cells(self, cells: Complex) -> tuple[np.ndarray, np.ndarray]:
        """(cell, function) wherever a function has both signs and a zero at the corners of a cell, sorted by cell."""
        zero = ~(self.above | self.below)
        if self.count % WORD:  # bits beyond the last function are no zeros
            zero[:, -1] &= np.uint64((1 << self.count % WORD) - 1)
        # Zeros are rare: only the cells that have one at a corner are looked at.
        touching = np.flatnonzero(np.bitwise_or.reduce(zero, axis=1)[cells.corners])
        candidates = np.unique(cells.cell_of[touching])
        found = []
        for chosen in slices(len(candidates), CHUNK_WORDS // max(1, 8 * self.above.shape[1])):
            part, vertices, _ = cells.cells(candidates[chosen])
            rows = vertices[part.corners]
            any_of = [np.bitwise_or.reduceat(bits[rows], part.starts[:-1]) for bits in (self.above, self.below, zero)]
            cell, function = _set_bits(any_of[0] & any_of[1] & any_of[2], chosen.start)
            found.append((candidates[cell], function))
        return _join(found)


def _pack(mask: np.ndarray) -> np.ndarray:
    """Rows of bool as rows of words, the first function in the lowest bit."""
    rows, columns = mask.shape
    packed = np.zeros((rows, -(-columns // WORD) * 8), dtype=np.uint8)
    packed[:, : -(-columns // 8)] = np.packbits(mask, axis=1, bitorder="little")
    return packed.view(np.uint64)


def _set_bits(words: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(first + row, bit) of every set bit, row by row."""
    rows, columns = np.nonzero(words)  # only words that hold a bit are unpacked
    octets = words[rows, columns].view(np.uint8).reshape(-1, 8)
    which, bit = np.nonzero(np.unpackbits(octets, axis=1, bitorder="little"))
    return rows[which] + first, columns[which] * WORD + bit


def _join(found: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of arrays one after the other."""
    nothing = np.zeros(0, dtype=np.int64)
    first, second = zip((nothing, nothing), *found, strict=True)
    return np.concatenate(first), np.concatenate(second)
