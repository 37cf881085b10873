"""Functions of one number: pieces, ties on both sides of the kink, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._graph import Elementwise, OperatorRecord, ScalarSpline, Sign, WideSpline
from tests.blocks import only
from tests.zoo.networks import Net

Activation = Callable[[Tensor], Tensor]
# Name: function, the places where the piece changes, convex, continuous.
ACTIVATIONS: dict[str, tuple[Activation, tuple[float, ...], bool, bool]] = {
    "relu": (F.relu, (0.0,), True, True),
    "abs": (torch.abs, (0.0,), True, True),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), (0.0,), True, True),
    "steep_leaky_relu": (lambda x: F.leaky_relu(x, 1.5), (0.0,), False, True),
    "relu6": (F.relu6, (0.0, 6.0), False, True),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.75), (-0.5, 0.75), False, True),
    "clamp_min": (lambda x: x.clamp(min=-0.25), (-0.25,), True, True),
    "clamp_max": (lambda x: x.clamp(max=0.25), (0.25,), False, True),
    "hardsigmoid": (F.hardsigmoid, (-3.0, 3.0), False, True),
    "hardshrink": (lambda x: F.hardshrink(x, 0.5), (-0.5, 0.5), False, False),
    "softshrink": (lambda x: F.softshrink(x, 0.3), (-0.3, 0.3), False, True),
    "threshold": (lambda x: F.threshold(x, 0.25, -1.0), (0.25,), False, False),
    "threshold_that_meets": (lambda x: F.threshold(x, 0.25, 0.25), (0.25,), True, True),
}
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


@cache
def captured() -> ma.SplineNetwork:
    """All activations side by side, one output each."""
    functions = [function for function, *_ in ACTIVATIONS.values()]
    return ma.capture(Net(lambda m, x: [function(x) for function in functions]), torch.zeros(1, 1, dtype=torch.float64))


def lookup(name: str) -> tuple[int, OperatorRecord]:
    place = list(ACTIVATIONS).index(name)
    return place, captured().operators[place]


@every_activation
def test_on_the_kink_the_lowest_piece_wins_unless_the_function_jumps_there(name: str) -> None:
    function, knots, _, _ = ACTIVATIONS[name]
    output, record = lookup(name)
    for place, knot in enumerate(knots):
        x = torch.tensor([[knot - 1e-9], [knot], [knot + 1e-9]], dtype=torch.float64)
        amap = captured().affine_map(x, output=output)
        below, on, above = captured().codes(x)[record.name].unpack().flatten().tolist()
        assert (below, above) == (place, place + 1)
        # hardshrink keeps x only beyond its threshold: at -lambda it is 0 already, which is the upper piece.
        assert on == (above if (name, place) == ("hardshrink", 0) else below)
        assert_close(only(amap.slopes).flatten() * x.flatten() + amap.offsets.flatten(), function(x).flatten())
        # The slope at the tie is that of the piece whose code it has.
        slopes = only(amap.slopes).flatten().tolist()
        assert slopes[1] == (slopes[2] if on == above else slopes[0])


@every_activation
def test_says_what_it_is(name: str) -> None:
    _, knots, convex, continuous = ACTIVATIONS[name]
    _, record = lookup(name)
    assert (record.pieces, record.convex, record.continuous) == (len(knots) + 1, convex, continuous)


@every_activation
def test_every_piece_is_the_function(name: str) -> None:
    function, knots, _, _ = ACTIVATIONS[name]
    x = torch.cat([torch.linspace(-8, 8, 129), torch.tensor(knots)]).double().unsqueeze(1)
    amap = captured().affine_map(x, output=lookup(name)[0])
    assert_close(only(amap.slopes).flatten() * x.flatten() + amap.offsets.flatten(), function(x).flatten())


def test_two_pieces_are_a_bit() -> None:
    spline = ScalarSpline((0.0,), (0.0, 1.0), (0.0, 0.0))
    codes = spline.codes(torch.tensor([-1.0, 0.0, -0.0, 1e-45, 1.0]))
    assert codes.dtype == torch.bool
    assert codes.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("knot", [0.0, 0.1, -1 / 3, 1e-45, 1e300, torch.inf])
def test_codes_are_as_torch_compares(knot: float, dtype: torch.dtype) -> None:
    """Also of the neighbors of the knot as its type rounds it, of strided numbers and of those with a gradient."""
    at = torch.tensor(knot, dtype=dtype)
    near = [torch.nextafter(at, torch.tensor(to, dtype=dtype)) for to in (-torch.inf, torch.inf)]
    rows = torch.stack([*near, at, -at, torch.zeros_like(at), torch.ones_like(at)]).repeat(3, 1).requires_grad_()
    for x in (rows, rows.T, rows[:, ::2], rows[0, 0]):
        for reached in (False, True):
            above = x >= knot if reached else x > knot
            two = ScalarSpline((knot,), (0.0, 1.0), (0.0, 0.0), (reached,))
            three = ScalarSpline((knot, knot), (0.0, 1.0, 2.0), (0.0, 0.0, 0.0), (reached, False))
            assert torch.equal(two.codes(x), above)
            assert torch.equal(three.codes(x), above.to(torch.uint8) + (x > knot))


RECTIFIERS: dict[str, Activation] = {
    "relu": F.relu,
    "clamp": lambda x: x.clamp(min=0),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_the_value_of_a_rectifier_tells_its_code(name: str, dtype: torch.dtype) -> None:
    """Down to the smallest number."""
    net = ma.capture(Net(lambda m, x: RECTIFIERS[name](x)), torch.zeros(1, 8, dtype=dtype))
    (operator,) = (step.operator for step in net.graph.steps)
    smallest = torch.finfo(dtype).smallest_normal
    x = torch.tensor([[-torch.inf, -1.0, -smallest, -0.0, 0.0, smallest, 1.0, torch.inf]], dtype=dtype)
    assert isinstance(operator, Elementwise) and operator.spline.rectifies
    assert torch.equal(operator.codes([x], operator(x)), x > 0)


def test_only_a_relu_rectifies() -> None:
    operators = [step.operator for step in captured().graph.steps]
    found = [isinstance(operator, Elementwise) and operator.spline.rectifies for operator in operators]
    assert found == [name == "relu" for name in ACTIVATIONS]


def test_parametric_slopes_have_a_sign_and_a_shape_of_their_own() -> None:
    def spline(*slopes: float) -> ScalarSpline:
        return ScalarSpline((0.0,), (torch.tensor(slopes), 1.0), (0.0, 0.0))

    assert spline(0.1, 0.9).sign is Sign.NONNEGATIVE and spline(0.1, 0.9).convex
    assert not spline(0.1, 1.1).convex
    assert spline(-0.1, 0.5).sign is Sign.MIXED
    assert ScalarSpline((0.0,), (-2.0, -1.0), (0.0, 0.0)).sign is Sign.NONPOSITIVE


def test_parameters_of_prelu_reach_their_channel() -> None:
    prelu = nn.PReLU(3).double()
    with torch.no_grad():
        prelu.weight.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    net = ma.capture(prelu, torch.zeros(1, 3, 2, dtype=torch.float64))
    slopes = only(net.affine_map(-torch.ones(1, 3, 2, dtype=torch.float64)).slopes).reshape(6, 6).diagonal()
    assert slopes.tolist() == [-1.0, -1.0, 0.5, 0.5, 2.0, 2.0]


numbers = st.floats(-3, 3).map(lambda number: round(number, 2))


@given(st.lists(numbers, min_size=1, max_size=4, unique=True), st.lists(numbers, min_size=5, max_size=5), numbers)
def test_a_continuous_spline_is_recognized(knots: list[float], slopes: list[float], first: float) -> None:
    """Offsets that make neighboring pieces meet; moving one of them apart is noticed."""
    knots, slopes = sorted(knots), slopes[: len(knots) + 1]
    offsets = [first]
    for knot, below, above in zip(knots, slopes, slopes[1:], strict=False):
        offsets.append(offsets[-1] + (below - above) * knot)
    spline = ScalarSpline(tuple(knots), tuple(slopes), tuple(offsets))
    assert spline.continuous
    assert spline.convex == (sorted(slopes) == slopes)
    assert not ScalarSpline(tuple(knots), tuple(slopes), (*offsets[:-1], offsets[-1] + 0.01)).continuous
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    codes = spline.codes(x)
    assert torch.equal(codes.long(), sum((x > knot).long() for knot in knots) + torch.zeros(101, dtype=torch.long))
    scale = spline.scale(codes, x.dtype)
    shift = spline.shift(codes, x.dtype)
    assert_close(scale.to(x.dtype), torch.tensor(slopes, dtype=x.dtype)[codes.long()])
    assert_close(torch.zeros_like(x) if shift is None else shift, torch.tensor(offsets, dtype=x.dtype)[codes.long()])


BOUNDS = (0.1, 0.3, 0.7)  # rounded up in one 16-bit type and down in another


def bounded(m: object, x: Tensor) -> Tensor:
    """Every function with a bound that is no number of a 16-bit type, and comparisons with one."""
    values = []
    for c in BOUNDS:
        values += [F.threshold(x, c, 20.0), F.hardshrink(x, c), F.softshrink(x, c), F.hardtanh(x, -c, c)]
        values += [x.clamp(max=c), F.relu6(x / c), F.leaky_relu(x, c), torch.where(x > c, x, 20.0)]
        values += [torch.where(x <= -c, x, 20.0), torch.where(x == c, x, 20.0)]
    return torch.cat(values, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_at_a_bound_that_the_type_cannot_hold_the_piece_is_the_one_that_the_module_takes(dtype: torch.dtype) -> None:
    ties = torch.tensor(BOUNDS, dtype=dtype)
    x = torch.cat([around for tie in (ties, -ties) for around in (tie, tie.nextafter(2 * tie), tie.nextafter(0 * tie))])
    x = x.unsqueeze(1)
    module = Net(bounded)
    net = ma.capture(module, x)
    # Another piece is off by far more: by the bound, or by a bound less another.
    assert_close(net.affine_map(x)(x), module(x), rtol=0, atol=torch.finfo(dtype).eps)
    assert net.verify(module, x).exact
    softened = {name: codes.unpack() for name, codes in net.codes(x).items() if name.startswith("softshrink")}
    for (name, codes), c in zip(softened.items(), BOUNDS, strict=True):
        value = F.softshrink(x, c)  # its sign says which piece it takes; it is zero at a tie too
        assert torch.equal(codes[value != 0], (value.sign() + 1)[value != 0].to(codes.dtype)), name


def test_a_spline_that_compares_in_16_bits_where_the_operator_does_not_is_found_out() -> None:
    x = torch.tensor([[0.1]], dtype=torch.bfloat16)
    assert WideSpline((0.1,), (0.0, 1.0), (20.0, 0.0)).codes(x).item()
    assert not ScalarSpline((0.1,), (0.0, 1.0), (20.0, 0.0)).codes(x).item()
