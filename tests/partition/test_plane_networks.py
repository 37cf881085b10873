"""Partitions of planes of every kind of network: no sampled region missed, every region confirmed at a point inside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from tests.random_networks import RandomCase, random_cases
from tests.zoo import ZOO
from tests.zoo.captured import captured

KINDS = (
    "mlp_leaky_relu_steep mlp_prelu mlp_relu6 mlp_hardtanh mlp_softshrink mlp_biasless clamp_by_tensors "
    "maxout_maximum maxout_amax residual dense tied batch_norm_1d rnn rnn_two_layers resnet densenet "
    "inception unet multi_resolution vgg mobilenet_v2 maxout_convnet autoencoder volume_regression "
    "max_pool2d_overlapping"
).split()
BY_NAME = {case.name: case for case in ZOO}


@pytest.mark.parametrize("name", [name for name in KINDS if name in BY_NAME])
def test_zoo(name: str) -> None:
    case = BY_NAME[name]
    module, inputs = case.build(), case.inputs(3)
    x = inputs[0] if len(inputs) == 1 else inputs
    found = ma.partition.plane(captured(case), x, extent=1.0, progress=False)
    report = found.verify(module, samples=300)
    assert report.exact and report.thin <= found.regions // 100
    assert found.regions > 1


def test_every_kind_is_in_the_zoo() -> None:
    assert set(KINDS) <= set(BY_NAME)


@pytest.mark.parametrize("name", ["mlp_hardshrink", "mlp_threshold"])
def test_jumps_are_refused(name: str) -> None:
    case = BY_NAME[name]
    (x,) = case.inputs(3)
    with pytest.raises(ma.NotPiecewiseAffine, match="jumps"):
        ma.partition.plane(captured(case), x)


def test_sorting_is_refused() -> None:
    class Sorted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(1).values

    x = torch.randn(3, 4, dtype=torch.float64)
    with pytest.raises(ma.NotPiecewiseAffine, match="order of many entries"):
        ma.partition.plane(ma.capture(Sorted(), x), x)


def test_stopping_before_what_is_refused() -> None:
    case = BY_NAME["mlp_hardshrink"]
    (x,) = case.inputs(3)
    net = captured(case)
    first = next(record.name for record in net.operators if record.kind == "linear")
    assert ma.partition.plane(net, x, until=first).regions == 1


def test_float32_network_is_computed_in_float64() -> None:
    case = BY_NAME["resnet"]
    module = case.build(torch.float32)
    (x,) = case.inputs(3, torch.float32)
    found = ma.partition.plane(ma.capture(module, x), x, extent=0.5, progress=False)
    report = found.verify(module, samples=200)
    assert report.error is not None and 1e-12 < report.error < 1e-4


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(random_cases(steps=7))
def test_random_networks(case: RandomCase) -> None:
    x = case.inputs(3, seed=1)
    net = ma.capture(case.network, x)
    output = 0 if len(net.graph.outputs) > 1 else None
    try:
        found = ma.partition.plane(net, x, output=output, extent=0.7, progress=False)
    except ma.NotPiecewiseAffine as error:
        assert "jumps" in str(error) or "order of many" in str(error)
        return
    except ma.BadInput as error:
        assert "does not depend" in str(error)
        return
    first = found.vertices[:5]
    values = tree_leaves(case.network(found.points(first)))[0].flatten(1)
    torch.testing.assert_close(found.values[:5], values, rtol=1e-9, atol=1e-9)
    found.verify(case.network, samples=100)
