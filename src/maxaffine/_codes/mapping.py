"""The codes of all the operators of a network for one batch of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from types import MappingProxyType

import torch

from maxaffine._codes.files import read, write
from maxaffine._codes.packed import PackedCodes, Rows, pack, require_same_batch, require_same_operators, select_rows
from maxaffine._drawing import Tabular
from maxaffine.errors import BadInput, NotPiecewiseAffine

# Where codes keep the fingerprint of the network that they come from, among their metadata.
FINGERPRINT = "fingerprint"
SMOOTH = "smooth"  # the first operator whose gate is held, of a network that has no regions


class Codes(Tabular, Mapping[str, PackedCodes]):
    """An immutable mapping from operator name to its packed codes q_l, all for the same batch.

    The codes of all the operators together name the region of input space that contains an input.

    Args:
        operators: Packed codes by operator name, in the network's order.
        batch: Number of inputs N; needed only where there is no operator to tell it.
        metadata: Free strings kept with the codes, e.g. a fingerprint of the network.

    Raises:
        BadInput: If operators hold different numbers of inputs, nothing tells that number, or a value has a wrong type.

    Example:
        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 1], [0, 1], [1, 1]]), 2)})
        >>> codes["relu"].unpack().tolist(), codes.region_ids().tolist()
        ([[0, 1], [0, 1], [1, 1]], [0, 0, 1])

    Source: the partition of the input space in Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep
    Learning" (arXiv 1805.06576).
    """

    def __init__(
        self,
        operators: Mapping[str, PackedCodes],
        batch: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Check that all the operators hold the same inputs."""
        for name, codes in operators.items():
            if not isinstance(name, str) or not isinstance(codes, PackedCodes):
                raise BadInput(f"operators: {name!r} is a {type(codes).__name__}; map names to PackedCodes, see pack")
        batches = {name: len(codes) for name, codes in operators.items()}
        sizes = set(batches.values()) | (set() if batch is None else {batch})
        if not sizes:
            raise BadInput("operators: there are none, so nothing tells the number of inputs; give batch=")
        if len(sizes) > 1:
            raise BadInput(
                f"operators: they differ in the number of inputs ({batches}, batch={batch}); give one batch's codes"
            )
        self._operators = dict(operators)
        self._batch = sizes.pop()
        self._metadata = _strings(metadata or {})

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, tuple[torch.Tensor, int]],
        batch: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Codes:
        """Pack plain tensors.

        Args:
            tensors: (codes of shape (N, *units), pieces) by operator name.
            batch: As in the constructor.
            metadata: As in the constructor.

        Returns:
            The packed codes.

        Raises:
            BadInput: If an operator's codes cannot be packed; names the operator.

        Example:
            >>> Codes.from_tensors({"pool": (torch.tensor([[3, 0, 8]]), 9)}).bits_per_sample
            12
        """
        operators = {}
        for name, (codes, pieces) in tensors.items():
            try:
                operators[name] = pack(codes, pieces)
            except BadInput as error:
                raise BadInput(f"operator {name!r}: {error}") from error
        return cls(operators, batch, metadata)

    @classmethod
    def concat(cls, parts: Sequence[Codes]) -> Codes:
        """Join the codes of several batches of the same network, row after row.

        Args:
            parts: At least one; metadata that they do not all share are dropped.

        Returns:
            Codes of all the inputs.

        Raises:
            BadInput: If there is none, or operators, units or pieces differ; names them.

        Example:
            >>> part = Codes.from_tensors({"relu": (torch.tensor([[0, 1]]), 2)})
            >>> Codes.concat([part, part]).batch
            2
        """
        if not parts:
            raise BadInput("parts: there are none; give the codes of at least one batch")
        first = parts[0]
        for position, part in enumerate(parts[1:], start=1):
            require_same_operators(first, part, f"parts[{position}]")
        operators = {
            name: PackedCodes(codes.pieces, codes.units, torch.cat([part[name].packed for part in parts]))
            for name, codes in first.items()
        }
        shared = set.intersection(*(set(part.metadata.items()) for part in parts))
        return cls(operators, sum(part.batch for part in parts), dict(shared))

    @property
    def batch(self) -> int:
        """Number of inputs N."""
        return self._batch

    @property
    def unswitched(self) -> tuple[str, ...]:
        """Operators that never switch on these inputs, so that they tell none of them apart; none for a single input.

        Example:
            >>> Codes.from_tensors({"a": (torch.tensor([[0], [1]]), 2), "b": (torch.tensor([[1], [1]]), 2)}).unswitched
            ('b',)
        """
        if self.batch < 2:
            return ()
        return tuple(name for name, codes in self.items() if bool((codes.packed == codes.packed[:1]).all()))

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free strings kept with the codes (read-only)."""
        return MappingProxyType(self._metadata)

    @property
    def nbytes(self) -> int:
        """Bytes that all the planes take."""
        return sum(codes.nbytes for codes in self.values())

    @property
    def bits_per_sample(self) -> int:
        """Bits of one input's codes over all the operators, without padding."""
        return sum(codes.bits_per_sample for codes in self.values())

    def rows(self, rows: Rows) -> Codes:
        """Codes of some inputs: an integer (kept as a batch of one), a slice, integers, or one bool per input."""
        # The rows are counted on their own, for codes may hold no operator at all.
        batch = select_rows(torch.empty(self.batch, 0), rows).shape[0]
        return Codes({name: codes[rows] for name, codes in self.items()}, batch, self._metadata)

    def region_ids(self, operators: str | Iterable[str] | None = None) -> torch.Tensor:
        """Number the regions that the inputs fall into: the same id exactly when all their codes agree.

        Whole codes are compared, not only their hashes, so ids never collide.

        Args:
            operators: Names of the operators that define the regions; all of them by default.

        Returns:
            (N,) int64, counted from 0 in order of first appearance.

        Raises:
            BadInput: If an operator is unknown.

        Example:
            >>> codes = Codes.from_tensors(
            ...     {"a": (torch.tensor([[1], [0], [1]]), 2), "b": (torch.tensor([[4], [4], [3]]), 5)}
            ... )
            >>> codes.region_ids(), codes.region_ids("a")
            (tensor([0, 1, 2]), tensor([0, 1, 0]))
        """
        self._require_regions()
        names = [operators] if isinstance(operators, str) else list(self if operators is None else operators)
        if unknown := [name for name in names if name not in self]:
            raise BadInput(f"operators: {unknown} are unknown; the codes have {list(self)}")
        ids = [0] * self.batch
        # Operator after operator: a region so far and the next operator's codes make one of the finer partition.
        for name in names:
            seen: dict[tuple[int, bytes], int] = {}
            planes = self[name].packed.numpy()
            ids = [seen.setdefault((region, row.tobytes()), len(seen)) for region, row in zip(ids, planes, strict=True)]
            if len(seen) == self.batch:
                break  # every input has a region of its own, which nothing can divide further
        return torch.tensor(ids, dtype=torch.int64)

    def same_region(self, other: Codes) -> torch.Tensor:
        """Say row by row whether both inputs share every code, that is, lie in the same region.

        Args:
            other: Codes of the same operators for as many inputs; anything else is refused with BadInput.

        Returns:
            (N,) bool.

        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 1], [1, 1]]), 2)})
        >>> codes.same_region(codes.rows([1, 1]))
        tensor([False,  True])
        """
        self._require_regions()
        require_same_operators(self, other, "other")
        require_same_batch(self.batch, other.batch)
        same = torch.ones(self.batch, dtype=torch.bool)
        for name, codes in self.items():
            same &= codes.same_region(other[name])
        return same

    def _require_regions(self) -> None:
        if SMOOTH in self._metadata:
            raise NotPiecewiseAffine(
                self._metadata[SMOOTH],
                "it is smooth, so equal codes do not mean the same affine map and there are no regions",
                "compare codes by their distance, ma.codes.code_distance",
            )

    def save(self, path: str | PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
        """Write the codes to a file, completely or not at all.

        Args:
            path: Ends in ``.safetensors`` or ``.npz``; anything else is refused with BadInput. Where the file cannot be
                written, DataError says why, and what was there before is untouched.
            metadata: Free strings to keep with them; by default those that the codes carry.
        """
        write(path, self._operators, self.batch, self._metadata if metadata is None else _strings(metadata))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Codes:
        """Read codes that `save` wrote.

        Args:
            path: Ends in ``.safetensors`` or ``.npz``. A file that is absent, damaged or written by something else is
                refused with DataError.

        Returns:
            The codes, equal to those saved, with their metadata.
        """
        return cls(*read(path))

    def __getitem__(self, name: str) -> PackedCodes:
        """Return the codes of one operator."""
        if name not in self._operators:
            raise KeyError(f"no operator {name!r}; the codes have {list(self)}; for inputs use rows({name!r})")
        return self._operators[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operators)

    def __len__(self) -> int:
        """Return the number of operators."""
        return len(self._operators)

    def __eq__(self, other: object) -> bool:
        """Return whether all the codes are equal, whatever the order of the operators and the metadata."""
        if not isinstance(other, Codes):
            return NotImplemented
        return self.batch == other.batch and self._operators == other._operators

    __hash__ = None  # type: ignore[assignment]

    def _title(self) -> str:
        bits, size = self.bits_per_sample, self.nbytes
        return f"Codes: {self.batch} inputs, {len(self)} operators, {bits} bits each, {size} bytes"

    def _table(self) -> list[tuple[str, ...]]:
        return [
            ("operator", "units", "pieces", "bytes/sample"),
            *((name, str(codes.units), str(codes.pieces), str(codes.bytes_per_sample)) for name, codes in self.items()),
        ]


def _strings(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise BadInput(f"metadata: {key!r} is {value!r}; give strings, e.g. str(...) or json.dumps(...)")
    return dict(metadata)
