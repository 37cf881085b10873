"""The trainings and pictures of the smooth networks, untrained and small, and the page that shows them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import maxaffine as ma
from examples.smooth_networks import byte, images, signals
from examples.smooth_networks.measuring import HEAD, kept, measure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "smooth-networks.md"
PICTURES = ("smooth-vit", "smooth-vit-patches", "smooth-convnext", "smooth-byte", "smooth-lstm")


def test_the_page_shows_every_network_exact_and_far_from_its_jacobian() -> None:
    table = re.search("<!-- table measured -->\n(.*)<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert table is not None
    head, _, *rows = (re.split(r" (?<!\\)\| ", line.strip("| ")) for line in table[1].strip().splitlines())
    assert head == list(HEAD) and [row[0] for row in rows] == ["ViT", "ConvNeXt", "byte-level GPT", "LSTM"]
    for _, quality, _, double, single, _, apart, held, tangent in rows:
        assert re.match(r"[\d.]+(%| bits) ", quality)
        assert float(double) < 1e-14 and float(single) < 1e-5
        assert float(apart.strip("%")) > 50 and float(held.strip("%")) > 50 > 20 * float(tangent.strip("%"))


def test_the_pictures_are_small() -> None:
    shown = re.findall(r"\]\(images/([\w-]+)\.png\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(PICTURES)
    assert all((PAGE.parent / "images" / f"{name}.png").stat().st_size < 200_000 for name in shown)


def small_gpt() -> byte.Gpt:
    model = byte.Gpt()
    model.reader.blocks = model.reader.blocks[:1]
    return model.eval()


def draw_images(file: Path) -> None:
    model = ma.models.build("vit", (1, 28, 28), 10, seed=0, blocks=1, width=16).eval()
    images.draw(model, torch.rand(2, 1, 28, 28), [f"class {c}" for c in range(10)], file)


def draw_patches(file: Path) -> None:
    model = ma.models.build("vit", (1, 28, 28), 10, seed=0, blocks=1, width=16).eval()
    images.draw_patches(model, torch.rand(2, 1, 28, 28), [f"class {c}" for c in range(10)], file)


def draw_bytes(file: Path) -> None:
    byte.draw(small_gpt(), torch.randint(256, (2, byte.CONTEXT)), file)


def draw_signals(file: Path) -> None:
    signals.draw(signals.Lstm().eval(), signals.chirps(4, seed=0), file)


@pytest.mark.parametrize("draw", [draw_images, draw_patches, draw_bytes, draw_signals])
def test_pictures_are_drawn(draw: Callable[[Path], None], tmp_path: Path) -> None:
    torch.manual_seed(0)
    draw(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as picture:
        assert min(picture.size) > 250 and len(set(picture.convert("L").tobytes())) > 50


def test_a_byte_depends_on_those_before_it_alone() -> None:
    torch.manual_seed(0)
    model = small_gpt()
    text = torch.randint(256, (1, 12))
    other = text.clone()
    other[0, 8:] = 0
    torch.testing.assert_close(model(text)[:, :8], model(other)[:, :8])
    assert not torch.allclose(model(text)[:, 8:], model(other)[:, 8:])


def test_what_is_held_out_is_not_learned() -> None:
    known, rest = (bytes(part.tolist()) for part in byte.text())
    assert len(known) > 200_000 and len(known) // 25 < len(rest) < len(known) // 15
    paragraphs = known.split(b"\n\n")
    assert not set(paragraphs) & set(rest.split(b"\n\n")[1:-1])


def test_chirps_rise_and_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "NOISE", 0.0)
    data = signals.chirps(40, seed=0)
    for signal, label, start in zip(data.inputs.flatten(1), data.labels, data.starts, strict=True):
        chirp = signal[start : start + signals.BURST]
        assert signal.count_nonzero() == chirp.count_nonzero()  # silence before and after
        # Differences against the signal itself grow with the frequency.
        early, late = (half.diff().norm() / half.norm() for half in chirp.chunk(2))
        assert bool(late > early) == (label == signals.RISING)


def test_what_is_trained_is_kept(tmp_path: Path) -> None:
    calls = []

    def learn(model: nn.Linear) -> None:
        calls.append(model)
        nn.init.constant_(model.weight, 2.0)

    first, again = (kept(lambda: nn.Linear(2, 1), learn, tmp_path / "new" / "line.safetensors") for _ in range(2))
    assert len(calls) == 1 and not again.training
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)


def test_a_row_measures_what_it_says() -> None:
    """Of a network whose map and Jacobian are known: silu(u) has A = sigmoid(u), J = sigmoid(u) (1 + u sigmoid(-u))."""
    x = torch.linspace(0.5, 2, 6).view(2, 3)
    row = measure("silu", nn.SiLU(), x, "none")
    slopes = x.double().sigmoid()
    jacobian = slopes * (1 + x.double() * (-x.double()).sigmoid())
    assert row.residuals[0] < 1e-15 and row.residuals[1] < 1e-6
    assert math.isclose(row.apart, float((slopes - jacobian).norm() / jacobian.norm()), rel_tol=1e-9)
    assert math.isclose(row.cosine, float((slopes * jacobian).sum() / slopes.norm() / jacobian.norm()), rel_tol=1e-9)
    assert row.missed[0] > 0.1 and row.missed[1] < 0.01
