"""From numpy arrays of any usual convention to the one convention of a `Split`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .dataset import Split

_MOST_CLASSES = 100_000


def as_split(inputs: np.ndarray, labels: np.ndarray | None, where: str, channels: str | None = None) -> Split:
    """Bring two arrays to the convention of a `Split`.

    Args:
        inputs: (N, D), (N, H, W), (N, C, H, W), or (N, H, W, C) with ``channels="last"``; three dimensions are signals,
            (N, C, T) or (N, T, C), where ``channels`` is given. uint8 is divided by 255 and uint16 by 65535, whatever
            the shape; floating-point images must be in [0, 1]; the numbers of signals and rows are taken as they are.
        labels: (N,) or (N, 1) integers; None where there are none, and all become 0.
        where: What to call the source in an error, e.g. the file.
        channels: Where the channels are: of four dimensions None means first, unless the shape suggests last; of three
            None means that there are none.

    Returns:
        The split, float32 inputs and int64 labels.

    Raises:
        DataError: The arrays have different lengths, or one of them is malformed.

    >>> as_split(np.zeros((2, 8, 8), np.uint8), np.array([1, 0]), "example")
    Split(2 x (1, 8, 8))
    """
    if labels is None:
        labels = np.zeros(len(inputs) if inputs.ndim else 0, np.int64)
    if inputs.ndim and labels.ndim and len(inputs) != len(labels):
        raise DataError(f"{where}: {len(inputs)} inputs but {len(labels)} labels; each input needs one label")
    return Split(_as_inputs(inputs, where, channels), _as_labels(labels, where))


def number_names(*splits: Split) -> tuple[str, ...]:
    """Name the classes of a source that names none: "0", "1", ... up to its highest label.

    Args:
        splits: All its parts.

    Returns:
        C names.

    Raises:
        DataError: The highest label is so high that the labels cannot be class numbers.
    """
    highest = max(int(split.labels.max()) for split in splits)
    if highest >= _MOST_CLASSES:
        raise DataError(f"labels: {highest} is no class number; number the classes from 0")
    return tuple(str(number) for number in range(highest + 1))


def _as_inputs(array: np.ndarray, where: str, channels: str | None) -> Tensor:
    if array.ndim not in (2, 3, 4) or array.size == 0:
        problem = "is empty" if array.size == 0 else f"has {array.ndim} dimensions"
        raise DataError(
            f"{where}: the inputs' shape {array.shape} {problem}; give (N, C, H, W) or (N, H, W) images, or (N, D) rows"
        )
    signals = array.ndim == 3 and channels is not None
    values = as_float32(array, where, images=array.ndim > 2 and not signals)
    if signals:
        values = np.moveaxis(values, -1, 1) if channels == "last" else values
    elif values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and _channels_last(values.shape, where, channels):
        values = np.moveaxis(values, -1, 1)
    return torch.from_numpy(np.ascontiguousarray(values))


def as_float32(array: np.ndarray, where: str, images: bool) -> np.ndarray:
    """Numbers in the range that a network takes.

    Args:
        array: Numbers: uint8 is divided by 255, uint16 by 65535.
        where: What to call the source in an error.
        images: Whether they are images, whose values must be in [0, 1] already where they are floats.

    Returns:
        The same shape, float32.

    Raises:
        DataError: Their range is unknown, or they are not finite.
    """
    if array.dtype in (np.uint8, np.uint16):
        return np.divide(array, np.iinfo(array.dtype).max, dtype=np.float32)
    if array.dtype.kind not in "fiub" or (images and array.dtype.kind in "iu"):
        raise DataError(
            f"{where}: inputs of type {array.dtype} have no known range; store images as uint8, uint16 or floats in "
            "[0, 1], and tabular rows as numbers"
        )
    with np.errstate(over="ignore"):  # what overflows float32 is reported below as not finite
        values = array.astype(np.float32)
    if wrong := int(np.count_nonzero(~np.isfinite(values))):
        raise DataError(f"{where}: {wrong} of {values.size} input values are NaN or infinite in float32; replace them")
    if images and (values.min() < 0 or values.max() > 1):
        raise DataError(
            f"{where}: the images' values lie in [{values.min():g}, {values.max():g}], not in [0, 1]; scale them, or "
            "store bytes as uint8 (the network's own normalization belongs into it: models.Normalized, --mean and "
            '--std); for signals (N, C, T) pass channels="first"'
        )
    return values


def _channels_last(shape: tuple[int, ...], where: str, channels: str | None) -> bool:
    if channels is None and shape[3] in (1, 3) and shape[1] not in (1, 3):
        raise DataError(
            f'{where}: the inputs\' shape {shape} looks like (N, H, W, C); pass channels="last", or channels="first" '
            "if it is (N, C, H, W) after all"
        )
    return channels == "last"


def _as_labels(array: np.ndarray, where: str) -> Tensor:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1:
        raise DataError(
            f"{where}: the labels' shape is {array.shape}, not (N,); one-hot rows become numbers with .argmax(1); "
            "leave the labels out for a network that is no classifier"
        )
    if flat.dtype.kind not in "iub":
        raise DataError(
            f"{where}: the labels are {flat.dtype}, not integers; number the classes from 0, or leave the labels out "
            "for a network that is no classifier"
        )
    if len(flat) and flat.min() < 0:
        raise DataError(f"{where}: label {flat.min()} is negative; number the classes from 0")
    if len(flat) and flat.max() > np.iinfo(np.int64).max:  # which the conversion would make negative
        raise DataError(f"{where}: label {flat.max()} is no class number; number the classes from 0")
    return torch.from_numpy(flat.astype(np.int64))
