"""CodeStore: codes on disk or in object storage, written and read by several processes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from os import PathLike, fspath
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from maxaffine.codes import FINGERPRINT, Codes
from maxaffine.errors import BadInput, DataError
from maxaffine.network import SplineNetwork
from maxaffine.search.checks import as_ids, integers, positive, same_network
from maxaffine.search.index import CodeIndex
from maxaffine.search.lance import first_line, load_lance, naming_store
from maxaffine.search.progress import shown
from maxaffine.search.schema import NO_LABEL, StoredCodes, StoreLayout

# Bytes that one batch of a scan takes, and ids that one deletion names.
_BATCH_BYTES, _DELETED = 1 << 26, 10_000


class CodeStore:
    """The codes of many inputs in one place that survives crashes, on a disk or in object storage (Lance).

    An append that has returned is kept, whatever happens to the process afterwards. A reader sees every append as a
    whole or not at all. Several processes may append, delete and read at once. Each row carries checksums: a byte that
    changed on disk is an error, never a code.

    Args:
        path: Folder or address (``s3://...``) of a store; `create` makes one.
        storage_options: Credentials and endpoint of the object storage, as Lance takes them.

    Raises:
        DataError: If there is no store, or it is damaged.

    Example:
        >>> import tempfile
        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 1], [1, 1]]), 2)}, metadata={"fingerprint": "net"})
        >>> store = CodeStore.create(tempfile.mkdtemp() + "/codes.lance", codes)
        >>> store.append(codes, ids=[10, 11], labels=[0, 1])
        >>> len(store), store.index().search(codes.rows(1), k=1).ids
        (2, tensor([[11]]))

    Source: the format, https://lance.org/format. The codes are the vector-quantization of Balestriero and Baraniuk,
    "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576).
    """

    def __init__(self, path: str | PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> None:
        self._path = fspath(path)
        self._options = dict(storage_options or {})
        self._lance = load_lance()
        with self._reading():
            self._dataset = self._lance.dataset(self._path, storage_options=self._options or None)
            self._layout = StoreLayout.from_schema(self._dataset.schema)

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        like: Codes | SplineNetwork,
        *,
        exist_ok: bool = False,
        storage_options: Mapping[str, str] | None = None,
    ) -> Self:
        """Make an empty store.

        Args:
            path: Folder or address, which must not exist.
            like: The network whose codes it will hold, or codes of it (only their operators are read).
            exist_ok: Open the store that is there already, if it holds codes of the same operators and network.
            storage_options: As in the constructor.

        Returns:
            The store.

        Raises:
            BadInput: If ``like`` has no codes or names no network, or the store there is of another network.
            DataError: If there is something already, or it cannot be written.
        """
        layout, lance = StoreLayout.of(like), load_lance()
        schema = layout.schema()
        try:
            lance.write_dataset(
                schema.empty_table(), fspath(path), mode="create", storage_options=dict(storage_options or {}) or None
            )
        except Exception as error:  # what Lance raises is not one family
            if "already exists" not in str(error):
                raise DataError(
                    f"{path} could not be made: {first_line(error)}; check folder and permissions"
                ) from error
            if not exist_ok:
                raise DataError(f"{path} exists already; open it with CodeStore(path), or give another path") from error
        store = cls(path, storage_options=storage_options)
        store._require(layout, "like")
        return store

    @property
    def path(self) -> str:
        """Folder or address."""
        return self._path

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators, in the network's order."""
        return self._layout.names

    @property
    def fingerprint(self) -> str:
        """Of the network whose codes these are, see `SplineNetwork.fingerprint`."""
        return self._layout.fingerprint

    @property
    def layout(self) -> StoreLayout:
        """What every row holds."""
        return self._layout

    def __len__(self) -> int:
        """Return the number of rows at this moment."""
        with self._reading():
            return self._latest().count_rows()

    def __repr__(self) -> str:
        """Return the sizes."""
        return f"CodeStore({self._path!r}, {len(self)} rows, operators {list(self.operators)})"

    def append(
        self,
        codes: Codes,
        ids: Tensor | Sequence[int] | None = None,
        labels: Tensor | Sequence[int] | None = None,
        *,
        check: bool = True,
    ) -> None:
        """Add rows, all of them or none. Once it has returned they are kept.

        Args:
            codes: Codes of n inputs, of this store's operators and network.
            ids: (n,) int64, at least 0, all different and none of them in the store; by default they go on from the
                highest so far, which is right for one writer only.
            labels: (n,) int64, at least 0; -1 for an input without a label, as all are by default.
            check: Read the store's ids to refuse those that it holds already. Two processes that append at the same
                moment do not see each other's rows: give them ids that cannot meet.

        Raises:
            BadInput: If the codes are of other operators or of another network, or ids or labels are not valid.
            DataError: If it cannot be written; nothing of it is in the store then.
        """
        self._require(StoreLayout.of(codes), "codes")
        present = self.ids().numpy() if check or ids is None else np.empty(0, np.int64)
        first = int(present.max(initial=-1)) + 1
        given = np.arange(first, first + codes.batch) if ids is None else as_ids(ids, codes.batch)
        if taken := np.intersect1d(given, present)[:5].tolist():
            raise BadInput(f"ids: {taken} are in the store already; delete them first, or give new ids")
        classes = np.full(codes.batch, NO_LABEL) if labels is None else integers(labels)
        if len(classes) != codes.batch or (classes < NO_LABEL).any():
            raise BadInput(f"labels: expected {codes.batch} integers of at least 0, or -1 for none; got {len(classes)}")
        if codes.batch:
            self.append_table(self._layout.table(given, classes, codes))

    def append_table(self, table: Any) -> None:
        """Add rows that are laid out already, see `StoreLayout.table`.

        Args:
            table: The Arrow table.

        Raises:
            DataError: If it cannot be written; nothing of it is in the store then.
        """
        with self._reading():
            self._dataset = self._lance.write_dataset(
                table, self._path, mode="append", storage_options=self._options or None
            )

    def delete(self, ids: Tensor | Sequence[int]) -> int:
        """Remove rows.

        Args:
            ids: Their ids; those that the store does not hold are skipped.

        Returns:
            How many were removed.
        """
        wanted, removed = np.unique(integers(ids)), 0
        for start in range(0, len(wanted), _DELETED):
            named = ", ".join(map(str, wanted[start : start + _DELETED]))
            with self._reading():
                removed += self._latest().delete(f"id IN ({named})")["num_deleted_rows"]
        return removed

    def compact(self, keep_seconds: float = 3600) -> None:
        """Join the small files that many appends leave, and drop what deletions left behind.

        Args:
            keep_seconds: Age from which superseded files are removed: a process that reads a state older than that
                fails. 0 frees the space at once.

        Raises:
            BadInput: If it is negative.
            DataError: If another process compacts or deletes at the same moment; nothing is lost, do it again later.
        """
        if keep_seconds < 0:
            raise BadInput(f"keep_seconds={keep_seconds}; give a number of at least 0")
        with self._reading():
            self._latest().optimize.compact_files()
            self._latest().cleanup_old_versions(older_than=timedelta(seconds=keep_seconds))

    def ids(self) -> Tensor:
        """(N,) int64: the ids of all rows at this moment."""
        with self._reading():
            return torch.from_numpy(self._latest().to_table(columns=["id"]).column("id").to_numpy().copy())

    def batches(
        self, operators: Sequence[str] | None = None, *, batch_size: int | None = None, progress: bool | None = None
    ) -> Iterator[StoredCodes]:
        """Read all rows as they are at this moment, in batches, checking every row.

        Args:
            operators: Names of those to read; the others are not read at all. All by default.
            batch_size: Rows at once, at most; by default what takes 64 MiB.
            progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

        Yields:
            The rows.

        Raises:
            BadInput: For an unknown operator.
            DataError: If a file is absent or a row is not what was written.
        """
        names = [operators] if isinstance(operators, str) else operators
        if unknown := [name for name in names or () if name not in self.operators]:
            raise BadInput(f"operators names unknown {unknown}; the store has {list(self.operators)}")
        pairs = zip(self.operators, self._layout.widths, strict=True)
        width = sum(width for name, width in pairs if names is None or name in names)
        rows = positive("batch_size", batch_size) if batch_size is not None else max(1, _BATCH_BYTES // (width + 32))
        with self._reading():
            dataset = self._latest()
            scan = dataset.scanner(columns=self._layout.columns(names), batch_size=rows, batch_readahead=2)
            with shown(progress, "reading codes", "row", dataset.count_rows()) as bar:
                for batch in scan.to_batches():
                    found = self._layout.rows(batch, names)
                    bar.update(len(found.ids))
                    yield found

    def index(self, operators: Sequence[str] | None = None, *, progress: bool | None = None) -> CodeIndex:
        """Read all rows into an index.

        Args:
            operators: As for `batches`.
            progress: As for `batches`.

        Returns:
            The index, with the store's ids.

        Raises:
            BadInput: For an unknown operator.
            DataError: If a file is absent, a row is not what was written, or two rows have one id.
        """
        index = None
        for part in self.batches(operators, progress=progress):
            if index is None:
                index = CodeIndex(part.codes.rows([]))
            try:
                index.add(part.codes, part.ids)
            except BadInput as error:
                raise DataError(f"{self._path} holds rows of one id ({error})") from error
        if index is None:
            raise DataError(f"{self._path} is empty; append codes first")
        return index

    def labels(self) -> dict[int, int]:
        """The label of every row that has one, by id."""
        with self._reading():
            table = self._latest().to_table(columns=["id", "label"], filter="label IS NOT NULL")
        return dict(zip(table.column("id").to_pylist(), table.column("label").to_pylist(), strict=True))

    def _latest(self) -> Any:
        self._dataset.checkout_latest()
        return self._dataset

    def _require(self, other: StoreLayout, argument: str) -> None:
        same_network({FINGERPRINT: self.fingerprint}, {FINGERPRINT: other.fingerprint}, argument)
        if other.operators != self._layout.operators:
            raise BadInput(
                f"{argument}: operators {other.operators}, but the store {self._path} holds {self._layout.operators}"
            )

    def _reading(self) -> AbstractContextManager[None]:
        return naming_store(self._path)
