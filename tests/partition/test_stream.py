"""Planes in tiles on disk: the same regions as in memory, and what is left when a run is cut short."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._partition import PlanePartition, PlaneTiles
from maxaffine._partition.planes import blocks
from maxaffine._partition.planes import tiles as folder
from tests.partition.planes import mlp

SMALL = 2**16
PLANE: dict[str, Any] = {
    "origin": torch.zeros(1, 2, dtype=torch.float64),
    "basis": torch.eye(2, dtype=torch.float64),
    "extent": 2.0,
    "progress": False,
}


@pytest.fixture(scope="module")
def net() -> ma.SplineNetwork:
    return ma.capture(mlp(2, 24, 24, 3), torch.zeros(2, 2, dtype=torch.float64))


@pytest.fixture(scope="module")
def whole(net: ma.SplineNetwork) -> PlanePartition:
    return ma.partition.plane(net, **PLANE)


@pytest.fixture(scope="module")
def tiles(net: ma.SplineNetwork, tmp_path_factory: pytest.TempPathFactory) -> PlaneTiles:
    return ma.partition.stream_plane(net, tmp_path_factory.mktemp("plane"), **PLANE, memory=SMALL)


def _by_codes(found: PlanePartition) -> dict[bytes, float]:
    """The area of each region, by a digest of its codes."""
    return {mark.tobytes(): area for mark, area in zip(found.digests(found.centers), found.areas.tolist(), strict=True)}


def _corners(parts: list[PlanePartition]) -> list[tuple[float, float]]:
    """Every vertex once, up to rounding, with no vertex that is no corner."""
    points = np.concatenate([part.cells.points[part.cells.corners] for part in parts])
    return sorted({(round(x, 9) + 0.0, round(y, 9) + 0.0) for x, y in points.tolist()})


def test_tiles_are_the_whole_plane(tiles: PlaneTiles, whole: PlanePartition) -> None:
    assert tiles.complete and len(tiles) > 5
    assert tiles.regions == whole.regions
    parts = list(tiles)
    found = {mark: area for tile in parts for mark, area in _by_codes(tile).items()}
    expected = _by_codes(whole)
    assert found.keys() == expected.keys()
    assert all(abs(area - expected[mark]) < 1e-12 for mark, area in found.items())
    assert tiles.area == pytest.approx(16, rel=1e-12)
    assert _corners(parts) == _corners([whole])
    tiles.check()


def test_tiles_join_to_what_is_found_in_memory(net: ma.SplineNetwork, tiles: PlaneTiles) -> None:
    joined, same = tiles.whole(), ma.partition.plane(net, **PLANE, memory=SMALL)
    for name in ("points", "ends", "operator", "unit", "starts", "corners", "sides"):
        assert np.array_equal(getattr(joined.cells, name), getattr(same.cells, name)), name
    assert torch.equal(joined.values, same.values)


def test_locate_and_verify(tiles: PlaneTiles) -> None:
    t = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    tile, cell = tiles.locate(t)
    model = mlp(2, 24, 24, 3)
    for number in torch.unique(tile).tolist():
        rows = tile == number
        slopes, offsets = tiles[number].plane_map(cell[rows])
        torch.testing.assert_close((slopes * t[rows, None]).sum(2) + offsets, model(t[rows]).detach())
    assert tiles.locate(torch.tensor([[9.0, 0.0]]))[0].tolist() == [-1]
    report = tiles.verify(model)
    assert report.exact and report.samples == 4096
    with pytest.raises(ma.ExactnessError, match="maps and the module disagree"):
        tiles.verify(mlp(2, 24, 24, 3, seed=1))
    assert f"{tiles.regions} regions in {len(tiles)} tiles" in repr(tiles)


def test_convolutions_with_pooling_and_a_skip(tmp_path: Path) -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
            self.pool, self.last = nn.MaxPool2d(2), nn.Linear(18, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x).relu()
            return self.last(self.pool(y + self.second(y).relu()).flatten(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Skip().double(), torch.rand(3, 1, 6, 6, dtype=torch.float64)
    net = ma.capture(model, x)
    tiles = ma.partition.stream_plane(net, tmp_path, x, memory=2**16, progress=True)
    expected = _by_codes(ma.partition.plane(net, x, progress=False))
    assert len(tiles) > 5
    assert {mark for tile in tiles for mark in _by_codes(tile)} == expected.keys()
    assert tiles.regions == len(expected)
    tiles.check()
    assert tiles.verify(model, samples=500).exact


def _interrupt(patch: pytest.MonkeyPatch, name: str, after: int, error: type[BaseException]) -> None:
    """Let a function of the blocks end with an error when it is called once more than so many times."""
    count, inner = 0, getattr(blocks.Builder, name)

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > after:
            raise error
        return inner(*arguments)

    patch.setattr(blocks.Builder, name, interrupted)


@pytest.mark.parametrize("after", [0, 3, 17])
def test_ctrl_c_leaves_a_readable_folder_that_is_gone_on_with(
    net: ma.SplineNetwork, tiles: PlaneTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with monkeypatch.context() as patch:
        _interrupt(patch, "_advance", after, KeyboardInterrupt)
        with pytest.warns(UserWarning, match="interrupted: the same call goes on"):
            part = ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    assert not part.complete and len(part) < len(tiles)
    assert len(part) > 0 or after < 10
    assert part.regions == sum(tile.regions for tile in PlaneTiles.open(net, tmp_path))
    assert "not complete" in repr(part)
    with pytest.raises(ma.PartitionError, match="area"):
        part.check()
    with pytest.raises(ma.DataError, match="not complete"):
        part.whole()
    done = ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    assert done.complete and done.entries == tiles.entries  # every file has the same bytes


def test_a_crash_while_writing(net: ma.SplineNetwork, tiles: PlaneTiles, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _interrupt(patch, "_finish", 4, RuntimeError)
        with pytest.raises(RuntimeError):
            ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    listed = tmp_path / folder.TILES
    listed.write_bytes(listed.read_bytes()[:-9])  # the last line is cut short, and its file is there all the same
    (tmp_path / ".tile-000004.safetensors.tmp").write_bytes(b"half")
    part = PlaneTiles.open(net, tmp_path)
    assert len(part) == 3 and not part.complete
    assert part.regions == sum(tile.regions for tile in part)
    done = ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    assert done.complete and done.entries == tiles.entries
    done.check()


def test_a_finished_folder_is_not_computed_again(
    net: ma.SplineNetwork, tiles: PlaneTiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(monkeypatch, "_advance", 0, RuntimeError)
    again = ma.partition.stream_plane(net, tiles.folder, **PLANE, memory=SMALL)
    assert again.entries == tiles.entries


def _copied(net: ma.SplineNetwork, tiles: PlaneTiles, path: Path) -> PlaneTiles:
    for file in tiles.folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return PlaneTiles.open(net, path)


def test_damage(net: ma.SplineNetwork, tiles: PlaneTiles, tmp_path: Path) -> None:
    broken = _copied(net, tiles, tmp_path)
    path = tmp_path / broken.entries[2].file
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ma.DataError, match=r"tile-000002.*damaged"):
        broken[2]
    path.unlink()
    with pytest.raises(ma.DataError, match="could not be read"):
        broken.check()
    listed = tmp_path / folder.TILES
    listed.write_bytes(b"{}\n" + listed.read_bytes())
    with pytest.raises(ma.DataError, match="damaged"):
        PlaneTiles.open(net, tmp_path)


def test_a_gap_between_tiles_is_found(net: ma.SplineNetwork, tiles: PlaneTiles, tmp_path: Path) -> None:
    """A tile whose border ends short of its corner: it is sound in itself, and its neighbor leaves a gap."""
    broken = _copied(net, tiles, tmp_path)
    leaf = broken._leaf(broken.entries[1])
    border = int(np.flatnonzero(leaf.cells.chain >= 0)[0])
    chain = leaf.cells.chain.copy()
    chain[border] = (chain[border] + 1) % len(leaf.borders)
    entry = folder.write_tile(tmp_path, 1, replace(leaf, cells=replace(leaf.cells, chain=chain)))
    listed = tmp_path / folder.TILES
    lines = listed.read_text().splitlines()[:-1]  # the new line stands last
    listed.write_text("\n".join([lines[0], json.dumps(entry.__dict__), *lines[2:]]) + "\n")
    with pytest.raises(ma.PartitionError, match="from both sides"):
        PlaneTiles.open(net, tmp_path).check()
    listed.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    with pytest.raises(ma.PartitionError, match="area"):
        PlaneTiles.open(net, tmp_path).check()


def test_a_tile_left_out_while_streaming(
    net: ma.SplineNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, calls = blocks.Builder._finish, []

    def forgetful(builder: blocks.Builder, block: blocks.Block) -> None:
        calls.append(block)
        if len(calls) != 3:
            finish(builder, block)

    monkeypatch.setattr(blocks.Builder, "_finish", forgetful)
    with pytest.raises(ma.PartitionError, match="the tiles have area"):
        ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)


def _empty(path: Path) -> Path:
    path.mkdir()
    return path


def test_bad_folders(net: ma.SplineNetwork, tiles: PlaneTiles, tmp_path: Path) -> None:
    smaller: dict[str, Any] = PLANE | {"extent": 1.0}
    moved: dict[str, Any] = PLANE | {"origin": torch.ones(1, 2, dtype=torch.float64)}
    with pytest.raises(ma.BadInput, match=r"corners.*differ.*same arguments"):
        ma.partition.stream_plane(net, tiles.folder, **smaller, memory=SMALL)
    with pytest.raises(ma.BadInput, match="plane differ"):
        ma.partition.stream_plane(net, tiles.folder, **moved, memory=SMALL)
    other = ma.capture(mlp(2, 24, 24, 3, seed=1), torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(ma.BadInput, match="another network"):
        PlaneTiles.open(other, tiles.folder)
    old = _copied(net, tiles, _empty(tmp_path / "old"))
    head = json.loads((old.folder / folder.HEAD).read_text())
    (old.folder / folder.HEAD).write_text(json.dumps(head | {"version": 1}))
    with pytest.raises(
        ma.DataError, match="has format maxaffine.plane 1, not 2; open it with the maxaffine that wrote it"
    ):
        PlaneTiles.open(net, old.folder)
    tmp_path = _empty(tmp_path / "new")
    (tmp_path / "letter.txt").write_text("not ours")
    with pytest.raises(ma.BadInput, match="not an empty folder"):
        ma.partition.stream_plane(net, tmp_path, **PLANE)
    with pytest.raises(ma.DataError, match="no tiles"):
        PlaneTiles.open(net, tmp_path)
    with pytest.raises(IndexError):
        tiles[len(tiles)]


@pytest.mark.parametrize("widths", [(2, 24, 24, 3), (2, 3)])
def test_a_run_that_ended_before_it_said_that_it_was_complete(widths: tuple[int, ...], tmp_path: Path) -> None:
    net = ma.capture(mlp(*widths), torch.zeros(2, 2, dtype=torch.float64))
    whole = ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    listed = tmp_path / folder.TILES
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
    assert not PlaneTiles.open(net, tmp_path).complete
    again = ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    assert again.complete and again.entries == whole.entries


def test_a_run_that_does_not_divide_as_the_earlier_one_did_is_refused(net: ma.SplineNetwork, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _interrupt(patch, "_finish", 4, RuntimeError)
        with pytest.raises(RuntimeError):
            ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
    listed = tmp_path / folder.TILES
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    lines[-1]["path"][1][1] += 1  # a vertex more than there is, as another processor's rounding might leave
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ma.PartitionError, match="vertices where the earlier run had"):
        ma.partition.stream_plane(net, tmp_path, **PLANE, memory=SMALL)
