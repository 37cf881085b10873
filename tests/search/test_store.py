"""CodeStore: what was appended is there, whole, whatever happened in between."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lance
import numpy as np
import pytest
import torch

import maxaffine as ma
from maxaffine._codes import Codes, pack
from maxaffine._search import CodeIndex, CodeStore, search_store
from maxaffine._search.store import naming_store
from maxaffine.errors import BadInput, DataError
from tests.search.drawn import LAYOUT, drawn

ROWS = 50
# Appends the rows start to start + ROWS, then those a step further, and so on, and says so after each; the codes of the
# append that begins at row n are drawn with seed n.
WRITER = f"""
import sys
import torch
from maxaffine._search import CodeStore
from tests.search.test_store import batch

torch.set_num_threads(1)
path, start, step, count = sys.argv[1], *map(int, sys.argv[2:])
store = CodeStore(path)
print("ready", flush=True)
for n in range(start, start + step * count, step):
    store.append(batch(n), range(n, n + {ROWS}), check=False)
    print(n, flush=True)
"""


def batch(seed: int, rows: int = ROWS) -> Codes:
    return Codes(dict(drawn(rows, seed)), metadata={"fingerprint": "a" * 64})


def _writer(path: Path, start: int, step: int, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), *map(str, (start, step, count))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def _content(store: CodeStore) -> tuple[list[int], Codes]:
    """Every id in order, and the codes in that order; an id that is there twice fails."""
    parts = list(store.batches())
    if not parts:
        return [], batch(0, 0)
    ids = torch.cat([part.ids for part in parts])
    assert len(ids.unique()) == len(ids), "an id is there twice"
    return ids.sort().values.tolist(), Codes.concat([part.codes for part in parts]).rows(ids.argsort())


def _check_appends(store: CodeStore, begun: set[int], acknowledged: set[int]) -> None:
    """Each acknowledged append is there, and whatever is there is there as a whole and as it was written."""
    ids, codes = _content(store)
    starts = ids[::ROWS]
    assert acknowledged <= set(starts) <= begun
    assert ids == [start + i for start in starts for i in range(ROWS)]
    assert codes == Codes.concat([batch(start) for start in starts])


@pytest.fixture
def store(tmp_path: Path) -> CodeStore:
    return CodeStore.create(tmp_path / "codes.lance", batch(0))


def test_what_goes_in_comes_out(store: CodeStore) -> None:
    labels = torch.arange(ROWS) % 4 - 1
    store.append(batch(0), labels=labels)
    store.append(batch(1), range(1000, 1000 + ROWS))
    store.append(batch(2, 3))
    store.append(batch(2, 0))
    ids = [*range(ROWS), *range(1000, 1000 + ROWS + 3)]
    assert len(store) == 2 * ROWS + 3 and store.ids().tolist() == ids
    parts = list(CodeStore(store.path).batches(batch_size=7))
    assert torch.cat([part.ids for part in parts]).tolist() == ids
    assert torch.equal(torch.cat([part.labels for part in parts])[:ROWS], labels)
    assert Codes.concat([part.codes for part in parts]) == Codes.concat([batch(0), batch(1), batch(2, 3)])
    assert parts[0].codes.metadata == {"fingerprint": "a" * 64}


def test_some_operators(store: CodeStore) -> None:
    store.append(batch(0))
    (part,) = store.batches(["pool", "affine"])
    assert list(part.codes) == ["pool", "affine"] and part.codes["pool"] == batch(0)["pool"]
    assert store.index("wide").operators == ("wide",)
    with pytest.raises(BadInput, match="unknown \\['gone'\\]"):
        store.index(["gone"])


def test_index_of_a_store(store: CodeStore) -> None:
    for start in (0, ROWS, 7 * ROWS):
        store.append(batch(start), range(start, start + ROWS))
    store.delete([3, 4])
    whole = CodeIndex(
        Codes.concat([batch(0), batch(ROWS), batch(7 * ROWS)]),
        store_ids := [*range(2 * ROWS), *range(7 * ROWS, 8 * ROWS)],
    )
    whole.remove([3, 4])
    found, expected = (index.search(batch(9), 5) for index in (store.index(), whole))
    assert len(store_ids) == 3 * ROWS
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.distances, expected.distances)


def test_operators_that_never_switch_in_a_store(store: CodeStore) -> None:
    """Whole, in a pass over its rows, and in one over some of its files: left out alike."""
    still = batch(0)["pool"].unpack()[:1]
    parts = [
        Codes({**batch(n), "pool": pack(still.expand(ROWS, -1, -1), 4)}, metadata=batch(n).metadata) for n in (0, 1)
    ]
    for n, part in enumerate(parts):
        store.append(part, range(n * ROWS, (n + 1) * ROWS))
    index, found = store.index(), search_store(store, batch(9), 5)
    assert store.unswitched() == index.unswitched and "pool" in store.unswitched() and "wide" not in store.unswitched()
    assert found.left_out == index.search(batch(9), 5).left_out == store.unswitched()
    assert torch.equal(found.distances, index.search(batch(9), 5).distances)
    some = search_store(store, batch(9), 2, files=store.files()[:1])
    assert some.left_out == found.left_out
    store.append(batch(0).rows([1]), [3 * ROWS])
    assert "pool" not in store.unswitched() and search_store(store, batch(9), 5).left_out == store.unswitched()


def test_delete_and_compact(store: CodeStore) -> None:
    for n in range(0, 10 * ROWS, ROWS):
        store.append(batch(n), range(n, n + ROWS))
    before = len(list(Path(store.path, "data").iterdir()))
    assert store.delete([0, 1, 2, 2, 99999]) == 3 and store.delete([0, 1, 2]) == 0
    store.compact(keep_seconds=0.0)
    assert len(list(Path(store.path, "data").iterdir())) < before
    ids, codes = _content(store)
    assert ids == list(range(3, 10 * ROWS))
    assert codes == Codes.concat([batch(n) for n in range(0, 10 * ROWS, ROWS)]).rows(ids)
    store.append(batch(0, 3), [0, 1, 2])
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="at least 0"):
            store.compact(keep_seconds=seconds)


def test_any_number_of_deletions(store: CodeStore) -> None:
    store.append(batch(0))
    assert store.delete([]) == 0 and store.delete(range(5, 45)) == 40 and len(store) == 10
    before = lance.dataset(store.path).version
    assert store.delete(range(40, 100_000)) == 5 and len(store) == 5
    assert lance.dataset(store.path).version == before + 1, "a reader sees all of a deletion, or nothing"


@pytest.mark.parametrize("units", [(1, (5,)), (2, (1,)), (2, (64,)), (300, (3, 7)), (2, (0,))])
def test_any_layout(units: tuple, tmp_path: Path) -> None:
    codes = Codes(dict(drawn(9, 0, {"layer1.0.relu": (2, (11,)), "b": units})), metadata={"fingerprint": "x"})
    store = CodeStore.create(tmp_path / "s", codes)
    store.append(codes)
    (part,) = store.batches()
    assert part.codes == codes


def test_it_takes_less_than_twice_its_bits(tmp_path: Path) -> None:
    codes = Codes.from_tensors({"relu": (torch.rand(3000, 4000) > 0.5, 2)}, metadata={"fingerprint": "x"})
    store = CodeStore.create(tmp_path / "s", codes)
    for start in range(0, 3000, 500):
        store.append(codes.rows(slice(start, start + 500)))
    size = sum(path.stat().st_size for path in Path(store.path).rglob("*") if path.is_file())
    assert size < 1.1 * codes.nbytes


def test_codes_of_a_network(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    x = torch.randn(20, 4)
    net = ma.capture(model, x)
    store = CodeStore.create(tmp_path / "s", net)
    store.append(net.codes(x))
    assert store.fingerprint == net.fingerprint and store.index().search(net.codes(x), 1).ids.shape == (20, 1)
    CodeStore.create(tmp_path / "s", net, exist_ok=True)
    with torch.no_grad():
        next(model.parameters())[0] += 1e-6
    retrained = ma.capture(model, x)
    for call in (
        lambda: store.append(retrained.codes(x)),
        lambda: store.index().search(retrained.codes(x), 1),
        lambda: CodeStore.create(tmp_path / "s", retrained, exist_ok=True),
    ):
        with pytest.raises(BadInput, match="another network, or other weights"):
            call()
    assert len(store) == 20


def test_bad_input(store: CodeStore, tmp_path: Path) -> None:
    codes = batch(0)
    store.append(codes)
    for ids, labels, message in [
        (range(ROWS), None, "in the store already"),
        ([1, 2], None, "2, but there are 50"),
        (range(-1, ROWS - 1), None, "from -1"),
        (range(100, 100 + ROWS), [1, 2], "2 for 50"),
        (range(100, 100 + ROWS), [-2] * ROWS, "below -1"),
        (range(100, 100 + ROWS), torch.zeros(ROWS), "labels: shape"),
    ]:
        with pytest.raises(BadInput, match=message):
            store.append(codes, ids, labels)
    assert len(store) == ROWS
    with pytest.raises(BadInput, match="codes: they name no network"):
        store.append(drawn(3, 0))
    other = Codes(dict(drawn(3, 0, LAYOUT | {"relu": (2, (71,))})), metadata=codes.metadata)
    with pytest.raises(BadInput, match="but the store"):
        store.append(other)
    with pytest.raises(BadInput, match="no operator has a code"):
        affine = drawn(3, 0, {"affine": (1, (4,))})
        CodeStore.create(tmp_path / "none", Codes(dict(affine), metadata=codes.metadata))
    with pytest.raises(DataError, match="exists already"):
        CodeStore.create(store.path, codes)
    with pytest.raises(BadInput, match="batch_size=0"):
        next(store.batches(batch_size=0))


def test_stores_that_are_none(tmp_path: Path) -> None:
    import pyarrow as pa

    with pytest.raises(DataError, match="none.lance"):
        CodeStore(tmp_path / "none.lance")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file"):
        CodeStore(tmp_path / "file")
    with pytest.raises(DataError, match="could not be made"):
        CodeStore.create(tmp_path / "file", batch(0))
    lance.write_dataset(pa.table({"x": [1]}), str(tmp_path / "other"))
    with pytest.raises(DataError, match="other: it holds no codes"):
        CodeStore(tmp_path / "other")
    for text, message in [("{", "damaged"), ('{"format": "else"}', "'else'"), ("[1]", "damaged")]:
        shutil.rmtree(tmp_path / "other")
        table = pa.table({"x": [1]}).replace_schema_metadata({"maxaffine": text})
        lance.write_dataset(table, str(tmp_path / "other"))
        with pytest.raises(DataError, match=message):
            CodeStore(tmp_path / "other")


def test_an_empty_store_has_no_index(store: CodeStore) -> None:
    assert list(store.batches()) == [] and store.ids().tolist() == []
    with pytest.raises(DataError, match="is empty"):
        store.index()


def test_two_rows_of_one_id_are_noticed(store: CodeStore) -> None:
    store.append(batch(0))
    store.append(batch(1), range(ROWS), check=False)
    for _ in range(2):  # in two files, and in one
        with pytest.raises(DataError, match="one id"):
            store.index()
        with pytest.raises(DataError, match="one id"):
            search_store(store, batch(0, 1), 2 * ROWS)
        store.compact(keep_seconds=0.0)


def test_files_that_were_compacted_are_not_taken_for_empty_ones(store: CodeStore) -> None:
    for n in (0, ROWS):
        store.append(batch(n), range(n, n + ROWS))
    first, second = store.files()
    found = search_store(store, batch(0, 3), 2, files=[second, second])
    assert torch.equal(found.ids, CodeIndex(batch(ROWS), range(ROWS, 2 * ROWS)).search(batch(0, 3), 2).ids)
    store.compact(keep_seconds=0.0)
    with pytest.raises(DataError, match=rf"compacted meanwhile and has no files \[{first}\]"):
        search_store(store, batch(0, 3), 2, files=[first])


def _damage(path: Path, how: str, draw: random.Random) -> None:
    content = path.read_bytes()
    place = draw.randrange(len(content))
    if how == "absent":
        path.unlink()
    elif how == "short":
        path.write_bytes(content[:place])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "bit":
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
    else:
        path.write_bytes(content[:place] + draw.randbytes(min(64, len(content) - place)) + content[place + 64 :])


@pytest.mark.parametrize("how", ["absent", "short", "empty", "bit", "noise"])
def test_a_damaged_data_file_never_gives_wrong_codes(how: str, store: CodeStore) -> None:
    """Damage is an error, unless it hit bytes that mean nothing: then every row is still what was written."""
    store.append(batch(0))
    (file,) = Path(store.path, "data").iterdir()
    content, noticed = file.read_bytes(), 0
    draw = random.Random(5)
    for _ in range(20):
        _damage(file, how, draw)
        try:
            found = _content(CodeStore(store.path))
        except DataError as error:
            assert store.path in str(error)
            noticed += 1
        else:
            assert found == (list(range(ROWS)), batch(0))
        file.write_bytes(content)
    assert noticed == 20 if how in ("absent", "short", "empty") else noticed > 3
    _check_appends(store, {0}, {0})


def test_a_damaged_manifest_is_an_error(store: CodeStore) -> None:
    store.append(batch(0))
    manifests = sorted(Path(store.path, "_versions").glob("*.manifest"))
    newest = manifests[0]  # they count down
    content = newest.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"x" * len(content)):
        newest.write_bytes(damaged)
        with pytest.raises(DataError, match="codes.lance"):
            CodeStore(store.path).index()
    # Lance panics where the type of a column is not one that it knows.
    newest.write_bytes(content.replace(b"fixed_size_list:", b"fixed_size_list*", 1))
    with pytest.raises(DataError, match="codes.lance"):
        CodeStore(store.path).index()
    shutil.rmtree(Path(store.path, "_versions"))
    with pytest.raises(DataError, match="codes.lance"):
        CodeStore(store.path)


def test_what_lance_says_is_told_without_its_own_source(store: CodeStore) -> None:
    with pytest.raises(DataError) as told:
        CodeStore(f"{store.path}.absent")
    assert "not found" in str(told.value) and ".rs:" not in str(told.value)


def test_a_conflict_says_that_it_can_be_done_again() -> None:
    words = "a.lance was changed by another process at the same moment; nothing is lost, do it again"
    with pytest.raises(DataError, match=words), naming_store("a.lance"):
        raise OSError("Retryable commit conflict for version 7: This Rewrite transaction was preempted")


def test_swapped_rows_are_noticed(store: CodeStore) -> None:
    """The checksum covers the id: whole codes that stand at another input's place are damage too."""
    layout = store.layout
    table = layout.table(np.arange(ROWS), np.full(ROWS, -1), batch(0))
    swapped = table.set_column(0, table.schema.field("id"), [list(reversed(range(ROWS)))])
    store.append_tables([swapped])
    with pytest.raises(DataError, match="not what was written"):
        list(store.batches())


def test_kill_minus_nine_loses_no_acknowledged_row(store: CodeStore) -> None:
    begun, acknowledged = set(), set()
    delays = random.Random(1)
    for turn in range(4):
        first = turn * 1000 * ROWS
        process = _writer(Path(store.path), first, ROWS, 1000)
        assert process.stdout is not None
        # However slow the machine is, one writer comes so far as to append; the others may be killed before that.
        said = {int(process.stdout.readline())} if turn == 0 else set()
        time.sleep(delays.uniform(0.05, 0.3))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        said |= {int(line) for line in process.stdout.read().splitlines()}
        process.stdout.close()
        acknowledged |= said
        begun |= said | {max(said, default=first - ROWS) + ROWS}
        _check_appends(CodeStore(store.path), begun, acknowledged)
    store.compact(keep_seconds=0.0)
    store.append(batch(1), [*range(10**9, 10**9 + ROWS)])
    assert store.delete(range(10**9, 10**9 + ROWS)) == ROWS
    _check_appends(store, begun, acknowledged)


def test_concurrent_writers_and_readers(store: CodeStore) -> None:
    writers = [_writer(Path(store.path), start * ROWS, 2 * ROWS, 15) for start in (0, 1)]
    sizes = [0]
    while any(writer.poll() is None for writer in writers):
        ids, _ = _content(CodeStore(store.path))
        assert len(ids) % ROWS == 0, "half an append was seen"
        sizes.append(len(ids))
    assert sizes == sorted(sizes)
    assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    _check_appends(store, starts := set(range(0, 30 * ROWS, ROWS)), starts)


def test_a_scan_is_of_one_moment(store: CodeStore) -> None:
    store.append(batch(0))
    scan = store.batches(batch_size=10)
    first = next(scan)
    other = CodeStore(store.path)
    other.append(batch(1), range(100, 100 + ROWS))
    other.delete(range(20, 30))
    ids = torch.cat([first.ids, *(part.ids for part in scan)])
    assert ids.tolist() == list(range(ROWS))
    assert len(store) == 2 * ROWS - 10


def test_progress_and_what_it_says(store: CodeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.append(batch(0))
    list(store.batches(progress=True))
    assert "reading codes" in capsys.readouterr().err
    assert repr(store).startswith(f"CodeStore('{store.path}', 50 rows, operators ['relu', ")
