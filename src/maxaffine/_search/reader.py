"""Reading a store: every scan sees the rows of one moment, and checks each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor

from maxaffine._progress import progress_bar
from maxaffine._search.checks import positive
from maxaffine._search.index import CodeIndex
from maxaffine._search.lance import load_lance, naming_store
from maxaffine._search.schema import NO_MARK, StoredCodes, StoreLayout
from maxaffine.errors import BadInput, DataError

# Bytes that one batch of a scan takes.
_BATCH_BYTES = 1 << 26
# Rows that are looked at first for operators that switch.
_FEW_ROWS = 256


class StoreReader:
    """What `CodeStore` reads.

    Args:
        path: Folder or address of a store.
        storage_options: Credentials and endpoint of the object storage.

    Raises:
        DataError: If there is no store, or it is damaged.
    """

    def __init__(self, path: str | PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> None:
        self._path = fspath(path)
        self._options = dict(storage_options or {})
        self._lance = load_lance()
        with self._reading():
            self._dataset = self._lance.dataset(self._path, storage_options=self._options or None)
            self._layout = StoreLayout.from_schema(self._dataset.schema)

    @property
    def path(self) -> str:
        """Folder or address."""
        return self._path

    @property
    def storage_options(self) -> dict[str, str]:
        """What the object storage was opened with."""
        return dict(self._options)

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

    def files(self) -> list[int]:
        """Numbers of the files that hold the rows at this moment (Lance's fragments)."""
        with self._reading():
            return [part.fragment_id for part in self._latest().get_fragments()]

    def ids(self) -> Tensor:
        """(N,) int64: the ids of all rows at this moment."""
        with self._reading():
            return torch.from_numpy(self._latest().to_table(columns=["id"]).column("id").to_numpy().copy())

    def marks(self) -> tuple[Tensor, Tensor]:
        """(N,) int64 twice: the ids of all rows at this moment, and the marks of their inputs, -1 without one."""
        with self._reading():
            rows = self._latest().to_table(columns=["id", "mark"])
            marks = rows.column("mark").cast("int64").fill_null(NO_MARK)
            return torch.from_numpy(rows.column("id").to_numpy().copy()), torch.from_numpy(marks.to_numpy().copy())

    def batches(
        self,
        operators: Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        files: Sequence[int] | None = None,
        progress: bool | None = None,
    ) -> Iterator[StoredCodes]:
        """Read all rows as they are at this moment, in batches, checking every row.

        Args:
            operators: Names of those to read; the others are not read at all. All by default.
            batch_size: Rows at once, at most; by default what takes 64 MiB.
            files: Numbers of the files to read (Lance's fragments, see `files`); all by default.
            progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

        Yields:
            The rows.

        Raises:
            BadInput: For an unknown operator.
            DataError: If a file is no longer there, or something is not as it was written.
        """
        names = [operators] if isinstance(operators, str) else operators
        if unknown := [name for name in names or () if name not in self.operators]:
            raise BadInput(f"operators names unknown {unknown}; the store has {list(self.operators)}")
        pairs = zip(self.operators, self._layout.widths, strict=True)
        width = sum(width for name, width in pairs if names is None or name in names)
        rows = positive("batch_size", batch_size) if batch_size is not None else max(1, _BATCH_BYTES // (width + 32))
        with self._reading():
            dataset = self._latest()
            present = {part.fragment_id: part for part in dataset.get_fragments()}
            if gone := [number for number in files or () if number not in present]:
                raise DataError(
                    f"{self._path} was compacted meanwhile and has no files {gone} now; name those of files()"
                )
            chosen = [part for number, part in present.items() if files is None or number in files]
            scan = dataset.scanner(
                columns=self._layout.columns(names), batch_size=rows, batch_readahead=2, fragments=chosen
            )
            total = sum(part.count_rows() for part in chosen)
            with progress_bar(progress, "reading codes", unit="row", total=total) as bar:
                for batch in scan.to_batches():
                    found = self._layout.rows(batch, names)
                    bar.update(len(found.ids))
                    yield found

    def unswitched(self) -> tuple[str, ...]:
        """Find the operators that never switch on the rows of this moment, as `CodeIndex.unswitched` says.

        Returns:
            Their names.

        Raises:
            DataError: If the store is damaged.
        """
        left, first, count = list(self.operators), None, len(self)
        # A few rows show of nearly all operators that they switch; the others alone are read to the end.
        for few in (_FEW_ROWS, None) if count > 1 else ():
            for part in self.batches(left, batch_size=few, progress=False) if left else ():
                first = part.codes.rows([0]) if first is None else first
                same = {name: part.codes[name].packed == first[name].packed for name in left}
                left = [name for name in left if bool(same[name].all())]
                if few is not None or not left:
                    break
        return tuple(left) if count > 1 else ()

    def index(self, operators: Sequence[str] | None = None, *, progress: bool | None = None) -> CodeIndex:
        """Read all rows into an index with the store's ids.

        Args:
            operators: As for `batches`.
            progress: As for `batches`.

        Returns:
            The index.

        Raises:
            DataError: If the store is empty or damaged, or two rows have one id.
        """
        index = None
        for part in self.batches(operators, progress=progress):
            index = CodeIndex(part.codes.rows([])) if index is None else index
            try:
                index.add(part.codes, part.ids)
            except BadInput as error:
                raise DataError(f"{self._path} holds rows of one id ({error})") from error
        if index is None:
            raise DataError(f"{self._path} is empty; append codes first")
        return index

    def _latest(self) -> Any:
        self._dataset.checkout_latest()
        return self._dataset

    def _reading(self) -> AbstractContextManager[None]:
        return naming_store(self._path)
