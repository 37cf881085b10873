"""Convex cells that fill a box, by their corners and which of their sides meet there, cut by one function at a time.

Each cell is kept in double description: its corners, and for every corner the set of the cell's sides that it lies on,
as bits. Nothing else is needed to cut it (Motzkin, Raiffa, Thompson and Thrall 1953, "The double description method"):
the signs of a function at the corners say whether it is cut at all, and new corners lie on the edges whose ends differ.
Two corners span an edge exactly where no third lies on all the sides that both lie on. So no linear program is solved,
what happens is decided by signs alone, and all cells are cut at once, as flat arrays.

Corners are shared: a cell knows the numbers of its corners, and a new one on an edge is one for all cells around it. A
sign therefore holds for all of them, sides of neighbors have the very same corners, and rounding opens no gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import factorial

import numpy as np

from maxaffine._chunks import slices

WORD = 64
PAIRS_AT_ONCE = 2**21
CELLS_AT_ONCE = 2**11
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Cells:
    """Convex polytopes of one dimension with common corners."""

    size: int  # dimensions
    table: np.ndarray  # (V, size + ...) of every corner its place and the functions that will cut
    starts: np.ndarray  # (C + 1,) where each cell begins below
    corner: np.ndarray  # (I,) the corners of the first cell, then those of the second, ...
    tight: np.ndarray  # (I, words) the sides of its cell on which a corner lies, a bit each

    @classmethod
    def box(cls, low: np.ndarray, high: np.ndarray) -> Cells:
        """One cell, a box."""
        upper = np.array(list(product((False, True), repeat=len(low))))
        sides = np.concatenate([upper, ~upper], 1)
        tight = np.packbits(sides, axis=1, bitorder="little")
        tight = np.pad(tight, ((0, 0), (0, 8 - tight.shape[1]))).view(np.uint64)
        count = len(upper)
        return cls(len(low), np.where(upper, high, low), np.array([0, count]), np.arange(count), tight)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def places(self) -> np.ndarray:
        """(V, size) where the corners lie."""
        return self.table[:, : self.size]

    @property
    def counts(self) -> np.ndarray:
        """(C,) corners of every cell."""
        return np.diff(self.starts)

    @property
    def owner(self) -> np.ndarray:
        """(I,) the cell that each entry belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def middles(self) -> np.ndarray:
        """(C, size) the mean of the corners of every cell, inside it."""
        return np.add.reduceat(self.places[self.corner], self.starts[:-1], axis=0) / self.counts[:, None]

    def take(self, which: np.ndarray) -> Cells:
        """Some of the cells, a mask (C,)."""
        kept = np.repeat(which, self.counts)
        starts = np.append(0, np.cumsum(self.counts[which]))
        return replace(self, starts=starts, corner=self.corner[kept], tight=self.tight[kept])

    def joined(self, other: Cells) -> Cells:
        """These cells, then others that share the table, which is the other's."""
        words = max(self.tight.shape[1], other.tight.shape[1])
        tight = np.concatenate([widened(self.tight, words), widened(other.tight, words)])
        starts = np.concatenate([self.starts, self.starts[-1] + other.starts[1:]])
        return replace(other, starts=starts, corner=np.concatenate([self.corner, other.corner]), tight=tight)

    def torn(self) -> Cells:
        """The same cells with corners of their own."""
        return replace(self, table=self.table[self.corner], corner=np.arange(len(self.corner)))

    def pruned(self) -> Cells:
        """Without corners that no cell has."""
        used, corner = np.unique(self.corner, return_inverse=True)
        return replace(self, table=self.table[used], corner=corner)

    def sides(self) -> np.ndarray:
        """(C, bits) which bits are sides of every cell."""
        return bits(np.bitwise_or.reduceat(self.tight, self.starts[:-1], axis=0))


def bits(words: np.ndarray) -> np.ndarray:
    """(N, 64 words) booleans."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little").view(bool)


def widened(tight: np.ndarray, words: int) -> np.ndarray:
    """The same bits in more words."""
    return np.pad(tight, ((0, 0), (0, words - tight.shape[1])))


def single(numbers: np.ndarray, words: int) -> np.ndarray:
    """(N, words) with the bit of each number set."""
    found = np.zeros((len(numbers), words), dtype=np.uint64)
    found[np.arange(len(numbers)), numbers // WORD] = np.uint64(1) << (numbers % WORD).astype(np.uint64)
    return found


def grouped(owner: np.ndarray, count: int, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where each of the owners begins, (count + 1,), and arrays in the order of their owners."""
    order = np.argsort(owner, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(owner, minlength=count)))
    return starts, *(array[order] for array in arrays)


def cut(cells: Cells, value: np.ndarray, flat: float = 0.0) -> Cells:
    """Cells divided where a function (V,) is zero, exactly where it ties; none on which it stays within ``flat``."""
    at = value[cells.corner]
    high, low = (item.reduceat(at, cells.starts[:-1]) for item in (np.maximum, np.minimum))
    met = (high > 0) & (low < 0) & (np.maximum(high, -low) > flat)
    if not met.any():
        return cells
    part = cells.take(met)
    at, owner = value[part.corner], part.owner
    sign, above, below = settled(part.starts, part.tight, at, part.size - 1)
    table, fresh = crossings(cells.table, part.corner[above], part.corner[below], at[above], at[below])
    found = cells.take(~met)
    for side in (-1, 1):
        strict = sign == side
        # A side of the cell is one of its part exactly where a corner of it lies strictly on this side of the cut.
        kept = np.bitwise_or.reduceat(np.where(strict[:, None], part.tight, 0), part.starts[:-1], axis=0)
        kept, new = _with_free_bit(kept)
        old = strict | (sign == 0)
        tight = widened(part.tight[old], kept.shape[1]) & kept[owner[old]]
        tight |= np.where(strict[old, None], 0, new[owner[old]])
        shared = widened(part.tight[above] & part.tight[below], kept.shape[1])
        starts, corner, tight = grouped(
            np.concatenate([owner[old], owner[above]]),
            len(part),
            np.concatenate([part.corner[old], fresh]),
            np.concatenate([tight, shared & kept[owner[above]] | new[owner[above]]]),
        )
        found = found.joined(Cells(cells.size, table, starts, corner, tight))
    return found


def clipped(cells: Cells, normals: np.ndarray, bounds: np.ndarray) -> Cells:
    """The parts of cells within halfspaces, normals x <= bounds."""
    for normal, bound in zip(normals, bounds, strict=True):
        value = cells.places @ normal - bound
        value[np.abs(value) <= ROUNDING * (1 + np.abs(cells.places).max())] = 0
        cells = cut(cells, value)
        cells = cells.take(cells.middles @ normal < bound)
    return cells.pruned()


def _with_free_bit(kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sets of sides (C, words), with one more word where some are full, and a bit (C, words) that is free in each."""
    if (~kept == 0).all(1).any():
        kept = widened(kept, kept.shape[1] + 1)
    if kept.shape[1] == 1:
        return kept, ~kept & (kept + np.uint64(1))
    return kept, single(bits(~kept).argmax(1), kept.shape[1])


def settled(
    starts: np.ndarray,
    tight: np.ndarray,
    at: np.ndarray,
    least: int,
    needed: np.ndarray | None = None,
    ground: np.ndarray | bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs (I,) that a function can have at the corners of convex cells, and the edges that it crosses, downwards."""
    # Edges are those of `edges`, by entry, and one more leads upwards from every corner on the ground.
    # Where the zero set passes through a cell and one of its corners, the corner has neighbors on either side: the
    # edges from it span the cell as seen from there. A tie without is rounding, and the corner lies where they do.
    sign = np.sign(at).astype(np.int8)
    while True:
        above, below = edges(starts, tight, sign, least, needed)
        risen, fallen = np.zeros((2, len(sign)), dtype=bool)
        risen[below[sign[above] > 0]] = True
        fallen[above[sign[below] < 0]] = True
        risen |= ground
        loose = (sign == 0) & ~(risen & fallen)
        mixed = np.maximum.reduceat(sign, starts[:-1]) > np.minimum.reduceat(sign, starts[:-1])
        loose &= np.repeat(mixed, np.diff(starts))
        if not loose.any():
            crossing = (sign[above] > 0) & (sign[below] < 0)
            return sign, above[crossing], below[crossing]
        sign[loose] = np.where(fallen[loose] & ~risen[loose], -1, 1)


def edges(
    starts: np.ndarray, tight: np.ndarray, sign: np.ndarray, least: int, needed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of cells whose ends have different signs, by entry, the larger first."""
    # An edge lies on at least so many sides and, where some are needed (words,), on one of those.
    counts = np.diff(starts)
    mixed = np.maximum.reduceat(sign, starts[:-1]) > np.minimum.reduceat(sign, starts[:-1])
    work = np.cumsum(np.where(mixed, counts**2, 0))
    found = [np.zeros((2, 0), dtype=np.intp)]
    # Every entry with every entry of its cell, in blocks of cells.
    for part in np.split(np.flatnonzero(mixed), _steps(work[mixed])):
        if len(part):
            found.append(_edges(starts[part], counts[part], tight, sign, least, needed))
    above, below = np.concatenate(found, 1)
    return above, below


def _steps(work: np.ndarray) -> np.ndarray:
    """Where to split items of so much work, summed up, into blocks of about as much as is done at once."""
    return np.flatnonzero(np.diff(work // PAIRS_AT_ONCE)) + 1


def _edges(
    begins: np.ndarray, counts: np.ndarray, tight: np.ndarray, sign: np.ndarray, least: int, needed: np.ndarray | None
) -> np.ndarray:
    """The same of some cells, by where they begin and how many corners they have."""
    owner, entries = _against(np.arange(len(begins)), begins, counts)
    upper = sign[entries] >= 0  # only those may have the larger sign
    place, right = _against(np.flatnonzero(upper), begins[owner[upper]], counts[owner[upper]])
    left, owner = entries[place], owner[place]
    apart = sign[left] > sign[right]
    left, right, owner = left[apart], right[apart], owner[apart]
    shared = tight[left] & tight[right]
    likely = np.bitwise_count(shared).sum(1, dtype=np.int16) >= least
    if needed is not None:
        likely &= (shared & needed).any(1)
    left, right, owner, shared = left[likely], right[likely], owner[likely], shared[likely]
    # An edge has no third corner on all the sides that both ends lie on.
    pair, third = _against(np.arange(len(left)), begins[owner], counts[owner])
    common = shared[pair]
    inside = ((tight[third] & common) == common).all(1)
    alone = np.bincount(pair[inside], minlength=len(left)) == 2
    return np.stack([left[alone], right[alone]])


def _against(items: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each item with every number of its range, flat."""
    total = np.append(0, np.cumsum(counts))
    return np.repeat(items, counts), np.arange(total[-1]) - np.repeat(total[:-1] - begins, counts)


def crossings(
    table: np.ndarray, above: np.ndarray, below: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The table with a corner on every edge where a function, a > 0 > b at its ends, is zero; its number per edge."""
    first, last = np.minimum(above, below), np.maximum(above, below)
    _, places, fresh = np.unique(first * len(table) + last, return_index=True, return_inverse=True)
    # An edge of several cells has one new corner.
    above, below, a, b = above[places], below[places], a[places], b[places]
    with np.errstate(invalid="ignore"):
        share = np.where(a == b, 0.5, a / (a - b))[:, None]
    return np.concatenate([table, table[above] + share * (table[below] - table[above])]), len(table) + fresh


def facets(starts: np.ndarray, tight: np.ndarray) -> np.ndarray:
    """(faces, bits) which bits are sides of faces: those whose corners are not all among those of another."""
    # A face is given by its corners; of bits with the same corners the lowest counts.
    begins = starts[:-1]
    held = np.bitwise_or.reduceat(tight, begins, axis=0) & ~np.bitwise_and.reduceat(tight, begins, axis=0)
    found, on = bits(held), bits(tight)
    used = np.flatnonzero(found.any(0))
    # The bits that all the corners of a bit have.
    among = np.zeros((len(begins), found.shape[1], tight.shape[1]), dtype=np.uint64)
    for bit in used:
        among[:, bit] = np.bitwise_and.reduceat(np.where(on[:, bit, None], tight, ~np.uint64(0)), begins, axis=0) & held
    for bit in used:
        others = among[:, bit] & ~single(np.array([bit]), tight.shape[1])
        rows = np.flatnonzero(found[:, bit] & others.any(1))
        back = (among[rows, :, bit // WORD] >> np.uint64(bit % WORD) & np.uint64(1)).astype(bool)
        larger = bits(others[rows]) & (~back | (np.arange(found.shape[1]) < bit))
        found[rows, bit] = ~larger.any(1)
    return found


def parts(starts: np.ndarray, tight: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, ...]:
    """The wanted sides (faces, bits) as faces: their starts and entries, and the face and the bit of each."""
    number = np.cumsum(wanted.ravel()).reshape(wanted.shape) - 1
    owner = np.repeat(np.arange(len(wanted)), np.diff(starts))
    entry, bit = np.nonzero(bits(tight) & wanted[owner])
    starts, entry = grouped(number[owner[entry], bit], int(wanted.sum()), entry)
    return starts, entry, *np.nonzero(wanted)


def volumes(cells: Cells) -> np.ndarray:
    """(C,) the volume of each cell."""
    found = [np.zeros(0)]
    for block in slices(len(cells), CELLS_AT_ONCE):
        chosen = np.zeros(len(cells), dtype=bool)
        chosen[block] = True
        found.append(_volumes(cells.take(chosen)))
    return np.concatenate(found)


def _volumes(cells: Cells) -> np.ndarray:
    """The same of few, by simplices."""
    # A face is cut into pyramids with their tip in its first corner, over its sides without it, which again are cut.
    starts, entry, cell = cells.starts, np.arange(len(cells.corner)), np.arange(len(cells))
    tips = np.zeros((len(cells), 0), dtype=np.intp)
    for _ in range(cells.size - 1):
        tight = cells.tight[entry]
        tip = entry[starts[:-1]]
        wanted = facets(starts, tight) & ~bits(cells.tight[tip])
        starts, chosen, face, _ = parts(starts, tight, wanted)
        entry, cell, tips = entry[chosen], cell[face], np.column_stack([tips, tip])[face]
    simplices = cells.places[cells.corner[np.column_stack([tips, entry.reshape(-1, 2)])]]
    sizes = np.abs(np.linalg.det(simplices[:, 1:] - simplices[:, :1]))
    return np.bincount(cell, sizes, len(cells)) / factorial(cells.size)
