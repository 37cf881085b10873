"""How far A is from the Jacobian, against torch.func.jacrev of the untouched module."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev
from torch.testing import assert_close

import maxaffine as ma
from tests.zoo.networks import Net

torch.manual_seed(0)
TOKENS = torch.randn(3, 5, 8, dtype=torch.float64)


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """(N, *out, *in), sample by sample."""

    def of_one(one: Tensor) -> Tensor:
        return model(one[None])[0]

    found = [jacrev(of_one, chunk_size=1)(item) for item in x]
    assert all(isinstance(item, Tensor) for item in found)
    return torch.stack([item for item in found if isinstance(item, Tensor)])


def expected(model: nn.Module, net: ma.SplineNetwork, x: Tensor) -> Tensor:
    slopes, true = net.affine_map(x).slopes, jacobian(model, x)
    assert isinstance(slopes, Tensor)
    return (slopes - true).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1)


def asked_scores(m: nn.Module, x: Tensor) -> Tensor:
    """Queries times keys ask which carries, and lead to gates alone, by way of a split."""
    query, key = (m.get_submodule("a")(x)).chunk(2, dim=-1)
    scores = (query @ key.mT).split([2, 3], dim=-1)
    return torch.cat(scores, -1).softmax(-1) @ m.get_submodule("b")(x)


def masked(m: nn.Module, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(m.get_submodule("b")(x), x, x, is_causal=True)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "encoder": lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu"),
    "scores": lambda: Net(asked_scores, a=nn.Linear(8, 16), b=nn.Linear(8, 8)),
    "masked": lambda: Net(masked, b=nn.Linear(8, 8)),
    "gated": lambda: Net(lambda m, x: F.silu(m.a(x)) * F.relu(m.b(x)), a=nn.Linear(8, 4), b=nn.Linear(8, 4)),
    "recurrent": lambda: Net(lambda m, x: m.a(x)[0], a=nn.LSTM(8, 4, batch_first=True)),
    "steps": lambda: Net(lambda m, x: m.a(x) * torch.sigmoid(torch.floor(4 * x)), a=nn.Linear(8, 8)),
}


@pytest.mark.parametrize("name", MODELS)
def test_against_jacrev(name: str) -> None:
    model = MODELS[name]().double().eval()
    net = ma.capture(model, TOKENS, smooth="frozen")
    found = net.jacobian_distance(TOKENS)
    assert found.shape == (3,) and bool((found > 0.01).all()) == (name != "steps")
    assert_close(found, expected(model, net, TOKENS), rtol=1e-9, atol=1e-12)
    # Cut into blocks of few rows and samples it is the same.
    assert_close(net.jacobian_distance(TOKENS, chunk_bytes=1), found, rtol=1e-12, atol=1e-14)
    some = net.jacobian_distance(TOKENS, outputs=[0, 3])
    both = (net.affine_map(TOKENS).slopes, jacobian(model, TOKENS))
    slopes, true = (item.flatten(1, -3)[:, [0, 3]] for item in both if isinstance(item, Tensor))
    assert_close(some, (slopes - true).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1), rtol=1e-9, atol=1e-12)


def test_zero_by_construction() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    assert not ma.capture(model, TOKENS).jacobian_distance(TOKENS).any()
    smooth = MODELS["encoder"]().double().eval()
    assert not ma.capture(smooth, TOKENS, smooth="tangent").jacobian_distance(TOKENS).any()


def test_inside_and_at_several_outputs() -> None:
    model = Net(lambda m, x: (m.a(x), F.gelu(m.a(x))), a=nn.Linear(8, 2)).double()
    net = ma.capture(model, TOKENS, smooth="frozen")
    assert not net.jacobian_distance(TOKENS, output=0).any() and net.jacobian_distance(TOKENS, output=1).all()
    assert_close(net.jacobian_distance(TOKENS, until="gelu"), net.jacobian_distance(TOKENS, output=1))
    with pytest.raises(ma.BadInput, match="output: the network has 2 outputs"):
        net.jacobian_distance(TOKENS)
    with pytest.raises(ma.BadInput, match="until: no operator or module"):
        net.jacobian_distance(TOKENS, until="b")


def test_without_a_jacobian() -> None:
    """After a norm without eps f is constant along x: of one number J is zero, and A is not."""
    model = Net(lambda m, x: x / x.norm(dim=-1, keepdim=True))
    x = torch.tensor([[2.0], [-3.0]], dtype=torch.float64)
    net = ma.capture(model, x, smooth="frozen")
    assert net.jacobian_distance(x).tolist() == [math.inf, math.inf]
    root = ma.capture(Net(lambda m, x: x.abs().sqrt()), x, smooth="frozen")
    with pytest.raises(ma.BadInput, match="has no finite slope at this input"):
        root.jacobian_distance(torch.zeros_like(x))


def test_a_map_that_holds_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["gated"]().double()
    net = ma.capture(model, TOKENS, smooth="frozen")
    monkeypatch.setattr("maxaffine._network.network.without_gates", lambda graph: graph)
    with pytest.raises(AssertionError):
        assert_close(net.jacobian_distance(TOKENS), expected(model, net, TOKENS))
