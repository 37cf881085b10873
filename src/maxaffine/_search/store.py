"""Codes on disk or in object storage, written, read and searched by several processes at once.

What makes it safe is Lance's: every change is a new version of the whole, which is there or not, and a reader keeps the
version that it began with. Ours are the checksums of the rows and the errors that name the store. A store has one Arrow
row per input, one column of bytes per operator, and a checksum for each:

| column | type | content |
| --- | --- | --- |
| ``id`` | int64 | the input's number |
| ``label`` | int64, may be null | its class |
| ``mark`` | uint32, may be null | by which `encode` notices that the id stands for another input now |
| ``crc32`` | fixed_size_list<uint32>[L] | per operator a CRC-32 of id, label and the operator's bytes |
| ``codes_0`` ... | fixed_size_list<uint8>[bytes] | an operator's bit planes, as in `PackedCodes.packed` |

The operators' names, units and pieces and the network's fingerprint are in the schema's metadata. Lance itself does not
notice a flipped bit, so every row carries its checksums; they cover the id, since whole codes at another input's place
are damage too.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from datetime import timedelta
from functools import partial
from math import inf
from os import PathLike, fspath
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._codes import FINGERPRINT, Codes, PackedCodes, RowLayout, layouts_of, operator_shares
from maxaffine._progress import progress_bar
from maxaffine._search.checks import (
    Weights,
    integers,
    new_ids,
    positive,
    require_rows,
    require_same_network,
    switching_weights,
)
from maxaffine._search.index import CodeIndex
from maxaffine._search.nearest import NO_ID, Best, Neighbors
from maxaffine.errors import BadInput, DataError, MaxAffineError, first_line

_KEY = b"maxaffine"
_FORMAT, _VERSION = "maxaffine.store", 2
NO_LABEL = NO_MARK = -1
# Bytes that one batch of a scan takes.
_BATCH_BYTES = 1 << 26
# Rows that are looked at first for operators that switch.
_FEW_ROWS = 256


@dataclass(frozen=True, eq=False)
class StoredCodes:
    """Some rows of a store: ids and labels (n,) int64, -1 where an input has no label, and codes of the n inputs."""

    ids: Tensor
    labels: Tensor
    codes: Codes


@dataclass(frozen=True)
class StoreLayout:
    """What every row of a store holds: the operators, and free strings of the codes."""

    operators: tuple[RowLayout, ...]
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, like: Codes | SplineNetwork) -> StoreLayout:
        """Read the layout off codes, or off the network that will make them."""
        if isinstance(like, Codes):
            operators, metadata = layouts_of(like), like.metadata
        else:
            records = [record for record in like.operators if record.pieces > 1]
            operators = tuple(RowLayout(record.name, record.pieces, tuple(record.units)) for record in records)
            metadata = {FINGERPRINT: like.fingerprint}
        if not metadata.get(FINGERPRINT):
            raise BadInput(
                "codes: they name no network, so they could be mixed with another's; take them from net.codes(x), or"
                f" give metadata={{{FINGERPRINT!r}: ...}} to Codes"
            )
        if not any(operator.packed_width for operator in operators):
            raise BadInput("like: no operator has a code, as the network is affine; give one with pieces")
        return cls(operators, dict(metadata))

    def columns(self, names: Collection[str]) -> list[str]:
        """The columns to read for some operators."""
        wanted = [i for i, x in enumerate(self.operators) if x.name in names and x.packed_width]
        return ["id", "label", "crc32", *(f"codes_{i}" for i in wanted)]

    def schema(self) -> Any:
        """The Arrow schema."""
        import pyarrow as pa

        fields = [
            pa.field("id", pa.int64(), False),
            pa.field("label", pa.int64()),
            pa.field("mark", pa.uint32()),
            pa.field("crc32", pa.list_(pa.uint32(), len(self.operators)), False),
        ]
        for i, x in enumerate(self.operators):
            if x.packed_width:
                fields.append(pa.field(f"codes_{i}", pa.list_(pa.uint8(), x.packed_width), False, {"operator": x.name}))
        described = {"operators": [asdict(x) for x in self.operators], "metadata": dict(self.metadata)}
        description = {"format": _FORMAT, "version": _VERSION, **described}
        return pa.schema(fields, metadata={_KEY: json.dumps(description)})

    @classmethod
    def from_schema(cls, schema: Any) -> StoreLayout:
        """Read the layout back."""
        text = (schema.metadata or {}).get(_KEY)
        if text is None:
            raise DataError("it holds no codes: another program wrote it")
        # Lance vouches for a schema that can be read, but not for what stands in its metadata.
        try:
            description = json.loads(text)
            if description["format"] != _FORMAT:
                raise DataError(f"it holds {description['format']!r}, not {_FORMAT!r}")
            if (version := description["version"]) != _VERSION:
                cure = "upgrade maxaffine" if version > _VERSION else "encode the inputs again"
                raise DataError(f"its format version is {version}, and this one reads {_VERSION}; {cure}")
            operators = tuple(RowLayout(x["name"], x["pieces"], tuple(x["units"])) for x in description["operators"])
            metadata, present = dict(description["metadata"]), {field.name: field.type for field in schema}
            for i, x in enumerate(operators):
                if x.packed_width and present[f"codes_{i}"].list_size != x.packed_width:
                    raise DataError(f"operator {x.name!r} has another width than its units need")
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
            raise DataError(f"its description is damaged ({error!r})") from error
        return cls(operators, metadata)

    def table(self, ids: np.ndarray, labels: np.ndarray, codes: Codes, marks: np.ndarray | None = None) -> Any:
        """Codes of n inputs as an Arrow table: ids and labels (n,) int64, marks (n,) uint32 if they have any."""
        import pyarrow as pa

        rows = [codes[x.name].packed.numpy().reshape(len(ids), -1) for x in self.operators]
        # The sum of id and label is where that of each operator goes on: codes at another input's place are damage too.
        heads = _checksums(np.stack([ids, labels], axis=1))
        sums = np.stack([_checksums(row, heads) for row in rows], axis=1)
        marked = pa.nulls(len(ids), pa.uint32()) if marks is None else pa.array(marks)
        columns = [pa.array(ids), pa.array(labels, mask=labels == NO_LABEL), marked]
        for array in [sums, *(row for row in rows if row.shape[1])]:
            flat = pa.array(np.ascontiguousarray(array).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, array.shape[1]))
        return pa.table(columns, schema=self.schema())

    def rows(self, batch: Any, names: Collection[str]) -> StoredCodes:
        """Read the rows of a record batch back, of some operators, and check that they are what was written."""
        ids, labels = (batch.column(name).fill_null(NO_LABEL).to_numpy().copy() for name in ("id", "label"))
        sums = _flat(batch.column("crc32")).reshape(len(ids), len(self.operators))
        heads, operators = _checksums(np.stack([ids, labels], axis=1)), {}
        for i, x in enumerate(self.operators):
            if x.name not in names:
                continue
            # Each operator has a sum of its own, so that those that are not read need not be there to check the others.
            rows = _flat(batch.column(f"codes_{i}")) if x.packed_width else np.empty(0, np.uint8)
            rows = rows.reshape(len(ids), x.packed_width)
            if bad := ids[_checksums(rows, heads) != sums[:, i]][:5].tolist():
                raise DataError(f"the rows {bad} of operator {x.name!r} are not what was written")
            planes = torch.from_numpy(rows).reshape(len(ids), *x.packed_shape)
            operators[x.name] = PackedCodes(x.pieces, x.units, planes)
        codes = Codes(operators, len(ids), dict(self.metadata))
        return StoredCodes(torch.from_numpy(ids), torch.from_numpy(labels), codes)


class CodeStore:
    """The codes of many inputs in one place that survives crashes, on a disk or in object storage (Lance).

    An append that has returned is kept, whatever happens to the process afterwards. A reader sees every append as a
    whole or not at all. Several processes may append, delete and read at once. Each row carries checksums: a byte that
    changed on disk is an error, never a code.

    Args:
        path: Folder or address (``s3://...``) of a store; `create` makes one.
        storage_options: Credentials and endpoint of the object storage, as Lance takes them.

    Attributes:
        operators: Names of the operators, in the network's order.
        fingerprint: Of the network whose codes these are, see `SplineNetwork.fingerprint`.
        layout: What every row holds.

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

    def __init__(self, path: str | PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> None:
        self.path = fspath(path)
        self.storage_options = dict(storage_options or {})
        self._lance = _load_lance()
        with naming_store(self.path):
            self._dataset = self._lance.dataset(self.path, storage_options=self.storage_options)
            self.layout = StoreLayout.from_schema(self._dataset.schema)
        self.operators = tuple(operator.name for operator in self.layout.operators)
        self.fingerprint = self.layout.metadata[FINGERPRINT]

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
        layout, lance, options = StoreLayout.of(like), _load_lance(), dict(storage_options or {})
        try:
            lance.write_dataset(layout.schema().empty_table(), fspath(path), mode="create", storage_options=options)
        except Exception as error:  # what Lance raises is not one family
            if "already exists" not in str(error):
                raise DataError(f"{path} could not be made: {_words(error)}; check folder and permissions") from error
            if not exist_ok:
                raise DataError(f"{path} exists already; open it with CodeStore(path), or give another path") from error
        store = cls(path, storage_options=storage_options)
        store.require(layout, "like")
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what opens the store again, in another process."""
        return partial(CodeStore, storage_options=self.storage_options), (self.path,)

    def __len__(self) -> int:
        """Return the number of rows at this moment."""
        with naming_store(self.path):
            return self._latest().count_rows()

    def __repr__(self) -> str:
        return f"CodeStore({self.path!r}, {len(self)} rows, operators {list(self.operators)})"

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
        # Reading all ids is what an append costs most; who numbers the inputs anyway can do without.
        present = self.ids().numpy() if check or ids is None else np.empty(0, np.int64)
        given = new_ids(ids, codes.batch, present, "store")
        classes = np.full(codes.batch, NO_LABEL) if labels is None else integers(labels, "labels")
        if len(classes) != codes.batch or (classes < NO_LABEL).any():
            raise BadInput(
                f"labels: {len(classes)} for {codes.batch} inputs, or one below -1; give one for each, -1 for none"
            )
        if codes.batch:
            self.append_tables([self.layout.table(given, classes, codes)])

    def append_tables(self, tables: Sequence[Any]) -> int:
        """Add tables that ``layout.table`` made, all rows or none, without a look at their ids; count the rows."""
        files = self.write_files(tables)
        self.commit(files)
        return sum(file.num_rows for file in files)

    def write_files(self, tables: Sequence[Any]) -> list[Any]:
        """Write tables that ``layout.table`` made into files of the store's that no reader sees before `commit`."""
        import pyarrow as pa

        with naming_store(self.path):
            write, table = self._lance.fragment.write_fragments, pa.concat_tables(tables)
            return write(table, self.path, storage_options=self.storage_options)

    def commit(self, files: Sequence[Any]) -> None:
        """Make what `write_files` returned, maybe elsewhere, a part of the store: all of it or none."""
        if files:
            with naming_store(self.path):
                # Appends never conflict: where another came first, Lance puts this one on top of it.
                latest, append = self._latest(), self._lance.LanceOperation.Append(list(files))
                self._dataset = self._lance.LanceDataset.commit(
                    self.path, append, read_version=latest.version, storage_options=self.storage_options
                )

    def delete(self, ids: Tensor | Sequence[int]) -> int:
        """Remove rows, all of them or none.

        Args:
            ids: Their ids; those that the store does not hold are skipped.

        Returns:
            How many were removed.
        """
        import pyarrow as pa

        wanted = np.unique(integers(ids, "ids"))
        with naming_store(self.path):
            # A merge takes any number of ids, which a filter in words does not.
            dataset = self._latest()
            table = pa.table([pa.array(wanted)], schema=pa.schema([dataset.schema.field("id")]))
            return dataset.merge_insert("id").when_matched_delete().execute(table)["num_deleted_rows"]

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
        with naming_store(self.path):
            self._latest().optimize.compact_files()
            self._latest().cleanup_old_versions(older_than=timedelta(seconds=keep_seconds))

    def files(self) -> list[int]:
        """Numbers of the files that hold the rows at this moment (Lance's fragments)."""
        with naming_store(self.path):
            return [part.fragment_id for part in self._latest().get_fragments()]

    def ids(self) -> Tensor:
        """(N,) int64: the ids of all rows at this moment."""
        return self.marks()[0]

    def marks(self) -> tuple[Tensor, Tensor]:
        """(N,) int64 twice: the ids of all rows at this moment, and the marks of their inputs, -1 without one."""
        with naming_store(self.path):
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
        given = self.operators if operators is None else operators
        names = [given] if isinstance(given, str) else given
        if unknown := [name for name in names if name not in self.operators]:
            raise BadInput(f"operators: unknown {unknown}; the store has {list(self.operators)}")
        width = sum(operator.packed_width for operator in self.layout.operators if operator.name in names)
        rows = positive("batch_size", batch_size) if batch_size is not None else max(1, _BATCH_BYTES // (width + 32))
        with naming_store(self.path):
            dataset = self._latest()
            present = {part.fragment_id: part for part in dataset.get_fragments()}
            if gone := [number for number in files or () if number not in present]:
                raise DataError(
                    f"{self.path} was compacted meanwhile and has no files {gone} now; name those of files()"
                )
            # The whole scan is of the version that was the latest when it began, whatever others write meanwhile.
            chosen = [part for number, part in present.items() if files is None or number in files]
            scan = dataset.scanner(
                columns=self.layout.columns(names), batch_size=rows, batch_readahead=2, fragments=chosen
            )
            total = sum(part.count_rows() for part in chosen)
            with progress_bar(progress, "reading codes", unit="row", total=total) as bar:
                for batch in scan.to_batches():
                    found = self.layout.rows(batch, names)
                    bar.update(len(found.ids))
                    yield found

    def unswitched(self) -> tuple[str, ...]:
        """Names of the operators that never switch on the rows of this moment, as `CodeIndex.unswitched` says."""
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
            index = _extend(index, part, self.path)
        if index is None:
            raise DataError(f"{self.path} is empty; append codes first")
        return index

    def require(self, other: Codes | SplineNetwork | StoreLayout, argument: str) -> None:
        """Refuse, by the argument's name, what is of another network or lacks an operator of the store."""
        layout = other if isinstance(other, StoreLayout) else StoreLayout.of(other)
        require_same_network(self.layout.metadata, layout.metadata, argument)
        if not set(self.layout.operators) <= set(layout.operators):
            theirs, ours = ([astuple(operator) for operator in x.operators] for x in (layout, self.layout))
            raise BadInput(f"{argument}: operators {theirs}, but the store {self.path} holds {ours}")

    def _latest(self) -> Any:
        self._dataset.checkout_latest()
        return self._dataset


def search_store(
    store: CodeStore,
    codes: Codes,
    k: int,
    weights: Weights | None = None,
    *,
    files: Sequence[int] | None = None,
    threads: int = 1,
    progress: bool | None = None,
) -> Neighbors:
    """Find the k nearest rows of a store to each query; only one batch of rows is in memory at a time.

    The result is that of ``store.index().search(...)``, to the last bit.

    Args:
        store: The store.
        codes: Codes of N queries, of at least the operators that have a weight.
        k: How many to find, at most the number of rows (but of some files only: fewer are filled up with id -1 at an
            infinite distance).
        weights: As for `CodeIndex.search`, by default equal for the operators that switch in the store; operators
            without a weight are not read.
        files: Numbers of the files to search; all by default.
        threads: Threads that compare.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Returns:
        The neighbors.

    Raises:
        BadInput: If the codes are of other operators or another network, or k, the weights or threads are not valid.
        DataError: If the store is damaged, one of the files is no longer there, or two neighbors have one id.
    """
    positive("threads", threads)
    require_rows(k, len(store) if files is None else k, "store")
    weights, left_out = switching_weights(weights, store.operators, store.unswitched)
    wanted = {name: share for name, share in operator_shares(weights, list(store.operators)).items() if share}

    found = (
        _extend(None, part, store.path).search(codes, min(k, len(part.ids)), wanted, threads=threads, progress=False)
        for part in store.batches(list(wanted), files=files, progress=progress)
    )
    return merge(found, codes.batch, k, left_out)


def merge(parts: Iterable[Neighbors], queries: int, k: int, left_out: tuple[str, ...]) -> Neighbors:
    """The k nearest of all, from those of each part, which are at infinite distances where there are no more."""
    best = Best(queries, k, np.dtype(np.float64))
    for part in parts:
        distances = part.distances.numpy()
        best.add(distances, np.where(np.isinf(distances), NO_ID, part.ids.numpy()))
    best.settle()
    # Two rows of one id are at one distance in a whole store, so that both are found where one is.
    filled = np.isfinite(best.keys)
    for row, full in zip(best.ids, filled, strict=True):
        if len(np.unique(row[full])) < full.sum():
            raise DataError(f"two rows of the store have one id, among {np.unique(row[full])[:5].tolist()}")
    return Neighbors(torch.from_numpy(np.where(filled, best.ids, -1)), torch.from_numpy(best.keys), left_out)


def _extend(index: CodeIndex | None, part: StoredCodes, path: str) -> CodeIndex:
    """Add rows of a store to an index; None stands for an empty one."""
    try:
        if index is None:
            return CodeIndex(part.codes, part.ids)
        index.add(part.codes, part.ids)
        return index
    except BadInput as error:
        raise DataError(f"{path} holds rows of one id ({error})") from error


def _flat(column: Any) -> np.ndarray:
    """The numbers of a column of lists, as an array of our own that may be written to."""
    return column.flatten().to_numpy(zero_copy_only=False).copy()


def _checksums(rows: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """CRC-32 of every row (n, ...), going on from the checksums (n,) of what stands before it."""
    starts = [0] * len(rows) if before is None else before.tolist()
    sums = (zlib.crc32(row, start) for row, start in zip(np.ascontiguousarray(rows), starts, strict=True))
    return np.fromiter(sums, dtype=np.uint32, count=len(rows))


def _load_lance() -> Any:
    try:
        import lance
    except ModuleNotFoundError as error:
        raise MaxAffineError("a code store needs pylance, which is absent; pip install 'maxaffine[store]'") from error
    return lance


@contextmanager
def naming_store(path: str) -> Iterator[None]:
    """Turn what Lance and Arrow raise, which is not one family, into an error that names the store."""
    try:
        yield
    except MaxAffineError as error:
        if isinstance(error, DataError) and path not in str(error):
            raise DataError(f"{path}: {error}; restore it, or encode the inputs again") from error
        raise
    except BaseException as error:
        # A panic of Lance, which some damage causes, is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "commit conflict" in str(error):
            raise DataError(
                f"{path} was changed by another process at the same moment; nothing is lost, do it again"
            ) from error
        raise DataError(
            f"{path} could not be read or written: {_words(error)}; check the path, that it is a store, permissions"
            " and free space; a damaged one has to be restored, or the inputs encoded again"
        ) from error


def _words(error: BaseException) -> str:
    """What an error says, without the trace and the places in its own source that Lance adds."""
    return re.sub(r",? \S+\.rs:\d+(:\d+)?", "", first_line(error))
