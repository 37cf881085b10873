"""From numpy arrays of any usual convention to the one convention of a `Split`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .dataset import Split

_MOST_CLASSES = 100_000


def as_split(inputs: np.ndarray, labels: np.ndarray | None, where: str, channels: str | None = None) -> Split:
    """Bring inputs and labels in any form that `load` describes to a `Split`; errors begin with ``where``."""
    try:
        values = _as_inputs(inputs, channels)
        return Split(values, torch.zeros(len(values), dtype=torch.int64) if labels is None else _as_labels(labels))
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
            '--std); for signals (N, C, T) pass channels="first"'
        )
    return values


def _as_inputs(array: np.ndarray, channels: str | None) -> Tensor:
    if array.ndim not in (2, 3, 4) or array.size == 0:
        problem = "is empty" if array.size == 0 else f"has {array.ndim} dimensions"
        raise DataError(f"inputs: shape {array.shape} {problem}; give (N, C, H, W) or (N, H, W) images, or (N, D) rows")
    if array.ndim == 4 and channels is None and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        raise DataError(
            f'inputs: shape {array.shape} looks like (N, H, W, C); pass channels="last", or channels="first" if it is '
            "(N, C, H, W) after all"
        )
    signals = array.ndim == 3 and channels is not None
    values = as_float32(array, images=array.ndim > 2 and not signals)
    if values.ndim > 2 and channels == "last":
        values = np.moveaxis(values, -1, 1)
    elif values.ndim == 3 and not signals:
        values = values[:, None]
    return torch.from_numpy(np.ascontiguousarray(values))


def _as_labels(array: np.ndarray) -> Tensor:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1 or flat.dtype.kind not in "iub":
        raise DataError(
            f"labels: {array.dtype} of shape {array.shape}, not integers of shape (N,); number the classes from 0 "
            "(one-hot rows with .argmax(1)), or leave the labels out for a network that is not a classifier"
        )
    if len(flat) and flat.max() > np.iinfo(np.int64).max:  # which the conversion would make negative
        raise DataError(f"labels: {flat.max()} is not a class number; number the classes from 0")
    return torch.from_numpy(flat.astype(np.int64))
