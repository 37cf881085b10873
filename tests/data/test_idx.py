import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maxaffine._data import load, read_idx
from maxaffine.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    kind = array.dtype.str[1:]
    header = bytes([0, 0, CODES[kind], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(f">{kind}").tobytes()


def write_mnist_like(folder, compress: bool, rows: int = 12):
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", rows), ("t10k", 4)):
        arrays[part] = generator.integers(0, 256, (count, 5, 4), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 3
        for what, array in zip(("images-idx3", "labels-idx1"), arrays[part], strict=True):
            content = idx_bytes(array)
            name = f"{part}-{what}-ubyte" + (".gz" if compress else "")
            (folder / name).write_bytes(gzip.compress(content) if compress else content)
    return arrays


any_array = st.sampled_from(sorted(CODES)).flatmap(
    lambda kind: hnp.arrays(
        kind, hnp.array_shapes(max_dims=4, max_side=4), elements={"allow_nan": False} if kind[0] == "f" else None
    )
)


@given(any_array, st.booleans())
def test_what_was_written_is_read(tmp_path_factory, array, compress):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_an_array_or_a_data_error(tmp_path_factory, content, compress):
    path = tmp_path_factory.mktemp("idx") / "bytes"
    path.write_bytes(gzip.compress(content) if compress else content)
    try:
        assert idx_bytes(read_idx(path)) == content
    except DataError as error:
        assert str(path) in str(error)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_damaged_gzip_file_is_an_array_or_a_data_error(tmp_path_factory, position, change):
    path = tmp_path_factory.mktemp("idx") / "damaged.gz"
    content = bytearray(gzip.compress(idx_bytes(np.arange(90, dtype=np.uint8).reshape(9, 10)), mtime=0))
    content[position % len(content)] ^= change
    path.write_bytes(content)
    try:
        read_idx(path)
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (bytes([0, 0, 8, 3, 0, 0]), "truncated inside its 16-byte header"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 5, 1, 2]), "truncated; the header says"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "longer than its header says"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), "empty"),
        (bytes([0, 0, 8, 4, *[255] * 16]), "truncated"),
        (gzip.compress(b"0" * 1000, mtime=0)[:-20], "unreadable"),
    ],
)
def test_malformed_files_name_the_file_and_the_cause(tmp_path, content, message):
    path = tmp_path / "bad-idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"", bytes([0, 0, 8, 1, 0, 0, 0, 9])])
def test_no_more_is_read_than_the_header_speaks_of(tmp_path, content):
    """Files that are no IDX files may be of any size: this one is sparse, of a tebibyte."""
    path = tmp_path / "vast"
    with path.open("wb") as stream:
        stream.write(content)
        stream.truncate(2**40)
    with pytest.raises(DataError, match="longer than its header says.*holds more" if content else "not an IDX file"):
        read_idx(path)


def test_an_absent_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="unreadable"):
        read_idx(tmp_path / "absent")


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_of_idx_files(tmp_path, compress):
    arrays = write_mnist_like(tmp_path, compress)
    data = load(tmp_path)
    assert data.class_names == ("0", "1", "2")
    for split, part in ((data.train, "train"), (data.test, "t10k")):
        images, labels = arrays[part]
        assert split.inputs.shape == (len(labels), 1, 5, 4)
        assert np.array_equal((split.inputs[:, 0].double() * 255).round().numpy(), images)
        assert np.array_equal(split.labels.numpy(), labels)


def test_a_missing_file_of_the_four_is_named(tmp_path):
    write_mnist_like(tmp_path, compress=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no file of the test labels"):
        load(tmp_path)


def test_labels_of_another_length_are_refused(tmp_path):
    write_mnist_like(tmp_path, compress=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(11, np.uint8)))
    with pytest.raises(DataError, match=r"\(train\): labels: 11 for 12 inputs"):
        load(tmp_path)


def test_one_idx_file_with_its_labels(tmp_path):
    write_mnist_like(tmp_path, compress=True, rows=30)
    data = load(tmp_path / "train-images-idx3-ubyte.gz", labels=tmp_path / "train-labels-idx1-ubyte.gz")
    assert (len(data.train), len(data.test)) == (24, 6)
