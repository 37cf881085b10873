"""The operators of a network as a table."""

from __future__ import annotations

from collections.abc import Sequence

from maxaffine._graph import OperatorRecord

HEADER = ("operator", "kind", "units", "pieces", "convex", "continuous")


def operator_rows(records: Sequence[OperatorRecord]) -> list[tuple[str, ...]]:
    """The cells, titles first."""
    rows = [
        (
            record.name,
            record.kind,
            " x ".join(map(str, record.units)) or "1",
            str(record.pieces),
            "yes" if record.convex else "no",
            "yes" if record.continuous else "no",
            record.held,
        )
        for record in records
    ]
    # Only a smooth network has a column of what is held.
    if not any(record.held for record in records):
        return [HEADER, *(row[:-1] for row in rows)]
    return [(*HEADER, "held at the input"), *rows]
