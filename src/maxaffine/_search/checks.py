"""Checks that every part of the room makes of ids, counts and the network that codes come from."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from maxaffine._codes import FINGERPRINT, Codes, RowLayout
from maxaffine._search.nearest import NO_ID
from maxaffine.errors import BadInput

Weights = Mapping[str, float] | Sequence[float]


def require_same_network(here: Mapping[str, str], there: Mapping[str, str], argument: str) -> None:
    """Refuse codes of another network, where the metadata of both name theirs."""
    ours, theirs = here.get(FINGERPRINT), there.get(FINGERPRINT)
    if ours and theirs and ours != theirs:
        raise BadInput(
            f"{argument}: codes of the network {theirs[:12]}, but these are of {ours[:12]} (another network, or other"
            " weights), so comparing them means nothing; compute them with the same network"
        )


def lay_out(
    codes: Codes, layouts: Sequence[RowLayout], metadata: Mapping[str, str], needed: Sequence[str]
) -> tuple[np.ndarray, ...]:
    """Lay out codes as rows (n, width) of an index, if they fit it; operators that are not needed get no rows."""
    require_same_network(metadata, codes.metadata, "codes")
    rows = []
    for layout in layouts:
        if layout.name not in needed:
            rows.append(np.empty((codes.batch, 0), np.uint8))
            continue
        if layout.name not in codes:
            raise BadInput(f"codes: operator {layout.name!r} is absent; the index needs {list(needed)}")
        found = codes[layout.name]
        if (found.pieces, found.units) != (layout.pieces, layout.units):
            raise BadInput(
                f"codes: operator {layout.name!r} has units {found.units} and {found.pieces} pieces, in the index units"
                f" {layout.units} and {layout.pieces}; take both from the same network"
            )
        rows.append(layout.rows(found))
    return tuple(rows)


def switching_weights(
    weights: Weights | None, operators: Sequence[str], unswitched: Callable[[], Sequence[str]]
) -> tuple[Weights | None, tuple[str, ...]]:
    """Without weights, equal ones for the operators that switch, and those left out; all count where none does."""
    left_out = () if weights is not None else tuple(unswitched())
    if not left_out or len(left_out) == len(operators):
        return weights, ()
    return {name: 1.0 for name in operators if name not in left_out}, left_out


def new_ids(
    ids: Tensor | Sequence[int] | np.ndarray | None, count: int, present: np.ndarray, holder: str
) -> np.ndarray:
    """Return the ids (count,) int64 of new rows, if none is there already; they go on from the highest by default."""
    if ids is None:
        first = int(present.max(initial=-1)) + 1
        return np.arange(first, first + count)
    array = integers(ids, "ids")
    if len(array) != count:
        raise BadInput(f"ids: {len(array)}, but there are {count} inputs; give one for each")
    if count and (array.min() < 0 or array.max() == NO_ID):
        raise BadInput(f"ids: they run from {array.min()} to {array.max()}; give integers from 0 to 2^63 - 2")
    unique, counts = np.unique(array, return_counts=True)
    if len(unique) < count:
        raise BadInput(f"ids: {unique[counts > 1][:5].tolist()} occur twice; every input needs an id of its own")
    if taken := np.intersect1d(array, present)[:5].tolist():
        raise BadInput(f"ids: {taken} are in the {holder} already; remove them first, or give new ids")
    return array


def require_rows(k: int, count: int, holder: str) -> None:
    """Refuse to look for more neighbors than there are rows."""
    if positive("k", k) > count:
        raise BadInput(f"k={k}, but the {holder} holds {count} rows; ask for fewer, or give it more")


def note_left_out(names: Sequence[str]) -> list[str]:
    """Say which operators are not compared, in a sentence without a full stop, or nothing where all are."""
    what = "1 operator that never switches" if len(names) == 1 else f"{len(names)} operators that never switch"
    return [f"left out: {what} on the data ({', '.join(names)})"] if names else []


def positive(name: str, value: int) -> int:
    """Return a count, if it is one that anything can reach."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise BadInput(f"{name}={value!r}; give an integer of at least 1, and below 2^31")
    return value


def integers(values: Tensor | Sequence[int] | np.ndarray, name: str) -> np.ndarray:
    """Read a plain list of integers: (N,) int64, a copy."""
    try:
        array = values.cpu().numpy() if isinstance(values, Tensor) else np.array(values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name}: they cannot be read as integers ({error}); give (N,) int64") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise BadInput(f"{name}: shape {array.shape} and dtype {array.dtype}; give (N,) int64")
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{name}: {array.max()} does not fit int64; number them from 0")
    return array.astype(np.int64)
