"""The door of the room: find out what a name or a path stands for, or the bytes of a stranger, and read it."""

import difflib
import io
import os
import tokenize
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput, DataError
from .dataset import DataSet, Split, printable, read_names, split_by_class
from .files import as_float32, as_split, load_array, load_npz, members, number_names, read_idx
from .folders import FolderFiles, folder_files, holds_sound, load_folder
from .images import open_picture, pixels_of
from .sounds import is_sound, other_rate, sound_of
from .tables import is_table, load_table, split_names

MOST_BYTES = 16 * 2**20
MOST_PIXELS = 32 * 10**6
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_NPY_START = b"\x93NUMPY"
NAMES = ("digits", "fashion-mnist")
TASKS = ("classes", "value", "values", "field")
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_GARMENTS = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"


def load(
    name_or_path: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: str | None = None,
    class_names: str | os.PathLike[str] | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    task: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> DataSet:
    """Load a data set by its name or from files: images, signals or rows of numbers, with class numbers or values.

    | ``name_or_path`` | what is read |
    | --- | --- |
    | ``digits`` | scikit-learn's 8 x 8 digits (bundled with it; no download) |
    | ``fashion-mnist`` | its IDX files, from `folder`, MAXAFFINE_DATA, or Debian's package ``dataset-fashion-mnist`` |
    | a folder with IDX files | the four files of an MNIST-like set, plain or .gz |
    | any other folder | images or WAV files by class: ``folder/<class>/<file>``, or the same inside ``train/`` and \
``test/`` (or ``val/``), classes and files in natural order; files without class folders have no labels |
    | ``*.npz`` | ``inputs`` and ``labels`` (or ``x``, ``y``); or ``train_inputs``, ``train_labels``, ``test_inputs``, \
``test_labels`` (or ``x_train``, ``y_train``, ``x_test``, ``y_test``); optionally ``class_names``, and ``rate`` of \
signals |
    | ``*.npy`` or one IDX file | the inputs; `labels` names the file of their labels |
    | ``*.csv``, ``*.tsv`` | a table: a line of column names, then a line for each row, between commas, semicolons \
(numbers then may have decimal commas) or tabs |

    Of a table every column but the `target` is a feature, as it is: a number in every row. Nothing is imputed or
    encoded; missing values, text and dates are refused by line and column, and `drop` leaves columns out. A target of
    text is classes by name, and one of numbers is values, unless they are whole and few: at most 20 different ones in
    rows ten times as many, or two. `task` says which it is where that rule is wrong. Labels of arrays that are floats
    are values too, (N,) or (N, K).

    In arrays uint8 is divided by 255 and uint16 by 65535; images of floats must be in [0, 1] already, while volumes
    (N, C, D, H, W) may hold any numbers. Arrays of (N, H, W) get one channel, unless `channels` is given, which makes
    them signals (N, C, T); arrays of (N, D) stay tabular rows. Images of a folder are gray where every file is gray,
    else RGB without transparency; 16-bit gray keeps its precision. WAV files (PCM of any width, or floats) are signals
    (N, 1, T), whole numbers in [-1, 1), floats as they are; all have one length, and one sampling rate, which becomes
    the data's `rate`. Hidden files are skipped, every other file must be one of the same kind. Labels may be missing:
    then there is one class, ``unlabeled``. Nothing is ever unpickled.

    Args:
        name_or_path: A name of `NAMES`, a file or a folder.
        folder: Where the files of the named set ``fashion-mnist`` are.
        labels: File of the labels, .npy or IDX, for inputs in a .npy or IDX file.
        size: (height, width) or one number for both, to which the images of a folder are resized.
        channels: Where the channels of arrays of images or volumes (four- or five-dimensional) or signals
            (three-dimensional) in .npz, .npy and IDX files are: ``first`` or ``last``. ``first`` for WAV files of
            several channels, refused otherwise.
        class_names: Names of a network's outputs, in their order, where that is another one than the data's: see
            `DataSet.ordered`.
        target: Column of a table that is to be predicted, by name; several for several values (a sequence, or a text
            with commas). The last one by default. Of an .npz file the array in place of ``labels`` or ``y``.
        drop: Columns of a table to leave out, likewise.
        task: What is to be predicted: ``classes``, or ``value`` (``values``, ``field``); by default as the rule says.
        test_fraction: Share of each class that is set aside for testing, when the source has no test part.
        seed: Seed of that split; the same seed gives the same split.

    Returns:
        The data set: inputs (N, C, H, W), (N, C, D, H, W), (N, C, T) or (N, D) float32, labels (N,) int64 or targets
        (N, K) float32, for training and for testing.

    Raises:
        BadInput: An option has a wrong value or does not apply to this source.
        DataError: There is no such data set, or something in it is missing, unreadable or malformed.

    >>> data = load("digits")
    >>> data
    DataSet('digits', input_shape=(1, 8, 8), train 1438, test 359, 10 classes)
    """
    if channels not in (None, "first", "last"):
        raise BadInput(f"channels: {channels!r} is neither 'first' nor 'last'; choose one, or None")
    if task not in (None, *TASKS):
        raise BadInput(f"task: {task!r} is not a task; choose one of {', '.join(TASKS)}")
    # Read first: a mistyped name must not cost the reading of the data.
    names = None if class_names is None else read_names(class_names)
    given = {"folder": folder, "labels": labels, "size": size, "channels": channels, "target": target, "drop": drop}
    with _naming(name_or_path):
        data = _read(name_or_path, given, task, test_fraction, seed)
    return data if names is None else data.ordered(names)


def load_part(
    name_or_path: str | os.PathLike[str],
    part: str = "train",
    *,
    labels: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: str | None = None,
    class_names: str | os.PathLike[str] | Sequence[str] | None = None,
    seed: int = 0,
    **table: Any,
) -> tuple[Split | FolderFiles, tuple[str, ...]]:
    """One part of what `load` reads, train or test, with the names of its classes or targets; options as for `load`."""
    if part not in ("train", "test"):
        raise BadInput(f"part: {part!r} is neither 'train' nor 'test'; choose one")
    with _naming(name_or_path):
        path = _path(name_or_path)
        # Files of a folder stay on disk until they are taken; a folder without parts is taken as a whole.
        if name_or_path not in NAMES and path.is_dir() and not members(path):
            columns = {name: table.get(name) for name in ("target", "drop")}
            options = {"labels": labels, "channels": channels, "size": size} | columns
            _allow_folder(path, options)
            files = folder_files(path, options, part)
            files = files if class_names is None else files.ordered(class_names)
            return files, files.class_names
    whole = load(name_or_path, labels=labels, size=size, channels=channels, class_names=class_names, seed=seed, **table)
    chosen = whole.train if part == "train" else whole.test
    # A name for every output of a network for this data.
    return chosen, whole.class_names if chosen.targets is None else ("",) * whole.outputs


def _read(
    name: str | os.PathLike[str], given: dict[str, Any], task: str | None, test_fraction: float, seed: int
) -> DataSet:
    """Find out what a name stands for, refuse the options that do not apply to it, and read it."""
    if name == "digits":
        _allow(given, "digits")
        return _load_digits(test_fraction, seed)
    if name == "fashion-mnist":
        _allow(given, "fashion-mnist", "folder")
        return _load_fashion_mnist(_path(given["folder"]) if given["folder"] else None)
    path = _path(name)
    if not path.exists():
        close = difflib.get_close_matches(str(name), NAMES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"{name}: neither a data set ({', '.join(NAMES)}) nor a file or folder; {hint}check it")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{name}: is a pipe, a socket or a device, which is not read; save it as a file first")
    if path.is_dir() and members(path):
        _allow(given, "a folder of IDX files")
        return _load_idx_folder(path, printable(path.name))
    if path.is_dir():
        _allow_folder(path, given)
        return load_folder(path, given, test_fraction, seed)
    if is_table(path):
        _allow(given, "a table", "target", "drop")
        columns = split_names(given["target"]), split_names(given["drop"])
        return load_table(path, *columns, task, test_fraction, seed)
    valued = task not in (None, "classes")
    if path.suffix == ".npz":
        _allow(given, "a .npz file", "channels", "target")
        keys = split_names(given["target"])
        if len(keys) > 1:
            raise BadInput(f"target: {', '.join(keys)} are several arrays; give one, (N,) or (N, K)")
        return load_npz(path, given["channels"], test_fraction, seed, valued, keys[0] if keys else None)
    _allow(given, "a .npy or IDX file", "labels", "channels")
    labels = _path(given["labels"]) if given["labels"] else None
    return load_array(path, labels, given["channels"], test_fraction, seed, valued)


def _path(name: str | os.PathLike[str]) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise DataError(f"{name}: lies in the home of nobody here; check the name after ~") from error


@contextmanager
def _naming(source: str | os.PathLike[str]) -> Iterator[None]:
    """Name the source of which the machine refuses something."""
    try:
        yield
    except (OSError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{source}: cannot be read ({reason}); check its name, permissions and size") from error


def _allow(given: dict[str, Any], source: str, *applicable: str) -> None:
    for name, value in given.items():
        if value is not None and name not in applicable:
            raise BadInput(f"{name}: does not apply to {source}; leave it out")


def _allow_folder(path: Path, given: dict[str, Any]) -> None:
    if not holds_sound(path):
        return _allow(given, "a folder of images", "size")
    if given["channels"] == "last":
        raise BadInput('channels: WAV files are read as (C, T); pass "first", or leave it out for one channel')
    return _allow(given, "a folder of WAV files", "channels")


def _load_digits(test_fraction: float, seed: int) -> DataSet:
    """Read scikit-learn's bundled digits: 1797 gray images of 8 x 8 pixels, their sixteen levels divided by 16."""
    # Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998, test part.
    try:
        from sklearn.datasets import load_digits as bundled
    except ModuleNotFoundError as error:
        raise DataError("digits: scikit-learn holds them and is absent; pip install 'maxaffine[data]'") from error
    images, labels = bundled(return_X_y=True)
    inputs = np.asarray(images, dtype=np.float32).reshape(-1, 8, 8) / 16
    whole = as_split(inputs, np.asarray(labels), "digits")
    return split_by_class("digits", whole, tuple("0123456789"), test_fraction, seed)


def _load_fashion_mnist(folder: Path | None) -> DataSet:
    """Read Fashion-MNIST: 60,000 training and 10,000 test images of garments, gray, 28 x 28 pixels."""
    # Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    # Algorithms, arXiv 1708.07747, 2017.
    places = [folder] if folder else _usual_places()
    for place in places:
        if place.is_dir() and members(place):
            return _load_idx_folder(place, "fashion-mnist", tuple(_GARMENTS.split(", ")))
    raise DataError(
        f"fashion-mnist: no IDX files in {' nor in '.join(map(str, places))}; on Debian or Ubuntu `apt-get install "
        "dataset-fashion-mnist`, elsewhere put train-images-idx3-ubyte.gz and its three companions into a folder and "
        "name that folder with folder= or the environment variable MAXAFFINE_DATA"
    )


def _load_idx_folder(folder: Path, name: str, class_names: tuple[str, ...] | None = None) -> DataSet:
    """Read an MNIST-like folder of four IDX files; without names the classes are numbered."""
    found = members(folder)
    wanted = [(part, what) for part in ("train", "test") for what in ("images", "labels")]
    if missing := [f"{part} {what}" for part, what in wanted if (part, what) not in found]:
        raise DataError(
            f"{folder}: no file of the {', the '.join(missing)}; the usual names are train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz"
        )
    train, test = (
        as_split(*(read_idx(found[part, what]) for what in ("images", "labels")), where=f"{folder} ({part})")
        for part in ("train", "test")
    )
    return DataSet(name, train, test, class_names or number_names(train, test))


def _usual_places() -> list[Path]:
    """The folder that the environment names, its subfolder for this set, and that of Debian's package."""
    chosen = os.environ.get("MAXAFFINE_DATA")
    own = [Path(chosen).expanduser(), Path(chosen).expanduser() / "fashion-mnist"] if chosen else []
    return [*own, _DEBIAN_FOLDER]


def read_input(content: bytes, name: str, input_shape: tuple[int, ...], rate: int | float | None = None) -> Tensor:
    """Read one input from the bytes of an image, a WAV or a .npy file, in bounded memory; nothing is unpickled."""
    # An image is resized to the shape (the aspect is not kept) and becomes gray or RGB, in [0, 1]; an array must have
    # it, but for a leading 1; sound must have its length, its channels, and the sampling rate where that is known.
    if len(content) > MOST_BYTES:
        raise DataError(f"{name}: {len(content)} bytes are more than {MOST_BYTES}; make the file smaller")
    if is_sound(content):
        array = _sound(content, name, input_shape, rate)
    elif content.startswith(_NPY_START):
        array = _array(content, name, input_shape)
    else:
        array = _image(content, name, input_shape)
    return torch.from_numpy(np.array(array, dtype=np.float32).reshape(input_shape))


def _image(content: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"{name}: is neither WAV nor .npy, and inputs of shape {shape} are not images; save one with np.save"
        )
    with open_picture(io.BytesIO(content), name, FORMATS) as picture:
        if prod(picture.size) > MOST_PIXELS:
            size = f"{picture.size[0]} x {picture.size[1]} pixels"
            raise DataError(f"{name}: {size} are more than {MOST_PIXELS:,}; make the image smaller")
        return pixels_of(picture, shape[0], (shape[1], shape[2]))


def _sound(content: bytes, name: str, shape: tuple[int, ...], rate: int | float | None) -> np.ndarray:
    if len(shape) > 2:
        raise DataError(f"{name}: is sound, but inputs of shape {shape} are not; give an image or a .npy file")
    found, samples = sound_of(content, name)
    channels, length = (1, *shape)[-2:]
    if rate is not None and found != rate:
        raise DataError(f"{name}: {other_rate(found, rate, 'the data')}")
    if len(samples) != channels:
        cure = "mix them down" if channels == 1 else "record all of them"
        raise DataError(f"{name}: has {len(samples)} channels, but one input has {channels}; {cure}")
    if samples.shape[1] != length:
        raise DataError(f"{name}: has {samples.shape[1]} samples, but one input has {length}; cut or pad it to that")
    return samples


def _array(content: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        found, _, dtype = read(stream)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise DataError(f"{name}: unreadable as a .npy file ({error}); save it again with np.save") from error
    if dtype.kind not in "fiub":
        raise DataError(f"{name}: its entries are {dtype}, not numbers; objects are never unpickled")
    # Before anything is allocated: a header of a few bytes may promise terabytes.
    if found not in (shape, (1, *shape)) and (1, *found) != shape:
        raise DataError(f"{name}: has shape {found}, but one input has {shape}; reshape it")
    if len(content) - stream.tell() != prod(found) * dtype.itemsize:
        raise DataError(f"{name}: is cut short, or has more bytes than its header says; save it again with np.save")
    try:
        return as_float32(np.load(io.BytesIO(content), allow_pickle=False), images=len(shape) == 3)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
