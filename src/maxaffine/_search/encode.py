"""Encode: the codes of every input of a data set into a store, block by block, so that a killed run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._progress import progress_bar
from maxaffine._search.checks import positive
from maxaffine._search.store import NO_MARK, CodeStore
from maxaffine.errors import BadInput

BATCH_SIZE = 256
# Rows of one append, at most: what a killed run computes again, and few enough files.
COMMIT_ROWS = 4096


@runtime_checkable
class Inputs(Protocol):
    """Inputs that can be taken in runs: a `Split`, or `FolderFiles`, which are read when they are taken."""

    def __len__(self) -> int: ...  # noqa: D105

    # Has ``inputs`` (n, *in) and ``labels`` (n,) int64.
    def take(self, indices: slice, /) -> Any: ...  # noqa: D102

    # (n,) uint32, another one where the input or its label is another.
    def marks(self, indices: slice, /) -> np.ndarray: ...  # noqa: D102


@dataclass(frozen=True)
class Encoded:
    """What a run of `encode` did."""

    rows: int  # inputs that it encoded
    skipped: int  # inputs whose codes were in the store already


@dataclass(frozen=True, eq=False)
class Work:
    """The part of the inputs that is still to be encoded."""

    inputs: Inputs
    # The inputs are cut at multiples of it, whoever encodes them: the sums inside a layer may be rounded in another
    # order in a batch of another size, and a unit at its kink then gets another code.
    batch_size: int
    first_id: int
    # (N,) bool, where the store has no row yet.
    missing: np.ndarray

    @classmethod
    def find(
        cls, inputs: Inputs, store: CodeStore, batch_size: int, first_id: int, progress: bool | None = None
    ) -> Work:
        """Find out what is left to do, and refuse inputs that are not those whose rows the store holds."""
        positive("batch_size", batch_size)
        if not 0 <= first_id < 2**63 - len(inputs):
            raise BadInput(f"first_id={first_id}; ids run from 0 to 2^63 - 2")
        ids, marks = (column.numpy() for column in store.marks())
        here = (ids >= first_id) & (ids - first_id < len(inputs))
        missing, there = np.ones(len(inputs), dtype=bool), np.full(len(inputs), NO_MARK)
        missing[ids[here] - first_id], there[ids[here] - first_id] = False, marks[here]
        # What is there already is compared by its marks, run by run, as the marks of files take time.
        runs = [run for run in slices(len(inputs), COMMIT_ROWS) if not missing[run].all()]
        for run in progress_bar(progress, "comparing", iterable=runs, unit_scale=COMMIT_ROWS, unit="input"):
            changed = np.flatnonzero(~missing[run] & (inputs.marks(run) != there[run]))[:5] + run.start
            if len(changed):
                raise BadInput(
                    f"inputs: those numbered {changed.tolist()} are not what the store holds under the ids"
                    f" {(changed + first_id).tolist()}: the data, their order or their labels have changed, or the rows"
                    " are of another set; encode into a new store, or with another first_id"
                )
        return cls(inputs, batch_size, first_id, missing)

    def batches(self) -> list[int]:
        """Numbers of the batches that lack at least one input."""
        return np.unique(np.flatnonzero(self.missing) // self.batch_size).tolist()

    def encode(self, net: SplineNetwork, store: CodeStore, batch: int) -> Any:
        """Encode one batch, by its number: an Arrow table of the rows that were missing."""
        rows = slice(batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.inputs)))
        part = self.inputs.take(rows)
        spec = net.inputs
        codes = net.codes(part.inputs.to(spec.device, spec.dtypes[0]), store.operators)
        wanted = np.flatnonzero(self.missing[rows])
        ids, labels = self.first_id + rows.start + wanted, part.labels.numpy()[wanted]
        return store.layout.table(ids, labels, codes.rows(wanted), self.inputs.marks(rows)[wanted])


def encode(
    net: SplineNetwork,
    inputs: Inputs,
    store: CodeStore,
    *,
    batch_size: int = BATCH_SIZE,
    first_id: int = 0,
    threads: int | None = None,
    progress: bool | None = None,
) -> Encoded:
    """Write the codes of all inputs into a store; inputs whose ids are there already are left out.

    A run that was killed, or stopped by Ctrl-C, goes on where it was when it is started again. What was encoded before
    is compared with the inputs by their marks, so that no id comes to stand for another input: of arrays a checksum,
    of image files the names, the size in bytes and the label (pixels that change within the same size go unnoticed).

    Args:
        net: The network, the one that the store was made for.
        inputs: A `maxaffine.data.Split`, or the images of a folder as `maxaffine.data.load` gives them.
        store: Where the codes go.
        batch_size: Inputs of a batch. Keep it when a run goes on, so that the codes stay the same to the last bit.
        first_id: The id of the first input; the others count on from it.
        threads: torch's threads meanwhile; as they are by default.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Returns:
        How many inputs were encoded and how many were there.

    Raises:
        BadInput: If the store is of another network, holds rows of other inputs under these ids, or an argument is not
            valid.
        DataError: If an input cannot be read, or the store not be written.

    Example:
        >>> import tempfile
        >>> from maxaffine import capture
        >>> from maxaffine.data import Split
        >>> net = capture(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), torch.zeros(1, 2))
        >>> store = CodeStore.create(tempfile.mkdtemp() + "/codes.lance", net)
        >>> encode(net, Split(torch.randn(5, 2), torch.arange(5)), store)
        Encoded(rows=5, skipped=0)

    Source: the codes are the vector quantization of Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into
    Deep Learning" (arXiv 1805.06576).
    """
    store.require(net, "net")
    work = Work.find(inputs, store, batch_size, first_id, progress)
    total, left = len(inputs), int(work.missing.sum())
    # torch's threads are a setting of the whole process, the user's.
    before = torch.get_num_threads()
    torch.set_num_threads(positive("threads", threads) if threads is not None else before)
    try:
        with progress_bar(progress, "encoding", unit="input", total=total, initial=total - left) as bar:
            batches = work.batches()
            # As many batches at a time as make one append.
            for run in slices(len(batches), -(-COMMIT_ROWS // batch_size)):
                bar.update(store.append_tables([work.encode(net, store, batch) for batch in batches[run]]))
    finally:
        torch.set_num_threads(before)
    return Encoded(left, total - left)
