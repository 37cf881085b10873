"""Smooth networks with their gates held, against modules written out by hand whose gates are detached from autograd."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev
from torch.testing import assert_close

import maxaffine as ma
from maxaffine.operators import Call
from tests.blocks import only
from tests.zoo.networks import Net

torch.manual_seed(0)
X = torch.randn(4, 6, dtype=torch.float64)
IMAGES = torch.randn(3, 3, 7, 7, dtype=torch.float64)
TOKENS = torch.randn(3, 5, 16, dtype=torch.float64)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs).double()


def by_ratio(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """f(u) = (f(u*)/u*) u, for a function that is zero at zero."""
    return lambda u: u * (f(u) / u).detach()


def by_tangent(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return f


def far_by_tangent(f: Callable[[Tensor], Tensor], offset: float) -> Callable[[Tensor], Tensor]:
    return lambda u: torch.where(u < -1, f(u), offset + u * ((f(u) - offset) / u).detach())


def by_statistics(u: Tensor, axes: tuple[int, ...], eps: float, centered: bool = True) -> Tensor:
    moved = u - u.mean(axes, keepdim=True) if centered else u
    return moved * (moved.square().mean(axes, keepdim=True) + eps).rsqrt().detach()


# A layer of entries, and the same with its gate detached.
ENTRYWISE: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
    "gelu": (nn.GELU(), by_ratio(F.gelu)),
    "gelu_tanh": (nn.GELU("tanh"), by_ratio(lambda u: F.gelu(u, approximate="tanh"))),
    "silu": (nn.SiLU(), by_ratio(F.silu)),
    "mish": (nn.Mish(), by_ratio(F.mish)),
    "hardswish": (nn.Hardswish(), by_ratio(F.hardswish)),
    "tanh": (nn.Tanh(), by_ratio(torch.tanh)),
    "elu": (nn.ELU(0.7), lambda u: torch.where(u > 0, u, by_ratio(lambda v: 0.7 * torch.expm1(v))(u))),
    "celu": (nn.CELU(0.7), lambda u: torch.where(u > 0, u, by_ratio(lambda v: 0.7 * torch.expm1(v / 0.7))(u))),
    "selu": (nn.SELU(), by_ratio(F.selu)),
    "sigmoid": (nn.Sigmoid(), far_by_tangent(torch.sigmoid, 0.5)),
    "softplus": (nn.Softplus(2.0), by_tangent(nn.Softplus(2.0))),
    "log_sigmoid": (nn.LogSigmoid(), by_tangent(F.logsigmoid)),
    "log_softmax": (nn.LogSoftmax(-1), by_tangent(nn.LogSoftmax(-1))),
    "softsign": (nn.Softsign(), lambda u: u / (1 + u.abs()).detach()),
    "tanhshrink": (nn.Tanhshrink(), lambda u: u - by_ratio(torch.tanh)(u)),
    "exp": (Net(lambda m, x: x.exp()), far_by_tangent(torch.exp, 1.0)),
    "sine": (Net(lambda m, x: x.sin()), by_tangent(torch.sin)),
    "cube": (Net(lambda m, x: x**3), by_ratio(lambda u: u**3)),
    "layer_norm": (nn.LayerNorm(8, 1e-3), lambda u: by_statistics(u, (-1,), 1e-3)),
    "rms_norm": (nn.RMSNorm(8, 1e-3), lambda u: by_statistics(u, (-1,), 1e-3, centered=False)),
    "normalized": (Net(lambda m, x: F.normalize(x, dim=-1)), lambda u: u / u.norm(dim=-1, keepdim=True).detach()),
    "norm": (
        Net(lambda m, x: x.norm(dim=-1, keepdim=True) + 0 * x),
        lambda u: ((u / u.norm(dim=-1, keepdim=True)).detach() * u).sum(-1, keepdim=True) + 0 * u,
    ),
    "log_sum_exp": (
        Net(lambda m, x: x.logsumexp(-1, keepdim=True) + 0 * x),
        lambda u: u.logsumexp(-1, keepdim=True) + 0 * u,
    ),
    "standard_deviation": (
        Net(lambda m, x: x / (x.std(-1, keepdim=True) + 0.1)),
        lambda u: u / (u.std(-1, keepdim=True) + 0.1).detach(),
    ),
}


def slopes(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(N, *out, *in): the Jacobian of each sample."""
    return torch.stack([jacrev(lambda one: function(one[None])[0])(sample) for sample in x])


def check(model: nn.Module, detached: Callable[[Tensor], Tensor], x: Tensor, **options: object) -> ma.SplineNetwork:
    """A x + b is the untouched module's value, A the Jacobian of the module with its gates detached."""
    net = ma.capture(model, x, smooth="frozen", **options)  # pyright: ignore
    local = net.affine_map(x)
    value = model(x).detach()
    assert_close(detached(x).detach(), value, rtol=1e-12, atol=1e-13)
    assert_close(local.slopes, slopes(detached, x).detach(), rtol=1e-9, atol=1e-11)
    assert_close(local(x), value, rtol=1e-12, atol=1e-13)
    assert_close(sum(local.offset_contributions().values()), local.offsets, rtol=1e-9, atol=1e-12)
    report = net.verify(model, x)
    assert report.exact and not report.unchecked, report
    return net


@pytest.mark.parametrize("name", ENTRYWISE)
def test_layers(name: str) -> None:
    layer, detached = ENTRYWISE[name]
    first, last = linear(6, 8), linear(8, 3)
    model = nn.Sequential(first, layer.double(), last).eval()
    net = check(model, lambda x: last(detached(first(x))), X * 2)
    assert not net.piecewise_affine and all(record.carrier for record in net.held)
    tangent = ma.capture(model, X, smooth="tangent")
    assert_close(tangent.affine_map(X).slopes, slopes(model, X).detach(), rtol=1e-9, atol=1e-11)
    assert tangent.verify(model, X).exact


@pytest.mark.parametrize(
    ("layer", "groups"), [(nn.GroupNorm(2, 4, 1e-3), 2), (nn.InstanceNorm2d(4, 1e-3, affine=True), 4)]
)
def test_norms_of_channels(layer: nn.Module, groups: int) -> None:
    first, last = nn.Conv2d(3, 4, 3).double(), linear(100, 3)
    nn.init.normal_(layer.get_parameter("weight"))
    nn.init.normal_(layer.get_parameter("bias"))
    layer = layer.double()

    def detached(x: Tensor) -> Tensor:
        u = first(x)
        y = by_statistics(u.reshape(len(u), groups, -1), (-1,), 1e-3).reshape(u.shape)
        y = y * layer.get_parameter("weight")[:, None, None] + layer.get_parameter("bias")[:, None, None]
        return last(y.flatten(1))

    check(nn.Sequential(first, layer, nn.Flatten(), last), detached, IMAGES)


def test_far_below_zero_nothing_cancels() -> None:
    """Sigmoid and exponential near -40, where f(u)/u and its offset have no digits left."""
    deep = torch.tensor([[-40.0, -20.0, -1.0 - 1e-9, 0.0, 1e-300, 30.0]], dtype=torch.float64)
    for function in (torch.sigmoid, torch.exp):
        net = ma.capture(Net(lambda m, x, f=function: f(x)), deep, smooth="frozen")
        assert_close(net.affine_map(deep)(deep), function(deep), rtol=1e-13, atol=0.0)


PRODUCTS: dict[str, tuple[Callable, Callable]] = {
    "swiglu": (
        lambda m, x: m.c(F.silu(m.a(x)) * m.b(x)),
        lambda m, x: m.c(F.silu(m.a(x)).detach() * m.b(x)),
    ),
    "glu": (
        lambda m, x: m.c(F.glu(torch.cat([m.b(x), m.a(x)], -1))),
        lambda m, x: m.c(m.b(x) * m.a(x).sigmoid().detach()),
    ),
    "squeeze_and_excite": (
        lambda m, x: m.c(m.a(x) * torch.sigmoid(m.b(F.relu(x)))),
        lambda m, x: m.c(m.a(x) * torch.sigmoid(m.b(F.relu(x))).detach()),
    ),
    "quotient": (
        lambda m, x: m.c(m.a(x) / (1 + m.b(x).square())),
        lambda m, x: m.c(m.a(x) / (1 + m.b(x).square()).detach()),
    ),
    "reciprocal": (
        lambda m, x: m.c(2 / (1 + m.a(x).square())),
        lambda m, x: m.c((2 / (1 + m.a(x).square()) ** 2).detach() * (1 + m.a(x).detach() * m.a(x))),
    ),
    "radial": (
        lambda m, x: m.c(torch.exp(-torch.cdist(m.a(x), m.b.weight[:, :5]))),
        lambda m, x: m.c(
            far_by_tangent(torch.exp, 1.0)(
                -(
                    (lambda d: ((d / d.norm(dim=-1, keepdim=True)).detach() * d).sum(-1))(
                        m.a(x)[:, None] - m.b.weight[:, :5]
                    )
                )
            )
        ),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    forward, detached = PRODUCTS[name]
    model = Net(forward, a=nn.Linear(6, 5), b=nn.Linear(6, 5), c=nn.Linear(5, 2)).double()
    check(model, lambda x: detached(model, x), X)


def test_two_linear_factors_ask_which_carries() -> None:
    model = Net(lambda m, x: m.c(m.a(x) * m.b(x)), a=nn.Linear(6, 5), b=nn.Linear(6, 5), c=nn.Linear(5, 2)).double()
    with pytest.raises(ma.NotPiecewiseAffine, match=r"multiplies 'a' and 'b'.*\n.*\n?.*carrier={'mul': ...}"):
        ma.capture(model, X, smooth="frozen")
    both = {}
    for carrier, other in (("a", "b"), ("b", "a")):

        def detached(x: Tensor, carrier: str = carrier, other: str = other) -> Tensor:
            return model.get_submodule("c")(model.get_submodule(carrier)(x) * model.get_submodule(other)(x).detach())

        net = check(model, detached, X, carrier={"mul": carrier})
        (record,) = net.held
        assert (record.carrier, record.gates) == (carrier, (other,))
        both[carrier] = net.affine_map(X).slopes
    assert (both["a"] - both["b"]).abs().max() > 0.1  # it is not unique, which is why it is recorded


def test_bad_words() -> None:
    model = Net(lambda m, x: m.a(x) * m.b(x), a=nn.Linear(6, 5), b=nn.Linear(6, 5)).double()
    for options, message in (
        ({"smooth": "soft"}, "smooth: expected 'refuse', 'frozen' or 'tangent', got 'soft'"),
        ({"carrier": {"mul": "a"}}, "carrier: only smooth='frozen' has carriers, and smooth is 'refuse'"),
        (
            {"smooth": "frozen", "carrier": {"mul": "c"}},
            "carrier: 'c' is not a factor of 'mul', which multiplies 'a'",
        ),
        (
            {"smooth": "frozen", "carrier": {"mul": "a", "sum": "a"}},
            "carrier: no product of two values that depend on the input is called 'sum'",
        ),
    ):
        with pytest.raises(ma.BadInput, match=message):
            ma.capture(model, X, **options)  # pyright: ignore


def test_a_refusal_names_the_way_on() -> None:
    for model in (nn.GELU(), nn.LayerNorm(6), nn.Softmax(-1), Net(lambda m, x: x * x)):
        with pytest.raises(
            ma.NotPiecewiseAffine, match=r"or hold its gates at the input: capture\(..., smooth='frozen'\)"
        ):
            ma.capture(model, X.float())
    with pytest.raises(ma.NotPiecewiseAffine) as refused:
        ma.capture(Net(lambda m, x: x.floor()), X)
    assert "frozen" not in str(refused.value)


def test_a_gate_that_is_added_is_refused() -> None:
    """It would give A = 0, b = f: true, and worth nothing."""
    model = Net(lambda m, x: m.a(x) + torch.floor(x), a=nn.Linear(6, 6)).double()
    with pytest.raises(ma.NotPiecewiseAffine, match="floor.*infinitely many pieces"):
        ma.capture(model, X, smooth="frozen")
    # Where it only gates, it may be anything.
    first = linear(6, 6)
    held = Net(lambda m, x: m.a(x) * torch.sigmoid(torch.floor(x)), a=first)
    check(held, lambda x: first(x) * torch.sigmoid(torch.floor(x)).detach(), X)


def test_without_smooth_operators_nothing_changes() -> None:
    model = nn.Sequential(linear(6, 8), nn.ReLU(), linear(8, 3))
    net, same = ma.capture(model, X, smooth="frozen"), ma.capture(model, X)
    assert net.piecewise_affine and not net.held and net.fingerprint == same.fingerprint


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.a(x) * (m.b(x) > 0),
        lambda m, x: m.a(x) / (m.b(x) > 0).sum(-1, keepdim=True).clamp(min=1),
        lambda m, x: F.scaled_dot_product_attention(torch.eye(5).double().expand(len(x), 5, 5), m.c, m.a(x)[:, None]),
    ],
)
def test_what_is_constant_in_a_region_is_not_held(forward: Callable) -> None:
    model = Net(forward, a=nn.Linear(6, 5), b=nn.Linear(6, 5), c=torch.randn(1, 5)).double()
    net = ma.capture(model, X, smooth="frozen")
    assert net.piecewise_affine and net.verify(model, X).slopes is None


def test_a_region_with_curved_faces_is_held() -> None:
    model = Net(lambda m, x: m.a(x) * (torch.special.bessel_j0(m.a(x)) > 0.5), a=nn.Linear(6, 5)).double()
    net = ma.capture(model, X, smooth="frozen")
    assert not net.piecewise_affine and net.verify(model, X).exact


def test_a_dividend_that_asks_is_no_gate() -> None:
    model = Net(lambda m, x: m.a(x) * m.b(x) / (1 + m.a(x).square()), a=nn.Linear(6, 5), b=nn.Linear(6, 5)).double()
    with pytest.raises(ma.NotPiecewiseAffine, match=r"multiplies 'a' and 'b'"):
        ma.capture(model, X, smooth="frozen")
    net = ma.capture(model, X, smooth="frozen", carrier={"mul": "b"})
    assert net.verify(model, X).exact
    assert (net.held[-1].held, net.held[-1].carrier) == ("carrier / gate*", "mul")


def test_the_square_of_a_value() -> None:
    """Both factors of the product are one tensor."""
    first = linear(6, 6)
    check(Net(lambda m, x: (lambda u: u * u)(m.a(x)), a=first), lambda x: first(x) * first(x).detach(), X)


class Block(nn.Module):
    """Attention with a causal mask and rotated, normalized queries, and a gated unit: a transformer of today."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.RMSNorm(16, 1e-6) for _ in range(2)])
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (4, 4)).transpose(-2, -3)

    def forward(self, x: Tensor, hold: Callable[[Tensor], Tensor] = lambda gate: gate) -> Tensor:
        def norm(layer: nn.Module, u: Tensor) -> Tensor:
            return u * hold((u.square().mean(-1, keepdim=True) + 1e-6).rsqrt()) * layer.get_parameter("weight")

        y = norm(self.norms[0], x)
        query, key = (F.normalize(self.heads(part(y)), dim=-1) for part in (self.query, self.key))
        scores = (query @ key.transpose(-1, -2)).masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -math.inf)
        mixed = hold(scores.softmax(-1)) @ self.heads(self.value(y))
        x = x + self.out(mixed.transpose(-2, -3).flatten(-2))
        y = norm(self.norms[1], x)
        return x + self.down(hold(F.silu(self.gate(y))) * self.up(y))


def test_twelve_blocks() -> None:
    blocks = nn.ModuleList([Block() for _ in range(12)]).double()
    head = linear(16, 3)
    model = Net(lambda m, x: m.head(_through(m.blocks, x).mean(1)), blocks=blocks, head=head)

    def detached(x: Tensor) -> Tensor:
        for block in blocks:
            x = block(x, Tensor.detach)
        return head(x.mean(1))

    check(model, detached, TOKENS)
    single, x = model.float(), TOKENS.float()
    local = ma.capture(single, x, smooth="frozen").affine_map(x)
    assert (local(x) - single(x)).norm() < 1e-5 * single(x).norm()


def _through(blocks: nn.Module, x: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x)
    return x


def test_attention_modules() -> None:
    """PyTorch's own modules: attention weights, statistics and gates held, values and residuals carry."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True, norm_first=True).double().eval()

    def detached(x: Tensor) -> Tensor:
        def norm(part: nn.LayerNorm, u: Tensor) -> Tensor:
            return by_statistics(u, (-1,), part.eps) * part.weight + part.bias

        y = norm(layer.norm1, x)
        query, key, value = F.linear(y, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in (query, key, value))
        weights = (query @ key.transpose(-1, -2) / 2).softmax(-1).detach()
        x = x + layer.self_attn.out_proj((weights @ value).transpose(1, 2).flatten(-2))
        return x + layer.linear2(by_ratio(F.gelu)(layer.linear1(norm(layer.norm2, x))))

    check(layer, detached, TOKENS)


def test_recurrent_modules() -> None:
    lstm = nn.LSTM(16, 4, batch_first=True).double()
    model = Net(lambda m, x: m.lstm(x)[0][:, -1], lstm=lstm)
    given, carried = ([lstm.get_parameter(f"{kind}_{way}_l0") for kind in ("weight", "bias")] for way in ("ih", "hh"))

    def detached(x: Tensor) -> Tensor:
        h = c = torch.zeros(len(x), 4, dtype=torch.float64)
        for t in range(x.shape[1]):
            both = F.linear(x[:, t], *given) + F.linear(h, *carried)
            i, f, g, o = both.chunk(4, -1)
            c = f.sigmoid().detach() * c + i.sigmoid().detach() * by_ratio(torch.tanh)(g)
            h = o.sigmoid().detach() * by_ratio(torch.tanh)(c)
        return h

    check(model, detached, TOKENS)
    for recurrent in (nn.GRU(16, 4, batch_first=True), nn.RNN(16, 4, batch_first=True)):
        other = Net(lambda m, x: m.part(x)[0], part=recurrent.double())
        local = ma.capture(other, TOKENS, smooth="frozen").affine_map(TOKENS)
        assert_close(local(TOKENS), other(TOKENS), rtol=1e-12, atol=1e-14)


def test_what_needs_regions_is_refused() -> None:
    model = nn.Sequential(linear(6, 8), nn.GELU(), linear(8, 3))
    net = ma.capture(model, X, smooth="frozen")
    codes = net.codes(X)
    assert codes["1"].pieces == 2 and torch.equal(codes["1"].unpack(), (model[0](X) > 0).to(torch.uint8))
    asks: list[Callable[[], object]] = [
        codes.region_ids,
        lambda: codes.same_region(codes),
        lambda: ma.codes.region_hierarchy(codes),
        lambda: ma.partition.line(net, X[:1], X[1:2]),
        lambda: ma.partition.plane(net, anchors=X[:3]),
        lambda: ma.partition.region(net, X[:1]),
        lambda: ma.partition.regions(net, bounds=(-1, 1)),
        lambda: ma.partition.integrated_gradients(net, X[:1], X[1:2]),
        lambda: ma.partition.local_complexity(net, X, radius=0.1),
        lambda: ma.partition.crossed_regions(net, X[:1], X[1:2]),
    ]
    for ask in asks:
        with pytest.raises(ma.NotPiecewiseAffine, match="it is smooth"):
            ask()
    assert not net.convex and "A is not the Jacobian" in repr(net) and "Phi(u*) u" in net._repr_html_()
    assert ma.codes.code_distance(codes, codes).shape == (4, 4)


def test_saved_and_widened() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).eval()
    net = ma.capture(model, X.float(), smooth="frozen")
    again = pickle.loads(pickle.dumps(net))
    assert_close(again.affine_map(X.float()).slopes, net.affine_map(X.float()).slopes)
    wide = net.double()
    assert_close(wide.affine_map(X)(X), model.double()(X), rtol=1e-12, atol=1e-13)


def test_inside_a_gate_there_is_no_map() -> None:
    """Softmax carries at the end of a classifier; what is only upstream of a gate is asked for by name and refused."""
    model = Net(lambda m, x: m.a(x) * torch.sigmoid(torch.round(m.b(x))), a=nn.Linear(6, 5), b=nn.Linear(6, 5)).double()
    net = ma.capture(model, X, smooth="frozen")
    with pytest.raises(ma.NotPiecewiseAffine, match="round.*infinitely many pieces"):
        _ = net.affine_map(X, until="sigmoid").offsets
    assert tuple(net.affine_map(X, until="b").offsets.shape) == (4, 5)


def test_a_wrong_gate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that scales by something else than f(u*)/u* does not give the value."""
    import maxaffine._capture.rules.smooth as rules  # noqa: PLC0415

    registry = rules.smooth_rule.__globals__["_SMOOTH"]
    wrong = rules.Gated

    def silu(call: Call) -> object:
        return wrong(call.affine(), lambda u: (torch.sigmoid(1.01 * u), None), "wrong")

    known = registry[torch.ops.aten.silu.default]
    monkeypatch.setitem(registry, torch.ops.aten.silu.default, type(known)(silu, known.batch))
    model = nn.Sequential(linear(6, 8), nn.SiLU(), linear(8, 3))
    net = ma.capture(model, X, smooth="frozen")
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        net.verify(model, X)


def test_masks_that_count_over_the_batch() -> None:
    """What is made of arange(len(x)) is a constant where it is the same for every sample, for any number of them."""

    def forward(m: nn.Module, x: Tensor, limit: int) -> Tensor:
        mask = (torch.arange(x.shape[0])[:, None] < limit) | torch.ones(6, dtype=torch.bool)
        return torch.where(mask, F.gelu(x), -x)

    assert ma.capture(Net(lambda m, x: forward(m, x, 1)), X, smooth="frozen").verify(
        Net(lambda m, x: forward(m, x, 1)), X
    )

    def by_place(m: nn.Module, x: Tensor, limit: int) -> Tensor:
        return torch.where(torch.arange(x.shape[0])[:, None] < limit, F.gelu(x), -x)

    for limit in (1, 3, 5, 100):  # beyond three samples the trace itself shows nothing
        with pytest.raises(ma.MaxAffineError, match="arange|other outputs than each of them alone"):
            ma.capture(Net(lambda m, x, limit=limit: by_place(m, x, limit)), X, smooth="frozen")


def padded(block: Any, x: Tensor, mask: Tensor, rows: Callable[[int], Tensor]) -> Tensor:
    """Attention beside a mask of padding, read by numbers of the samples as transformers does."""
    places = torch.arange(x.shape[1])[None, None, None]
    seen = mask.bool()[rows(x.shape[0])[:, None, None, None], places].expand(-1, 1, x.shape[1], -1)
    q, k, v = (layer(x)[:, None] for layer in (block.q, block.k, block.v))
    return x + F.scaled_dot_product_attention(q, k, v, seen)[:, 0]


@pytest.mark.parametrize("smooth", ["frozen", "tangent"])
def test_masks_of_padding_that_number_the_batch(smooth: str) -> None:
    model = Net(
        lambda m, x, mask: padded(m, x, mask, torch.arange), q=linear(16, 16), k=linear(16, 16), v=linear(16, 16)
    )
    x, mask = torch.randn(3, 5, 16, dtype=torch.float64), torch.ones(3, 5, dtype=torch.int64)
    net = ma.capture(model, (x, mask), smooth=smooth)
    mask[1, 3:], mask[2, :2] = 0, 0  # another than at capture
    assert net.verify(model, (x, mask))
    whole = only(net.affine_map((x, mask)).slopes)
    for sample, length in ((0, slice(None)), (1, slice(3)), (2, slice(2, None))):
        short = (x[sample : sample + 1, length], mask[sample : sample + 1, length])
        # Without what is padded, the same network gives the same templates.
        alone = only(ma.capture(model, short, smooth=smooth).affine_map(short).slopes)[0]
        assert_close(whole[sample, length, :, length], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "rows",
    [
        lambda n: (torch.arange(n) + 1) % n,
        lambda n: torch.arange(n).flip(0),
        lambda n: torch.arange(n).clamp(max=2),  # of three samples each has its own
        lambda n: torch.arange(n) - n,
    ],
)
def test_masks_of_another_sample_are_refused(rows: Callable[[int], Tensor]) -> None:
    parts = {name: linear(16, 16) for name in "qkv"}
    model = Net(lambda m, x, mask: padded(m, x, mask, rows), **parts)
    with pytest.raises(ma.NotPiecewiseAffine, match="arange|batch|samples"):
        ma.capture(model, (torch.randn(3, 5, 16).double(), torch.ones(3, 5, dtype=torch.int64)), smooth="frozen")


def test_positions_and_heads() -> None:
    """Parts of positions and of heads, against gradients of the block with its gates detached."""
    block, head = Block().double(), linear(16, 3)
    model = Net(lambda m, x: m.head(m.block(x).mean(1)), block=block, head=head)
    net = ma.capture(model, TOKENS, smooth="frozen")
    found = net.templates(TOKENS).by_position()
    rows = slopes(lambda x: head(block(x, Tensor.detach).mean(1)), TOKENS).detach()
    assert_close(found.parts, (rows * TOKENS[:, None]).sum(-1), rtol=1e-9, atol=1e-11)
    assert_close(found.parts.sum(2) + found.offsets, model(TOKENS).detach(), rtol=1e-12, atol=1e-13)
    # Of each head, the way of its own channels through the output's matrix.
    added = net.shares(TOKENS, "block.out")
    mixed = next(name for name in net.places if name.startswith("block.flatten") or name.startswith("block.view"))
    assert added.shape == (3, 3, 5, 16) and mixed
    last = [record.name for record in net.operators if record.name.startswith("block.")]
    concat = net.shares(TOKENS, last[last.index("block.out") - 1])
    heads = concat.unflatten(-1, (4, 4)).sum((2, 4))
    bias = net.affine_map(TOKENS).offset_contributions()["block.out"]
    assert_close(heads.sum(-1) + bias, added.sum((2, 3)), rtol=1e-9, atol=1e-11)
    with pytest.raises(ma.BadInput, match="carries no share of the output"):
        net.shares(TOKENS, "block.query")
    with pytest.raises(ma.BadInput, match=r"axis: an input of shape \(5, 16\) has the axes 0..1, got 2"):
        net.templates(TOKENS).by_position(2)


def test_positions_are_drawn() -> None:
    net = ma.capture(Net(lambda m, x: F.gelu(m.a(x)).mean(1), a=nn.Linear(16, 2)).double(), TOKENS, smooth="frozen")
    found = net.templates(TOKENS).by_position()
    axes = found.plot(1, 1, ["one", "two", "three", "four", "five"])
    assert [bar.get_height() for bar in axes.containers[0]] == [*found.parts[1, 1].tolist(), float(found.offsets[1, 1])]
    assert [word.get_text() for word in axes.get_xticklabels()] == ["one", "two", "three", "four", "five", "b"]
    assert "position" in found._repr_html_()
    for arguments, message in (
        ((0, 0, ["one"]), "positions: 1 for the 5"),
        ((9,), "sample: 9 is not one of the 3 places"),
    ):
        with pytest.raises(ma.BadInput, match=message):
            found.plot(*arguments)  # pyright: ignore
