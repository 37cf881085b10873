"""A few bits of every row, in lists of similar ones: where an approximate search looks for candidates.

A *sketch* of a row is some of its bits, drawn so that an operator has as many as its weight asks for. The sketches are
clustered into lists (`faiss.IndexBinaryIVF`), and a query looks into the nearest lists only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from maxaffine._codes import RowLayout
from maxaffine._search.nearest import Metric, Part
from maxaffine._search.recall import Recall

# Rows whose bits are taken apart at once.
_ROWS = 1 << 13
# Sketches per list that the clustering sees, and its rounds.
_TRAINED, _ROUNDS = 64, 10


@dataclass(frozen=True, eq=False)
class Sketch:
    """Which bits of a row stand for it.

    Args:
        places: (bits, 2) int64, ascending: the operator's position and the bit of its row.
    """

    places: np.ndarray

    @classmethod
    def drawn(cls, metric: Metric, bits: int, seed: int) -> Sketch:
        """Draw bits, for each operator in proportion to its weight over the share of them that one unequal unit flips.

        An operator with fewer bits than that has each of them several times; one alone that has few enough, all once.

        Args:
            metric: The operators and their weights, at least one of them with codes.
            bits: How many.
            seed: Of the draw.

        Returns:
            The sketch.
        """
        draw, terms = np.random.default_rng(seed), metric.terms
        every = [metric.layouts[i].bit_places() for i in terms]
        if len(terms) == 1 and len(every[0]) <= bits:
            counts = np.array([len(every[0])])
        else:
            needed = np.array([metric.shares[i] * _bits_per_flip(metric.layouts[i]) for i in terms])
            counts = np.diff(np.rint(np.cumsum([0.0, *needed]) / needed.sum() * bits).astype(np.int64))
        places = []
        for i, own, count in zip(terms, every, counts, strict=True):
            whole, rest = divmod(int(count), len(own))
            chosen = np.sort(np.concatenate([np.tile(own, whole), draw.choice(own, rest, replace=False)]))
            places.append(np.stack([np.full(len(chosen), i), chosen], axis=1))
        return cls(np.concatenate(places).astype(np.int64))

    @property
    def width(self) -> int:
        """Bytes of a sketch: whole 8-byte words, so that no kernel of faiss has bytes left over."""
        return -(-len(self.places) // 64) * 8

    def of(self, part: Part) -> np.ndarray:
        """Sketch rows: (n, width) uint8."""
        found = np.zeros((len(part), self.width), np.uint8)
        operators = [(i, self.places[self.places[:, 0] == i, 1]) for i in np.unique(self.places[:, 0]).tolist()]
        for start in range(0, len(part), _ROWS):
            block = part.take(slice(start, start + _ROWS))
            bits = [block.rows[i][:, at >> 3] >> (at & 7).astype(np.uint8) & 1 for i, at in operators]
            packed = np.packbits(np.concatenate(bits, axis=1), axis=1, bitorder="little")
            found[start : start + len(block), : packed.shape[1]] = packed
        return found


def _bits_per_flip(layout: RowLayout) -> float:
    """Bits of a unit over those that differ where the unit does: from five pieces on about every second one."""
    return 1.0 if layout.pieces == 2 else 1.5 if layout.pieces <= 4 else 2.0


class Lists:
    """The sketches of all rows of an index, in lists of similar ones.

    Args:
        faiss: The library.
        sketch: Which bits stand for a row.
        shares: The weights that the sketch was drawn for, w_l / max w per operator.
        centroids: (lists, width) uint8.

    Attributes:
        probes: Lists that a query looks into.
        candidates: Rows per query that are compared in full.
        recall: What was measured.
    """

    ARRAYS = ("places", "centroids", "list_sizes", "list_ids", "list_bits")

    def __init__(self, faiss: Any, sketch: Sketch, shares: tuple[float, ...], centroids: np.ndarray) -> None:
        self.faiss, self.sketch, self.shares = faiss, sketch, shares
        self.probes, self.candidates, self.recall = 1, 1, cast(Recall | None, None)
        quantizer = faiss.IndexBinaryFlat(8 * sketch.width)
        quantizer.add(np.ascontiguousarray(centroids))
        self._ivf = faiss.IndexBinaryIVF(quantizer, 8 * sketch.width, len(centroids))
        self._ivf.is_trained = True

    @classmethod
    def trained(
        cls,
        faiss: Any,
        metric: Metric,
        parts: Sequence[Part],
        lists: int,
        bits: int,
        seed: int,
        threads: int,
        held_out: np.ndarray,
    ) -> Lists:
        """Cluster the rows of an index.

        Args:
            faiss: The library.
            metric: The distance.
            parts: The rows.
            lists: How many lists, at most the number of rows.
            bits: Of a sketch.
            seed: Of the bits and of the clustering; the same seed and threads give the same lists.
            threads: Threads that cluster.
            held_out: Ids of rows that the recall is measured with: they do not shape the lists where others are enough.

        Returns:
            The lists, which hold all rows.
        """
        sketch = Sketch.drawn(metric, bits, seed)
        sketches = np.concatenate([sketch.of(part)[part.alive_rows()] for part in parts])
        ids = np.concatenate([part.ids[part.alive_rows()] for part in parts])
        order = np.random.default_rng(seed).permutation(len(ids))
        chosen = order[np.argsort(np.isin(ids[order], held_out), kind="stable")][: _TRAINED * lists]
        clustering = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(8 * sketch.width), 8 * sketch.width, lists)
        clustering.cp.seed, clustering.cp.niter = seed, _ROUNDS
        # It prints a warning where a list is trained by fewer.
        clustering.cp.min_points_per_centroid, clustering.cp.max_points_per_centroid = 1, _TRAINED
        with _threads(faiss, threads):
            clustering.train(sketches[np.sort(chosen)])
            quantizer = faiss.downcast_IndexBinary(clustering.quantizer)
            centroids = faiss.vector_to_array(quantizer.xb).reshape(lists, sketch.width)
            made = cls(faiss, sketch, metric.shares, centroids)
            made._ivf.add_with_ids(sketches, ids)
        return made

    def __len__(self) -> int:
        """Return the number of lists."""
        return self._ivf.nlist

    def add(self, part: Part) -> None:
        """Add rows, none of them removed."""
        if len(part):
            with _threads(self.faiss, 1):
                self._ivf.add_with_ids(self.sketch.of(part), part.ids)

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are skipped."""
        self._ivf.remove_ids(self.faiss.IDSelectorBatch(ids))

    def candidates_of(self, queries: Part, k: int, threads: int) -> np.ndarray:
        """Find the rows with the nearest sketches.

        Args:
            queries: N queries.
            k: How many are wanted at least, not above the number of rows: a query whose lists hold fewer looks into
                more of them.
            threads: Threads that search.

        Returns:
            (N, at least k) int64, -1 where there are no more.
        """
        sketches = self.sketch.of(queries)
        count = min(max(self.candidates, k), self._ivf.ntotal)
        found = np.full((len(queries), count), -1, np.int64)
        short, probes = np.arange(len(queries)), min(self.probes, len(self))
        with _threads(self.faiss, threads):
            while len(short):
                self._ivf.nprobe = probes
                found[short] = self._ivf.search(sketches[short], count)[1]
                short = short[found[short, k - 1] < 0]
                probes = min(2 * probes, len(self))
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors `ARRAYS` that `read` makes the same lists of."""
        stored, width = self._ivf.invlists, self.sketch.width
        sizes = np.array([stored.list_size(i) for i in range(len(self))], np.int64)
        ids, bits = np.empty(sizes.sum(), np.int64), np.empty((sizes.sum(), width), np.uint8)
        ends = np.cumsum(sizes)
        for i, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
            if size:
                ids[end - size : end] = self.faiss.rev_swig_ptr(stored.get_ids(i), size)
                bits[end - size : end] = self.faiss.rev_swig_ptr(stored.get_codes(i), size * width).reshape(size, width)
        quantizer = self.faiss.downcast_IndexBinary(self._ivf.quantizer)
        centroids = self.faiss.vector_to_array(quantizer.xb).reshape(len(self), width)
        return dict(zip(self.ARRAYS, (self.sketch.places, centroids, sizes, ids, bits), strict=True))

    def description(self) -> dict[str, Any]:
        """What `read` needs besides the arrays, for JSON."""
        recall = None if self.recall is None else asdict(self.recall)
        return {"shares": self.shares, "probes": self.probes, "candidates": self.candidates, "recall": recall}

    @classmethod
    def read(cls, faiss: Any, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Lists:
        """Make them again.

        Args:
            faiss: The library.
            description: What `description` returned.
            arrays: What `arrays` returned.

        Returns:
            The same lists.
        """
        made = cls(faiss, Sketch(arrays["places"]), tuple(description["shares"]), arrays["centroids"])
        made.probes, made.candidates = description["probes"], description["candidates"]
        made.recall = None if description["recall"] is None else Recall(**description["recall"])
        numbers = np.repeat(np.arange(len(made)), arrays["list_sizes"])
        with _threads(faiss, 1):
            made._ivf.add_core(
                *(len(numbers), *map(faiss.swig_ptr, (arrays["list_bits"], arrays["list_ids"], numbers)))
            )
        return made


@contextmanager
def _threads(faiss: Any, threads: int) -> Iterator[None]:
    """Faiss' own number of threads, as it was before at the end."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
