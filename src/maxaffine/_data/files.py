"""Arrays of any usual convention, from .npz, .npy and IDX files (the format of MNIST); nothing is ever unpickled."""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .dataset import UNLABELED, DataSet, Split, printable, split_by_class

_MOST_CLASSES = 100_000
_WHOLE = (("inputs", "labels"), ("x", "y"))
_PARTS = (
    (("train_inputs", "train_labels"), ("test_inputs", "test_labels")),
    (("x_train", "y_train"), ("x_test", "y_test")),
)
_KEYS = (
    "expected the keys inputs and labels (or x and y), or train_inputs, train_labels, test_inputs and test_labels "
    "(or x_train, y_train, x_test and y_test), and optionally class_names and rate, in upper or lower case; the keys "
    "of labels may be left out"
)
_ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MEMBER = re.compile(r"(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
_CHUNK = 1 << 22


def load_npz(
    path: Path,
    channels: str | None,
    test_fraction: float,
    seed: int,
    values: bool = False,
    target: str | None = None,  # the key that stands in place of labels or y
) -> DataSet:
    """Read a .npz file with the keys that `load` documents."""
    found = _read(path)
    if isinstance(found, np.ndarray):
        raise DataError(f"{path}: holds one array, not a .npz archive; rename it to .npy")
    arrays = {key.lower(): array for key, array in found.items()}
    if len(arrays) < len(found):
        raise DataError(f"{path}: of its keys {sorted(found)} two differ by upper and lower case alone; rename one")
    if others := [key for key, array in found.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{path}: {others[0]} is not a numpy array; write the file with np.savez")

    wanted = "" if target is None else target.lower()

    def key(usual: str) -> str:
        # A function, for a name may hold what a replacement would read as a reference.
        return usual if target is None else re.sub(r"labels|\by\b|\by(?=_)", lambda _: wanted, usual)

    def part(inputs: str, labels: str) -> Split:
        if target is not None and labels not in arrays:
            raise DataError(f"{path}: target: there is no array {labels!r}; its keys are {sorted(found)}")
        return split_of(arrays[inputs], arrays.get(labels), f"{path} ({inputs} and {labels})", channels, values)

    def named(data: DataSet) -> DataSet:
        one = target is not None and (data.train.targets is None or data.outputs == 1)
        return replace(data, rate=_rate(arrays, path), target_names=(target,) if one else ())

    name = printable(path.stem)
    for inputs, labels in _WHOLE:
        if inputs in arrays:
            whole, labels = part(inputs, key(labels)), key(labels)
            return named(split_by_class(name, whole, _class_names(arrays, path, labels, whole), test_fraction, seed))
    for train_keys, test_keys in _PARTS:
        if {train_keys[0], test_keys[0]} <= arrays.keys():
            labels = (key(train_keys[1]), key(test_keys[1]))
            if sum(key in arrays for key in labels) == 1:
                raise DataError(f"{path}: only one of {labels[0]} and {labels[1]} is there; give both, or none")
            train, test = (part(keys[0], label) for keys, label in zip((train_keys, test_keys), labels, strict=True))
            return named(DataSet(name, train, test, _class_names(arrays, path, labels[0], train, test)))
    raise DataError(f"{path}: its keys are {sorted(found)}; {_KEYS}")


def load_array(
    path: Path, labels: Path | None, channels: str | None, test_fraction: float, seed: int, values: bool = False
) -> DataSet:
    """Read the inputs from one .npy or IDX file and the labels, where there are any, from another."""
    inputs, numbers = _read_array(path), None if labels is None else _read_array(labels)
    whole = split_of(inputs, numbers, str(path) if labels is None else f"{path} with {labels}", channels, values)
    names = UNLABELED if labels is None or whole.targets is not None else number_names(whole)
    return split_by_class(printable(path.stem), whole, names, test_fraction, seed)


def _rate(arrays: Mapping[str, np.ndarray], path: Path) -> float | None:
    """The sampling rate in the file, where it says one."""
    rate = arrays.get("rate")
    if rate is None:
        return None
    if rate.size != 1 or rate.dtype.kind not in "fiu":
        raise DataError(f"{path}: rate is {rate.shape} of {rate.dtype}; store one number, in samples per second")
    return float(rate.reshape(()))


def _class_names(arrays: Mapping[str, np.ndarray], path: Path, labels: str, *splits: Split) -> tuple[str, ...]:
    """The names in the file; else numbers, where there are labels."""
    names = arrays.get("class_names")
    if names is None:
        return number_names(*splits) if labels in arrays and splits[0].targets is None else UNLABELED
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{path}: class_names is {names.shape} of {names.dtype}; store a one-dimensional array of str")
    return tuple(map(str, names))


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
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # what numpy and zipfile raise on damaged files is not one family
        if "pickle" in str(error):
            raise DataError(
                f"{path}: holds pickled Python objects or is not a numpy file at all; unpickling can run any code, so "
                "it is refused: save plain numeric arrays with np.save or np.savez"
            ) from error
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: unreadable ({reason}); copy or download it again") from error


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file: two zero bytes, the element type, the number of dimensions, the dimensions, the elements."""
    # All numbers are big-endian: Y. LeCun, C. Cortes, C. Burges, The MNIST database, section "File formats".
    try:
        with _open(Path(path)) as stream:
            element, shape = _header(stream, path)
            expected = math.prod(shape) * element.itemsize
            # One byte more shows whether it is longer; not all of it, for any file may be given, of any size. In
            # chunks, for a header may promise more than there is memory.
            content = bytearray()
            while chunk := stream.read(min(_CHUNK, expected + 1 - len(content))):
                content += chunk
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable ({error}); check its permissions, or copy or download it again") from error
    found = len(content)
    if found != expected or expected == 0:
        problem = "truncated" if found < expected else "longer than its header says" if expected else "empty"
        raise DataError(
            f"{path}: {problem}; the header says {shape} of {element.itemsize} bytes = {expected} bytes, the file "
            f"holds {'more' if found > expected else found}; copy or download it again"
        )
    return np.frombuffer(content, element).reshape(shape).astype(element.newbyteorder("="))


def members(folder: Path) -> dict[tuple[str, str], Path]:
    """The files of an MNIST-like folder by part (train, test) and what they hold (images, labels); plain before .gz."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if match := _MEMBER.fullmatch(path.name):
            part = "train" if match["part"] == "train" else "test"
            found.setdefault((part, match["what"]), path)
    return found


def _open(path: Path) -> BufferedIOBase:
    # gzip is told by its first bytes: a file's name may have lost its suffix.
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _header(stream: BufferedIOBase, path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
    first = stream.read(4)
    if len(first) < 4 or first[:2] != b"\0\0" or first[2] not in _ELEMENTS or not 1 <= first[3] <= 8:
        raise DataError(
            f"{path}: not an IDX file (it begins with {first.hex(' ') or 'nothing'}, not with 00 00, an element "
            "type and a number of dimensions); known files are IDX (plain or .gz), .npz, .npy, .csv and .tsv"
        )
    sizes = stream.read(4 * first[3])
    if len(sizes) < 4 * first[3]:
        raise DataError(f"{path}: truncated inside its {4 + 4 * first[3]}-byte header; copy or download it again")
    return np.dtype(_ELEMENTS[first[2]]), struct.unpack(f">{first[3]}I", sizes)


def as_split(inputs: np.ndarray, labels: np.ndarray | None, where: str, channels: str | None = None) -> Split:
    """Bring inputs and labels in any form that `load` describes to a `Split`; errors begin with ``where``."""
    try:
        values = _as_inputs(inputs, channels)
        return Split(values, torch.zeros(len(values), dtype=torch.int64) if labels is None else _as_labels(labels))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def split_of(
    inputs: np.ndarray, labels: np.ndarray | None, where: str, channels: str | None = None, values: bool = False
) -> Split:
    """The same, where labels that are floats, or are said to be values, are targets."""
    if labels is None or labels.dtype.kind not in ("fiub" if values else "f"):
        return as_split(inputs, labels, where, channels)
    bare = as_split(inputs, None, where, channels)
    if labels.ndim == 2 and labels.shape[1] > 1 and (labels.max(1) == 1).all() and (labels.sum(1) == 1).all():
        as_split(inputs, labels, where, channels)  # one-hot rows are classes, which it refuses with the cure
    rows = labels[:, None] if labels.ndim == 1 else labels
    try:
        with np.errstate(over="ignore"):
            return replace(bare, targets=torch.from_numpy(rows.astype(np.float32)))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def number_names(*splits: Split) -> tuple[str, ...]:
    """Name the classes of a source that names none: "0", "1", ... up to its highest label."""
    highest = max(int(split.labels.max()) for split in splits)
    if highest >= _MOST_CLASSES:
        raise DataError(f"labels: {highest} is not a class number; number the classes from 0")
    return tuple(str(number) for number in range(highest + 1))


def as_float32(array: np.ndarray, images: bool) -> np.ndarray:
    """Numbers as float32, bytes divided by their largest; images of floats must be in [0, 1] already."""
    if array.dtype in (np.uint8, np.uint16):
        return np.divide(array, np.iinfo(array.dtype).max, dtype=np.float32)
    if array.dtype.kind not in "fiub" or (images and array.dtype.kind in "iu"):
        raise DataError(
            f"inputs: {array.dtype} has no known range; store images as uint8, uint16 or floats in [0, 1], and tabular "
            "rows as numbers"
        )
    with np.errstate(over="ignore"):  # what overflows float32 is reported below as not finite
        values = array.astype(np.float32)
    if wrong := int(np.count_nonzero(~np.isfinite(values))):
        raise DataError(f"inputs: {wrong} of {values.size} values are NaN or infinite in float32; replace them")
    if images and (values.min() < 0 or values.max() > 1):
        raise DataError(
            f"inputs: the images' values lie in [{values.min():g}, {values.max():g}], not in [0, 1]; scale them, or "
            "store bytes as uint8 (the network's own normalization belongs into it: models.Normalized, --mean and "
            '--std); for signals (N, C, T) pass channels="first", and give volumes (N, D, H, W) a channel by '
            "inputs[:, None]"
        )
    return values


def _as_inputs(array: np.ndarray, channels: str | None) -> Tensor:
    if array.ndim not in (2, 3, 4, 5) or array.size == 0:
        problem = "is empty" if array.size == 0 else f"has {array.ndim} dimensions"
        raise DataError(
            f"inputs: shape {array.shape} {problem}; give (N, C, H, W) or (N, H, W) images, (N, C, D, H, W) volumes, or"
            " (N, D) rows"
        )
    # Sides of 1 or 3 pixels are rare and channels of other numbers too: where the last axis looks like channels and the
    # second does not, a person has to say which they are.
    if array.ndim > 3 and channels is None and array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3):
        last, first = ("(N, H, W, C)", "(N, C, H, W)") if array.ndim == 4 else ("(N, D, H, W, C)", "(N, C, D, H, W)")
        raise DataError(
            f'inputs: shape {array.shape} looks like {last}; pass channels="last", or channels="first" if it is '
            f"{first} after all"
        )
    signals = array.ndim == 3 and channels is not None
    values = as_float32(array, images=array.ndim in (3, 4) and not signals)
    if values.ndim > 2 and channels == "last":
        values = np.moveaxis(values, -1, 1)
    elif values.ndim == 3 and not signals:
        values = values[:, None]
    return torch.from_numpy(np.ascontiguousarray(values))


def _as_labels(array: np.ndarray) -> Tensor:
    # A column of labels, as tables have it, is a row of them; one-hot rows are not guessed at.
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1 or flat.dtype.kind not in "iub":
        raise DataError(
            f"labels: {array.dtype} of shape {array.shape}, not integers of shape (N,); number the classes from 0 "
            "(one-hot rows with .argmax(1)), or leave the labels out for a network that is not a classifier"
        )
    if len(flat) and flat.max() > np.iinfo(np.int64).max:  # which the conversion would make negative
        raise DataError(f"labels: {flat.max()} is not a class number; number the classes from 0")
    return torch.from_numpy(flat.astype(np.int64))
