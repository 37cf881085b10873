"""The .npz and .npy files, read without ever unpickling anything."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import as_split, number_names
from .dataset import UNLABELED, DataSet, Split, printable, split_by_class
from .idx import read_idx

_WHOLE = (("inputs", "labels"), ("x", "y"))
_PARTS = (
    (("train_inputs", "train_labels"), ("test_inputs", "test_labels")),
    (("x_train", "y_train"), ("x_test", "y_test")),
)
_KEYS = (
    "expected the keys inputs and labels (or x and y), or train_inputs, train_labels, test_inputs and test_labels "
    "(or x_train, y_train, x_test and y_test), and optionally class_names, in upper or lower case; the keys of "
    "labels may be left out"
)
# What numpy and zipfile raise on damaged files; RuntimeError is an encrypted archive, KeyError a member that is gone.
_READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def load_npz(path: Path, channels: str | None, test_fraction: float, seed: int) -> DataSet:
    """Read a .npz file with the keys that `maxaffine.data.load` documents.

    Args:
        path: The file.
        channels: As in `as_split`.
        test_fraction: As in `split_by_class`; used when the file has no test part.
        seed: As in `split_by_class`.

    Returns:
        The data set.

    Raises:
        DataError: The file or one of its arrays is unreadable or malformed, or the keys are others.
    """
    found = _read_npz(path)
    arrays = {key.lower(): array for key, array in found.items()}
    if len(arrays) < len(found):
        raise DataError(f"{path}: of its keys {sorted(found)} two differ by upper and lower case alone; rename one")
    named = arrays.get("class_names")
    names = None if named is None else _class_names(named, path)
    for keys in _WHOLE:
        if keys[0] in arrays:
            whole = _pair(arrays, keys, path, channels)
            return split_by_class(
                printable(path.stem), whole, names or _names(arrays, keys[1:], whole), test_fraction, seed
            )
    for train_keys, test_keys in _PARTS:
        if {train_keys[0], test_keys[0]} <= arrays.keys():
            labels = (train_keys[1], test_keys[1])
            if sum(key in arrays for key in labels) == 1:
                raise DataError(f"{path}: only one of {labels[0]} and {labels[1]} is there; give both, or none")
            train, test = (_pair(arrays, keys, path, channels) for keys in (train_keys, test_keys))
            return DataSet(printable(path.stem), train, test, names or _names(arrays, labels, train, test))
    raise DataError(f"{path}: its keys are {sorted(found)}; {_KEYS}")


def load_array(path: Path, labels: Path | None, channels: str | None, test_fraction: float, seed: int) -> DataSet:
    """Read the inputs from one .npy or IDX file and the labels from another.

    Args:
        path: File of the inputs.
        labels: File of the labels; None where there are none.
        channels: As in `as_split`.
        test_fraction: As in `split_by_class`.
        seed: As in `split_by_class`.

    Returns:
        The data set.
    """
    if labels is None:
        whole = as_split(_read_array(path), None, str(path), channels)
        return split_by_class(printable(path.stem), whole, UNLABELED, test_fraction, seed)
    whole = as_split(_read_array(path), _read_array(labels), f"{path} with {labels}", channels)
    return split_by_class(printable(path.stem), whole, number_names(whole), test_fraction, seed)


def _class_names(array: np.ndarray, path: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DataError(f"{path}: class_names is {array.shape} of {array.dtype}; store a one-dimensional array of str")
    return tuple(str(name) for name in array)


def _pair(arrays: Mapping[str, np.ndarray], keys: tuple[str, str], path: Path, channels: str | None) -> Split:
    return as_split(arrays[keys[0]], arrays.get(keys[1]), f"{path} ({' and '.join(keys)})", channels)


def _names(arrays: Mapping[str, np.ndarray], labels: Sequence[str], *splits: Split) -> tuple[str, ...]:
    return number_names(*splits) if labels[0] in arrays else UNLABELED


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = _read(path)
    if isinstance(arrays, np.ndarray):
        raise DataError(f"{path}: holds one array, not a .npz archive; rename it to .npy")
    if others := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{path}: {others[0]} is no numpy array; write the file with np.savez")
    return arrays


def _read_array(path: Path) -> np.ndarray:
    if path.suffix != ".npy":
        return read_idx(path)
    array = _read(path)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: is a .npz archive, not one array; rename it to .npz")
    return array


def _read(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        # np.load leaves the file open when the archive in it is damaged, unless it is given the open file.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except _READ_ERRORS as error:
        raise DataError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    if "pickle" in str(error):
        return (
            f"{path}: holds pickled Python objects or is no numpy file at all; unpickling can run any code, so it is "
            "refused: save plain numeric arrays with np.save or np.savez"
        )
    return f"{path}: unreadable ({error or type(error).__name__}); copy or download it again"
