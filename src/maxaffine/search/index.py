"""CodeIndex: the nearest inputs in code distance, exactly, or approximately with the recall that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Self

import numpy as np
import torch
from torch import Tensor

from maxaffine.codes import Codes, PackedCodes, RowLayout, load_faiss, operator_shares
from maxaffine.errors import BadInput
from maxaffine.search.checks import as_ids, integers, positive, same_network
from maxaffine.search.files import read_index, write_index
from maxaffine.search.nearest import Metric, Part, nearest

Weights = Mapping[str, float] | Sequence[float]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest rows of an index to each of N queries, nearest first, ties by the lower id.

    Args:
        ids: (N, k) int64.
        distances: (N, k) float64, the code distance.
    """

    ids: Tensor
    distances: Tensor


class CodeIndex:
    """Nearest neighbours in code distance over many inputs.

    argmin_i d(q, x_i)  with d = `maxaffine.code_distance`, to the last bit and with ties by the lower id

    Rows are kept as bits in which faiss counts unequal units (1 bit per ReLU, 3 per 2 x 2 max-pooling, the bit planes
    above 4 pieces). Without faiss the same numbers are counted by numpy, several times slower.

    Args:
        codes: What to begin with; it settles which operators the index holds.
        ids: (N,) int64, at least 0 and all different; by default 0 to N - 1.

    Raises:
        BadInput: As `add` does.

    Example:
        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 0, 1], [1, 1, 1], [0, 1, 1]]), 2)})
        >>> found = CodeIndex(codes).search(codes.rows(0), k=2)
        >>> found.ids, found.distances
        (tensor([[0, 2]]), tensor([[0.0000, 0.3333]], dtype=torch.float64))

    Source: the distance between partition encodings of Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into
    Deep Learning" (arXiv 1805.06576), section on the partition of the input space.
    """

    def __init__(self, codes: Codes, ids: Tensor | Sequence[int] | None = None) -> None:
        self._layouts = tuple(RowLayout(name, item.pieces, item.units) for name, item in codes.items())
        self._metadata = dict(codes.metadata)
        self._parts: list[Part] = []
        self.add(codes, ids)

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators, in the order of the codes."""
        return tuple(layout.name for layout in self._layouts)

    @property
    def ids(self) -> Tensor:
        """(N,) int64: the ids of all rows, in the order in which they were added."""
        kept = [part.ids if part.kept is None else part.ids[part.kept] for part in self._parts]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *kept]))

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free strings of the codes that the index began with, e.g. the network's fingerprint."""
        return dict(self._metadata)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, those on disk of a memory-mapped index included."""
        return sum(rows.nbytes for part in self._parts for rows in part.rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(part.alive for part in self._parts)

    def __repr__(self) -> str:
        """Return the sizes."""
        return f"CodeIndex({len(self)} rows, operators {list(self.operators)}, {self.nbytes} bytes)"

    def add(self, codes: Codes, ids: Tensor | Sequence[int] | None = None) -> None:
        """Add rows.

        Args:
            codes: Codes of n inputs, of this index's operators and network.
            ids: (n,) int64, at least 0, all different and none of them in the index; by default they go on from the
                highest id so far.

        Raises:
            BadInput: If the codes are of other operators or of another network, or an id cannot be used.
        """
        rows = self._rows(codes, self.operators, "codes")
        present = self.ids.numpy()
        first = int(present.max(initial=-1)) + 1
        given = np.arange(first, first + codes.batch) if ids is None else as_ids(ids, codes.batch)
        if taken := np.intersect1d(given, present)[:5].tolist():
            raise BadInput(f"ids: {taken} are in the index already; remove them first, or give new ids")
        part = Part(given, rows)
        # Small neighbours are joined, so that many small additions leave few parts and copy each row a few times only.
        while self._parts and self._parts[-1].kept is None and 0 < len(self._parts[-1]) <= len(part):
            part = _joined(self._parts.pop(), part)
        if codes.batch:
            self._parts.append(part)

    def remove(self, ids: Tensor | Sequence[int]) -> int:
        """Remove rows.

        Args:
            ids: Their ids; those that the index does not hold are skipped.

        Returns:
            How many were removed.
        """
        wanted = integers(ids)
        before, parts = len(self), []
        for part in self._parts:
            gone = np.isin(part.ids, wanted)
            part = part.without(gone) if gone.any() else part
            # Half of it gone: make room. A part read from a file moves into memory then.
            if part.kept is not None and 2 * part.alive < len(part):
                part = part.chosen(np.flatnonzero(part.kept))
            parts += [part] if part.alive else []
        self._parts = parts
        return before - len(self)

    def search(
        self,
        codes: Codes | PackedCodes,
        k: int,
        weights: Weights | None = None,
        *,
        threads: int = 1,
        progress: bool | None = None,
    ) -> Neighbors:
        """Find the k nearest rows to each query.

        Args:
            codes: Codes of N queries, of at least the operators that have a weight; of an index of one operator also
                that operator's alone.
            k: How many to find, at most the number of rows.
            weights: w_l by operator name or in the index's order, as `maxaffine.code_distance` takes them; equal by
                default. ``{"relu3": 1}`` searches by one operator.
            threads: Threads that scan; numpy's and torch's own numbers of threads stay as they are.
            progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

        Returns:
            The neighbours. What a query shares with itself is found too: an index of the queries gives each back first.

        Raises:
            BadInput: If the codes are of other operators or another network, k or threads is no positive number, k is
                above the number of rows, or the weights are not valid.
        """
        shares = operator_shares(weights, list(self.operators))
        queries = self._queries(codes, [name for name, share in shares.items() if share])
        positive("threads", threads)
        if positive("k", k) > len(self):
            raise BadInput(f"k={k}, but the index holds {len(self)} rows; ask for fewer, or add more")
        metric = Metric(self._layouts, tuple(shares.values()), load_faiss())
        ids, distances = nearest(metric, self._parts, queries, k, threads, progress)
        return Neighbors(torch.from_numpy(ids), torch.from_numpy(distances))

    def save(self, path: str | PathLike[str], *, progress: bool | None = None) -> None:
        """Write the index to one file, completely or not at all; removed rows are left out.

        Args:
            path: Ends in ``.codeindex``. What was there before is replaced only once the new file is on disk.
            progress: As for `search`.
        """
        write_index(path, self._layouts, self._parts, self._metadata, progress)

    @classmethod
    def load(cls, path: str | PathLike[str], *, memory_map: bool = False) -> Self:
        """Read an index that `save` wrote.

        Args:
            path: The file. One that is absent, damaged or written by something else is refused with DataError.
            memory_map: Leave the rows on disk and read them as they are searched: the index may be larger than memory.
                Its size is checked then, not its checksum, which would mean to read it all.

        Returns:
            The index. Rows added to a memory-mapped one are kept in memory, its file never changes.
        """
        layouts, part, metadata = read_index(path, memory_map)
        index = cls.__new__(cls)
        index._layouts, index._metadata = layouts, metadata
        index._parts = [part] if len(part) else []
        return index

    def _queries(self, codes: Codes | PackedCodes, needed: Sequence[str]) -> Part:
        if isinstance(codes, PackedCodes):
            if len(self.operators) != 1:
                raise BadInput(f"codes are of one operator, but the index holds {list(self.operators)}; give Codes")
            codes = Codes({self.operators[0]: codes}, metadata=self._metadata)
        return Part(np.zeros(codes.batch, dtype=np.int64), self._rows(codes, needed, "codes"))

    def _rows(self, codes: Codes, needed: Sequence[str], argument: str) -> tuple[np.ndarray, ...]:
        """Lay out codes after checking them; an operator that is not needed gets no rows."""
        same_network(self._metadata, codes.metadata, argument)
        names = [layout.name for layout in self._layouts if layout.name in needed]
        for layout in self._layouts:
            if layout.name not in needed:
                continue
            if layout.name not in codes:
                raise BadInput(f"{argument}: operator {layout.name!r} is absent; the index needs {names}")
            found = codes[layout.name]
            if (found.pieces, found.units) != (layout.pieces, layout.units):
                raise BadInput(
                    f"{argument}: operator {layout.name!r} has units {found.units} and {found.pieces} pieces, in the"
                    f" index units {layout.units} and {layout.pieces}; take both from the same network"
                )
        return tuple(
            layout.rows(codes[layout.name]) if layout.name in needed else np.empty((codes.batch, 0), np.uint8)
            for layout in self._layouts
        )


def _joined(a: Part, b: Part) -> Part:
    rows = tuple(np.concatenate(pair) for pair in zip(a.rows, b.rows, strict=True))
    return replace(a, ids=np.concatenate([a.ids, b.ids]), rows=rows)
