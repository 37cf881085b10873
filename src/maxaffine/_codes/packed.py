"""One operator's codes as bit planes: plane j holds bit j of every unit's code, ceil(log2 R) bits a unit in all.

Whole bytes would be simpler, and entropy coding smaller, but planes have the property that every comparison needs: two
codes of a unit are equal exactly when the OR over the planes of their XOR is zero. Equality, region ids and distances
therefore work on whole machine words, 64 units at a time, for any number of pieces, and never unpack. A two-piece
operator, by far the most common, is one bit array, the layout that binary search indexes read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import torch

from maxaffine.errors import BadInput

Rows = SupportsIndex | slice | Sequence[int] | Sequence[bool] | np.ndarray | torch.Tensor

_CODE_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class PackedCodes:
    """The codes of one operator for a batch, as bit planes: q[n, k] = sum_j 2^j plane[n, j, k].

    Args:
        pieces: Affine pieces R of each unit.
        units: Shape of the operator's output for one input; K is the product.
        packed: uint8 on the CPU, (N, ceil(log2 R), ceil(K / 8)). Unit k, in row-major order of ``units``, is bit k % 8
            of byte k // 8; the bits past K are zero.

    Example:
        >>> codes = pack(torch.tensor([[0, 2, 1], [2, 2, 0]]), pieces=3)
        >>> codes.packed.shape, codes.nbytes
        (torch.Size([2, 2, 1]), 4)
        >>> codes[1].unpack()
        tensor([[2, 2, 0]], dtype=torch.uint8)

    Raises:
        BadInput: If the planes have another shape, dtype or device, a padding bit is set, or a code is not below R.

    Source: q_k is the place of the one in row k of the vector-quantization matrix Q(x) of Balestriero and Baraniuk,
    "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576).
    """

    pieces: int
    units: tuple[int, ...]
    packed: torch.Tensor

    def __post_init__(self) -> None:
        """Check the planes, their padding and range included."""
        _require_pieces(self.pieces)
        object.__setattr__(self, "units", tuple(int(size) for size in self.units))
        if any(size < 0 for size in self.units):
            raise BadInput(f"units={self.units} has a negative size; give the operator's output shape for one input")
        planes = self.packed
        if planes.dtype != torch.uint8 or planes.device.type != "cpu":
            raise BadInput(f"packed is {planes.dtype} on {planes.device}; give uint8 on the CPU, or use pack")
        shape = (self.bits, -(-self.unit_count // 8))
        if planes.dim() != 3 or tuple(planes.shape[1:]) != shape:
            raise BadInput(
                f"packed has shape {tuple(planes.shape)}, but {self.pieces} pieces and units {self.units} need"
                f" (N, {shape[0]}, {shape[1]}); use pack"
            )
        if flaw := _content_flaw(planes.numpy(), self.pieces, self.unit_count):
            raise BadInput(f"packed {flaw}; the planes are damaged or another operator's, compute the codes again")

    @property
    def bits(self) -> int:
        """Bits per unit, ceil(log2 R)."""
        return (self.pieces - 1).bit_length()

    @property
    def unit_count(self) -> int:
        """Units K of the operator."""
        return math.prod(self.units)

    @property
    def nbytes(self) -> int:
        """Bytes that the planes take, all rows together."""
        return self.packed.numel()

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one input's planes, with padding."""
        return self.packed.shape[1] * self.packed.shape[2]

    @property
    def bits_per_sample(self) -> int:
        """Bits of one input's codes, K ceil(log2 R), without padding."""
        return self.unit_count * self.bits

    def unpack(self) -> torch.Tensor:
        """Return the codes as integers.

        Returns:
            (N, *units), uint8 up to 256 pieces, int32 up to 2^31, int64 beyond.
        """
        codes = torch.zeros(len(self), self.unit_count, dtype=_code_dtype(self.pieces))
        for j in range(self.bits):
            plane = np.unpackbits(self.packed[:, j].numpy(), axis=-1, count=self.unit_count, bitorder="little")
            codes |= torch.from_numpy(plane).to(codes.dtype) << j
        return codes.reshape(len(self), *self.units)

    def same_region(self, other: PackedCodes) -> torch.Tensor:
        """(N,) bool: row by row, whether codes of the same operator for as many inputs agree at every unit."""
        require_same_operators({"codes": self}, {"codes": other}, "other")
        require_same_batch(len(self), len(other))
        return (self.packed == other.packed).flatten(1).all(1)

    def __len__(self) -> int:
        return self.packed.shape[0]

    def __getitem__(self, rows: Rows) -> PackedCodes:
        """Return the codes of chosen inputs; one integer gives a batch of one."""
        return PackedCodes(self.pieces, self.units, select_rows(self.packed, rows))

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same codes of the same units and pieces."""
        if not isinstance(other, PackedCodes):
            return NotImplemented
        return (self.pieces, self.units) == (other.pieces, other.units) and torch.equal(self.packed, other.packed)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedCodes(batch={len(self)}, units={self.units}, pieces={self.pieces}, bits={self.bits})"


def pack(codes: torch.Tensor, pieces: int) -> PackedCodes:
    """Pack codes (N, *units), bool or integers below ``pieces``, on any device, into ceil(log2 R) bits a unit."""
    _require_pieces(pieces)
    if codes.dtype not in _CODE_DTYPES:
        raise BadInput(f"codes are {codes.dtype}; give bool or integers, the winning piece of each unit")
    if codes.dim() == 0:
        raise BadInput("codes are a single number; give (N, *units), a row per input")
    if codes.numel() and not (codes.dtype == torch.bool and pieces >= 2):
        low, high = (int(extreme) for extreme in torch.aminmax(codes))
        if low < 0 or high >= pieces:
            raise BadInput(f"codes run from {low} to {high}, but {pieces} pieces allow 0 to {pieces - 1}; check pieces")
    batch, *units = codes.shape
    # Narrow to bytes before moving and reordering: both cost in proportion to the width.
    narrow = (codes.view(torch.uint8) if codes.dtype == torch.bool else codes).to(_code_dtype(pieces))
    flat = narrow.cpu().reshape(batch, math.prod(units)).numpy()
    bits = (pieces - 1).bit_length()
    planes = np.empty((batch, bits, -(-flat.shape[1] // 8)), dtype=np.uint8)
    for j in range(bits):
        # packbits takes anything but 0 for a one; two pieces need no mask.
        plane = flat if pieces == 2 else flat & (1 << j)
        planes[:, j] = np.packbits(plane, axis=-1, bitorder="little")
    return PackedCodes(pieces, tuple(units), torch.from_numpy(planes))


def select_rows(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Select rows of a tensor (N, ...) and keep the batch dimension, also for one integer."""
    batch = tensor.shape[0]
    if isinstance(rows, slice):
        # torch slices forwards only.
        return tensor[list(range(batch)[rows])] if (rows.step or 1) < 0 else tensor[rows]
    index = rows if isinstance(rows, torch.Tensor) else torch.tensor(rows)
    if index.numel() == 0 and not isinstance(rows, np.ndarray | torch.Tensor):
        index = index.long()
    if index.dim() > 1 or index.dtype not in _CODE_DTYPES:
        raise BadInput(f"rows is {index.dtype} of shape {tuple(index.shape)}; give integers, a slice or a bool mask")
    if index.dtype == torch.bool:
        if index.shape != (batch,):
            raise BadInput(f"rows is a mask of length {index.numel()} for {batch} rows; give one bool per row")
        return tensor[index.cpu()]
    index = index.long().cpu().reshape(-1)
    outside = index[(index < -batch) | (index >= batch)]
    if outside.numel():
        # By Python's own protocol, so that iteration ends.
        raise IndexError(f"row {int(outside[0])} of {batch}; rows run from 0 to {batch - 1}")
    return tensor[index]


def require_same_operators(a: Mapping[str, PackedCodes], b: Mapping[str, PackedCodes], argument: str) -> None:
    """Refuse codes ``b``, given as an argument of that name, of other operators, units or pieces than ``a``."""
    names = [*a, *(name for name in b if name not in a)]
    layouts = [(name, _layout(a.get(name)), _layout(b.get(name))) for name in names]
    differing = [f"{name!r}: {there} instead of {here}" for name, here, there in layouts if here != there]
    if differing:
        raise BadInput(f"{argument} holds other operators ({'; '.join(differing)}); take both from the same network")


def require_same_batch(batch: int, other: int) -> None:
    """Refuse a row-by-row comparison of batches of different sizes."""
    if batch != other:
        raise BadInput(f"other has {other} rows, but there are {batch} here; give codes of as many inputs, row by row")


def _layout(codes: PackedCodes | None) -> str:
    return "absent" if codes is None else f"units {codes.units}, {codes.pieces} pieces"


def _require_pieces(pieces: int) -> None:
    if isinstance(pieces, bool) or not isinstance(pieces, int) or not 1 <= pieces <= 2**63:
        raise BadInput(f"pieces={pieces!r}; give the number of affine pieces of a unit, an integer from 1 to 2^63")


def _code_dtype(pieces: int) -> torch.dtype:
    if pieces <= 2**8:
        return torch.uint8
    return torch.int32 if pieces <= 2**31 else torch.int64


def _content_flaw(planes: np.ndarray, pieces: int, unit_count: int) -> str:
    """Return what is wrong with the planes (a padding bit set, a code not below ``pieces``), or nothing."""
    if unit_count % 8 and np.any(planes[..., -1] >> (unit_count % 8)):
        return f"has bits set past its {unit_count} units"
    bits = planes.shape[1]
    if pieces == 1 << bits:
        return ""
    # Compare all units with pieces - 1 at once, from the highest plane down: a code is above it from the first plane on
    # where it has a one and pieces - 1 has none, and stays tied as long as both have the same bits.
    above = np.zeros_like(planes[:, 0])
    tied = ~above
    for j in reversed(range(bits)):
        if (pieces - 1) >> j & 1:
            tied &= planes[:, j]
        else:
            above |= tied & planes[:, j]
            tied &= ~planes[:, j]
    return f"holds codes above {pieces - 1}" if np.any(above) else ""
