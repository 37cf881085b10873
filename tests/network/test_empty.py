"""Layers without units, and single numbers of odd strides: exact as any other, or refused as in the module."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine import _partition as partition
from tests.zoo.networks import Net

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def net(function: Callable[..., Any]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is nothing to initialize
        return _net(function)


def _net(function: Callable[..., Any]) -> nn.Module:
    return Net(function, a=nn.Linear(3, 4), b=nn.Linear(4, 2), z=nn.Linear(3, 0), y=nn.Linear(0, 2)).double()


EXACT: dict[str, Callable[..., Any]] = {
    "no_output": lambda m, x: m.z(x),
    "no_output_after_a_layer": lambda m, x: m.b(m.a(x).relu())[:, :0],
    "no_unit_inside": lambda m, x: m.y(m.z(x).relu()),
    "joined_with_nothing": lambda m, x: torch.cat([m.a(x).relu(), m.z(x).relu()], 1),
    "joined_with_an_empty_tensor": lambda m, x: m.b(torch.cat([m.a(x).relu(), torch.zeros(0, dtype=x.dtype)], 1)),
    "a_sum_of_nothing": lambda m, x: m.a(x).relu() + m.z(x).relu().sum(1, keepdim=True),
    "sorted_nothing": lambda m, x: torch.cat([m.z(x).sort(1).values, m.a(x).relu()], 1),
}


@pytest.mark.parametrize("name", EXACT)
def test_everything_is_asked(name: str) -> None:
    module = net(EXACT[name])
    network = ma.capture(module, X)
    expected = module(X).detach()
    out = expected.shape[1]
    assert torch.equal(network(X), expected) and network.verify(module, X).exact
    amap = network.affine_map(X)
    slopes = amap.slopes
    assert isinstance(slopes, Tensor) and slopes.shape == (4, out, 3)
    torch.testing.assert_close((slopes @ X[:, :, None])[..., 0] + amap.offsets, expected)
    torch.testing.assert_close(amap.offset_contributions().sum(), amap.offsets)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: module(row[None])[0]))(X) if out else slopes
    torch.testing.assert_close(slopes, jacobian)
    assert [rows[0].shape[1] for rows in amap.rows()] == [out]
    assert len(network.codes(X)) == sum(record.pieces > 1 for record in network.operators)
    assert partition.line(network, X[:1], X[1:2]).verify(module).exact
    plane = partition.plane(network, X[:3])
    assert float(plane.areas.sum()) > 0 and plane.verify(module, samples=20).exact
    assert partition.region(network, X[:1]).contains(X[:1]).all()
    assert len(network.fingerprint) == 64


def test_an_empty_batch_is_refused() -> None:
    module = net(EXACT["no_output"])
    network = ma.capture(module, X)
    for ask in (network, network.affine_map, network.codes, lambda x: network.verify(module, x)):
        with pytest.raises(ma.BadInput, match="x: the batch is empty; give at least one sample"):
            ask(X[:0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("stride", [(1, 1), (7, 13), (0, 0), (5, 3)])
def test_a_single_number_of_any_stride(dtype: torch.dtype, stride: tuple[int, int]) -> None:
    """It counts as contiguous whatever its stride is."""
    number = torch.full((40,), 0.5, dtype=dtype).as_strided((1, 1), stride)
    plain = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU()).to(dtype)
    strided = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU()).to(dtype)
    plain[0].weight.data = number.clone(memory_format=torch.contiguous_format)
    strided[0].weight.data = number
    x = torch.full((40,), 2.0, dtype=dtype).as_strided((1, 1), stride)
    network, expected = ma.capture(strided, x), ma.capture(plain, torch.full((1, 1), 2.0, dtype=dtype))
    assert network.fingerprint == expected.fingerprint
    assert network.codes(x) == expected.codes(x) and network.codes(x)["1"].unpack().tolist() == [[1]]
