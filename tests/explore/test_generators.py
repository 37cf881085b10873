"""A generator in the explorer: what it gives as a picture, and how each cell of the latent plane stretches."""

from __future__ import annotations

import base64
import time
from math import log

import numpy as np
import torch
from torch import nn

from maxaffine._data import DataSet, Split
from maxaffine._explore import Explorer
from maxaffine._report import Choices, find_subject


def _array(found: dict) -> np.ndarray:
    kind = {"f4": "<f4", "f8": "<f8"}[found["type"]]
    return np.frombuffer(base64.b64decode(found["data"]), kind).reshape(found["shape"])


def test_a_cell_of_the_latent_plane_shows_its_sample_and_volume() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 16), nn.Unflatten(1, (1, 4, 4))).eval()
    part = Split(torch.randn(12, 3), torch.zeros(12, dtype=torch.int64))
    found = Explorer({"as it is": find_subject(model, DataSet("latents", part, part, ("unlabeled",)), Choices())})
    with torch.no_grad():
        sample = model(part.inputs[2:3])[0]
    shown = _array(found.explain("test/2", 0)["picture"])
    scaled = (sample - sample.min()) / (sample.max() - sample.min())
    assert np.allclose(shown, scaled, atol=1e-6)
    begun = found.divide(["test/0", "test/1", "test/2"], 0, None)
    while found.planes.state(begun["key"])["state"] == "running":
        time.sleep(0.02)
    cell = found.planes.cell(begun["key"], 3)
    x = torch.as_tensor(_array(cell["input"]).copy()).double()
    slopes = torch.autograd.functional.jacobian(lambda z: model.double()(z[None]).flatten(), x)
    assert abs(cell["log_volume"] - log(float((slopes.T @ slopes).det())) / 2) < 1e-9
    assert _array(cell["picture"]).shape == (1, 4, 4)
    found.close()


def test_other_networks_have_neither() -> None:
    part = Split(torch.randn(12, 3), torch.zeros(12, dtype=torch.int64))
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    found = Explorer({"as it is": find_subject(model, DataSet("rows", part, part, ("unlabeled",)), Choices())})
    assert found.explain("test/2", 0)["picture"] is None
    found.close()
