"""CodeIndex: the nearest inputs in code distance, exactly, or approximately with the recall that was measured."""

from collections.abc import Mapping, Sequence
from math import isqrt
from os import PathLike
from typing import Self

import numpy as np
import torch
from torch import Tensor

from maxaffine._codes import Codes, PackedCodes, RowMetric, layouts_of, load_faiss, operator_shares
from maxaffine._progress import progress_bar
from maxaffine._search.approximate import SAMPLE, Lists, Places, Recall, settle
from maxaffine._search.checks import Weights, integers, lay_out, new_ids, positive, require_rows, switching_weights
from maxaffine._search.files import read_index, write_index
from maxaffine._search.nearest import Neighbors, Part, nearest, never_switches
from maxaffine.errors import BadInput


class CodeIndex:
    """Nearest neighbors in code distance over many inputs.

    argmin_i d(q, x_i)  with d = `code_distance`, to the last bit and with ties by the lower id

    Without weights, d is the mean over the operators that switch on the rows. One that never does (`unswitched`) is
    equally far from a query in every row: it cannot change their order, and is left out of the mean.

    Rows are kept as bits in which faiss counts unequal units (1 bit per ReLU, 3 per 2 x 2 max-pooling, the bit planes
    above 4 pieces). Without faiss the same numbers are counted by numpy, several times slower. After `prepare`, which
    needs faiss, ``search(..., approximate=True)`` compares a few candidates in full only.

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
        self._layouts = layouts_of(codes)
        self._metadata = dict(codes.metadata)
        self._parts: list[Part] = []
        self._lists: Lists | None = None
        self._where: Places | None = None
        self._unswitched: tuple[str, ...] | None = None
        self.add(codes, ids)

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators, in the order of the codes."""
        return tuple(layout.name for layout in self._layouts)

    @property
    def unswitched(self) -> tuple[str, ...]:
        """Operators that never switch on the rows, so that they cannot say which is nearer; none for a single row."""
        if self._unswitched is None:
            found = [name for i, name in enumerate(self.operators) if never_switches(self._parts, i)]
            self._unswitched = tuple(found) if len(self) > 1 else ()
        return self._unswitched

    @property
    def ids(self) -> Tensor:
        """(N,) int64: the ids of all rows, in the order in which they were added."""
        kept = [part.ids if part.kept is None else part.ids[part.kept] for part in self._parts]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *kept]))

    @property
    def recall(self) -> Recall | None:
        """What `prepare` measured, None before it; rows added or removed since are not in it."""
        return None if self._lists is None else self._lists.recall

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free strings of the codes that the index began with, e.g. the network's fingerprint."""
        return dict(self._metadata)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, those on disk of a memory-mapped index included."""
        return sum(rows.nbytes for part in self._parts for rows in part.rows)

    def __len__(self) -> int:
        return sum(part.alive for part in self._parts)

    def __repr__(self) -> str:
        approximate = "" if self.recall is None else f", approximately: {self.recall}"
        return f"CodeIndex({len(self)} rows, operators {list(self.operators)}, {self.nbytes} bytes{approximate})"

    def add(self, codes: Codes, ids: Tensor | Sequence[int] | None = None) -> None:
        """Add rows.

        Args:
            codes: Codes of n inputs, of this index's operators and network.
            ids: (n,) int64, at least 0, all different and none of them in the index; by default they go on from the
                highest id so far.

        Raises:
            BadInput: If the codes are of other operators or of another network, or an id cannot be used.
        """
        rows = lay_out(codes, self._layouts, self._metadata, self.operators)
        new = part = Part(new_ids(ids, codes.batch, self.ids.numpy(), "index"), rows)
        # Small neighbors are joined, so that many small additions leave few parts and copy each row a few times only.
        while self._parts and self._parts[-1].kept is None and 0 < len(self._parts[-1]) <= len(part):
            part = self._parts.pop().join(part)
        if codes.batch:
            self._parts.append(part)
        # Last, so that no list names a row that is not there; and first in remove.
        self._where = self._unswitched = None
        if self._lists is not None:
            self._lists.add(new)

    def remove(self, ids: Tensor | Sequence[int]) -> int:
        """Remove rows.

        Args:
            ids: Their ids; those that the index does not hold are skipped.

        Returns:
            How many were removed.
        """
        wanted = integers(ids, "ids")
        before, parts = len(self), []
        for part in self._parts:
            gone = np.isin(part.ids, wanted)
            part = part.without(gone) if gone.any() else part
            # Half of it gone: make room. A part read from a file moves into memory then.
            if part.kept is not None and 2 * part.alive < len(part):
                part = part.compact()
            parts += [part] if part.alive else []
        if self._lists is not None:
            self._lists.remove(wanted)
        self._parts, self._where, self._unswitched = parts, None, None
        return before - len(self)

    def prepare(
        self,
        weights: Weights | None = None,
        *,
        k: int = 10,
        recall: float = 0.95,
        lists: int | None = None,
        probes: int | None = None,
        candidates: int | None = None,
        bits: int | None = None,
        queries: Codes | None = None,
        seed: int = 0,
        threads: int = 1,
        progress: bool | None = None,
    ) -> Recall:
        """Prepare approximate search by some weights, and measure how much of the exact result it finds.

        Each row is put into one of many lists of similar rows (faiss's `IndexBinaryIVF`), and a query looks into the
        nearest lists. By one operator of at most four pieces, faiss compares the rows as they are. Else it compares
        sketches, some of their bits, and the rows with the nearest sketches are compared in full. Rows added later go
        into the same lists; prepare again when they have changed much.

        Args:
            weights: As for `search`.
            k: Neighbors for which the recall is measured.
            recall: What to reach: probes and candidates that are not given are doubled until half of the queries do.
                The recall is measured on the other half.
            lists: How many lists; by default the square root of the number of rows.
            probes: Lists that a query looks into.
            candidates: Rows per query that faiss finds, at least the k of the search.
            bits: Bits of a sketch; by default all of one operator with up to 4,096, else 1,024.
            queries: Codes of at least two inputs to measure with, best of the kind that will be searched for; by
                default 256 of the rows, each of which does not find itself.
            seed: Of sketch, lists and sample: the same seed, rows and threads prepare the same search.
            threads: Threads that cluster and search.
            progress: As for `search`.

        Returns:
            The recall with its sample and confidence interval, kept as `recall` too.

        Raises:
            BadInput: If an argument is not valid, or there are too few rows or queries.
            MaxAffineError: If faiss is not installed.
        """
        numbers = {"k": k, "bits": bits, "lists": lists, "probes": probes, "candidates": candidates, "threads": threads}
        for name, value in numbers.items():
            if value is not None:
                positive(name, value)
        if not 0 < recall <= 1:
            raise BadInput(f"recall={recall!r}; give a fraction above 0 and at most 1")
        if not 0 <= seed < 2**31:
            raise BadInput(f"seed={seed}; give a whole number from 0 to 2^31 - 1")
        faiss = load_faiss("approximate search")
        (metric, _), count = self._metric(weights), len(self)
        if not metric.terms:
            raise BadInput("weights: no operator with a weight has codes, so all rows are at distance 0; give others")
        if max(k + (queries is None), lists or 1) > count or (queries is not None and queries.batch < 2):
            raise BadInput(
                f"k, lists or queries: the index holds {count} rows, too few for k={k} neighbors (and the query, where"
                f" the rows are the queries) or lists={lists}, or there are fewer than two queries; ask for fewer, or"
                " add more"
            )
        with progress_bar(progress, "preparing", unit="step", total=2) as bar:
            places = self._places()
            if queries is None:
                sample = places.rows(np.random.default_rng(seed).permutation(places.ids)[:SAMPLE], metric.terms)
            else:
                sample = self._query_rows(queries, metric)
            prepared = Lists.train(faiss, metric, places, lists or isqrt(count), bits, seed, threads, sample.ids)
            bar.update(1)
            measured = settle(prepared, metric, places, sample, k, recall, probes, candidates, threads, progress)
            bar.update(1)
        self._lists = prepared
        return measured

    def search(
        self,
        codes: Codes | PackedCodes,
        k: int,
        weights: Weights | None = None,
        *,
        approximate: bool = False,
        threads: int = 1,
        progress: bool | None = None,
    ) -> Neighbors:
        """Find the k nearest rows to each query.

        Args:
            codes: Codes of N queries, of at least the operators that have a weight; of an index of one operator also
                that operator's alone.
            k: How many to find, at most the number of rows.
            weights: w_l by operator name or in the index's order, as `code_distance` takes them; by default
                equal for all operators that switch on the rows (for all where none does). ``{"relu3": 1}`` searches by
                one operator.
            approximate: Compare the candidates alone, after `prepare` for the same weights: the distances are exact,
                but nearer rows may be missed; how often, `recall` says.
            threads: Threads that scan; numpy's and torch's own numbers of threads stay as they are.
            progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

        Returns:
            The neighbors, and which operators were left out. What a query shares with itself is found too: an index
            of the queries gives each back first.

        Raises:
            BadInput: If the codes are of other operators or another network, k or threads is no positive number, k is
                above the number of rows, the weights are not valid, or the index is not prepared for them.
        """
        metric, left_out = self._metric(weights)
        queries = self._query_rows(codes, metric)
        positive("threads", threads)
        require_rows(k, len(self), "index")
        if approximate:
            if self._lists is None or self._lists.shares != metric.shares:
                raise BadInput(
                    "approximate: the index is not prepared for these weights; call prepare(weights) first (and"
                    " again where rows that came or went changed which operators switch)"
                )
            # Whole rows need no second look, and so nobody has to know where they lie.
            places = None if self._lists.sketch.whole else self._places()
            ids, distances = self._lists.search(metric, places, queries, k, threads)
        else:
            ids, distances = nearest(metric, self._parts, queries, k, threads, progress)
        return Neighbors(torch.from_numpy(ids), torch.from_numpy(distances), left_out)

    def save(self, path: str | PathLike[str], *, progress: bool | None = None) -> None:
        """Write the index to a folder of .npy files, completely or not at all; removed rows are left out.

        Args:
            path: Ends in ``.codeindex``. The index that was there before is replaced once the new one is on disk.
            progress: As for `search`.
        """
        write_index(path, (self._layouts, self._parts, self._metadata, self._lists), progress)

    @classmethod
    def load(cls, path: str | PathLike[str], *, memory_map: bool = False) -> Self:
        """Read an index that `save` wrote.

        Args:
            path: The folder. One that is absent, damaged or written by something else is refused with DataError.
            memory_map: Leave the rows on disk and read them as they are searched: the index may be larger than memory.
                Its size is checked then, not its checksum, which would mean to read it all.

        Returns:
            The index, prepared as it was (without faiss for exact search alone). Rows added to a memory-mapped one are
            kept in memory, its files never change.
        """
        index = cls.__new__(cls)
        index._layouts, index._parts, index._metadata, index._lists = read_index(path, memory_map)
        index._where = index._unswitched = None
        return index

    def _metric(self, weights: Weights | None) -> tuple[RowMetric, tuple[str, ...]]:
        """The distance, and the operators that are left out of it."""
        weights, left_out = switching_weights(weights, self.operators, lambda: self.unswitched)
        shares = operator_shares(weights, list(self.operators))
        return RowMetric(self._layouts, tuple(shares.values()), load_faiss()), left_out

    def _places(self) -> Places:
        if self._where is None:
            self._where = Places(self._parts)
        return self._where

    def _query_rows(self, codes: Codes | PackedCodes, metric: RowMetric) -> Part:
        if isinstance(codes, PackedCodes):
            if len(self._layouts) != 1:
                raise BadInput(f"codes: of one operator, but the index holds {list(self.operators)}; give Codes")
            codes = Codes({self._layouts[0].name: codes}, metadata=self._metadata)
        # What has no weight may be absent from the queries.
        needed = [layout.name for layout, share in zip(self._layouts, metric.shares, strict=True) if share]
        return Part(np.full(codes.batch, -1), lay_out(codes, self._layouts, self._metadata, needed))
