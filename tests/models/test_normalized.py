"""A network behind the normalization of its inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._models import Normalized, cnn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_it_is_the_network_at_normalized_inputs_and_exact() -> None:
    torch.manual_seed(0)
    network = cnn((3, 8, 8), 4).double().eval()
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    whole = Normalized(network, MEAN, STD)
    normalized = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1)
    assert torch.equal(whole(x), network(normalized)) and not whole.training
    net = ma.capture(whole, x)
    assert net.verify(whole, x).exact
    inner = ma.capture(network, normalized).affine_map(normalized)
    assert isinstance(inner.slopes, torch.Tensor)
    slopes = inner.slopes / torch.tensor(STD, dtype=torch.float64)[:, None, None]
    found = net.affine_map(x).slopes
    assert isinstance(found, torch.Tensor) and torch.allclose(found, slopes, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 7), (4, 3, 2, 2)])
def test_rows_signals_and_images(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    found = Normalized(nn.Identity(), MEAN, STD)(x)
    assert torch.allclose(found[:, 1], (x[:, 1] - MEAN[1]) / STD[1])
    assert torch.equal(Normalized(nn.Identity(), [0.0], [1.0])(x), x)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.0,), (0.0,), "std: .* finite numbers above 0"),
        ((0.0,), (1.0, -1.0), "std"),
        ((float("nan"),), (1.0,), "mean: .* not finite numbers; give"),
        ((), (1.0,), "mean"),
    ],
)
def test_other_numbers_are_refused(mean: tuple[float, ...], std: tuple[float, ...], words: str) -> None:
    with pytest.raises(ma.BadInput, match=words):
        Normalized(nn.Identity(), mean, std)
