"""The smooth reference networks: logits, exact maps with their gates held, and what each block is by its paper."""

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._models import build, train
from maxaffine._models.networks import ConvNeXtBlock
from tests.models.test_networks import SHAPES, SMOOTH, assert_affine_near
from tests.models.test_training import blobs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_they_give_logits_and_are_smooth(name: str, shape: tuple[int, ...]) -> None:
    network = build(name, shape, 10, seed=0).eval().double()
    assert network(torch.rand(3, *shape).double()).shape == (3, 10)
    with pytest.raises(AssertionError):
        assert_affine_near(network, torch.rand(shape, dtype=torch.float64))
    with pytest.raises(ma.NotPiecewiseAffine, match="smooth='frozen'"):
        ma.capture(network, torch.rand(1, *shape).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smooth", ["frozen", "tangent"])
@pytest.mark.parametrize("name", SMOOTH)
def test_their_maps_are_exact(name: str, smooth: str, dtype: torch.dtype) -> None:
    model = build(name, (1, 8, 8), 10, seed=0).to(dtype)
    x = torch.rand(3, 1, 8, 8, dtype=dtype)
    assert ma.capture(model.eval(), x, smooth=smooth).verify(model, x).exact


def test_a_transformer_sees_patches_by_their_place() -> None:
    """Patches in another order are another image only because of the learned positions."""
    torch.manual_seed(0)
    model = build("vit", (1, 8, 8), 10, seed=0).eval().double()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    turned = torch.cat([x[..., 4:], x[..., :4]], -1)
    assert not torch.allclose(model(x), model(turned))
    nn.init.zeros_(model.get_parameter("0.position"))
    torch.testing.assert_close(model(x), model(turned))


def test_a_convnext_block_by_hand() -> None:
    torch.manual_seed(0)
    block = ConvNeXtBlock(6).double()
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    wide, thin = (block.get_parameter(f"body.{place}.weight")[:, :, 0, 0] for place in (2, 4))
    above, below = (block.get_parameter(f"body.{place}.bias")[:, None, None] for place in (2, 4))
    y = block.get_submodule("body.0")(x)
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    y = nn.functional.gelu(torch.einsum("nchw,kc->nkhw", y, wide) + above)
    y = torch.einsum("nkhw,ck->nchw", y, thin) + below
    torch.testing.assert_close(block(x), x + 0.1 * y)


@pytest.mark.parametrize("name", SMOOTH)
def test_they_learn(name: str) -> None:
    small = {"blocks": 1} if name == "vit" else {"widths": (16, 16), "blocks": (1, 1)}
    history = train(build(name, (1, 4, 4), 3, seed=0, **small), blobs(), epochs=15, batch_size=16, lr=0.02).history
    assert history[-1].loss < 0.5 * history[0].loss
