"""One input from bytes: what is read equals the file's numbers, and nothing malformed gets through or takes memory."""

from __future__ import annotations

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maxaffine._data import read_input
from maxaffine.errors import DataError


def _png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _claiming(width: int, height: int) -> bytes:
    """A small PNG whose header claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + _png(np.zeros((2, 2), np.uint8))[33:]


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert torch.equal(read_input(_png(gray), "x", (1, 8, 8)), torch.from_numpy(gray / np.float32(255))[None])
    color = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    expected = torch.from_numpy(np.moveaxis(color, -1, 0) / np.float32(255))
    assert torch.equal(read_input(_png(color, "BMP"), "x", (3, 8, 8)), expected)


def test_other_sizes_and_colors_are_brought_to_the_shape() -> None:
    assert read_input(_png(np.full((50, 20, 3), 255, np.uint8), "JPEG"), "x", (1, 8, 8)).min() > 0.99
    assert read_input(_png(np.zeros((3, 3), np.uint8), "WEBP"), "x", (3, 8, 8)).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.linspace(0, 1, 64).reshape(8, 8), (1, 8, 8)),
        (np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8), (1, 8, 8)),
        (np.arange(64, dtype=np.uint8).reshape(1, 8, 8), (1, 8, 8)),
        (np.linspace(-5, 90, 13), (13,)),
        (np.linspace(-5, 90, 40).reshape(2, 20), (2, 20)),
    ],
)
def test_arrays(array: np.ndarray, shape: tuple[int, ...]) -> None:
    expected = array / 255 if array.dtype == np.uint8 else array
    assert torch.equal(
        read_input(_npy(array), "x", shape), torch.from_numpy(expected.astype(np.float32)).reshape(shape)
    )


FALSE_HEADER = _npy(np.zeros((8, 8))).replace(b"(8, 8)", b"(9, 9)")
BAD = [
    (b"", "unreadable as one of PNG"),
    (b"hello", "unreadable as one of PNG"),
    (_png(np.zeros((30, 30), np.uint8))[:48], "unreadable"),
    (_claiming(20_000, 5_000), r"pixels\) exceeds limit of|are more than"),
    (_claiming(30_000, 30_000), r"pixels\) exceeds limit of"),
    (b"%PDF-1.4", "unreadable as one of"),
    (b"\x93NUMPY", "npy"),
    (b"\x93NUMPY\x09\x00aaaa", "npy"),
    (_npy(np.zeros((8, 8)))[:-1], "cut short"),
    (_npy(np.zeros((8, 8))) + b"x", "cut short"),
    (FALSE_HEADER, "shape"),
    (_npy(np.zeros((8, 8), dtype=object)), "never unpickled"),
    (_npy(np.zeros((8, 8), dtype="U3")), "not numbers"),
    (_npy(np.full((8, 8), np.nan)), "NaN"),
    (_npy(np.full((8, 8), 2.0)), r"not in \[0, 1\]"),
    (pickle.dumps({"a": 1}), "unreadable as one of"),
    (bytes(17 * 2**20), "make the file smaller"),
]


@pytest.mark.parametrize(("content", "words"), BAD)
def test_what_is_malformed_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_input(content, "x", (1, 8, 8))


def test_tables_take_no_images() -> None:
    with pytest.raises(DataError, match="are not images"):
        read_input(_png(np.zeros((8, 8), np.uint8)), "x", (13,))


@given(data=st.data(), first=st.sampled_from([_npy(np.zeros((8, 8))), _png(np.eye(8, dtype=np.uint8))]))
def test_damaged_files_are_read_or_refused(data: st.DataObject, first: bytes) -> None:
    content = bytearray(first)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_input(bytes(content), "x", (1, 8, 8)).isfinite().all()
    except DataError:
        pass
