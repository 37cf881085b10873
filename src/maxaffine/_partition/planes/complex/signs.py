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

    words: np.ndarray  # (2, V, words) uint64, bit j of a row set where function j is positive; where it is negative
    count: int  # functions M

    @classmethod
    def of(cls, table: np.ndarray) -> Signs:
        """The signs of a table (V, M)."""
        rows, columns = table.shape
        words = -(-columns // WORD)
        mask = np.zeros((2, rows, words * WORD), dtype=bool)  # whole words, so that all rows are packed as one
        np.greater(table, 0, out=mask[0, :, :columns])
        np.less(table, 0, out=mask[1, :, :columns])
        return cls(np.packbits(mask, bitorder="little").view(np.uint64).reshape(2, rows, words), columns)

    def crossed_edges(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(edge, function) wherever a function has strictly opposite signs at the ends, sorted by edge."""

        def crossed(part: slice) -> tuple[np.ndarray, np.ndarray]:
            (a, b), (c, d) = self.words.take(ends[part].T, 1)  # positive at either end, negative at either
            return _set_bits((a & d) | (b & c), part.start)

        # As many edges at once as leave their words in a cache.
        return _join(map(crossed, slices(len(ends), CHUNK_WORDS // max(1, self.words.shape[2]))))

    def touched_cells(self, cells: Complex) -> tuple[np.ndarray, np.ndarray]:
        """(cell, function) wherever a function has both signs and a zero at the corners of a cell, sorted by cell."""
        above, below = self.words
        zero = ~(above | below)
        if self.count % WORD:  # bits beyond the last function are no zeros
            zero[:, -1] &= np.uint64((1 << self.count % WORD) - 1)
        # Zeros are rare: only the cells that have one at a corner are looked at.
        touching = np.flatnonzero(np.bitwise_or.reduce(zero, axis=1)[cells.corners])
        candidates = np.unique(cells.cell_of[touching])
        found = []
        for chosen in slices(len(candidates), CHUNK_WORDS // max(1, 8 * above.shape[1])):
            part, vertices, _ = cells.cells(candidates[chosen])
            rows = vertices[part.corners]
            any_of = [np.bitwise_or.reduceat(bits[rows], part.starts[:-1]) for bits in (above, below, zero)]
            cell, function = _set_bits(any_of[0] & any_of[1] & any_of[2], chosen.start)
            found.append((candidates[cell], function))
        return _join(found)


def _set_bits(words: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(first + row, bit) of every set bit, row by row."""
    (place,) = words.reshape(-1).nonzero()  # only words that hold a bit are unpacked
    octets = words.reshape(-1).take(place).view(np.uint8)
    (bits,) = np.unpackbits(octets, bitorder="little").view(bool).nonzero()
    row, column = np.divmod(place, max(1, words.shape[1]))
    which = bits // WORD
    return (row + first).take(which), (column * WORD).take(which) + bits % WORD


def _join(found: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of arrays one after the other."""
    nothing = np.zeros(0, dtype=np.int64)
    pairs = list(found) or [(nothing, nothing)]
    if len(pairs) == 1:
        return pairs[0]
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)
