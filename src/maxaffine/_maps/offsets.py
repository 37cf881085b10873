"""The exact split of an affine map's offset over the operators that add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


class OffsetContributions(Mapping[str, Tensor]):
    """b[x] = sum over operators l of (what follows l at x) b_l, by operator name.

    Adding up all contributions gives the offsets b[x] exactly, up to rounding (Mad Max, Balestriero and Baraniuk
    2018, section 3.1).

    Args:
        parts: Operator name to its contribution (N, *out).
        zero: A zero of shape (N, *out), the sum where no operator has an offset.
    """

    def __init__(self, parts: dict[str, Tensor], zero: Tensor) -> None:
        self._parts = dict(parts)
        self._zero = zero

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def sum(self) -> Tensor:
        """The offsets b[x], (N, *out)."""
        total = self._zero.clone()
        for part in self._parts.values():
            total = total + part  # of another type where the output is true or false
        return total

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name}: mean |b| {part.abs().mean():.4g}" for name, part in self._parts.items())
        return f"OffsetContributions({len(self)} operators)\n{rows}"
