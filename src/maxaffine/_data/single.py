"""One input from the bytes of a file that a stranger may have made."""

from __future__ import annotations

import io
import tokenize
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .arrays import as_float32
from .images import open_picture, pixels_of

MOST_BYTES = 16 * 2**20
MOST_PIXELS = 32 * 10**6
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_NUMPY = b"\x93NUMPY"


def read_input(content: bytes, name: str, input_shape: tuple[int, ...]) -> Tensor:
    """Read one input from the bytes of an image or a .npy file, in bounded memory; nothing is unpickled."""
    # An image is resized to the shape (the aspect is not kept) and becomes gray or RGB, in [0, 1]; an array must have
    # it, but for a leading 1.
    if len(content) > MOST_BYTES:
        raise DataError(f"{name}: {len(content)} bytes are more than {MOST_BYTES}; make the file smaller")
    array = _array(content, name, input_shape) if content.startswith(_NUMPY) else _image(content, name, input_shape)
    return torch.from_numpy(np.array(array, dtype=np.float32).reshape(input_shape))


def _image(content: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"{name}: is not a .npy file, and inputs of shape {shape} are not images; save one with np.save"
        )
    with open_picture(io.BytesIO(content), name, FORMATS) as picture:
        if prod(picture.size) > MOST_PIXELS:
            size = f"{picture.size[0]} x {picture.size[1]} pixels"
            raise DataError(f"{name}: {size} are more than {MOST_PIXELS:,}; make the image smaller")
        return pixels_of(picture, shape[0], (shape[1], shape[2]))


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
