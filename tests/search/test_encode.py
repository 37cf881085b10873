"""Encode: the same codes however a run was cut, killed or spread over processes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import maxaffine as ma
from maxaffine import SplineNetwork
from maxaffine import _data as data
from maxaffine._cli import main
from maxaffine._codes import Codes
from maxaffine._data import FolderFiles, Split
from maxaffine._search import (
    CodeStore,
    Encoded,
    encode,
    encode_with_ray,
    search_store,
    search_with_ray,
)
from maxaffine.errors import BadInput, DataError

# The module, which the function of the same name hides.
encoding = sys.modules["maxaffine._search.encode"]
EXAMPLE = torch.zeros(2, 1, 8, 8)


def model() -> torch.nn.Sequential:
    torch.manual_seed(4)
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(36, 5), torch.nn.ReLU6()).eval()


@pytest.fixture(scope="module")
def net() -> SplineNetwork:
    return ma.capture(model(), EXAMPLE)


@pytest.fixture(scope="module")
def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    return Split(torch.rand(103, 1, 8, 8, generator=generator), torch.arange(103) % 7)


def content(store: CodeStore) -> tuple[list[int], list[int], Codes]:
    parts = list(store.batches())
    ids, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("ids", "labels"))
    order = ids.argsort()
    assert len(ids.unique()) == len(ids)
    return ids[order].tolist(), labels[order].tolist(), Codes.concat([part.codes for part in parts]).rows(order)


def batched(net: SplineNetwork, split: Split, size: int) -> Codes:
    return Codes.concat([net.codes(part) for part in split.inputs.split(size)])


def test_codes_ids_and_labels(net: SplineNetwork, split: Split, tmp_path: Path) -> None:
    store = CodeStore.create(tmp_path / "s", net)
    assert encode(net, split, store, batch_size=10, first_id=1000, threads=1) == Encoded(103, 0)
    assert content(store) == (list(range(1000, 1103)), split.labels.tolist(), batched(net, split, 10))
    assert encode(net, split, store, batch_size=10, first_id=1000) == Encoded(0, 103)
    assert len(store) == 103


def test_it_goes_on_where_it_was(
    net: SplineNetwork, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CodeStore.create(tmp_path / "s", net)
    monkeypatch.setattr(encoding, "COMMIT_ROWS", 20)
    append, calls = CodeStore.append_tables, []

    def interrupted(self: CodeStore, tables: list) -> int:
        calls.append(len(tables))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return append(self, tables)

    with monkeypatch.context() as patch:
        patch.setattr(CodeStore, "append_tables", interrupted)
        threads = torch.get_num_threads()
        with pytest.raises(KeyboardInterrupt):
            encode(net, split, store, batch_size=10, threads=2)
        assert torch.get_num_threads() == threads
    assert len(store) == 40
    store.delete([5, 33])  # batches of which some rows are missing are computed whole, and only those rows added
    assert encode(net, split, store, batch_size=10) == Encoded(65, 38)
    assert content(store)[::2] == (list(range(103)), batched(net, split, 10))


def test_some_operators(net: SplineNetwork, split: Split, tmp_path: Path) -> None:
    store = CodeStore.create(tmp_path / "s", net.codes(EXAMPLE, ["5"]))
    encode(net, split, store, batch_size=10)
    assert content(store)[2] == Codes.concat([net.codes(x, ["5"]) for x in split.inputs.split(10)])


def test_bad_input(net: SplineNetwork, split: Split, tmp_path: Path) -> None:
    store = CodeStore.create(tmp_path / "s", net)
    with pytest.raises(BadInput, match="another network"):
        encode(ma.capture(model()[:2], EXAMPLE), split, store)
    bad: list[tuple[str, Any]] = [("batch_size", 0), ("first_id", -1), ("threads", 0)]
    bad += [("batch_size", 10**20), ("first_id", 2**63), ("first_id", 2**63 - 103), ("threads", 2**31)]
    for name, value in bad:
        with pytest.raises(BadInput, match=f"{name}={value}"):
            encode(net, split, store, **{name: value})
    with pytest.raises(ma.ShapeMismatch):
        encode(net, Split(torch.zeros(3, 1, 9, 9), torch.zeros(3, dtype=torch.int64)), store)


def test_other_inputs_under_the_same_ids_are_refused(net: SplineNetwork, split: Split, tmp_path: Path) -> None:
    store = CodeStore.create(tmp_path / "s", net)
    encode(net, split, store, first_id=7)
    order = torch.arange(103).roll(1)
    pixel, label = split.inputs.clone(), split.labels.clone()
    pixel[50, 0, 3, 3] += 1e-6
    label[50] += 1
    others = {
        r"\[0, 1, 2, 3, 4\] .* \[7, 8, 9": split.take(order),
        r"\[50\] .* \[57\]": Split(pixel, split.labels),
        r"\[50\] are": Split(split.inputs, label),
    }
    for words, other in others.items():
        with pytest.raises(BadInput, match=words):
            encode(net, other, store, first_id=7)
    with pytest.raises(BadInput, match="not what the store holds"):
        encode(net, split, store, first_id=0)  # the rows 7 to 102 would be of other inputs
    assert len(store) == 103
    assert encode(net, split.take(slice(0, 60)), store, first_id=7) == Encoded(0, 60)
    assert encode(net, split.take(order), store, first_id=110) == Encoded(103, 0)
    store.delete([57])
    assert encode(net, Split(pixel, split.labels), store, first_id=7) == Encoded(1, 102)


def test_rows_without_marks_are_not_taken_for_inputs(net: SplineNetwork, split: Split, tmp_path: Path) -> None:
    store = CodeStore.create(tmp_path / "s", net)
    store.append(net.codes(split.inputs[:5]))
    with pytest.raises(BadInput, match=r"\[0, 1, 2, 3, 4\]"):
        encode(net, split, store)


def test_marks_are_compared_in_runs(
    net: SplineNetwork, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "COMMIT_ROWS", 10)
    store = CodeStore.create(tmp_path / "s", net)
    encode(net, split, store, batch_size=4)
    store.delete(range(15, 42))
    assert encode(net, split, store, batch_size=4) == Encoded(27, 76)
    store.delete([0, 1, 2, 39])
    changed = split.inputs.clone()
    changed[101] = 0
    with pytest.raises(BadInput, match=r"\[101\] are"):
        encode(net, Split(changed, split.labels), store, batch_size=4)


def test_a_changed_folder_is_refused(net: SplineNetwork, tmp_path: Path) -> None:
    folder, store = _folder(tmp_path / "images"), CodeStore.create(tmp_path / "s", net)
    assert encode(net, data.load_part(folder)[0], store) == Encoded(24, 0)
    assert encode(net, data.load_part(shutil.copytree(folder, tmp_path / "same"))[0], store) == Encoded(0, 24)
    for change in ("added", "removed", "renamed", "another", "class"):
        changed = shutil.copytree(folder, tmp_path / change)
        image = changed / "dog" / "3.png"
        if change == "added":
            shutil.copy(image, changed / "cat" / "5b.png")
        elif change == "removed":
            image.unlink()
        elif change == "renamed":
            image.rename(changed / "dog" / "30.png")
        elif change == "another":
            Image.new("L", (8, 8)).save(image)
        else:
            shutil.copytree(changed / "dog", changed / "ant")
        with pytest.raises(BadInput, match="not what the store holds"):
            encode(net, data.load_part(changed)[0], store)
    assert len(store) == 24


def test_an_image_that_is_gone(tmp_path: Path) -> None:
    files, _ = data.load_part(_folder(tmp_path / "images"))
    (tmp_path / "images" / "dog" / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        files.marks(slice(0, 24))


def _folder(path: Path) -> Path:
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (path / label).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path / label / f"{i}.png")
    return path


def test_image_files_are_what_load_reads(tmp_path: Path) -> None:
    for part in ("train", "test"):
        _folder(tmp_path / "parts" / part)
    whole = data.load(tmp_path / "parts")
    for part in ("train", "test"):
        files, names = data.load_part(tmp_path / "parts", part)
        assert isinstance(files, FolderFiles) and names == ("cat", "dog") and len(files) == 24
        read, expected = files.take(slice(3, 17)), getattr(whole, part)
        assert torch.equal(read.inputs, expected.inputs[3:17]) and torch.equal(read.labels, expected.labels[3:17])
    files, _ = data.load_part(_folder(tmp_path / "flat"))
    assert len(files) == 24
    with pytest.raises(BadInput, match="neither"):
        data.load_part("digits", "all")
    with pytest.raises(BadInput, match="labels: does not apply"):
        data.load_part(tmp_path / "flat", labels="x.npy")
    Image.new("L", (9, 8)).save(tmp_path / "flat" / "cat" / "11.png")
    with pytest.raises(DataError, match="has .* pixels, not"):
        files.take(slice(0, 24))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["encode", "mlp", str(_folder(tmp_path / "images")), "--store", str(tmp_path / "s")]
    assert main(words) == 0
    assert "encoded 24 inputs, 0 were there" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert '"skipped": 24' in capsys.readouterr().out
    assert main([*words, "--operators", "2", "--store", str(tmp_path / "one")]) == 0
    assert CodeStore(tmp_path / "one").operators == ("2",)
    assert main([*words, "--seed", "1"]) == 1
    assert "another network, or other weights" in capsys.readouterr().err
    (tmp_path / "images" / "cat" / "3.png").unlink()
    assert main(words) == 1
    assert "not what the store holds" in capsys.readouterr().err


def test_command_captures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: object, **options: object) -> SplineNetwork:
        calls.append(options)
        return ma.capture(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("maxaffine._cli.loading.capture", counted)
    words = ["encode", "mlp", str(_folder(tmp_path / "images")), "--until", "2"]
    assert main([*words, "--store", str(tmp_path / "s")]) == 0
    assert [options["until"] for options in calls] == ["2"]


def test_command_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maxaffine._search.encode", interrupted)
    assert main(["encode", "mlp", str(_folder(tmp_path / "images")), "--store", str(tmp_path / "s")]) == 130
    assert "the same command goes on" in capsys.readouterr().err


SLOWLY = """
import sys, time
from maxaffine._search import CodeStore
from maxaffine._cli import main

sys.modules["maxaffine._search.encode"].COMMIT_ROWS = 1
append = CodeStore.append_tables
def slow(self, tables):
    rows = append(self, tables)
    print("committed", flush=True)
    time.sleep(0.2)
    return rows
CodeStore.append_tables = slow
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    words = ["encode", "cnn", str(_folder(tmp_path / "images")), "--batch-size", "4"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *words, "--store", str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == "committed\n"
    time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    store = CodeStore(tmp_path / "s")
    assert 8 <= len(store) < 24
    assert main([*words, "--store", str(tmp_path / "s")]) == 0
    assert main([*words, "--store", str(tmp_path / "whole")]) == 0
    assert content(store) == content(CodeStore(tmp_path / "whole"))


def test_search_of_a_store_is_that_of_its_index(net: SplineNetwork, split: Split, tmp_path: Path) -> None:
    store = CodeStore.create(tmp_path / "s", net)
    codes = net.codes(split.inputs)
    for start in range(0, 103, 20):
        rows = list(range(start, min(start + 20, 103)))
        store.append(codes.rows(rows), [7 * i for i in rows])
    queries = net.codes(torch.rand(9, 1, 8, 8))
    for weights in (None, {"1": 1.0}, {"2": 0.3, "5": 0.7}):
        found, expected = search_store(store, queries, 30, weights), store.index().search(queries, 30, weights)
        assert torch.equal(found.ids, expected.ids) and torch.equal(found.distances, expected.distances)
    part = search_store(store, queries, 30, files=store.files()[-1:])
    assert (part.ids[:, 3:] == -1).all() and part.distances[:, 3:].isinf().all() and (part.ids[:, :3] >= 0).all()
    with pytest.raises(BadInput, match="holds 103 rows"):
        search_store(store, queries, 104)
    store.append(codes.rows([0]), [0], check=False)
    with pytest.raises(DataError, match="have one id"):
        search_store(store, codes.rows([0]), 3)


# Ray's own modules warn, and leave sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_bits(
    net: SplineNetwork, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process and two Ray workers, some rows being there already; and the search of the files, merged."""
    import ray

    # Ray's workers yield to everything else by default, for minutes on a machine that also does other things.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    # Ray wraps every method of an actor's class, but not this one, which the checks of annotations have wrapped.
    monkeypatch.delattr("maxaffine._search.distributed.Encoder.__sizeof__")

    here, there = (CodeStore.create(tmp_path / name, net) for name in ("here", "there"))
    encode(net, split, here, batch_size=10)
    make = partial(ma.capture, model(), EXAMPLE)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        encode(net, split, there, batch_size=10)
        there.delete(range(17, 100))
        options: dict[str, Any] = {"workers": 2, "batch_size": 10}
        assert encode_with_ray(make, split, there, **options) == Encoded(83, 20)
        assert len(there.files()) >= 2 and content(there) == content(here)
        assert encode_with_ray(make, split, there, **options) == Encoded(0, 103)
        queries = net.codes(torch.rand(9, 1, 8, 8))
        for weights in (None, {"2": 0.3, "5": 0.7}):
            found, expected = (
                search_with_ray(there, queries, 11, weights, workers=2),
                here.index().search(queries, 11, weights),
            )
            assert torch.equal(found.ids, expected.ids) and torch.equal(found.distances, expected.distances)
        with pytest.raises(BadInput, match="Ray has 3 CPUs; give fewer"):
            search_with_ray(there, queries, 11, workers=4)
        file = next(Path(there.path, "data").iterdir())
        file.write_bytes(file.read_bytes()[:-50])
        with pytest.raises(DataError, match="there"):
            search_with_ray(there, queries, 11, workers=2)
        with pytest.raises(BadInput, match="another network"):
            encode_with_ray(partial(ma.capture, model()[:2], EXAMPLE), split, there, workers=2)
    finally:
        ray.shutdown()
