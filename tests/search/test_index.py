"""CodeIndex against a loop over units and a full sort."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import maxaffine as ma
from maxaffine._codes import Codes, code_distance, metric, pack
from maxaffine._search import CodeIndex, nearest
from maxaffine.errors import BadInput
from tests.search.drawn import LAYOUT, drawn, naive_distance, sorted_neighbors

weight = st.one_of(st.just(0.0), st.sampled_from([0.25, 0.5, 1.0]))


@given(
    st.lists(weight, min_size=len(LAYOUT), max_size=len(LAYOUT)).filter(any),
    st.integers(0, 1000),
    st.integers(1, 20),
    st.booleans(),
    st.sampled_from([1, 3]),
)
@settings(max_examples=40)
def test_equals_the_sorted_loop(weights: list[float], seed: int, k: int, faiss: bool, threads: int) -> None:
    base, queries = drawn(20, seed), drawn(7, seed + 1)
    ids = torch.from_numpy(np.random.default_rng(seed).permutation(1000)[:20])
    with pytest.MonkeyPatch.context() as patch:
        if not faiss:
            patch.setattr("maxaffine._search.index.load_faiss", lambda: None)
        found = CodeIndex(base, ids).search(queries, k, weights, threads=threads)
    # weights with short binary fractions: the loop's sums are then the exact ones, ties included
    named = {name: share / max(weights) for name, share in zip(LAYOUT, weights, strict=True)}
    expected = sorted_neighbors(naive_distance(queries, base, named), ids, k)
    assert (found.ids.tolist(), found.distances.tolist()) == expected


@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 9])
def test_every_width(pieces: int) -> None:
    """The padding trap: widths that are no whole bytes, and bytes that are no whole words."""
    for units in [*range(1, 34), 63, 64, 65, 71, 72, 73, 127, 129, 191, 193]:
        a, b = (torch.randint(0, pieces, (n, units)) for n in (3, 40))
        b[0] = (a[0] + 1) % pieces  # differs at every unit
        b[1] = a[1]
        b[2, :-1], b[2, -1] = a[2, :-1], (a[2, -1] + 1) % pieces  # differs at the last unit alone
        base, queries = (Codes.from_tensors({"x": (codes, pieces)}) for codes in (b, a))
        found = CodeIndex(base).search(queries, 40)
        distances = (a[:, None] != b[None]).double().mean(-1)
        expected = sorted_neighbors((a[:, None] != b[None]).sum(-1) / units, torch.arange(40), 40)[0]
        assert found.ids.tolist() == expected
        assert torch.equal(found.distances, distances.gather(1, found.ids))
        assert found.distances[0, -1] == 1 and found.distances[1, 0] == 0


def test_counting_bits_of_the_planes_would_be_wrong() -> None:
    """Codes 0 and 3 differ in two bits, 0 and 1 in one; both are one unequal unit."""
    base = Codes.from_tensors({"pool": (torch.tensor([[3, 0, 0], [1, 1, 0]]), 4)})
    found = CodeIndex(base).search(Codes.from_tensors({"pool": (torch.zeros(1, 3, dtype=torch.int64), 4)}), 2)
    assert found.ids.tolist() == [[0, 1]]
    assert found.distances.tolist() == [[1 / 3, 2 / 3]]
    planes = base["pool"].packed.flatten(1).numpy()
    assert np.unpackbits(planes, axis=1).sum(1).tolist() == [2, 2]


def test_distances_are_those_of_code_distance() -> None:
    base, queries = drawn(300, 0), drawn(40, 1)
    weights = {"relu": 0.3, "pool": 0.7, "wide": 0.1, "nothing": 2.0}
    found = CodeIndex(base).search(queries, 300, weights, threads=2)
    assert torch.equal(found.distances, code_distance(queries, base, weights).gather(1, found.ids))
    assert torch.equal(found.distances, code_distance(queries, base, weights).sort(stable=True, dim=1).values)


@pytest.mark.parametrize("pairs", [1, 5, 64])
def test_blocks_runs_and_chunks_do_not_show(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, queries = drawn(90, 0), drawn(20, 1)
    index = CodeIndex(base, torch.arange(89, -1, -1))
    index.remove([3, 4, 50])
    for weights in (None, {"relu": 1.0}, {"wide": 1.0}):
        whole = index.search(queries, 9, weights)
        with monkeypatch.context() as patch:
            patch.setattr(nearest, "_BLOCK_PAIRS", pairs)
            patch.setattr(nearest, "_QUERIES", 7)
            patch.setattr(nearest, "_TASK_BYTES", 10_000)
            patch.setattr(metric, "_BLOCK_WORDS", pairs)
            parted = index.search(queries, 9, weights, threads=3)
        assert torch.equal(whole.ids, parted.ids) and torch.equal(whole.distances, parted.distances)


def test_ties_go_to_the_lowest_id_in_any_order() -> None:
    codes = Codes.from_tensors({"x": (torch.zeros(500, 9, dtype=torch.int64), 2)})
    for ids in (torch.arange(500), torch.arange(499, -1, -1), torch.randperm(500)):
        assert CodeIndex(codes, ids).search(codes.rows([0]), 5).ids.tolist() == [[0, 1, 2, 3, 4]]


def test_add_and_remove() -> None:
    codes = drawn(60, 0)
    index = CodeIndex(codes.rows(slice(0, 10)))
    for start in range(10, 60, 5):
        index.add(codes.rows(slice(start, start + 5)))
    assert torch.equal(index.ids, torch.arange(60)) and len(index) == 60
    assert len(index._parts) < 8, "small additions are joined"
    gone = [*range(0, 60, 3), 59]
    assert index.remove([*gone, 1000]) == 21
    assert index.remove(gone) == 0
    kept = sorted(set(range(60)) - set(gone))
    expected = CodeIndex(codes.rows(kept), kept).search(codes, 5)
    found = index.search(codes, 5)
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.distances, expected.distances)
    index.add(codes.rows([0]))
    assert index.ids.tolist()[-1] == 59, "ids go on from the highest"
    index.add(codes.rows([3]), [3])
    assert index.search(codes.rows([3]), 1).ids.tolist() == [[3]]
    nbytes = index.nbytes
    assert index.remove(index.ids) == 41 and len(index) == 0 and index.nbytes < nbytes
    with pytest.raises(BadInput, match="holds 0 rows"):
        index.search(codes, 1)


def test_one_operator_takes_packed_codes() -> None:
    codes = pack(torch.rand(30, 11) > 0.5, 2)
    index = CodeIndex(Codes({"relu": codes}))
    assert torch.equal(index.search(codes, 3).ids, index.search(Codes({"relu": codes}), 3).ids)
    two = CodeIndex(drawn(5, 0))
    with pytest.raises(BadInput, match="give Codes"):
        two.search(codes, 1)


def test_queries_need_only_the_operators_that_weigh() -> None:
    base, queries = drawn(30, 0), drawn(4, 1)
    few = Codes({"pool": queries["pool"]})
    found = CodeIndex(base).search(few, 3, {"pool": 2.0})
    assert torch.equal(found.ids, CodeIndex(base).search(queries, 3, {"pool": 1.0}).ids)
    with pytest.raises(BadInput, match="'relu' is absent"):
        CodeIndex(base).search(few, 3)


def test_operators_without_codes_are_at_distance_zero() -> None:
    codes = drawn(4, 0, {"affine": (1, (6,)), "nothing": (2, (0,))})
    found = CodeIndex(codes, [7, 5, 3, 1]).search(codes, 2)
    assert found.ids.tolist() == [[1, 3]] * 4 and found.distances.tolist() == [[0.0, 0.0]] * 4


def test_operators_that_never_switch_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights; they come back with the first row that switches them, and go with the last."""
    monkeypatch.setattr("maxaffine._search.nearest._COMPARED", 3)
    base, queries = drawn(20, 0), drawn(4, 1)
    still = base["prelu"].unpack()[:1].expand(20, -1, -1)
    codes = Codes({**base, "prelu": pack(still, 3)})
    alive = ["relu", "pool", "wide", "many"]
    index = CodeIndex(codes)
    assert index.unswitched == ("prelu", "affine", "nothing")
    found = index.search(queries, 20)
    assert found.left_out == index.unswitched
    expected = sorted_neighbors(naive_distance(queries, codes, dict.fromkeys(alive, 1.0)), torch.arange(20), 20)
    assert (found.ids.tolist(), found.distances.tolist()) == expected
    asked = dict.fromkeys(["relu", "prelu", "pool", "wide", "many"], 1.0)
    wanted = sorted_neighbors(naive_distance(queries, codes, asked), torch.arange(20), 20)[1]
    by_name = index.search(queries, 20, asked)
    assert by_name.left_out == () and torch.equal(by_name.ids, found.ids)
    assert by_name.distances.tolist() == wanted
    index.add(base.rows([5]), [77])
    assert index.search(queries, 1).left_out == ("affine", "nothing")
    index.remove([77])
    assert torch.equal(index.search(queries, 20).distances, found.distances)
    # One row, or equal ones: there is nothing to tell by, and the distance is that of all operators.
    index.remove(range(1, 20))
    assert index.unswitched == () and index.search(queries, 1).left_out == ()
    index.add(codes.rows([0]), [1])
    assert len(index.unswitched) == 7 and index.search(queries, 1).left_out == ()
    assert torch.equal(index.search(queries, 1).distances, code_distance(queries, codes.rows([0])))


def test_no_queries() -> None:
    found = CodeIndex(drawn(4, 0)).search(drawn(0, 1), 2)
    assert found.ids.shape == found.distances.shape == (0, 2)


def test_bad_input() -> None:
    codes = drawn(6, 0)
    index = CodeIndex(codes)
    for k in (0, -1, True, 7):
        with pytest.raises(BadInput, match="k="):
            index.search(codes, k)
    with pytest.raises(BadInput, match="threads=0"):
        index.search(codes, 1, threads=0)
    with pytest.raises(BadInput, match="unknown operators"):
        index.search(codes, 1, {"gone": 1.0})
    for ids, message in [
        ([1, 2], "2, but there are 6"),
        ([10, 11, 12, 13, 14, 14], "occur twice"),
        ([-1, 11, 12, 13, 14, 15], "from -1"),
        ([2**63 - 1, 11, 12, 13, 14, 15], "2\\^63 - 2"),
        (list(range(2**63, 2**63 + 6)), "does not fit"),
        (torch.tensor([0.5, 11, 12, 13, 14, 15]), "float32"),
        (torch.arange(6)[None] + 10, "shape"),
        ([0, 11, 12, 13, 14, 15], "in the index already"),
    ]:
        with pytest.raises(BadInput, match=message):
            index.add(codes, ids)
    assert len(index) == 6
    other = drawn(6, 0, LAYOUT | {"relu": (2, (71,))})
    with pytest.raises(BadInput, match=r"'relu' has units \(71,\)"):
        index.add(other)


def test_codes_of_another_network_are_refused() -> None:
    codes = drawn(6, 0)
    ours, theirs = (Codes(dict(codes), metadata={"fingerprint": name * 64}) for name in "ab")
    index = CodeIndex(ours)
    assert index.metadata["fingerprint"] == "a" * 64
    index.search(codes, 1)  # says nothing of its network
    for call in (index.add, lambda c: index.search(c, 1)):
        with pytest.raises(BadInput, match="another network"):
            call(theirs)


def test_a_real_network_finds_its_own_inputs() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(36, 3)
    )
    x = torch.randn(50, 1, 8, 8)
    codes = ma.capture(model, x).codes(x)
    found = CodeIndex(codes).search(codes, 3)
    assert torch.equal(found.ids[:, 0], torch.arange(50))
    assert torch.equal(found.distances, code_distance(codes, codes).sort(1).values[:, :3])


def test_ctrl_c_ends_a_search_and_leaves_the_index_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = CodeIndex(drawn(50, 0)), drawn(30, 1)
    expected = index.search(queries, 3)
    scans = []

    def interrupt(*arguments: object) -> None:
        scans.append(threading.current_thread().name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nearest, "_QUERIES", 1)
        patch.setattr(nearest, "_scan", interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.search(queries, 3)
    assert torch.equal(index.search(queries, 3).ids, expected.ids)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    index = CodeIndex(drawn(50, 0))
    index.search(drawn(5, 1), 3)
    assert capsys.readouterr().err == ""
    index.search(drawn(5, 1), 3, progress=True)
    assert "searching" in capsys.readouterr().err


def test_it_says_what_it_is() -> None:
    assert repr(CodeIndex(drawn(3, 0, {"relu": (2, (70,))}))) == "CodeIndex(3 rows, operators ['relu'], 48 bytes)"


def contents(path: Path) -> dict[str, bytes]:
    """Every file of an index, by its name."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


FILE_LAYOUTS = [LAYOUT, {"affine": (1, (6,))}, {"pool": (9, (5,))}]


@pytest.mark.parametrize("layout", FILE_LAYOUTS)
@pytest.mark.parametrize("memory_map", [False, True])
def test_save_and_load(layout: dict, memory_map: bool, tmp_path: Path) -> None:
    codes = Codes(dict(drawn(40, 0, layout)), metadata={"fingerprint": "f" * 64})
    index = CodeIndex(codes)
    index.remove([0, 7])
    index.save(tmp_path / "a.codeindex")
    assert [path.name for path in tmp_path.iterdir()] == ["a.codeindex"]
    loaded = CodeIndex.load(tmp_path / "a.codeindex", memory_map=memory_map)
    assert loaded.operators == index.operators and loaded.metadata == index.metadata
    expected, found = (item.search(codes, 5) for item in (index, loaded))
    assert torch.equal(expected.ids, found.ids) and torch.equal(expected.distances, found.distances)
    content = contents(tmp_path / "a.codeindex")
    loaded.add(codes.rows([0]), [0])
    loaded.remove([1, 2])
    assert set(loaded.ids.tolist()) == {0, *range(3, 40)} - {7}
    assert contents(tmp_path / "a.codeindex") == content
    loaded.save(tmp_path / "a.codeindex")
    assert set(CodeIndex.load(tmp_path / "a.codeindex").ids.tolist()) == set(loaded.ids.tolist())


def test_an_empty_index_is_kept_too(tmp_path: Path) -> None:
    CodeIndex(drawn(0, 0)).save(tmp_path / "a.codeindex")
    index = CodeIndex.load(tmp_path / "a.codeindex")
    index.add(drawn(3, 0))
    assert index.ids.tolist() == [0, 1, 2]


def test_its_arrays_are_read_by_numpy(tmp_path: Path) -> None:
    index = CodeIndex(drawn(9, 0))
    index.save(tmp_path / "a.codeindex")
    (file,) = (tmp_path / "a.codeindex").rglob("ids.npy")
    assert np.load(file, mmap_mode="r").tolist() == list(range(9))


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.codeindex"
    CodeIndex(drawn(3, 0, {"relu": (2, (9,)), "pool": (9, (3,))})).save(path)
    for file in [file for file in path.rglob("*") if file.is_file()]:
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :])
            with pytest.raises(ma.DataError, match="a.codeindex"):
                CodeIndex.load(path)
        # What JSON takes for no difference may follow its text.
        longer = [content + b" "] if file.suffix == ".npy" else []
        for other in (content[:0], content[:5], content[:100], content[:-1], *longer):
            file.write_bytes(other)
            for memory_map in (False, True):
                with pytest.raises(ma.DataError, match="a.codeindex"):
                    CodeIndex.load(path, memory_map=memory_map)
        file.unlink()
        for memory_map in (False, True):
            with pytest.raises(ma.DataError, match="a.codeindex"):
                CodeIndex.load(path, memory_map=memory_map)
        file.write_bytes(content)
    assert len(CodeIndex.load(path)) == 3


def test_paths_without_an_index(tmp_path: Path) -> None:
    for absent in (tmp_path / "none.codeindex", tmp_path):
        with pytest.raises(ma.DataError, match="holds no index; check the path"):
            CodeIndex.load(absent)
    (tmp_path / "file.codeindex").write_bytes(b"x")
    with pytest.raises(ma.DataError, match="could not be read"):
        CodeIndex.load(tmp_path / "file.codeindex")
    for taken in (tmp_path / "file.codeindex", tmp_path / "absent" / "a.codeindex"):
        with pytest.raises(ma.DataError, match="could not be written"):
            CodeIndex(drawn(3, 0)).save(taken)
    assert (tmp_path / "file.codeindex").read_bytes() == b"x"
    with pytest.raises(BadInput, match="end it in .codeindex"):
        CodeIndex(drawn(3, 0)).save(tmp_path / "a.npz")


@pytest.mark.parametrize("fails", ["_search.files.os.fsync", "_files.zlib.crc32", "_search.files.json.dumps"])
def test_an_interrupted_save_leaves_the_index_before(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.codeindex"

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    def interrupted() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"maxaffine.{fails}", interrupt)
            CodeIndex(drawn(9, 0)).save(path)

    interrupted()
    assert list(tmp_path.iterdir()) == []
    CodeIndex(drawn(3, 0)).save(path)
    content = contents(path)
    interrupted()
    assert contents(path) == content and len(CodeIndex.load(path)) == 3


def test_a_killed_save_leaves_the_index_before(tmp_path: Path) -> None:
    """What it had written by then is in the way of no later one; a damaged description removes nothing."""
    path = tmp_path / "a.codeindex"
    CodeIndex(drawn(3, 0)).save(path)
    code = f"""
import os, signal
from tests.search.drawn import drawn
from maxaffine._search import CodeIndex, files
write = files._write
def dies(path, *arguments):
    write(path, *arguments)
    if path.stem == "rows_2":
        os.kill(os.getpid(), signal.SIGKILL)
files._write = dies
CodeIndex(drawn(9, 0)).save({str(path)!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(list(path.iterdir())) == 3 and len(CodeIndex.load(path)) == 3
    CodeIndex(drawn(4, 0)).save(path)
    assert len(CodeIndex.load(path)) == 4
    (tmp_path / "kept").mkdir()
    (path / "index.json").write_text('{"index": {"folder": "../kept"}}')
    CodeIndex(drawn(5, 0)).save(path)
    assert len(CodeIndex.load(path)) == 5 and (tmp_path / "kept").exists()


def test_a_read_only_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it refuses to remove what was never written."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "touch", "unlink", "rmdir"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(ma.DataError, match="a.codeindex could not be written: .* Read-only"):
        CodeIndex(drawn(3, 0)).save(tmp_path / "a.codeindex")
