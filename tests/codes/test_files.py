"""Codes on disk: equal after a round trip, refused when damaged or foreign, and never half written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from maxaffine._codes import Codes, files, pack
from maxaffine.errors import BadInput, DataError

SUFFIXES = [".safetensors", ".npz"]
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def example() -> Codes:
    tensors = {
        "layer1.0.relu": (torch.randint(0, 2, (5, 3, 7)), 2),
        "pool": (torch.randint(0, 9, (5, 10)), 9),
        "wide": (torch.randint(0, 300, (5, 2)), 300),
        "affine": (torch.zeros(5, 4, dtype=torch.int64), 1),
        "nothing": (torch.zeros(5, 0, dtype=torch.int64), 2),
    }
    return Codes.from_tensors(tensors, metadata={"network": "fingerprint"})


@pytest.fixture(params=SUFFIXES)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Codes]:
    path, codes = tmp_path / f"codes{request.param}", example()
    codes.save(path)
    return path, codes


def test_round_trip(saved: tuple[Path, Codes]) -> None:
    path, codes = saved
    loaded = Codes.load(str(path))
    assert loaded == codes
    assert list(loaded) == list(codes)
    assert loaded.metadata == {"network": "fingerprint"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@shared_folder
@given(st.lists(st.text(), unique=True, max_size=4), st.integers(0, 3), st.dictionaries(st.text(), st.text()))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_names_and_metadata(
    suffix: str, tmp_path: Path, names: list[str], batch: int, metadata: dict[str, str]
) -> None:
    packed = pack(torch.randint(0, 3, (batch, 5)), 3)
    # The same tensor under every name, which must not be taken for shared memory.
    codes = Codes(dict.fromkeys(names, packed), batch=batch)
    codes.save(tmp_path / f"codes{suffix}", metadata)
    loaded = Codes.load(tmp_path / f"codes{suffix}")
    assert loaded == codes and list(loaded) == names and loaded.metadata == metadata


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_saved_alone(suffix: str, tmp_path: Path) -> None:
    codes = example()
    codes.rows(slice(4, 0, -2)).save(tmp_path / f"codes{suffix}")
    assert Codes.load(tmp_path / f"codes{suffix}") == codes.rows([4, 2])


def test_saved_metadata_replace_those_carried(tmp_path: Path) -> None:
    codes = example()
    codes.save(tmp_path / "codes.npz", {"split": "test"})
    assert Codes.load(tmp_path / "codes.npz").metadata == {"split": "test"}
    assert codes.metadata == {"network": "fingerprint"}


def test_loaded_codes_do_not_follow_the_file(saved: tuple[Path, Codes]) -> None:
    path, codes = saved
    loaded = Codes.load(path)
    with path.open("rb+") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert loaded == codes


@shared_folder
@given(st.data())
def test_any_changed_byte_is_noticed_or_harmless(saved: tuple[Path, Codes], data: st.DataObject) -> None:
    path, codes = saved
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name(f"damaged{path.suffix}")
    damaged.write_bytes(content)
    try:
        loaded = Codes.load(damaged)
    except DataError as error:
        assert str(damaged) in str(error) and "; " in str(error)
    else:  # a time stamp in the archive, say
        assert loaded == codes and loaded.metadata == codes.metadata


def test_every_byte_of_the_planes_matters(saved: tuple[Path, Codes]) -> None:
    path, codes = saved
    content = path.read_bytes()
    start = content.find(codes["pool"].packed.numpy().tobytes())
    assert start > 0
    for position in range(start, start + codes["pool"].nbytes):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DataError, match="damaged"):
            Codes.load(path)


def test_shortened_files(saved: tuple[Path, Codes]) -> None:
    path, _ = saved
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="damaged or not"):
            Codes.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_absent_file_and_folder(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"codes{suffix}"
    with pytest.raises(DataError, match=r"does not exist; check the path"):
        Codes.load(path)
    path.mkdir()
    with pytest.raises(DataError, match="codes"):
        Codes.load(path)
    with pytest.raises(DataError, match="could not be written"):
        example().save(path)
    with pytest.raises(DataError, match="could not be written"):
        example().save(tmp_path / "absent" / f"codes{suffix}")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["codes", "codes.pt", "codes.npz.gz"])
def test_other_suffixes(name: str, tmp_path: Path) -> None:
    for act in (example().save, Codes.load):
        with pytest.raises(BadInput, match=r"end it in one of \['.safetensors', '.npz'\]"):
            act(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_foreign_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", weights=np.zeros(3))
    save_file({"weights": np.zeros(3)}, tmp_path / "weights.safetensors")
    for name in ("arrays.npz", "weights.safetensors"):
        with pytest.raises(DataError, match="written by another program"):
            Codes.load(tmp_path / name)
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    (tmp_path / "text.npz").write_text("codes")
    for name in ("array.npz", "text.npz"):
        with pytest.raises(DataError, match="damaged or not a .npz file"):
            Codes.load(tmp_path / name)


def rewrite(path: Path, changes: dict[str, object]) -> None:
    """Change the header and give it the right checksum."""
    load, save = {
        ".npz": (files._load_npz, files._save_npz),
        ".safetensors": (files._load_safetensors, files._save_safetensors),
    }[path.suffix]
    strings, arrays = load(path)
    text = json.dumps(json.loads(strings["header"]) | changes)
    save(path, {"header": text, "crc32": files._checksum(text, arrays)}, arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2, newer than 1; upgrade maxaffine"),
        ({"format": "other"}, "holds 'other', not 'maxaffine.codes'"),
        ({"operators": [{"name": "relu", "pieces": 2, "units": [9]}]}, "holds no valid codes.*has shape"),
        ({"operators": [{"name": "relu"}]}, "holds no valid codes"),
        ({"batch": 4}, "another number of inputs than 4"),
        ({"operators": [{"name": str(i), "pieces": 2, "units": [21]} for i in range(9)]}, "holds no valid codes"),
    ],
)
def test_headers_that_do_not_fit(saved: tuple[Path, Codes], changes: dict[str, object], message: str) -> None:
    path, codes = saved
    rewrite(path, {})
    assert Codes.load(path) == codes
    rewrite(path, changes)
    with pytest.raises(DataError, match=message):
        Codes.load(path)


class Interrupt(BaseException):
    """Stands for Ctrl-C or any other way out."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace", "writer"])
def test_interrupted_saves_leave_the_old_file(
    step: str, error: BaseException, saved: tuple[Path, Codes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, codes = saved

    def fail(target: object, *_: object, **__: object) -> None:
        if isinstance(target, Path):
            target.write_bytes(b"half")
        raise error

    if step == "writer":
        save, load = files._BY_SUFFIX[path.suffix]
        monkeypatch.setitem(files._BY_SUFFIX, path.suffix, (fail, load))
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(Interrupt if isinstance(error, Interrupt) else DataError):
        codes.rows([0]).save(path)
    monkeypatch.undo()
    assert Codes.load(path) == codes
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    fresh = path.with_name(f"fresh{path.suffix}")
    codes.save(fresh)
    assert Codes.load(fresh) == codes


def test_saving_replaces_and_respects_the_umask(saved: tuple[Path, Codes]) -> None:
    path, codes = saved
    codes.rows([1]).save(path)
    assert Codes.load(path) == codes.rows([1])
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
