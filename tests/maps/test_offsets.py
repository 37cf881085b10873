"""The split of the offset over operators: each operator's own share, found again by switching its bias on alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import maxaffine as ma
from tests.zoo.networks import Net, randomize


def test_each_share_is_what_its_bias_adds() -> None:
    """With the codes held fixed the offset is linear in the biases: scaling one of them scales its share alone."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    x = torch.randn(3, 4, dtype=torch.float64)
    parts = ma.capture(module, x).affine_map(x).offset_contributions()
    assert list(parts) == ["0", "2", "4"]
    with torch.no_grad():
        masks, signal = [], x
        for layer in module:
            signal = layer(signal)
            if isinstance(layer, nn.ReLU):
                masks.append((signal > 0).double())
        first, second, third = (layer for layer in module if isinstance(layer, nn.Linear))
        expected = {
            "0": ((first.bias * masks[0]) @ second.weight.T * masks[1]) @ third.weight.T,
            "2": (second.bias * masks[1]) @ third.weight.T,
            "4": third.bias.expand(3, 3),
        }
    for name, share in expected.items():
        assert_close(parts[name], share, rtol=1e-12, atol=1e-12)


def test_every_kind_of_offset_has_a_share() -> None:
    """A batch-norm's shift, a clipped piece, padding, an added constant, a masked entry."""
    torch.manual_seed(0)

    def forward(m: Any, x: Tensor) -> Tensor:
        z = F.pad(m.norm(m.conv(x)).clamp(-0.3, 0.4), (1, 0), value=0.7) + m.shift
        return z.masked_fill(torch.eye(6, 7, dtype=torch.bool), 0.25).flatten(1)

    module = Net(forward, conv=nn.Conv2d(1, 2, 1), norm=nn.BatchNorm2d(2), shift=torch.randn(2, 1, 1))
    randomize(module)
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    net = ma.capture(module.double().eval(), x)
    parts = net.affine_map(x).offset_contributions()
    assert [name.removesuffix("#2") for name in parts] == ["conv", "norm", "clamp", "pad", "add", "where"]
    assert all(bool(part.any()) for part in parts.values())
    assert_close(parts.sum(), net.affine_map(x).offsets, rtol=1e-12, atol=1e-12)


def test_a_network_without_offsets_has_an_empty_split() -> None:
    net = ma.capture(nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU()), torch.zeros(1, 4))
    parts = net.affine_map(torch.randn(5, 4)).offset_contributions()
    assert len(parts) == 0 and parts.sum().shape == (5, 3) and not parts.sum().any()


def test_an_output_of_true_and_false_is_all_offset() -> None:
    net = ma.capture(Net(lambda m, x: x > 0), torch.zeros(1, 4))
    amap = net.affine_map(torch.randn(5, 4))
    assert torch.equal(amap.offset_contributions().sum().bool(), amap.value)


def test_reads_as_a_table() -> None:
    net = ma.capture(nn.Linear(4, 3), torch.zeros(1, 4))
    text = repr(net.affine_map(torch.randn(5, 4)).offset_contributions())
    assert text.startswith("OffsetContributions(1 operators)") and "mean |b|" in text
