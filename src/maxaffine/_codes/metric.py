"""The code distance between rows of machine words, in which counting unequal units is counting unequal bits.

Binary search libraries count unequal *bits* (Hamming distance), the code distance counts unequal *units*. On the bit
planes of `PackedCodes` the two agree for two pieces only: the codes 0 and 3 of one unit differ in two bits, 0 and 1 in
one.

| pieces R | bits of a row per unit | unequal units m |
| --- | --- | --- |
| 2 | its bit plane p0 | m = unequal bits |
| 3, 4 | p0, p1 and p0 xor p1: 000, 101, 011, 110, any two of which differ in two bits | m = unequal bits / 2 |
| 5 and more | its ceil(log2 R) planes, side by side | m = set bits of (a0 xor b0) or (a1 xor b1) or ... |

R words at equal Hamming distance need at least R - 1 bits each, so from five pieces on such an embedding (one bit per
piece, say) would be longer than the planes, up to R / log2 R times: there the planes are compared as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
import torch

from maxaffine._chunks import slices
from maxaffine._codes.packed import PackedCodes
from maxaffine.errors import MaxAffineError

WORD = 8
# Words of one comparison of planes: with its results it stays in a second-level cache.
_BLOCK_WORDS = 1 << 16
# For fewer rows it is not worthwhile to lay out the others by columns.
_FEW = 8


@dataclass(frozen=True)
class RowLayout:
    """How the rows of one operator, with so many pieces and units, are laid out."""

    name: str
    pieces: int
    units: tuple[int, ...]

    @cached_property
    def unit_count(self) -> int:
        """Units K."""
        return prod(self.units)

    @property
    def packed_shape(self) -> tuple[int, int]:
        """Bit planes of one input in `PackedCodes.packed`, and bytes of one of them."""
        return (self.pieces - 1).bit_length(), -(-self.unit_count // 8)

    @property
    def packed_width(self) -> int:
        """Bytes of one input there."""
        return prod(self.packed_shape)

    @cached_property
    def planes(self) -> int:
        """Bit planes that are compared as such; 1 where counting bits is enough, 0 for an operator without codes."""
        if self.pieces == 1 or self.unit_count == 0:
            return 0
        return 1 if self.pieces <= 4 else (self.pieces - 1).bit_length()

    @cached_property
    def scale(self) -> int:
        """Unequal bits per unequal unit, where counting bits is enough."""
        return 1 if self.pieces <= 2 else 2

    @cached_property
    def width(self) -> int:
        """Bytes of one row, a multiple of 8."""
        # Each plane is padded with zeros, in both rows alike, to whole words: no width then reaches the kernels of
        # faiss that are slow, or wrong, for bytes left over.
        plane = -(-self.unit_count // 8) * (3 if self.pieces in (3, 4) else 1)
        return self.planes * -(-plane // WORD) * WORD

    def bit_places(self) -> np.ndarray:
        """The bits of a row that are not padding, ascending: (bits,) int64; bit j of byte i is 8 i + j."""
        if self.pieces in (3, 4):
            planes, step = 3, -(-self.unit_count // 8)
        else:
            planes, step = self.planes, self.width // max(1, self.planes)
        starts = 8 * step * np.arange(planes if self.planes else 0)
        return (starts[:, None] + np.arange(self.unit_count)).reshape(-1)

    def rows(self, codes: PackedCodes) -> np.ndarray:
        """Lay out packed codes of N inputs: (N, width) uint8."""
        packed = codes.packed.numpy()
        if self.pieces in (3, 4):
            joined = np.concatenate([packed, packed[:, :1] ^ packed[:, 1:]], axis=1)
            packed = joined.reshape(len(packed), 1, 3 * packed.shape[2])
        rows = np.zeros((len(packed), self.planes, self.width // max(1, self.planes)), dtype=np.uint8)
        if self.planes:
            rows[:, :, : packed.shape[2]] = packed
        return rows.reshape(len(packed), self.width)

    def unequal_units(self, a: np.ndarray, b: np.ndarray, faiss: Any | None) -> np.ndarray:
        """Count the units at which contiguous rows (Na, width) and (Nb, width) differ: (Na, Nb) int32."""
        if faiss is None or self.planes > 1:
            counts = _unequal(self._words(a), self._words(b))
        else:
            counts = np.empty((len(a), len(b)), dtype=np.int32)
            pointers = [faiss.swig_ptr(array) for array in (a, b, counts)]
            faiss.hammings(*pointers[:2], len(a), len(b), self.width, pointers[2])
        return counts if self.planes > 1 or self.scale == 1 else counts >> 1

    def _words(self, rows: np.ndarray) -> np.ndarray:
        return rows.view(np.uint64).reshape(len(rows), self.planes, self.width // (self.planes * WORD))


def layouts_of(codes: Mapping[str, PackedCodes]) -> tuple[RowLayout, ...]:
    """How the rows of each operator of some codes are laid out."""
    return tuple(RowLayout(name, item.pieces, item.units) for name, item in codes.items())


@dataclass(frozen=True)
class RowMetric:
    """The code distance between rows of all operators: their layouts, w_l / max w of each, and faiss where it is there.

    d = sum_l share_l m_l / K_l / norm, with the integer count m_l of unequal units
    """

    layouts: tuple[RowLayout, ...]
    shares: tuple[float, ...]
    faiss: Any | None

    @cached_property
    def terms(self) -> list[int]:
        """Positions of the operators that can add to the distance."""
        return [i for i, share in enumerate(self.shares) if share and self.layouts[i].planes]

    @cached_property
    def width(self) -> int:
        """Bytes of one row that are read."""
        return sum(self.layouts[i].width for i in self.terms)

    @cached_property
    def _norm(self) -> float:
        # In the order of the terms, so that no rounding lifts a mean above 1; sum of Python 3.12 rounds otherwise.
        norm = 0.0
        for i in self.terms:
            norm += self.shares[i]
        return norm or 1.0

    def keys(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Compare rows (Na, width) and (Nb, width) of every operator: (Na, Nb), in the order of the distances."""
        # Of one operator the whole numbers of unequal units are compared: they sort faster than their quotients.
        if len(self.terms) == 1:
            return self._unequal(self.terms[0], a, b)
        # In float64 and in the operators' order, whoever compares, so that a distance is the same number to the last
        # bit everywhere: the k smallest are exact, and so are their ties.
        total = np.zeros((len(a[0]), len(b[0])) if a else (0, 0))
        for i in self.terms:
            part = self._unequal(i, a, b) / self.layouts[i].unit_count
            if self.shares[i] != 1:
                part *= self.shares[i]
            total += part
        if self._norm != 1:
            total /= self._norm
        return total

    def distances(self, keys: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn keys of any shape into distances, float64."""
        if len(self.terms) != 1:
            return np.positive(keys, out=out)
        found = np.divide(keys, self.layouts[self.terms[0]].unit_count, out=out)
        if self._norm != 1:
            # Rounded as a sum over several operators would be.
            found *= self._norm
            found /= self._norm
        return found

    def _unequal(self, i: int, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        return self.layouts[i].unequal_units(a[i], b[i], self.faiss)


def load_faiss(purpose: str | None = None) -> Any | None:
    """Import faiss if it is installed, else None; an error where there is a purpose that cannot do without it."""
    if find_spec("faiss") is None:
        if purpose is not None:
            raise MaxAffineError(f"{purpose} needs faiss, which is absent; pip install 'maxaffine[search]'")
        return None
    import faiss

    return faiss


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the units that differ between words (Na, planes, words) and (Nb, planes, words): (Na, Nb) int32."""
    counts = np.zeros((len(a), len(b)), dtype=np.int32)
    if len(a) < _FEW:
        for run in slices(len(b), _BLOCK_WORDS // max(1, b.shape[2])):
            differs = a[:, None, 0] ^ b[None, run, 0]
            for j in range(1, a.shape[1]):
                differs |= a[:, None, j] ^ b[None, run, j]
            # torch sums bytes along the last dimension several times faster than numpy where there are few of them.
            counts[:, run] = torch.from_numpy(_popcount(differs)).sum(-1).numpy()
        return counts
    # Word after word over many pairs: numpy's loops are then long, and nothing is summed along a short axis.
    columns = np.ascontiguousarray(b.transpose(1, 2, 0))
    for run in slices(len(a), _BLOCK_WORDS // max(1, len(b))):
        differs, more = (np.empty(counts[run].shape, np.uint64) for _ in range(2))
        for word in range(columns.shape[1]):
            np.bitwise_xor(a[run, 0, word, None], columns[0, word], out=differs)
            for j in range(1, columns.shape[0]):
                np.bitwise_xor(a[run, j, word, None], columns[j, word], out=more)
                np.bitwise_or(differs, more, out=differs)
            counts[run] += _popcount(differs)
    return counts


def _table_popcount(words: np.ndarray) -> np.ndarray:
    return _BYTE_COUNTS[words.view(np.uint8)].reshape(*words.shape, WORD).sum(-1, dtype=np.uint8)


_BYTE_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
# numpy 1 has no bitwise_count.
_popcount = getattr(np, "bitwise_count", _table_popcount)
