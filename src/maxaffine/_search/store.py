"""CodeStore: codes on disk or in object storage, written and read by several processes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import inf
from os import PathLike, fspath
from typing import Any, Self

import numpy as np
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._codes import FINGERPRINT, Codes
from maxaffine._search.checks import as_ids, as_labels, integers, same_network
from maxaffine._search.lance import load_lance, told
from maxaffine._search.reader import StoreReader
from maxaffine._search.schema import NO_LABEL, StoreLayout
from maxaffine.errors import BadInput, DataError

# Ids that one deletion names.
_DELETED = 10_000


class CodeStore(StoreReader):
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
        >>> import tempfile, torch
        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 1], [1, 1]]), 2)}, metadata={"fingerprint": "net"})
        >>> store = CodeStore.create(tempfile.mkdtemp() + "/codes.lance", codes)
        >>> store.append(codes, ids=[10, 11], labels=[0, 1])
        >>> len(store), store.index().search(codes.rows(1), k=1).ids
        (2, tensor([[11]]))

    Source: the format, https://lance.org/format. The codes are the vector-quantization of Balestriero and Baraniuk,
    "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576).
    """

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
            like: The network whose codes it will hold, or codes of it: their operators are all that is read of them,
                so that ``net.codes(x, operators=[...])`` makes a store of these operators.
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
                raise DataError(f"{path} could not be made: {told(error)}; check folder and permissions") from error
            if not exist_ok:
                raise DataError(f"{path} exists already; open it with CodeStore(path), or give another path") from error
        store = cls(path, storage_options=storage_options)
        store.require(layout, "like")
        return store

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
            codes: Codes of n inputs, of this store's network and of at least its operators.
            ids: (n,) int64, at least 0, all different and none of them in the store; by default they go on from the
                highest so far, which is right for one writer only.
            labels: (n,) int64, at least 0; -1 for an input without a label, as all are by default.
            check: Read the store's ids to refuse those that it holds already. Two processes that append at the same
                moment do not see each other's rows: give them ids that cannot meet.

        Raises:
            BadInput: If the codes are of other operators or of another network, or ids or labels are not valid.
            DataError: If it cannot be written; nothing of it is in the store then.
        """
        self.require(codes, "codes")
        present = self.ids().numpy() if check or ids is None else np.empty(0, np.int64)
        first = int(present.max(initial=-1)) + 1
        given = np.arange(first, first + codes.batch) if ids is None else as_ids(ids, codes.batch)
        if taken := np.intersect1d(given, present)[:5].tolist():
            raise BadInput(f"ids: {taken} are in the store already; delete them first, or give new ids")
        classes = np.full(codes.batch, NO_LABEL) if labels is None else as_labels(labels, codes.batch)
        if codes.batch:
            self.append_tables([self._layout.table(given, classes, codes)])

    def append_tables(self, tables: Sequence[Any]) -> int:
        """Add rows that are laid out already, all of them or none.

        Args:
            tables: Arrow tables that `StoreLayout.table` made.

        Returns:
            How many rows they hold.

        Raises:
            DataError: If they cannot be written; nothing of them is in the store then.
        """
        import pyarrow as pa

        with self._reading():
            table = pa.concat_tables(tables)
            self._dataset = self._lance.write_dataset(
                table, self._path, mode="append", storage_options=self._options or None
            )
        return table.num_rows

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
            BadInput: If it is negative or not finite.
            DataError: If another process compacts or deletes at the same moment; nothing is lost, do it again later.
        """
        if not 0 <= keep_seconds < inf:
            raise BadInput(f"keep_seconds={keep_seconds}; give a finite number of at least 0")
        with self._reading():
            self._latest().optimize.compact_files()
            self._latest().cleanup_old_versions(older_than=timedelta(seconds=keep_seconds))

    def require(self, other: Codes | SplineNetwork | StoreLayout, argument: str) -> None:
        """Refuse what is of another network, or lacks an operator of the store.

        Args:
            other: Codes, the network that makes them, or their layout.
            argument: Its name, for the message.

        Raises:
            BadInput: If it does not fit.
        """
        layout = other if isinstance(other, StoreLayout) else StoreLayout.of(other)
        same_network({FINGERPRINT: self.fingerprint}, {FINGERPRINT: layout.fingerprint}, argument)
        if not set(self._layout.operators) <= set(layout.operators):
            raise BadInput(
                f"{argument}: operators {layout.operators}, but the store {self._path} holds {self._layout.operators}"
            )
