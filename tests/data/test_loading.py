import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from maxaffine._data import NAMES, load, load_part, loading
from maxaffine.errors import BadInput, DataError

from .test_idx import write_mnist_like


def test_digits_are_scikit_learns_in_the_unit_interval():
    data = load("digits")
    images, labels = load_digits(return_X_y=True)
    rows = torch.cat([data.train.inputs, data.test.inputs]).reshape(-1, 64) * 16
    wanted = np.column_stack([images, labels])
    found = np.column_stack([rows.numpy(), torch.cat([data.train.labels, data.test.labels]).numpy()])
    assert np.array_equal(wanted[np.lexsort(wanted.T)], found[np.lexsort(found.T)])
    assert data.input_shape == (1, 8, 8)
    shares = np.bincount(data.test.labels) / np.bincount(labels)
    assert np.all(abs(shares - 0.2) < 0.004)


def test_digits_split_is_fixed():
    assert torch.equal(load("digits").test.inputs, load("digits").test.inputs)
    assert not torch.equal(load("digits").test.inputs, load("digits", seed=1).test.inputs[:359])


def test_fashion_mnist_from_a_given_folder(tmp_path):
    write_mnist_like(tmp_path, compress=True)
    data = load("fashion-mnist", folder=tmp_path)
    assert (data.name, len(data.train), len(data.test)) == ("fashion-mnist", 12, 4)
    assert data.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("inner", ["", "fashion-mnist"])
def test_fashion_mnist_from_the_environment(tmp_path, monkeypatch, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    write_mnist_like(folder, compress=False)
    monkeypatch.setenv("MAXAFFINE_DATA", str(tmp_path))
    assert len(load("fashion-mnist").train) == 12


def test_absent_fashion_mnist_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MAXAFFINE_DATA", raising=False)
    monkeypatch.setattr(loading, "_DEBIAN_FOLDER", tmp_path / "absent")
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist.*MAXAFFINE_DATA"):
        load("fashion-mnist")
    with pytest.raises(DataError, match="no IDX files in"):
        load("fashion-mnist", folder=tmp_path)


@pytest.mark.skipif(not loading._DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(monkeypatch):
    monkeypatch.delenv("MAXAFFINE_DATA", raising=False)
    data = load("fashion-mnist")
    assert data.train.inputs.shape == (60_000, 1, 28, 28)
    assert data.test.inputs.shape == (10_000, 1, 28, 28)
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.train.inputs.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert [data.class_names[label] for label in data.train.labels[:3]] == ["Ankle boot", "T-shirt/top", "T-shirt/top"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        ("/no/such.npz", "neither"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(name, message):
    with pytest.raises(DataError, match=message) as raised:
        load(name)
    assert all(known in str(raised.value) for known in NAMES)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("digits", {"folder": "x"}),
        ("digits", {"size": 4}),
        ("fashion-mnist", {"channels": "last"}),
        ("file.npz", {"labels": "x"}),
        ("file.npy", {"size": 3}),
        ("", {"labels": "x"}),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, monkeypatch, source, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.npz").touch()
    (tmp_path / "file.npy").touch()
    with pytest.raises(BadInput, match=f"^{next(iter(options))}: does not apply"):
        load(source, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [("~nobody-of-this-name/x", "lies in the home of nobody here"), ("x" * 300, "cannot be read .*too long")],
)
def test_names_that_the_system_refuses_are_told(name, message):
    for read in (load, load_part):
        with pytest.raises(DataError, match=f"^{name}: {message}"):
            read(name)


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)  # the superuser, who may run this, may read everything
    for read in (load, load_part):
        with pytest.raises(DataError, match=f"{tmp_path}: cannot be read .*denied.*; check its name, permissions"):
            read(tmp_path)


def test_links_that_lead_in_circles_are_no_data(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(DataError, match="circle: neither a data set"):
        load(tmp_path / "circle")
    with pytest.raises(DataError, match="files beside its class folders, e.g. circle"):
        load(tmp_path)


def test_an_unknown_channel_order_is_refused():
    with pytest.raises(BadInput, match="channels"):
        load("digits", channels="middle")


def test_files_of_other_kinds_are_refused_with_the_known_ones(tmp_path):
    (tmp_path / "table.txt").write_text("1,2\n")
    (tmp_path / "labels.npy").touch()
    with pytest.raises(DataError, match="known files are IDX"):
        load(tmp_path / "table.txt", labels=tmp_path / "labels.npy")


def test_importing_the_room_imports_no_optional_package():
    code = (
        "import sys, maxaffine._data; print([name for name in ('sklearn', 'PIL', 'matplotlib') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def _folder(root: Path, sizes: dict[str, int]) -> Path:
    """Gray images by class; the first number of a class's images is its own."""
    for number, (name, count) in enumerate(sizes.items()):
        for i in range(count):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 2), 10 * number + i, np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("given", ["text", "list", "file"])
def test_labels_go_by_name_to_the_outputs(tmp_path, given):
    """A folder sorts its classes, a network was trained in another order, and knows more of them."""
    folder = _folder(tmp_path / "pets", {"ship": 2, "cat": 3, "dog": 2})
    names = ["ship", "frog", "dog", "cat"]
    file = tmp_path / "names.txt"
    file.write_text("\n".join(names) + "\n\n", encoding="utf-8")
    class_names = {"text": "ship, frog,dog,cat", "list": names, "file": str(file)}[given]
    plain, data = load(folder), load(folder, class_names=class_names)
    assert plain.class_names == ("cat", "dog", "ship") and data.class_names == tuple(names)
    for before, after in ((plain.train, data.train), (plain.test, data.test)):
        assert torch.equal(before.inputs, after.inputs)
        called = [plain.class_names[label] for label in before.labels.tolist()]
        assert [data.class_names[label] for label in after.labels.tolist()] == called
    files, found = load_part(folder, class_names=class_names)
    assert found == tuple(names) and files.take(slice(0, 7)).labels.tolist() == [3, 3, 3, 2, 2, 0, 0]
    part, found = load_part("digits", class_names="9,8,7,6,5,4,3,2,1,0")
    assert found[0] == "9" and torch.equal(part.take(slice(0, 99)).labels, 9 - load("digits").train.labels[:99])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("0,1,2", r"class_names: \['3', '4', '5', '6', '7'\] of digits are not among the 3 names; use the data's own"),
        ("zero,1,2,3,4,5,6,7,8,9", r"\['0'\] of digits are not among the 10 names"),
        ("0,1,2,3,4,5,6,7,8,9,9", r"class_names: given twice: \['9'\]"),
        (
            "names-that-are-not-there.txt",
            "'names-that-are-not-there.txt' is neither a file nor names; give at least two names",
        ),
        ("a,,b", "none of them empty"),
        ("x" * 300 + "\0", "neither a file nor names"),
        (["one"], "give at least two names"),
    ],
)
def test_names_that_do_not_fit(given, words):
    with pytest.raises(BadInput, match=words):
        load("digits", class_names=given)


def test_names_of_unlabeled_data(tmp_path):
    np.savez(tmp_path / "plain.npz", inputs=np.zeros((10, 4), np.float32))
    with pytest.raises(BadInput, match="class_names: plain has no labels to put in another order"):
        load(tmp_path / "plain.npz", class_names="a,b")
