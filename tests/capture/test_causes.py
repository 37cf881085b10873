"""Refusals name the cause that the user can see, not what the tracer was about when it gave up; their cures work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan, while_loop
from torch._higher_order_ops.map import map as map_rows
from torch.autograd import forward_ad
from torch.func import jacfwd, jacrev, jvp, vmap
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils import rnn

import maxaffine as ma
from tests.zoo.networks import Net

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def net(function: Callable[..., Any], **parts: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        held = {"c": torch.randn(4, 6), "k": torch.tensor(3), "positive": torch.ones(2)}
        return Net(function, **({"a": nn.Linear(6, 6)} | held | parts)).double()


def tangent(m: Any, x: Tensor) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(m.a(forward_ad.make_dual(x, x))).tangent


def packed(m: Any, x: Tensor) -> Tensor:
    entwined = rnn.pack_padded_sequence(x.view(-1, 2, 3), torch.tensor([2] * x.shape[0]), batch_first=True)
    return rnn.pad_packed_sequence(m.r(entwined)[0], batch_first=True)[0]


def summed(m: Any, x: Tensor) -> Tensor:
    return scan(lambda total, row: (total + row, (total + row).clone()), x[:, 0].clone(), x.T.clone(), dim=0)[1].T


def repeated(m: Any, x: Tensor) -> Tensor:
    return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y.relu() * 2), (torch.tensor(0), x))[1]


def attended(m: Any, x: Tensor) -> Any:
    y = x.view(-1, 1, 2, 3)
    return flex_attention(y, y, y)


def chosen(m: Any, x: Tensor) -> Tensor:
    return torch.cond(m.k > 0, lambda y: y.clone(), lambda y: -y, (x,))


FIXED = "for one number of samples only"
INSIDE = r"differentiates inside its forward.*[Cc]ure: .*net\.affine_map\(x\)\.slopes"
OWN = r"numbers in a tensor that it holds \(asked at .*test_causes\.py:\d+\), not on the input.*Cure: .*in __init__"
LOOP = "function.*[Cc]ure: .*loop in Python"
FRACTIONAL = "windows lie where random numbers say.*[Cc]ure: use max-pooling"
CAUSES: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "distance_to_constants": (lambda m, x: torch.cdist(x, m.c), "a norm .*not piecewise affine.*[Cc]ure: use p=1"),
    "distance_in_a_layer": (lambda m, x: torch.cdist(m.a(x), m.c, p=2.0).relu(), "a norm .*[Cc]ure: use p=1"),
    "distances_of_samples": (lambda m, x: F.pdist(x), "between the samples of a batch.*[Cc]ure: .*torch.cdist"),
    "time_first": (
        lambda m, x: F.conv_tbc(x.view(-1, 2, 3).transpose(0, 1).contiguous(), m.w, m.w[0, 0]),
        f"conv_tbc {FIXED}.*Cure: use nn.Conv1d",
    ),
    "shuffled": (lambda m, x: F.native_channel_shuffle(x.view(-1, 2, 3), 2), f"{FIXED}.*Cure: use F.channel_shuffle"),
    "volume_at_random": (
        lambda m, x: F.fractional_max_pool3d(x.view(-1, 1, 2, 3, 1).repeat(1, 1, 1, 1, 2), 1, output_size=1),
        FRACTIONAL,
    ),
    "plane_at_random": (lambda m, x: F.fractional_max_pool2d(x.view(-1, 1, 2, 3), 1, output_size=1), FRACTIONAL),
    "local_response": (
        lambda m, x: m.n(x.view(-1, 2, 3, 1)),
        "CrossMapLRN2d divides by a power of the input.*Cure: batch-norm",
    ),
    "directional_derivative": (lambda m, x: jvp(m.a, (x,), (x,))[1], INSIDE),
    "jacobian": (lambda m, x: vmap(jacrev(lambda v: m.a(v).relu()))(x).flatten(1), INSIDE),
    "forward_jacobian": (lambda m, x: vmap(jacfwd(lambda v: m.a(v).relu()))(x).flatten(1), INSIDE),
    "dual_numbers": (tangent, INSIDE),
    "packed": (packed, "where each of them stands.*Cure: give nn.RNN the padded batch"),
    "branch_on_a_buffer": (lambda m, x: x if m.c.sum() > 0 else -x, OWN),
    "number_of_a_buffer": (lambda m, x: x[:, : int(m.k)], OWN),
    "item_of_a_parameter": (lambda m, x: x if m.a.bias[0].item() > 0 else -x, OWN),
    "branch_on_both": (lambda m, x: x if m.c.sum() > 0 and x.sum() > 0 else -x, "depends on the data"),
    "branch_on_the_input": (lambda m, x: x if m.a(x).sum() > 0 else -x, "depends on the data"),
    "variance_by_hand": (
        lambda m, x: F.gaussian_nll_loss(x[:, :2], x[:, 2:4], m.positive.expand(x.shape[0], -1), reduction="none"),
        "gaussian_nll_loss.*squares its input.*Cure: capture the part before it",
    ),
    "least_squares": (
        lambda m, x: torch.linalg.lstsq(m.c.T, x.T).solution.T,
        r"lstsq.*the rank that it finds.*Cure: .*torch\.linalg\.pinv",
    ),
    "covariance": (lambda m, x: torch.cov(m.a(x)), "torch.cov multiplies the samples of a batch"),
    "inverse": (lambda m, x: torch.linalg.inv(x[:, :4].view(-1, 2, 2)), "inverts or factors a matrix that depends"),
    "pseudo_inverse": (lambda m, x: torch.linalg.pinv(x.view(-1, 2, 3)), "inverts or factors.*cure: use a matrix"),
    "singular_values": (lambda m, x: torch.linalg.svdvals(x.view(-1, 2, 3)), "inverts or factors.*cure: use a matrix"),
    "scan": (summed, LOOP),
    "map": (lambda m, x: map_rows(lambda row, *_: m.a(row).relu(), x), f"{LOOP}.*torch.vmap"),
    "while": (repeated, LOOP),
    "cond": (chosen, "one function or another.*cure: run both and choose with torch.where"),
    "flex_attention": (attended, "multiplies values that all depend.*cure: capture the part"),
    "own_place": (
        lambda m, x: x[torch.arange(x.shape[0]), m.a(x).argmax(1)],
        r"counts over the whole batch.*cure: .*x\.gather\(1, i\[:, None\]\)\[:, 0\]",
    ),
    "gate": (lambda m, x: F.glu(x), "multiplies two functions of the input"),
    "batch_statistics": (lambda m, x: F.batch_norm(x, None, None, training=True), "cure: .*track_running_stats=True"),
    "dropout_function": (lambda m, x: F.dropout1d(x.view(-1, 2, 3)), "cure: .*training=self.training"),
    "generator": (lambda m, x: x + torch.rand(6, generator=torch.Generator()), "draws random numbers.*cure: "),
    "kept_generator": (lambda m, x: x * torch.randn(6, generator=m.own).double(), "draws random numbers.*cure: "),
    "generator_in_place": (lambda m, x: x + torch.zeros(6).normal_(generator=m.own), "draws random numbers.*cure: "),
    "poisson": (lambda m, x: x + torch.poisson(m.c.abs()).sum(), "draws random numbers.*cure: "),
    "random_slopes": (lambda m, x: F.rrelu(x, training=True), "cure: .*training=self.training"),
    "cell": (lambda m, x: m.cell(x), r"tanh is a smooth curve.*cure: use nn\.RNNCell"),
}
PARTS: dict[str, dict[str, Any]] = {
    "time_first": {"w": torch.ones(1, 3, 3)},
    "local_response": {"n": nn.CrossMapLRN2d(2)},
    "packed": {"r": nn.RNN(3, 2, nonlinearity="relu", batch_first=True)},
    "cell": {"cell": nn.RNNCell(6, 3)},
    "kept_generator": {"own": torch.Generator()},
    "generator_in_place": {"own": torch.Generator()},
}


@pytest.mark.parametrize("name", CAUSES)
def test_causes(name: str) -> None:
    function, words = CAUSES[name]
    with pytest.raises(ma.MaxAffineError, match=f"(?s){words}"):
        ma.capture(net(function, **PARTS.get(name, {})), X)


CURES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "distance_to_constants": lambda m, x: torch.cdist(x, m.c, p=1.0),
    "largest_distance_to_constants": lambda m, x: torch.cdist(x, m.c, p=torch.inf),
    "directional_derivative": lambda m, x: F.linear(x, m.a.weight),
    "packed": lambda m, x: m.r(x.view(-1, 2, 3))[0],
    "least_squares": lambda m, x: (torch.linalg.pinv(m.c.T) @ x.T).T,
    "map": lambda m, x: vmap(lambda row: m.a(row).relu())(x),
    "cond": lambda m, x: torch.where(m.a(x).sum(1, keepdim=True) > 0, x, -x),
    "own_place": lambda m, x: x.gather(1, m.a(x).argmax(1)[:, None])[:, 0],
}
ALIKE = ("directional_derivative", "packed", "least_squares", "map", "own_place")


@pytest.mark.parametrize("name", CURES)
def test_cures(name: str) -> None:
    """What is captured after the cure is exact, and what was meant."""
    module = net(CURES[name], **PARTS.get(name, {}))
    assert ma.capture(module, X).verify(module, X).exact
    if name in ALIKE:
        function, _ = CAUSES[name]
        torch.testing.assert_close(module(X), function(module, X))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, X)])
@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: nn.Sequential(module, nn.ReLU())])
def test_torch_script(make: Callable[..., Any], wrap: Callable[..., Any]) -> None:
    model = wrap(make(nn.Sequential(nn.Linear(6, 6), nn.ReLU()).double()))
    try:
        network = ma.capture(model, X)
    except ma.CaptureError as error:
        assert "TorchScript cannot be traced. Cure: capture the nn.Module that it was made from" in str(error)
    else:
        assert network.verify(model, X).exact


def test_ids_are_no_numbers() -> None:
    with pytest.raises(ma.BadInput, match=r"no input is floating point.*ids that a table looks up.*its rows as the ex"):
        ma.capture(nn.Embedding(5, 6), torch.tensor([0, 3]))


def test_nothing_of_the_module_changes() -> None:
    """What it writes is written to copies; where there is none, it is not run to the end."""
    outside = torch.zeros(6)

    def writing(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            m.a.weight.mul_(0.5)
            m.k += 1
        return x if m.k > 0 else x

    module = net(writing)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ma.CaptureError, match="not on the input"):
        ma.capture(module, X)
    assert all(torch.equal(before[name], item) for name, item in module.state_dict().items())
    module = net(lambda m, x: (outside.add_(1), x if x.sum() > 0 else -x)[1])
    with pytest.raises(ma.CaptureError):
        ma.capture(module, X)
    assert outside.eq(0).all(), "what a function closes over is copied too"


def test_a_mistake_of_the_module_stays_its_own() -> None:
    """What fails untraced too is told in the module's words, whatever it called before."""

    def mistaken(m: Any, x: Tensor) -> Tensor:
        jvp(m.a, (x,), (x,))
        raise LookupError("no such layer")

    with pytest.raises(ma.CaptureError, match="no such layer"):
        ma.capture(net(mistaken), X)
