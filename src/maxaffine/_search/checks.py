"""Checks that every part of the room makes of ids, counts and the network that codes come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from maxaffine._codes import FINGERPRINT, Codes, RowLayout
from maxaffine._search.nearest import NO_ID
from maxaffine.errors import BadInput


def same_network(here: Mapping[str, str], there: Mapping[str, str], argument: str) -> None:
    """Refuse codes of another network, where both name theirs.

    Args:
        here: Metadata of the reference.
        there: Metadata of what is compared with it.
        argument: Name of the latter for the message.

    Raises:
        BadInput: If both have a fingerprint and they differ.
    """
    ours, theirs = here.get(FINGERPRINT), there.get(FINGERPRINT)
    if ours and theirs and ours != theirs:
        raise BadInput(
            f"{argument}: codes of the network {theirs[:12]}, but these are of {ours[:12]} (another network, or other"
            " weights), so comparing them means nothing; compute them with the same network"
        )


def laid_out(
    codes: Codes, layouts: Sequence[RowLayout], metadata: Mapping[str, str], needed: Sequence[str]
) -> tuple[np.ndarray, ...]:
    """Lay out codes as the rows of an index.

    Args:
        codes: Of n inputs.
        layouts: The index's operators.
        metadata: The index's, which may name its network.
        needed: The operators that the codes must have; the others get no rows.

    Returns:
        (n, width) uint8 per operator of the index.

    Raises:
        BadInput: If they are of another network, or an operator is absent or has other units or pieces.
    """
    same_network(metadata, codes.metadata, "codes")
    names = [layout.name for layout in layouts if layout.name in needed]
    for layout in layouts:
        if layout.name not in needed:
            continue
        if layout.name not in codes:
            raise BadInput(f"codes: operator {layout.name!r} is absent; the index needs {names}")
        found = codes[layout.name]
        if (found.pieces, found.units) != (layout.pieces, layout.units):
            raise BadInput(
                f"codes: operator {layout.name!r} has units {found.units} and {found.pieces} pieces, in the index units"
                f" {layout.units} and {layout.pieces}; take both from the same network"
            )
    return tuple(
        layout.rows(codes[layout.name]) if layout.name in needed else np.empty((codes.batch, 0), np.uint8)
        for layout in layouts
    )


def as_ids(ids: Tensor | Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Check the ids of new rows.

    Args:
        ids: Integers.
        count: How many there must be.

    Returns:
        (count,) int64, a copy.

    Raises:
        BadInput: If they are no integers of at least 0, are another number of them, or one occurs twice.
    """
    array = integers(ids)
    if len(array) != count:
        raise BadInput(f"ids are {len(array)}, but there are {count} inputs; give one id per input")
    if count and (array.min() < 0 or array.max() == NO_ID):
        raise BadInput(f"ids run from {array.min()} to {array.max()}; give integers from 0 to 2^63 - 2")
    unique, counts = np.unique(array, return_counts=True)
    if len(unique) < count:
        raise BadInput(f"ids: {unique[counts > 1][:5].tolist()} occur twice; every input needs an id of its own")
    return array


def as_labels(labels: Tensor | Sequence[int], count: int) -> np.ndarray:
    """Check the labels of new rows.

    Args:
        labels: Integers of at least 0, or -1 for none.
        count: How many there must be.

    Returns:
        (count,) int64.

    Raises:
        BadInput: If they are something else.
    """
    array = integers(labels, "labels")
    if len(array) != count or (array < -1).any():
        raise BadInput(f"labels: expected {count} integers of at least 0, or -1 for none; got {len(array)}")
    return array


def left_out_words(names: Sequence[str]) -> str:
    """Say which operators are not compared.

    Args:
        names: Those that never switch, at least one.

    Returns:
        One sentence, without a full stop.

    >>> left_out_words(["relu"])
    'left out: 1 operator that never switches on the data (relu)'
    """
    what = "1 operator that never switches" if len(names) == 1 else f"{len(names)} operators that never switch"
    return f"left out: {what} on the data ({', '.join(names)})"


def positive(name: str, value: int) -> int:
    """Check a count.

    Args:
        name: The argument, for the message.
        value: What was given.

    Returns:
        It.

    Raises:
        BadInput: If it is no integer of at least 1, or one that no count of anything reaches.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise BadInput(f"{name}={value!r}; give an integer of at least 1, and below 2^31")
    return value


def options(recall: float, seed: int, **numbers: int | None) -> None:
    """Check what a preparation is asked for.

    Args:
        recall: A fraction.
        seed: Of faiss and numpy.
        numbers: Counts by argument; None where it is to be chosen.

    Raises:
        BadInput: If the recall is none, the seed does not fit, or a count is no integer of at least 1.
    """
    for name, value in numbers.items():
        if value is not None:
            positive(name, value)
    if not 0 < recall <= 1:
        raise BadInput(f"recall={recall!r}; give a fraction above 0 and at most 1")
    if not 0 <= seed < 2**31:
        raise BadInput(f"seed={seed}; give a whole number from 0 to 2^31 - 1")


def integers(values: Tensor | Sequence[int] | np.ndarray, name: str = "ids") -> np.ndarray:
    """Read integers.

    Args:
        values: They.
        name: The argument, for the message.

    Returns:
        (N,) int64, a copy.

    Raises:
        BadInput: If they are of another kind, do not fit, or are no plain list.
    """
    try:
        array = values.cpu().numpy() if isinstance(values, Tensor) else np.array(values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} cannot be read as integers ({error}); give (N,) int64") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise BadInput(f"{name} have shape {array.shape} and dtype {array.dtype}; give (N,) int64")
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{name}: {array.max()} does not fit int64; number them from 0")
    return array.astype(np.int64)
