"""The section of a generator: what is said of its volumes, and of which networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma


def _report(model: nn.Module, z: Tensor, folder: Path, **options) -> tuple[dict, str]:
    ma.report(model, z, folder, images=3, **options)
    numbers = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return numbers, (folder / "report.html").read_text(encoding="utf-8")


def _decoder(latents: int, *end: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(latents, 12), nn.ReLU(), nn.Linear(12, 64), *end)
    return nn.Sequential(*layers, nn.Unflatten(1, (1, 8, 8))).eval()


@pytest.mark.parametrize("latents", [2, 3])
def test_volumes_are_those_of_the_test_latents(latents: int, tmp_path: Path) -> None:
    model, z = _decoder(latents), torch.randn(40, latents)
    numbers, page = _report(model, z, tmp_path / "report")
    found = numbers["generated"]
    assert found["latents"] == latents and found["numbers"] == 64 and found["head"] == ""
    figure = json.loads((tmp_path / "report" / "figures" / "stretch.json").read_text(encoding="utf-8"))
    volumes = []
    for own in z:
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0].flatten(), own)
        volumes.append(float(torch.linalg.svdvals(jacobian).log().sum()))
    assert all(np.min(np.abs(np.array(volumes) - value)) < 1e-4 for value in figure["volumes"])
    assert f"{latents} of {latents} dimensions" in " ".join(page.split())
    assert 'id="generated"' in page and ("latent-plane.png" in page) == (latents == 2)
    assert (found["surface"] is not None) == (latents == 2)


def test_other_networks_have_no_such_section(tmp_path: Path) -> None:
    numbers, page = _report(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(30, 6), tmp_path / "a"
    )
    assert "generated" not in numbers and 'id="generated"' not in page


def test_held_gates_have_no_volume_and_tangents_do(tmp_path: Path) -> None:
    model, z = _decoder(3, nn.GELU()), torch.randn(30, 3)
    numbers, page = _report(model, z, tmp_path / "frozen", smooth="frozen")
    assert "smooth tangent" in numbers["generated"]["reason"] and "has no volume" in page
    numbers, _ = _report(model, z, tmp_path / "tangent", smooth="tangent")
    assert numbers["generated"]["latents"] == 3


def test_a_dead_decoder_is_reported(tmp_path: Path) -> None:
    model = _decoder(2)
    with torch.no_grad():
        next(model.parameters()).zero_()
    numbers, page = _report(model, torch.randn(30, 2), tmp_path / "dead")
    assert numbers["generated"]["dimensions"] == [0, 0] and 'id="generated"' in page
