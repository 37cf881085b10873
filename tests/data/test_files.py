import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxaffine._data import load
from maxaffine.errors import BadInput, DataError
from tests.tables import targets_of

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 3, 6, 5), dtype=np.uint8)
FLOATS = IMAGES / 255.0
LABELS = np.arange(20) % 4


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("keys", [("inputs", "labels"), ("x", "y")])
def test_npz_without_a_test_part_is_split(tmp_path, keys):
    data = load(save(tmp_path / "whole.npz", **dict(zip(keys, (IMAGES, LABELS), strict=True))))
    assert data.name == "whole"
    assert data.input_shape == (3, 6, 5)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.test.labels.tolist().count(2) == 1


def test_the_target_of_npz_may_be_any_of_its_arrays(tmp_path):
    ages = np.arange(20.0)
    path = save(tmp_path / "whole.npz", inputs=FLOATS, labels=LABELS, Age=ages, both=np.stack([ages, -ages], 1))
    data = load(path, target="Age")
    assert data.train.targets is not None and data.target_names == ("Age",) and data.outputs == 1
    known = [part.targets.flatten().tolist() for part in (data.train, data.test) if part.targets is not None]
    assert sorted(sum(known, [])) == ages.tolist()
    assert load(path, target="both").outputs == 2 and load(path, target="both").target_names == ()
    parts = {"x_train": FLOATS, "x_test": FLOATS[:5], "kind_train": LABELS, "kind_test": LABELS[:5]}
    assert load(save(tmp_path / "parts.npz", **parts), target="kind").test.labels.tolist() == [0, 1, 2, 3, 0]
    parts = {"train_inputs": FLOATS, "test_inputs": FLOATS[:5], "train_kind": LABELS, "test_kind": LABELS[:5]}
    assert load(save(tmp_path / "others.npz", **parts), target="kind").classes == 4
    with pytest.raises(DataError, match=r"target: there is no array 'size'; its keys are \['Age', 'both'"):
        load(path, target="size")
    with pytest.raises(BadInput, match="target: Age, both are several arrays; give one"):
        load(path, target="Age,both")


@pytest.mark.parametrize(
    "keys",
    [
        ("train_inputs", "train_labels", "test_inputs", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
    ],
)
def test_npz_with_both_parts_and_class_names(tmp_path, keys):
    arrays = (IMAGES[:15], LABELS[:15, None], IMAGES[15:], LABELS[15:])
    names = np.array(["a", "b", "c", "d"])
    data = load(save(tmp_path / "parts.npz", class_names=names, **dict(zip(keys, arrays, strict=True))))
    assert (len(data.train), len(data.test)) == (15, 5)
    assert data.class_names == ("a", "b", "c", "d")
    assert np.array_equal((data.test.inputs.double() * 255).round().numpy(), IMAGES[15:])


def test_tabular_rows_stay_as_they_are(tmp_path):
    rows = np.linspace(-3, 5, 40).reshape(20, 2)
    data = load(save(tmp_path / "rows.npz", inputs=rows, labels=LABELS))
    assert data.input_shape == (2,)
    both = torch.cat([data.train.inputs, data.test.inputs])
    assert torch.equal(both.sort(0).values, torch.from_numpy(rows.astype(np.float32)))


def test_three_dimensions_with_channels_are_signals(tmp_path):
    waves = np.linspace(-3, 5, 20 * 2 * 7).reshape(20, 2, 7)
    first = load(save(tmp_path / "first.npz", inputs=waves, labels=LABELS), channels="first")
    last = load(save(tmp_path / "last.npz", inputs=waves.swapaxes(1, 2), labels=LABELS), channels="last")
    assert first.input_shape == last.input_shape == (2, 7)
    both = torch.cat([first.train.inputs, first.test.inputs])
    assert torch.equal(both.flatten().sort().values, torch.from_numpy(waves.astype(np.float32)).flatten())
    assert torch.equal(first.test.inputs, last.test.inputs)
    with pytest.raises(DataError, match='for signals .* pass channels="first"'):
        load(tmp_path / "first.npz")


def test_five_dimensions_are_volumes_of_any_numbers(tmp_path):
    volumes = np.linspace(-3, 5, 20 * 2 * 3 * 4 * 5).reshape(20, 2, 3, 4, 5)
    first = load(save(tmp_path / "first.npz", inputs=volumes, labels=LABELS))
    last = load(save(tmp_path / "last.npz", inputs=np.moveaxis(volumes, 1, -1), labels=LABELS), channels="last")
    assert first.input_shape == last.input_shape == (2, 3, 4, 5)
    assert torch.equal(first.test.inputs, last.test.inputs) and first.test.inputs.min() < 0
    with pytest.raises(DataError, match=r"give volumes \(N, D, H, W\) a channel by inputs\[:, None\]"):
        load(save(tmp_path / "bare.npz", inputs=volumes[:, 0], labels=LABELS))


def test_keys_that_differ_by_case_alone_are_refused(tmp_path):
    with pytest.raises(DataError, match="'X', 'x', 'y'.* two differ by upper and lower case alone; rename one"):
        load(save(tmp_path / "twice.npz", x=IMAGES, X=IMAGES, y=LABELS))


@pytest.mark.parametrize("keys", [("inputs",), ("x",), ("x_train", "x_test"), ("train_inputs", "test_inputs")])
def test_labels_may_be_missing(tmp_path, keys):
    data = load(save(tmp_path / "rows.npz", **dict.fromkeys(keys, FLOATS.reshape(20, -1))))
    assert data.class_names == ("unlabeled",) and not data.test.labels.any()
    with pytest.raises(DataError, match="only one of y_train and y_test"):
        load(save(tmp_path / "half.npz", x_train=FLOATS, x_test=FLOATS, y_train=LABELS))


def test_channels_last_is_moved_when_asked_and_never_guessed(tmp_path):
    path = save(tmp_path / "last.npz", inputs=np.moveaxis(IMAGES, 1, -1), labels=LABELS)
    with pytest.raises(DataError, match='channels="last"'):
        load(path)
    assert load(path, channels="last").input_shape == (3, 6, 5)
    assert load(path, channels="first").input_shape == (6, 5, 3)


def test_npy_with_and_without_a_file_of_labels(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES[:, 0].astype(np.uint16) * 257)
    alone = load(tmp_path / "x.npy")
    assert alone.class_names == ("unlabeled",) and not alone.train.labels.any()
    assert (len(alone.train), len(alone.test)) == (16, 4)
    np.save(tmp_path / "y.npy", LABELS)
    data = load(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    assert data.input_shape == (1, 6, 5)
    rows = torch.cat([data.train.inputs, data.test.inputs]).sum((1, 2, 3)).sort().values
    assert torch.allclose(rows, torch.from_numpy(IMAGES[:, 0].sum((1, 2)) / 255).float().sort().values)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (IMAGES[:19], LABELS, r"bad.npz .*: labels: 20 for 19 inputs"),
        (np.where(FLOATS == FLOATS.max(), np.nan, FLOATS), LABELS, "NaN or infinite"),
        (np.full((20, 2), 1e300), LABELS, "inputs: 40 of 40 values"),
        (IMAGES.astype(np.float32), LABELS, r"lie in \[0, 255\], not in \[0, 1\]"),
        (IMAGES.astype(np.int64), LABELS, "no known range"),
        (FLOATS.astype(complex), LABELS, "complex"),
        (IMAGES[:0], LABELS[:0], "is empty"),
        (IMAGES[None, None], LABELS[:1], "6 dimensions"),
        (np.moveaxis(IMAGES, 1, -1)[:, :, None], LABELS, r"looks like \(N, D, H, W, C\); pass channels"),
        (np.float32(1), LABELS, "0 dimensions"),
        (IMAGES, np.eye(20), "argmax"),
        (IMAGES, LABELS.astype(complex), "not integers"),
        (IMAGES, np.where(LABELS == 3, np.inf, 0.5), "targets: some are NaN or infinite"),
        (IMAGES, np.zeros((19, 2)), "targets: 19 for 20 inputs"),
        (IMAGES, np.array(["cat"] * 20), "not integers"),
        (IMAGES, LABELS - 1, "-1 is negative"),
        (IMAGES, LABELS + 10**9, "not a class number"),
        (IMAGES, LABELS.astype(np.uint64) + 2**63, f"labels: {2**63 + 3} is not a class number; number"),
        (IMAGES, LABELS.astype(np.int64) + (2**63 - 4), f"{2**63 - 1} is not a class number"),
        (IMAGES, np.full(20, -128, np.int8), "labels: -128 is negative"),
        (IMAGES, np.int64(3), r"int64 of shape \(\), not integers of shape \(N,\)"),
        (IMAGES, np.arange(20), "no class has two members"),
    ],
)
def test_malformed_arrays_name_the_cause(tmp_path, inputs, labels, message):
    with pytest.raises(DataError, match=message):
        load(save(tmp_path / "bad.npz", inputs=inputs, labels=labels))


def test_class_names_must_be_text_and_enough(tmp_path):
    with pytest.raises(DataError, match="array of str"):
        load(save(tmp_path / "a.npz", inputs=IMAGES, labels=LABELS, class_names=np.arange(4)))
    with pytest.raises(DataError, match="label 3 has no name among 2"):
        load(save(tmp_path / "b.npz", inputs=IMAGES, labels=LABELS, class_names=np.array(["a", "b"])))


def test_other_keys_are_listed_with_the_expected_ones(tmp_path):
    with pytest.raises(DataError, match=r"\['features', 'labels'\]; expected the keys inputs and labels"):
        load(save(tmp_path / "keys.npz", features=IMAGES, labels=LABELS))


class Trap:
    """Unpickling this would create a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("archive", [True, False])
def test_pickled_objects_are_refused_and_never_run(tmp_path, archive):
    trace = tmp_path / "trace"
    objects = np.array([Trap(trace)] * 20, dtype=object)
    np.save(tmp_path / "labels.npy", LABELS)
    if archive:
        path, options = save(tmp_path / "objects.npz", inputs=objects, labels=LABELS), {}
    else:
        path, options = tmp_path / "objects.npy", {"labels": tmp_path / "labels.npy"}
        np.save(path, objects)
    with pytest.raises(DataError, match="unpickling can run any code") as raised:
        load(path, **options)
    assert str(path) in str(raised.value)
    assert not trace.exists()


def test_a_file_with_the_other_suffix_is_told_apart(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", IMAGES)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match="rename it to .npz"):
        load(tmp_path / "a.npy", labels=tmp_path / "a.npy")
    with pytest.raises(DataError, match="rename it to .npy"):
        load(tmp_path / "b.npz")


@given(st.data())
def test_damaged_files_load_or_are_data_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    suffix = data.draw(st.sampled_from(["npz", "npy"]))
    path = folder / f"file.{suffix}"
    if suffix == "npz":
        save(path, inputs=IMAGES[:8, :, :2, :2], labels=LABELS[:8])
    else:
        np.save(path, IMAGES[:8, :, :2, :2])
    np.save(folder / "labels.npy", LABELS[:8])
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[position:]
    path.write_bytes(content)
    try:
        load(path, labels=None if suffix == "npz" else folder / "labels.npy")
    except DataError:
        pass


def test_labels_that_are_floats_are_values(tmp_path):
    wanted = np.stack([np.arange(20) / 4, -np.arange(20.0)], 1)
    data = load(save(tmp_path / "values.npz", x=FLOATS, y=wanted))
    assert data.outputs == 2 and data.class_names == ("unlabeled",) and not data.train.labels.any()
    rows = [torch.cat([getattr(part, name) for part in (data.train, data.test)]) for name in ("inputs", "targets")]
    for x, y in zip(*rows, strict=True):
        assert torch.equal(x.flatten(), torch.from_numpy(FLOATS[round(4 * float(y[0]))]).float().flatten())
        assert y[1] == -4 * y[0]
    image, target = data.train[0]
    assert target.shape == (2,) and image.shape == data.input_shape
    assert targets_of(data.train.take(slice(1, 3))).equal(targets_of(data.train)[1:3])
    save(tmp_path / "numbers.npz", x=FLOATS, y=LABELS)
    assert load(tmp_path / "numbers.npz").outputs == 4
    assert targets_of(load(tmp_path / "numbers.npz", task="value").train).dtype is torch.float32
