"""The generator of a published DCGAN for faces, before its tanh: exact at a latent vector."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.published import UpTo, dcgan_generator
from tests.weights.checks import RTOL, bump, gradients, inner, needs, relative, rounding

pytestmark = needs("gan_face_generate")
LAST = "main.12"
# Red at a corner, green at the middle, blue at three other places of the 3 x 64 x 64 picture.
PIXELS = [0, 4096 + 32 * 64 + 32, 8192 + 10 * 64 + 50, 8192 + 45 * 64 + 20, 12287]


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return dcgan_generator().double()


@pytest.fixture(scope="module")
def latent() -> Tensor:
    return torch.randn(2, 100, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net(module: nn.Module, latent: Tensor) -> ma.SplineNetwork:
    return ma.capture(module, latent, output="pre_activation")


def test_the_whole_module_is_refused_by_name(module: nn.Module, latent: Tensor) -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match="(?s)tanh.*'main.13'.*pre_activation"):
        ma.capture(module, latent)


def test_a_tanh_behind_the_network_gives_the_generator(
    net: ma.SplineNetwork, module: nn.Module, latent: Tensor
) -> None:
    with torch.no_grad():
        assert relative(net(latent).tanh(), module(latent)) < RTOL


def test_slopes_of_some_pixels(net: ma.SplineNetwork, module: nn.Module, latent: Tensor) -> None:
    amap = net.affine_map(latent, outputs=PIXELS)
    part = UpTo(module, LAST)
    with torch.no_grad():
        truth = part(latent).flatten(1)[:, PIXELS]
    assert only(amap.slopes).shape == (2, 5, 100, 1, 1)
    assert relative(only(amap.slopes), gradients(part, latent, PIXELS)) < RTOL
    assert relative(inner(only(amap.slopes), latent) + amap.offsets, truth) < RTOL
    assert relative(amap.offset_contributions().sum(), amap.offsets) < RTOL


def test_mv_is_the_generators_derivative(net: ma.SplineNetwork, module: nn.Module, latent: Tensor) -> None:
    """The derivative of the untouched generator, its tanh included: (1 - tanh^2) A v."""
    direction = torch.randn_like(latent)
    face, derivative = (only(item) for item in torch.autograd.functional.jvp(module, latent, direction))
    assert relative((1 - face**2) * net.affine_map(latent).mv(direction), derivative) < RTOL


def test_verify(net: ma.SplineNetwork, module: nn.Module, latent: Tensor) -> None:
    assert net.verify(module, latent, rtol=RTOL).exact


def test_verify_sees_one_changed_weight(net: ma.SplineNetwork, module: nn.Module, latent: Tensor) -> None:
    changed = copy.deepcopy(module)
    bump(changed.get_submodule("main.6").weight, (0, 0, 1, 1), 1e-5)
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        net.verify(changed, latent, rtol=RTOL)


def test_single_precision(module: nn.Module, latent: Tensor) -> None:
    module32, z = copy.deepcopy(module).float(), latent.float()
    net = ma.capture(module32, z, output="pre_activation")
    assert net.verify(module32, z).exact
    bound = rounding(torch.float32, len(net.operators))
    slopes = only(net.affine_map(z, outputs=PIXELS).slopes)
    assert relative(slopes, gradients(UpTo(module32, LAST), z, PIXELS)) < bound
