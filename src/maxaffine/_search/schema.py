"""How codes lie in a store: one Arrow row per input, one column of bytes per operator, a checksum for each.

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
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._codes import FINGERPRINT, Codes, PackedCodes
from maxaffine.errors import BadInput, DataError

_KEY = b"maxaffine"
_FORMAT, _VERSION = "maxaffine.store", 2
NO_LABEL = NO_MARK = -1


@dataclass(frozen=True, eq=False)
class StoredCodes:
    """Some rows of a store: ids and labels (n,) int64, -1 where an input has no label, and codes of the n inputs."""

    ids: Tensor
    labels: Tensor
    codes: Codes


@dataclass(frozen=True)
class StoreLayout:
    """What every row of a store holds: (name, pieces, units) of each operator, and free strings of the codes."""

    operators: tuple[tuple[str, int, tuple[int, ...]], ...]
    metadata: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, like: Codes | SplineNetwork) -> StoreLayout:
        """Read the layout off codes, or off the network that will make them."""
        if isinstance(like, Codes):
            operators = tuple((name, item.pieces, item.units) for name, item in like.items())
            metadata = dict(like.metadata)
        else:
            records = [record for record in like.operators if record.pieces > 1]
            operators = tuple((record.name, record.pieces, tuple(record.units)) for record in records)
            metadata = {FINGERPRINT: like.fingerprint}
        if not metadata.get(FINGERPRINT):
            raise BadInput(
                "codes: they name no network, so they could be mixed with another's; take them from net.codes(x), or"
                f" give metadata={{{FINGERPRINT!r}: ...}} to Codes"
            )
        layout = cls(operators, tuple(sorted(metadata.items())))
        if not any(layout.widths):
            raise BadInput("like: no operator has a code, as the network is affine; give one with pieces")
        return layout

    @property
    def fingerprint(self) -> str:
        """Of the network whose codes these are."""
        return dict(self.metadata)[FINGERPRINT]

    @property
    def names(self) -> tuple[str, ...]:
        """The operators' names."""
        return tuple(name for name, _, _ in self.operators)

    @property
    def _planes(self) -> list[tuple[int, int]]:
        """Bit planes of each operator, and bytes of one of them."""
        return [((pieces - 1).bit_length(), -(-prod(units) // 8)) for _, pieces, units in self.operators]

    @property
    def widths(self) -> list[int]:
        """Bytes of each operator's codes of one input."""
        return [bits * size for bits, size in self._planes]

    def columns(self, names: Sequence[str] | None = None) -> list[str]:
        """The columns to read for some operators, all of them by default."""
        wanted = [i for i, name in enumerate(self.names) if (names is None or name in names) and self.widths[i]]
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
        for i, (name, width) in enumerate(zip(self.names, self.widths, strict=True)):
            if width:
                fields.append(pa.field(f"codes_{i}", pa.list_(pa.uint8(), width), False, {"operator": name}))
        operators = [{"name": name, "pieces": pieces, "units": units} for name, pieces, units in self.operators]
        description = {"format": _FORMAT, "version": _VERSION, "operators": operators, "metadata": dict(self.metadata)}
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
            operators = tuple((x["name"], x["pieces"], tuple(x["units"])) for x in description["operators"])
            layout = cls(operators, tuple(sorted(description["metadata"].items())))
            present = {field.name: field.type for field in schema}
            for i, width in enumerate(layout.widths):
                if width and present[f"codes_{i}"].list_size != width:
                    raise DataError(f"operator {layout.names[i]!r} has another width than its units need")
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
            raise DataError(f"its description is damaged ({error!r})") from error
        return layout

    def table(self, ids: np.ndarray, labels: np.ndarray, codes: Codes, marks: np.ndarray | None = None) -> Any:
        """Codes of n inputs as an Arrow table: ids and labels (n,) int64, marks (n,) uint32 if they have any."""
        import pyarrow as pa

        rows = [codes[name].packed.numpy().reshape(len(ids), -1) for name in self.names]
        # The sum of id and label is where that of each operator goes on: codes at another input's place are damage too.
        heads = _checksums(np.stack([ids, labels], axis=1))
        sums = np.stack([_checksums(row, heads) for row in rows], axis=1)
        marked = pa.nulls(len(ids), pa.uint32()) if marks is None else pa.array(marks)
        columns = [pa.array(ids), pa.array(labels, mask=labels == NO_LABEL), marked]
        for array in [sums, *(row for row in rows if row.shape[1])]:
            flat = pa.array(np.ascontiguousarray(array).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, array.shape[1]))
        return pa.table(columns, schema=self.schema())

    def rows(self, batch: Any, names: Sequence[str] | None = None) -> StoredCodes:
        """Read the rows of a record batch back, of some operators or all, and check that they are what was written."""
        ids, labels = (batch.column(name).fill_null(NO_LABEL).to_numpy().copy() for name in ("id", "label"))
        sums = _flat(batch.column("crc32")).reshape(len(ids), len(self.operators))
        heads, operators = _checksums(np.stack([ids, labels], axis=1)), {}
        for i, (name, pieces, units) in enumerate(self.operators):
            if names is not None and name not in names:
                continue
            # Each operator has a sum of its own, so that those that are not read need not be there to check the others.
            rows = _flat(batch.column(f"codes_{i}")) if self.widths[i] else np.empty(0, np.uint8)
            rows = rows.reshape(len(ids), self.widths[i])
            if bad := ids[_checksums(rows, heads) != sums[:, i]][:5].tolist():
                raise DataError(f"the rows {bad} of operator {name!r} are not what was written")
            operators[name] = PackedCodes(pieces, units, torch.from_numpy(rows).reshape(len(ids), *self._planes[i]))
        codes = Codes(operators, len(ids), dict(self.metadata))
        return StoredCodes(torch.from_numpy(ids), torch.from_numpy(labels), codes)


def _flat(column: Any) -> np.ndarray:
    """The numbers of a column of lists, as an array of our own that may be written to."""
    return column.flatten().to_numpy(zero_copy_only=False).copy()


def _checksums(rows: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """CRC-32 of every row (n, ...), going on from the checksums (n,) of what stands before it."""
    starts = [0] * len(rows) if before is None else before.tolist()
    sums = (zlib.crc32(row, start) for row, start in zip(np.ascontiguousarray(rows), starts, strict=True))
    return np.fromiter(sums, dtype=np.uint32, count=len(rows))
