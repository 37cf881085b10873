"""Every layer of the table in THEORY section 2 equals its max-affine form, in float64."""

from __future__ import annotations

import builtins
import copy
import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from maxaffine._capture import max_affine_form
from maxaffine._spline import MaxAffineSpline
from maxaffine.errors import BadInput, CaptureError, NotPiecewiseAffine, ShapeMismatch

Layer = Any  # an nn.Module or a plain function


def inputs(shape: Sequence[int], batch: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ready(layer: Layer, seed: int = 0) -> Layer:
    """In float64 and eval mode, with random running statistics and weights where torch's start is trivial."""
    if not isinstance(layer, nn.Module):
        return layer
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.weight, module.bias, module.running_mean):
                    if tensor is not None:
                        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return layer.double().eval()


def check_form(layer: Layer, shape: Sequence[int], skip: nn.Module | None = None) -> MaxAffineSpline:
    """Value, output shape and local slopes equal those of torch and its autograd."""
    form, x = max_affine_form(layer, shape, skip=skip, dtype=torch.float64), inputs(shape)
    x.requires_grad_()
    expected = layer(x) if skip is None else layer(x) + skip(x)
    assert form.output_shape == tuple(expected.shape[1:])
    assert form.in_features == prod(shape)
    rows = x.detach().flatten(1)
    torch.testing.assert_close(form(rows).view(expected.shape), expected, rtol=1e-11, atol=1e-11)
    unit = torch.randn(expected.shape[1:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(expected, x, unit.expand_as(expected))
    slopes = torch.einsum("nkd,k->nd", form.affine_map(rows).slopes, unit.flatten())
    torch.testing.assert_close(slopes, gradient.flatten(1), rtol=1e-11, atol=1e-11)
    return form


class Maxout(nn.Module):
    """The largest of R learned affine functions over the last axis."""

    def __init__(self, in_features: int, units: int, pieces: int, *, bias: bool = True) -> None:
        super().__init__()
        self.sizes = units, pieces
        self.linear = nn.Linear(in_features, units * pieces, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, self.sizes).max(dim=-1).values


class Stacked(nn.Module):
    """A recurrent cell on the stacked input [x_t, h_{t-1}]."""

    def __init__(self, cell: nn.RNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, stacked: Tensor) -> Tensor:
        return self.cell(*stacked.split([self.cell.input_size, self.cell.hidden_size], 1))


def prelu(*slopes: float) -> nn.PReLU:
    layer = nn.PReLU(len(slopes))
    layer.weight.data = torch.tensor(slopes)
    return layer


AFFINE: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Identity(), (2, 3)),
    (nn.Linear(5, 3), (5,)),
    (nn.Linear(5, 3, bias=False), (2, 5)),
    (nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2), (4, 7)),
    (nn.Conv2d(2, 3, 3, stride=2, padding="valid"), (2, 7, 6)),
    (nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular"), (2, 5, 4)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 4)),
    (nn.Conv3d(2, 3, (2, 1, 2), padding=1), (2, 3, 2, 4)),
    (nn.ConvTranspose1d(4, 2, 3, stride=2, groups=2), (4, 5)),
    (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1, dilation=2), (2, 3, 4)),
    (nn.ConvTranspose3d(1, 2, 2, stride=2), (1, 2, 2, 3)),
    (nn.BatchNorm1d(4), (4,)),
    (nn.BatchNorm1d(4), (4, 3)),
    (nn.BatchNorm2d(3), (3, 2, 4)),
    (nn.BatchNorm3d(2, affine=False), (2, 2, 2, 3)),
    (nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False), (2, 7)),
    (nn.AvgPool2d((2, 3), stride=(1, 2), padding=(1, 0), ceil_mode=True), (2, 5, 6)),
    (nn.AvgPool2d(2, divisor_override=3), (1, 5, 4)),
    (nn.AvgPool3d(2, padding=1, count_include_pad=False, ceil_mode=True), (1, 4, 3, 5)),
    (nn.AdaptiveAvgPool1d(3), (2, 7)),
    (nn.AdaptiveAvgPool2d((3, None)), (2, 5, 4)),
    (nn.AdaptiveAvgPool3d(2), (1, 3, 4, 5)),
    (nn.Upsample(scale_factor=2), (2, 3)),
    (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 3, 4)),
    (nn.Upsample(size=(5, 4), mode="bicubic", align_corners=True), (1, 3, 3)),
    (nn.UpsamplingNearest2d(scale_factor=2), (1, 2, 3)),
    (nn.UpsamplingBilinear2d(scale_factor=2), (1, 2, 3)),
    (nn.ZeroPad1d(2), (2, 3)),
    (nn.ConstantPad2d((1, 0, 2, 1), 3.5), (2, 3, 2)),
    (nn.ReflectionPad2d(1), (1, 3, 4)),
    (nn.ReplicationPad3d(1), (1, 2, 2, 3)),
    (nn.CircularPad2d(1), (1, 2, 3)),
    (nn.PixelShuffle(2), (4, 2, 3)),
    (nn.PixelUnshuffle(2), (1, 4, 2)),
    (nn.ChannelShuffle(2), (4, 2, 2)),
    (nn.Unfold(2, padding=1), (2, 3, 4)),
    (nn.Fold((4, 5), 2), (4, 12)),
    (nn.Flatten(), (2, 3)),
    (nn.Unflatten(1, (2, 3)), (6,)),
    (nn.Dropout(0.5), (4,)),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)), (1, 6, 7)),
]
POINTWISE: list[tuple[Layer, int]] = [
    (nn.ReLU(), 2),
    (nn.ReLU(inplace=True), 2),
    (nn.LeakyReLU(0.3), 2),
    (nn.LeakyReLU(-0.4), 2),
    (nn.RReLU(0.1, 0.4), 2),
    (prelu(0.2), 2),
    (prelu(0.2, -1.0, 1.0), 2),
    (torch.abs, 2),
    (builtins.abs, 2),
    (torch.relu, 2),
    (F.relu, 2),
]
POOLS: list[tuple[nn.Module, tuple[int, ...], int]] = [
    (nn.MaxPool1d(3, padding=1), (2, 7), 3),
    (nn.MaxPool2d(2), (2, 4, 6), 4),
    (nn.MaxPool2d((2, 3), stride=(1, 2), padding=(1, 1), ceil_mode=True), (2, 5, 6), 6),
    (nn.MaxPool2d(2, dilation=2), (1, 5, 4), 4),
    (nn.MaxPool3d(2, stride=1, padding=1), (1, 3, 2, 3), 8),
    (nn.AdaptiveMaxPool1d(3), (2, 7), 3),
    (nn.AdaptiveMaxPool2d((2, None)), (2, 5, 3), 3),
    (nn.AdaptiveMaxPool3d(2), (1, 3, 4, 2), 4),
]


def names(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, nn.Module) else getattr(value, "__name__", None)


@pytest.mark.parametrize(("layer", "shape"), AFFINE, ids=names)
def test_an_affine_layer_is_a_single_piece(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert check_form(ready(layer), shape).pieces == 1


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(("layer", "shape"), AFFINE, ids=names)
def test_an_affine_chain_with_more_or_fewer_outputs_than_inputs(
    layer: nn.Module, shape: tuple[int, ...], wide: bool
) -> None:
    outputs = prod(max_affine_form(ready(layer), shape, dtype=torch.float64).output_shape)
    chain = nn.Sequential(layer, nn.Flatten(), nn.Linear(outputs, prod(shape) + 1 if wide else 1), nn.ReLU())
    check_form(ready(chain), shape)


@pytest.mark.parametrize(("layer", "pieces"), POINTWISE, ids=names)
def test_activations(layer: Layer, pieces: int) -> None:
    layer = ready(layer)
    if not (isinstance(layer, nn.ReLU) and layer.inplace):  # torch itself cannot differentiate that at a leaf
        assert check_form(layer, (3, 2, 2)).pieces == pieces
    if isinstance(layer, nn.Module):
        chain = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), layer)
        assert check_form(ready(chain), (2, 3, 4)).pieces == pieces


@pytest.mark.parametrize(("layer", "shape", "pieces"), POOLS, ids=names)
def test_max_pooling_alone_and_after_a_convolution(layer: nn.Module, shape: tuple[int, ...], pieces: int) -> None:
    assert check_form(layer, shape).pieces == pieces
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 2](3, shape[0], 3, padding=1)
    assert check_form(ready(nn.Sequential(convolution, layer)), (3, *shape[1:])).pieces == pieces


def test_maxout() -> None:
    form = check_form(ready(Maxout(4, 3, pieces=5)), (4,))
    assert (form.units, form.pieces) == (3, 5)
    assert check_form(ready(Maxout(4, 3, pieces=5, bias=False)), (2, 4)).output_shape == (2, 3)
    assert check_form(ready(nn.Sequential(nn.Flatten(), nn.Linear(6, 4), Maxout(4, 3, pieces=2))), (2, 3)).pieces == 2


def test_recurrent_cell() -> None:
    cell = nn.RNNCell(4, 3, nonlinearity="relu").double()
    form, x = max_affine_form(Stacked(cell), (7,)), inputs((7,))
    torch.testing.assert_close(form(x), cell(x[:, :4], x[:, 4:]), rtol=1e-12, atol=1e-12)
    weights = torch.cat([cell.weight_ih, cell.weight_hh], dim=1)
    assert torch.equal(form.slopes, torch.stack([torch.zeros_like(weights), weights], dim=1))
    assert (
        max_affine_form(Stacked(nn.RNNCell(2, 3, bias=False, nonlinearity="relu")), (5,)).offsets.abs().max().item()
        == 0
    )


def test_skip_connections() -> None:
    block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
    check_form(ready(block), (3, 4, 5), skip=nn.Identity())
    projection = nn.Sequential(nn.Conv2d(3, 2, 1, stride=2), nn.BatchNorm2d(2))
    check_form(ready(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.MaxPool2d(2))), (3, 4, 6), skip=ready(projection))
    check_form(nn.MaxPool2d(3, stride=1, padding=1), (2, 4, 3), skip=nn.Identity())
    with pytest.raises(CaptureError, match=r"skip ends in shape \(3, 4, 5\) but the layer in \(3, 2, 2\)"):
        max_affine_form(nn.MaxPool2d(2), (3, 4, 5), skip=nn.Identity())
    with pytest.raises(NotPiecewiseAffine, match="composes another spline"):
        max_affine_form(nn.ReLU(), (3,), skip=nn.LeakyReLU())
    check_form(nn.Linear(3, 3).double(), (3,), skip=nn.ReLU())


def test_the_slopes_and_offsets_are_those_of_the_table() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    form = max_affine_form(nn.ReLU(), (2,), dtype=torch.float64)
    assert torch.equal(form.slopes, torch.stack([0 * eye, eye], dim=1)) and not form.offsets.any()
    form = max_affine_form(nn.LeakyReLU(0.25), (2,), dtype=torch.float64)
    assert torch.equal(form.slopes, torch.stack([0.25 * eye, eye], dim=1))
    form = max_affine_form(torch.abs, (2,), dtype=torch.float64)
    assert torch.equal(form.slopes, torch.stack([-eye, eye], dim=1))
    linear = nn.Linear(3, 2).double()
    form = max_affine_form(linear, (3,))
    assert torch.equal(form.slopes[:, 0], linear.weight) and torch.equal(form.offsets[:, 0], linear.bias)


def test_a_large_offset_costs_the_matrix_no_digit() -> None:
    linear = nn.Linear(3, 2)
    linear.bias.data.fill_(1e9)
    assert torch.equal(max_affine_form(linear, (3,)).slopes[:, 0], linear.weight)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    dims, groups, transposed = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.booleans())
    sizes = [
        [draw(st.integers(low, high)) for _ in range(dims)] for low, high in ((1, 3), (1, 3), (0, 2), (1, 2), (3, 6))
    ]
    kernel, stride, padding, dilation, length = sizes
    if transposed:
        assume(all((n - 1) * s - 2 * p + d * (k - 1) + 1 > 0 for k, s, p, d, n in zip(*sizes, strict=True)))
    else:
        assume(all(n + 2 * p >= d * (k - 1) + 1 for k, _, p, d, n in zip(*sizes, strict=True)))
    channels = groups * draw(st.integers(1, 2))
    options: dict[str, Any] = {
        "stride": tuple(stride),
        "padding": tuple(padding),
        "dilation": tuple(dilation),
        "groups": groups,
    }
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    layer = kind(channels, groups * draw(st.integers(1, 2)), tuple(kernel), bias=draw(st.booleans()), **options)
    return layer, (channels, *length)


@given(convolutions(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_convolution(case: tuple[nn.Module, tuple[int, ...]], activated: bool) -> None:
    layer, shape = case
    check_form(ready(nn.Sequential(layer, nn.ReLU()) if activated else layer), shape)


@st.composite
def poolings(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    dims = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(dims)]
    shape = (draw(st.integers(1, 2)), *[draw(st.integers(3, 6)) for _ in range(dims)])
    options: dict[str, Any] = {
        "stride": [draw(st.integers(1, 3)) for _ in range(dims)],
        "padding": [draw(st.integers(0, k // 2)) for k in kernel],
        "ceil_mode": draw(st.booleans()),
    }
    if draw(st.booleans()):
        dilation = [draw(st.integers(1, 2)) for _ in range(dims)]
        sizes = zip(kernel, dilation, options["padding"], shape[1:], strict=True)
        assume(all(n + 2 * p >= d * (k - 1) + 1 for k, d, p, n in sizes))
        return getattr(nn, f"MaxPool{dims}d")(kernel, dilation=dilation, **options), shape
    return getattr(nn, f"AvgPool{dims}d")(kernel, count_include_pad=draw(st.booleans()), **options), shape


@given(poolings())
@settings(max_examples=30, deadline=None)
def test_any_pooling(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    check_form(*case)


@given(st.integers(1, 3), st.data())
@settings(max_examples=20, deadline=None)
def test_any_adaptive_pooling(dims: int, data: st.DataObject) -> None:
    shape = (2, *[data.draw(st.integers(1, 6)) for _ in range(dims)])
    outputs = [data.draw(st.integers(1, 4)) for _ in range(dims)]
    check_form(getattr(nn, f"Adaptive{data.draw(st.sampled_from(('Avg', 'Max')))}Pool{dims}d")(outputs), shape)


@pytest.mark.parametrize("options", [{"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "dilation": 2}])
def test_the_code_of_a_pooling_is_the_place_in_the_window_that_torch_picks(options: dict[str, Any]) -> None:
    whole = inputs((2, 6, 7), batch=30).round().relu()  # ties in almost every window
    indices = F.max_pool2d(whole, return_indices=True, **options)[1]
    form = max_affine_form(nn.MaxPool2d(**options), (2, 6, 7), dtype=torch.float64)
    rows = whole.flatten(1)
    chosen = form.affine_map(rows).slopes.argmax(2).view(30, 2, -1) - torch.tensor([[0], [42]])
    assert torch.equal(chosen, indices.flatten(2))


def test_padding_is_no_piece_even_where_every_entry_is_negative() -> None:
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    chain = ready(nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), pool))
    form, x = max_affine_form(chain, (2, 8, 9)), inputs((2, 8, 9), batch=50)
    codes = form.codes(x.flatten(1))
    assert form.present is not None and form.present.sum(1).min().item() == 4
    assert bool((codes < form.present.sum(1)).all())
    below = -1 - inputs((1, 4, 4)).abs()
    assert torch.equal(check_form(pool, (1, 4, 4))(below.flatten(1)).view(4, 1, 2, 2), pool(below))
    soft = max_affine_form(pool, (1, 4, 4), dtype=torch.float64).soft(below.flatten(1), 0.0)
    mean = F.avg_pool2d(below, 3, stride=2, padding=1, count_include_pad=False)
    torch.testing.assert_close(soft.view(4, 1, 2, 2), mean)


def test_a_soft_max_pooling() -> None:
    x = inputs((1, 4, 4))
    soft = max_affine_form(nn.MaxPool2d(2), (1, 4, 4), dtype=torch.float64).soft(x.flatten(1), 0.5)
    windows = F.unfold(x, 2, stride=2)
    torch.testing.assert_close(soft, (windows.softmax(1) * windows).sum(1))


@pytest.mark.parametrize("part", ["slopes", "offsets", "present"])
def test_the_check_catches_a_broken_form(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, original: Any = max_affine_form, **kwargs: Any) -> MaxAffineSpline:
        form = original(*args, **kwargs)
        with torch.no_grad():
            if part == "present":
                form.present = torch.ones_like(form.offsets, dtype=torch.bool)
                form.present[:, 0] = False
            else:
                getattr(form, part)[0] += 1e-6
        return form

    chain = ready(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)))
    check_form(chain, (1, 6, 6))
    monkeypatch.setitem(check_form.__globals__, "max_affine_form", broken)
    with pytest.raises(AssertionError):
        check_form(chain, (1, 6, 6))


def test_the_layer_is_left_as_it_was_and_the_form_is_a_copy() -> None:
    chain = ready(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True)))
    before, state = copy.deepcopy(chain.state_dict()), torch.get_rng_state()
    form = max_affine_form(chain, (1, 5, 5))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), chain.state_dict().values(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in chain.parameters())
    slopes = form.slopes.detach().clone()
    with torch.no_grad():
        chain[0].weight.zero_()
    assert torch.equal(form.slopes, slopes)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_form_is_the_same_in_every_gradient_mode(context: Callable) -> None:
    linear = nn.Linear(3, 2)
    with context():
        form = max_affine_form(linear, (3,))
    assert torch.equal(form.slopes[:, 0], linear.weight)


def test_dtype_follows_the_parameters() -> None:
    assert max_affine_form(nn.Linear(3, 2).double(), (3,)).slopes.dtype == torch.float64
    assert max_affine_form(nn.ReLU(), (3,)).slopes.dtype == torch.get_default_dtype()
    assert max_affine_form(nn.ReLU(), (3,), dtype=torch.float64).slopes.dtype == torch.float64


def test_parametrized_layers_subclasses_and_hooks() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2).double())
    check_form(layer, (3,))
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2).double())
    with pytest.raises(NotPiecewiseAffine, match=r"call model.eval\(\)"):
        max_affine_form(layer, (3,))
    check_form(layer.eval(), (3,))
    check_form(type("Named", (nn.Linear,), {})(3, 2).double(), (3,))
    check_form(type("Other", (nn.Linear,), {"forward": lambda self, x: x.relu() + 1})(3, 2).double(), (3,))
    hooked = nn.Linear(3, 3).double()
    hooked.register_forward_hook(lambda module, given, found: found.relu() - given[0])
    check_form(hooked, (3,))


class Block(nn.Module):
    """A residual block in one module, its units moved, scaled and shifted after the activation."""

    def __init__(self, mixed: bool = False, turned: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.mixed, self.scale = mixed, -0.5 if turned else 0.5

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x)).relu()
        if self.mixed:
            h = h + h.flip(1)
        return (self.scale * h.transpose(2, 3) + x.transpose(2, 3) - 3).flatten(1).roll(1, 1)


def test_any_module_with_one_convex_operator() -> None:
    assert check_form(ready(Block()), (2, 3, 4)).pieces == 2
    check_form(lambda x: x.unflatten(1, (2, 3)).amax(2), (6,))
    check_form(lambda x: 2 * x.cummax(1).values - x, (5,))
    check_form(ready(nn.Sequential(nn.MaxPool2d(2), nn.Dropout(), nn.BatchNorm2d(2, affine=False))), (2, 4, 4))
    for block in (Block(mixed=True), Block(turned=True)):
        with pytest.raises(NotPiecewiseAffine, match="mixes its units, or turns them around"):
            max_affine_form(ready(block), (2, 3, 4))
    with pytest.raises(NotPiecewiseAffine, match="stack them"):
        max_affine_form(lambda x: torch.maximum(x, 2 * x - 1), (3,))
    with pytest.raises(BadInput, match="2 outputs"):
        max_affine_form(lambda x: (x, x.relu()), (3,))


REFUSED: list[tuple[Layer, tuple[int, ...], str]] = [
    (nn.BatchNorm1d(3), (3,), r"call model.eval\(\)"),
    (nn.BatchNorm1d(3, track_running_stats=False).eval(), (3,), "running statistics"),
    (nn.Dropout(), (3,), "eval"),
    (nn.RReLU(), (3,), "eval"),
    (nn.Tanh(), (3,), "smooth curve"),
    (nn.GELU(), (3,), "smooth curve"),
    (Stacked(nn.RNNCell(2, 1)), (3,), "smooth curve"),
    (nn.ReLU6(), (3,), "not convex.*\n.*capture"),
    (nn.Hardtanh(), (3,), "not convex"),
    (nn.LayerNorm(3), (3,), "statistics of the input"),
    (nn.LeakyReLU(1.5), (3,), "leaky_relu.*not convex"),
    (prelu(0.5, 2.0, 0.1), (3,), "not convex"),
    (nn.FractionalMaxPool2d(2, output_size=2), (1, 4, 4), "random"),
    (torch.tanh, (3,), "smooth curve"),
    (nn.Sequential(nn.Linear(3, 3), nn.Tanh()), (3,), "module '1'"),
    (nn.Sequential(nn.Sequential(nn.Dropout()), nn.ReLU()), (3,), "module '0.0'"),
    (nn.Sequential(nn.ReLU(), nn.Linear(3, 3)), (3,), "relu in module '0'.*mixes its units"),
    (nn.Sequential(nn.ReLU(), nn.Sigmoid()), (3,), "module '1'"),
    (lambda x: (x > 0) * 1.0, (3,), "not convex"),
]


@pytest.mark.parametrize(("layer", "shape", "words"), REFUSED, ids=names)
def test_what_has_no_form_is_refused(layer: Layer, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(NotPiecewiseAffine, match=words) as caught:
        max_affine_form(layer, shape)
    assert caught.value.operator and caught.value.reason and caught.value.cure


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (nn.Linear(5, 3), (4,), r"\(2, 4\)"),
        (nn.Conv2d(3, 2, 3), (5, 5), r"\(2, 5, 5\)"),
        (nn.Conv2d(2, 2, 3), (3, 5, 5), "2 channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), (2, 3), r"\(2, 2, 3\)"),
        (nn.MaxPool2d(9), (1, 4, 4), "too small"),
        (prelu(0.1, 0.2, 0.3), (4, 2), "channel size"),
        (nn.RNNCell(2, 1, nonlinearity="relu"), (4,), "expected 2"),
    ],
    ids=names,
)
def test_wrong_shapes(layer: Layer, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        max_affine_form(layer, shape)


def test_bad_arguments() -> None:
    with pytest.raises(BadInput, match="max_elements: the dense slopes hold 37632 x 784 = 29,503,488"):
        max_affine_form(nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU()), (1, 28, 28), max_elements=10**6)
    for shape in ((0, 3), (-1,)):
        with pytest.raises(BadInput, match="input_shape is"):
            max_affine_form(nn.ReLU(), shape)
    with pytest.raises(BadInput, match="floating-point"):
        max_affine_form(nn.ReLU(), (3,), dtype=torch.int64)
    with pytest.raises(ShapeMismatch, match="float64"):
        max_affine_form(nn.Linear(3, 2), (3,), dtype=torch.float64)
    linear = nn.Linear(3, 2)
    linear.weight.data[0, 0] = torch.nan
    with pytest.raises(BadInput, match="'weight' holds NaN"):
        max_affine_form(linear, (3,))


def test_a_window_of_padding_only_is_refused() -> None:
    pool = nn.MaxPool1d(2, stride=1, padding=1, dilation=2)
    assert pool(torch.ones(1, 1, 1)).item() == -torch.inf
    with pytest.raises(BadInput, match="padding only"):
        max_affine_form(pool, (1, 1))


def test_a_module_that_occurs_twice_counts_twice() -> None:
    linear = nn.Linear(3, 3).double()
    check_form(nn.Sequential(linear, linear, nn.ReLU()), (3,))
    activation = nn.ReLU()
    with pytest.raises(NotPiecewiseAffine, match="module '2'.*composes another spline"):
        max_affine_form(nn.Sequential(nn.Linear(3, 3), activation, activation), (3,))


def test_every_pair_of_affine_layer_and_activation_folds() -> None:
    for affine, activation in itertools.product(
        (nn.Linear(4, 3), nn.Linear(4, 3, bias=False)), (nn.ReLU(), nn.LeakyReLU(-1.0))
    ):
        check_form(ready(nn.Sequential(affine, nn.Dropout(), nn.Identity(), activation)), (4,))
