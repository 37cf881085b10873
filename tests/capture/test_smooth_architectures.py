"""Smooth networks at their limits: masks, zeros, overflow, and what may not be held in silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev
from torch.testing import assert_close

import maxaffine as ma
from tests.zoo.networks import Net

torch.manual_seed(0)
X = 2 * torch.randn(4, 6, dtype=torch.float64)
TOKENS = torch.randn(3, 5, 16, dtype=torch.float64)
OPEN = torch.ones(5, 5, dtype=torch.bool).tril()


def layer(forward: Callable, **modules: nn.Module) -> Net:
    return Net(forward, **(modules or {"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)})).double()


def check_tangent(model: nn.Module, x: Tensor) -> None:
    """A is the Jacobian by autograd, and A x + b the value."""
    local = ma.capture(model, x, smooth="tangent").affine_map(x)
    jacobian = torch.stack([jacrev(lambda one: model(one[None])[0])(sample) for sample in x])
    assert_close(local.slopes, jacobian.detach(), rtol=1e-9, atol=1e-11)
    assert_close(local(x), model(x).detach(), rtol=1e-12, atol=1e-13)


TANGENTS: dict[str, Callable] = {
    "square": lambda m, x: m.a(x) * m.a(x) + (lambda u: u * u)(m.b(x)),
    "bilinear": lambda m, x: F.bilinear(x, x, m.a.weight[:, :, None].expand(-1, -1, 6)),
    "local_response_norm": lambda m, x: F.local_response_norm(m.a(x)[..., None], 3)[..., 0],
    "logcumsumexp": lambda m, x: m.a(x).logcumsumexp(-1),
    "variance": lambda m, x: m.a(x) / (m.a(x).var(-1, keepdim=True) + 0.1).sqrt(),
    "var_mean": lambda m, x: torch.stack(torch.var_mean(m.a(x), -1, correction=0), -1),
    "log_ndtr": lambda m, x: torch.special.log_ndtr(m.a(x)),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of the test's own derivative
@pytest.mark.parametrize("name", TANGENTS)
def test_tangents(name: str) -> None:
    model = layer(TANGENTS[name])
    check_tangent(model, X)
    if name != "square":
        assert ma.capture(model, X, smooth="frozen").verify(model, X).exact


def test_masks_of_infinity() -> None:
    """Entries that a mask makes infinite do not move: in log-softmax, log-sum-exp, softmax and exponentials."""
    shut = torch.tensor([True, True, True, False, False, False])
    for function in (
        lambda u: u.masked_fill(shut, -math.inf).log_softmax(-1)[..., 3:],
        lambda u: u.masked_fill(shut, -math.inf).logsumexp(-1, keepdim=True),
        lambda u: u.masked_fill(shut, -math.inf).softmax(-1),
        lambda u: u.masked_fill(shut, -math.inf).exp(),
        lambda u: u.masked_fill(shut, math.inf).tanh(),
    ):
        model = layer(lambda m, x, f=function: f(m.a(x)))
        check_tangent(model, X)
        local = ma.capture(model, X, smooth="frozen").affine_map(X)
        assert_close(local(X), model(X).detach(), rtol=1e-12, atol=1e-13)
        assert bool(torch.as_tensor(local.slopes).isfinite().all())


def test_an_exponential_that_overflows() -> None:
    """A sigmoid written out: exp(1000) is infinite, and 1/inf the zero that the module gives."""
    x = torch.tensor([[-1000.0, -800, -1, 0, 1, 1000]], dtype=torch.float64)
    for function in (lambda m, x: 1 / (1 + torch.exp(-x)), lambda m, x: torch.where(x > 0, x, torch.exp(x) - 1)):
        local = ma.capture(Net(function), x, smooth="frozen").affine_map(x)
        assert_close(local(x), function(None, x), rtol=1e-14, atol=0.0)
        assert bool(torch.as_tensor(local.slopes).isfinite().all())


def test_no_finite_slope_is_said() -> None:
    x = torch.zeros(2, 6, dtype=torch.float64)
    for function, smooth in (
        (lambda m, x: x.abs().sqrt(), "tangent"),
        (lambda m, x: x.std(-1), "tangent"),
        (lambda m, x: torch.hypot(x, x), "frozen"),
    ):
        net = ma.capture(Net(function), X, smooth=smooth)
        with pytest.raises(ma.BadInput, match="x: .* has no finite slope at this input.*; add a small number inside"):
            _ = net.affine_map(x).slopes
    frozen = ma.capture(Net(lambda m, x: x.abs().sqrt()), X, smooth="frozen").affine_map(x)
    assert_close(frozen(x), x)


def test_curves_whose_derivative_cancels() -> None:
    """Sinc near zero, and x log(y) where both are zero."""
    z = torch.tensor([[0, 1e-300, -1e-305, 1e-10, 0.04, 0.06, 1.5]], dtype=torch.float64)
    series = -(math.pi**2) / 3 * z
    for smooth in ("frozen", "tangent"):
        local = ma.capture(Net(lambda m, u: torch.sinc(u)), z, smooth=smooth).affine_map(z)
        slopes = torch.as_tensor(local.slopes)[0].diagonal()
        assert_close(slopes[:4], series[0, :4], rtol=1e-9, atol=1e-307)
        expected = (torch.cos(math.pi * z) - torch.sinc(z))[0, 4:] / z[0, 4:]
        assert_close(slopes[4:], expected, rtol=1e-11, atol=0.0)
        assert_close(local(z), torch.sinc(z), rtol=1e-14, atol=0.0)
    model = layer(lambda m, u: torch.sinc(m.a(u)) * m.b(u).sigmoid())
    assert (ma.capture(model, X, smooth="frozen").verify(model, X).slopes or 1) < 1e-13
    z = z.abs()
    model = Net(lambda m, u: torch.xlogy(u, u))
    net = ma.capture(model, z, smooth="frozen")
    slopes = torch.as_tensor(net.affine_map(z).slopes)[0].diagonal()
    assert_close(slopes, torch.where(z == 0, 0, z.log())[0], rtol=1e-14, atol=0.0)
    assert net.verify(model, z).residuals["slopes"] < 1e-14


def test_padding_masks_are_inputs() -> None:
    shut = torch.tensor([[False] * 3 + [True] * 2, [False] * 5, [False] * 4 + [True]])
    part = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", batch_first=True)
    encoder = nn.TransformerEncoder(part, 2, enable_nested_tensor=False)
    model = Net(lambda m, x, shut: m.e(x, src_key_padding_mask=shut), e=encoder).double().eval()
    report = ma.capture(model, (TOKENS, shut), smooth="frozen").verify(model, (TOKENS, shut))
    assert report.residuals["slopes"] < 1e-13 and not report.unchecked
    attention = nn.MultiheadAttention(16, 4, batch_first=True).double().eval()
    model = Net(lambda m, x, shut: m.a(x, x, x, key_padding_mask=shut)[0], a=attention)
    assert ma.capture(model, (TOKENS, shut), smooth="frozen").verify(model, (TOKENS, shut)).slopes
    nested = Net(lambda m, x, shut: m.e(x, src_key_padding_mask=shut), e=nn.TransformerEncoder(part, 2)).double().eval()
    with pytest.raises(ma.CaptureError, match="nested tensors.*build it with enable_nested_tensor=False"):
        ma.capture(nested, (TOKENS, shut), smooth="frozen")
    with pytest.raises(ma.BadInput, match="give masks as truth values"):
        ma.capture(model, (TOKENS, torch.zeros(3, 5).double().masked_fill(shut, -math.inf)), smooth="frozen")


def test_refusals_name_the_cause() -> None:
    """Of a matrix that depends on the input, of ids, of a carrier of no product."""
    system = layer(lambda m, x: torch.linalg.solve(m.a(x).view(-1, 2, 3)[..., :2], x[:, :2]))
    with pytest.raises(ma.NotPiecewiseAffine, match="it solves with a matrix that depends on the input"):
        ma.capture(system, X, smooth="frozen")
    with pytest.raises(ma.BadInput, match=r"`rows = model.get_input_embeddings\(\)\(ids\).detach\(\)` and"):
        ma.capture(nn.Embedding(4, 3), torch.zeros(2, 3, dtype=torch.long), smooth="frozen")
    plain = layer(lambda m, x: F.silu(m.a(x)) * m.b(x))
    with pytest.raises(ma.BadInput, match="on the input is called 'silu'; there are 'mul'"):
        ma.capture(plain, X, smooth="frozen", carrier={"silu": "a"})


@pytest.mark.parametrize("size", [1e-6, 1e-3, 2e4])
def test_statistics_of_half_precision(size: float) -> None:
    """They are those of single precision: of tiny entries, and where a sum of squares overflows."""
    x = (X * size / 4).half()
    for function in (
        lambda m, x: F.layer_norm(x, (6,)),
        lambda m, x: F.rms_norm(x, (6,)),
        lambda m, x: F.group_norm(x, 2),
        lambda m, x: x.norm(dim=-1),
    ):
        local = ma.capture(Net(function), x, smooth="frozen").affine_map(x)
        assert_close(local(x), function(None, x), rtol=3e-3, atol=1e-7)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.a(x) + x.long(),
        lambda m, x: m.a(x) + 2 * x.floor().int(),
        lambda m, x: m.a(x) + F.embedding(x.abs().long(), m.b.weight).sum(1),
        lambda m, x: torch.cat([m.a(x), x.floor()], -1),
        lambda m, x: torch.addcmul(x.floor(), m.a(x), x.sigmoid()),
        lambda m, x: torch.where(x > 0, m.a(x), x.round()),
        lambda m, x: F.layer_norm(x.floor(), (6,)) + m.a(x),
        lambda m, x: m.a(x) + x.floor() * x.round(),
    ],
)
def test_what_is_rounded_is_never_added(function: Callable) -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match="infinitely many pieces"):
        ma.capture(layer(function), X, smooth="frozen")


def test_places_in_an_order_are_codes() -> None:
    model = layer(lambda m, x: m.a(x) + F.gelu(x).argsort(-1))
    for smooth in ("frozen", "tangent"):
        assert ma.capture(model, X, smooth=smooth).verify(model, X).exact
    plain = layer(lambda m, x: m.a(x) + m.b(x).topk(6, -1).indices)
    assert ma.capture(plain, X).verify(plain, X).exact


def test_factors_are_named_by_what_computes_them() -> None:
    """Through changes of shape; by their place in the product where both have one name."""
    model = layer(lambda m, x: m.a(x).unflatten(-1, (2, 3)) @ m.b(x).unflatten(-1, (2, 3)).mT)
    with pytest.raises(ma.NotPiecewiseAffine, match="multiplies 'a' and 'b'"):
        ma.capture(model, X, smooth="frozen")
    net = ma.capture(model, X, smooth="frozen", carrier={"bmm": "a"})
    assert net.held[0].gates == ("b",) and net.verify(model, X).exact
    gram = layer(lambda m, x: (lambda u: u @ u.mT)(m.a(x).unflatten(-1, (2, 3))))
    with pytest.raises(ma.NotPiecewiseAffine, match="multiplies 'self' and 'mat2'"):
        ma.capture(gram, X, smooth="frozen")
    assert ma.capture(gram, X, smooth="frozen", carrier={"bmm": "mat2"}).verify(gram, X).exact
    gated = layer(lambda m, x: x * m.a(x))
    with pytest.raises(ma.NotPiecewiseAffine, match="multiplies 'the input' and 'a'"):
        ma.capture(gated, X, smooth="frozen")
    assert ma.capture(gated, X, smooth="frozen", carrier={"mul": "the input"}).verify(gated, X).exact


def test_what_is_computed_from_a_factor_gates_it() -> None:
    """The step sizes and inputs of a selective state-space model, though they are linear in what they select."""

    def forward(m: Any, x: Tensor, hold: Callable = lambda gate: gate) -> Tensor:
        u = x @ m.a.weight
        u = u * hold(u.sigmoid())
        return hold(F.softplus(u @ m.b.weight) * (u @ m.b.weight.mT))[..., None] * u[..., None, :]

    model = layer(forward)
    local = ma.capture(model, X, smooth="frozen").affine_map(X)
    detached = torch.stack([jacrev(lambda one: forward(model, one, Tensor.detach))(sample) for sample in X])
    assert_close(local.slopes, detached.detach(), rtol=1e-9, atol=1e-11)


def test_experts_that_are_looked_up() -> None:
    """Two experts of each token, read off a table: their shares and units gate, their places are codes."""
    table = nn.Parameter(torch.randn(4, 6, 6, dtype=torch.float64))

    def forward(m: Any, x: Tensor, hold: Callable = lambda gate: gate) -> Tensor:
        weights, places = hold(m.a(x)[..., :4].softmax(-1)).topk(2)
        weights = weights / weights.sum(-1, keepdim=True)
        tokens = x.repeat_interleave(2, 0)
        experts = table[places.reshape(-1)]
        y = hold((tokens.unsqueeze(1) @ experts).sigmoid()) * (tokens.unsqueeze(1) @ experts.mT)
        return (y.squeeze(1) * weights.reshape(-1, 1)).view(x.shape[0], 2, 6).sum(1)

    model = layer(forward)
    local = ma.capture(model, X, smooth="frozen").affine_map(X)
    detached = torch.stack([jacrev(lambda one: forward(model, one[None], Tensor.detach)[0])(x) for x in X])
    assert_close(local.slopes, detached.detach(), rtol=1e-9, atol=1e-11)
    assert_close(local(X), model(X).detach(), rtol=1e-12, atol=1e-13)


def test_one_pattern_for_many_products() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            x = m.a(x) * m.b(x)
        return x

    model = layer(forward)
    net = ma.capture(model, X, smooth="frozen", carrier={"mul*": "self"})
    assert [record.carrier for record in net.held] == ["a", "a#2", "a#3"] and net.verify(model, X).exact
    with pytest.raises(ma.BadInput, match="carrier: no product of two values that depend on the input is called 'bmm"):
        ma.capture(model, X, smooth="frozen", carrier={"mul*": "self", "bmm*": "self"})


def test_rotation_by_complex_numbers_of_any_layout() -> None:
    def rotated(u: Tensor) -> Tensor:
        z = torch.view_as_complex(u.unflatten(-1, (-1, 2)).contiguous())
        angles = torch.arange(5.0, dtype=u.dtype)[:, None] / torch.arange(1, z.shape[-1] + 1)
        return torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    def forward(m: nn.Module, x: Tensor, hold: Callable = lambda gate: gate) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (4, 4)).transpose(1, 2) for part in m.children())
        scores = (rotated(q) @ rotated(k).mT / 2).masked_fill(~OPEN, -math.inf)
        return (hold(scores.softmax(-1)) @ v).transpose(1, 2).flatten(-2)

    model = layer(forward, **{name: nn.Linear(16, 16) for name in "abc"})
    local = ma.capture(model, TOKENS, smooth="frozen").affine_map(TOKENS)
    detached = torch.stack([jacrev(lambda one: forward(model, one[None], Tensor.detach)[0])(x) for x in TOKENS])
    assert_close(local.slopes, detached.detach(), rtol=1e-9, atol=1e-11)
    assert_close(local(TOKENS), model(TOKENS).detach(), rtol=1e-12, atol=1e-13)


CLASSES = ["BERT", "GPT-2", "Qwen3 MoE", "ViT", "ConvNeXt v2", "Whisper encoder", "wav2vec 2.0"]


@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_transformers(name: str) -> None:
    """Random weights; `make huggingface` runs all classes that docs/huggingface.md lists."""
    pytest.importorskip("transformers")
    from tests import huggingface  # noqa: PLC0415

    (case,) = [case for case in huggingface.CASES if case.name == name]
    result = huggingface.run(case, torch.float64)
    assert not result.refusal and result.errors[0] < 1e-12


def test_llama_by_hand() -> None:
    """The slopes of a whole Llama are those of its code with attention weights, norms and units detached."""
    pytest.importorskip("transformers")
    from transformers.models.llama import modeling_llama  # noqa: PLC0415

    from tests import huggingface  # noqa: PLC0415

    (case,) = [case for case in huggingface.CASES if case.name == "Llama"]
    model, x = case.build()
    local = ma.capture(model, x, smooth="frozen").affine_map(x)
    with pytest.MonkeyPatch.context() as patch:
        root, attend = torch.rsqrt, F.scaled_dot_product_attention
        patch.setattr(torch, "rsqrt", lambda u: root(u).detach())
        attention = lambda q, k, v, **options: attend(q.detach(), k.detach(), v, **options)  # noqa: E731
        patch.setattr(F, "scaled_dot_product_attention", attention)
        for part in model.modules():
            if isinstance(part, modeling_llama.LlamaMLP):
                part.act_fn = Net(lambda m, u: F.silu(u).detach())
        jacobian = torch.autograd.functional.jacobian(lambda one: model(one[None])[0], x[0])
    assert_close(local.slopes[0], jacobian, rtol=1e-9, atol=1e-11)
