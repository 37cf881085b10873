"""One operator's codes as rows of machine words in which counting unequal units is counting unequal bits.

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

Each plane is padded with zeros, in both rows alike, to whole 8-byte words. No code width therefore reaches the kernels
of faiss that are slow, or wrong, for bytes left over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
import torch

from maxaffine._codes.packed import PackedCodes
from maxaffine.errors import MaxAffineError

WORD = 8
# Words of one comparison of planes: with its results it stays in a second-level cache.
_BLOCK_WORDS = 1 << 16
# For fewer rows it is not worthwhile to lay out the others by columns.
_FEW = 8


@dataclass(frozen=True)
class RowLayout:
    """How the rows of one operator are laid out.

    Args:
        name: The operator.
        pieces: Affine pieces R of each unit.
        units: Shape of the operator's output for one input.
    """

    name: str
    pieces: int
    units: tuple[int, ...]

    @cached_property
    def unit_count(self) -> int:
        """Units K."""
        return prod(self.units)

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
        """Lay out packed codes of this operator.

        Args:
            codes: Of N inputs.

        Returns:
            (N, width) uint8.
        """
        packed = codes.packed.numpy()
        if self.pieces in (3, 4):
            joined = np.concatenate([packed, packed[:, :1] ^ packed[:, 1:]], axis=1)
            packed = joined.reshape(len(packed), 1, 3 * packed.shape[2])
        rows = np.zeros((len(packed), self.planes, self.width // max(1, self.planes)), dtype=np.uint8)
        if self.planes:
            rows[:, :, : packed.shape[2]] = packed
        return rows.reshape(len(packed), self.width)

    def unequal_units(self, a: np.ndarray, b: np.ndarray, faiss: Any | None) -> np.ndarray:
        """Count the units at which rows differ.

        Args:
            a: (Na, width) uint8, contiguous.
            b: (Nb, width) uint8, contiguous.
            faiss: The library, or None to count with numpy.

        Returns:
            (Na, Nb) int32.
        """
        if faiss is None or self.planes > 1:
            counts = _unequal(self._words(a), self._words(b))
        else:
            counts = np.empty((len(a), len(b)), dtype=np.int32)
            pointers = [faiss.swig_ptr(array) for array in (a, b, counts)]
            faiss.hammings(*pointers[:2], len(a), len(b), self.width, pointers[2])
        return counts if self.planes > 1 or self.scale == 1 else counts >> 1

    def _words(self, rows: np.ndarray) -> np.ndarray:
        return rows.view(np.uint64).reshape(len(rows), self.planes, self.width // (self.planes * WORD))


def load_faiss(purpose: str | None = None) -> Any | None:
    """Import faiss if it is installed.

    Args:
        purpose: What cannot be done without it; by default nothing, and its absence is not an error.

    Returns:
        The module, or None.

    Raises:
        MaxAffineError: If it is absent and needed.
    """
    if find_spec("faiss") is None:
        if purpose is not None:
            raise MaxAffineError(f"{purpose} needs faiss, which is absent; pip install 'maxaffine[search]'")
        return None
    import faiss

    return faiss


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (Na, Nb) int32 counts of the units that differ between (Na, planes, words) and (Nb, planes, words)."""
    counts = np.zeros((len(a), len(b)), dtype=np.int32)
    if len(a) < _FEW:
        step = max(1, _BLOCK_WORDS // max(1, b.shape[2]))
        for start in range(0, len(b), step):
            counts[:, start : start + step] = _few_unequal(a, b[start : start + step])
        return counts
    # Word after word over many pairs: numpy's loops are then long, and nothing is summed along a short axis.
    columns = np.ascontiguousarray(b.transpose(1, 2, 0))
    step = max(1, _BLOCK_WORDS // max(1, len(b)))
    for start in range(0, len(a), step):
        block, rows = counts[start : start + step], a[start : start + step]
        differs, more = np.empty(block.shape, np.uint64), np.empty(block.shape, np.uint64)
        for word in range(columns.shape[1]):
            np.bitwise_xor(rows[:, 0, word, None], columns[0, word], out=differs)
            for j in range(1, columns.shape[0]):
                np.bitwise_xor(rows[:, j, word, None], columns[j, word], out=more)
                np.bitwise_or(differs, more, out=differs)
            block += _popcount(differs)
    return counts


def _few_unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    differs = a[:, None, 0] ^ b[None, :, 0]
    for j in range(1, a.shape[1]):
        differs |= a[:, None, j] ^ b[None, :, j]
    # torch sums bytes along the last dimension several times faster than numpy where there are few of them.
    return torch.from_numpy(_popcount(differs)).sum(-1).numpy()


def _table_popcount(words: np.ndarray) -> np.ndarray:
    return _BYTE_COUNTS[words.view(np.uint8)].reshape(*words.shape, WORD).sum(-1, dtype=np.uint8)


_BYTE_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
# numpy 1 has no bitwise_count.
_popcount = getattr(np, "bitwise_count", _table_popcount)
