"""MaxAffineSpline against slow re-derivations in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from maxaffine._spline import LocalMap, MaxAffineSpline
from maxaffine._spline.checks import check_dense
from maxaffine.errors import BadInput, ShapeMismatch

RELU = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)


def random_spline(units: int, pieces: int, in_features: int, seed: int, *, whole: bool = False) -> MaxAffineSpline:
    """Normal slopes and offsets, or small whole numbers, which tie often and without rounding."""
    generator = torch.Generator().manual_seed(seed)
    shape = (units, pieces, in_features + 1)
    if whole:
        both = torch.randint(-1, 2, shape, generator=generator).double()
    else:
        both = torch.randn(shape, generator=generator, dtype=torch.float64)
    return MaxAffineSpline(both[..., :-1], both[..., -1])


def random_inputs(batch: int, in_features: int, seed: int, *, whole: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(batch, in_features, generator=generator, dtype=torch.float64)
    return x.round() if whole else x


def oracle(spline: MaxAffineSpline, x: Tensor) -> tuple[Tensor, Tensor]:
    """Value and code by loops over inputs, units and pieces; the lowest piece wins a tie."""
    values, codes = (
        torch.empty(len(x), spline.units, dtype=x.dtype),
        torch.empty(len(x), spline.units, dtype=torch.int64),
    )
    for n, k in itertools.product(range(len(x)), range(spline.units)):
        scores = [
            float(sum(a * v for a, v in zip(slope, x[n].tolist(), strict=True))) + float(offset)
            for slope, offset in zip(spline.slopes[k].tolist(), spline.offsets[k].tolist(), strict=True)
        ]
        values[n, k], codes[n, k] = max(scores), scores.index(max(scores))
    return values, codes


def check(spline: MaxAffineSpline, x: Tensor) -> None:
    values, codes = oracle(spline, x)
    torch.testing.assert_close(spline(x), values, rtol=1e-12, atol=1e-12)
    assert torch.equal(spline.codes(x), codes)
    local = spline.affine_map(x)
    torch.testing.assert_close(
        torch.einsum("nkd,nd->nk", local.slopes, x) + local.offsets, values, rtol=1e-12, atol=1e-12
    )


sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**16))


@given(sizes, st.booleans())
@settings(max_examples=60, deadline=None)
def test_value_codes_and_map_equal_the_definition(size: tuple[int, ...], whole: bool) -> None:
    units, pieces, in_features, batch, seed = size
    spline = random_spline(units, pieces, in_features, seed, whole=whole)
    check(spline, random_inputs(batch, in_features, seed, whole=whole))


def test_the_check_catches_a_spline_whose_highest_piece_wins_a_tie() -> None:
    class HighestWins(MaxAffineSpline):
        def codes(self, x: Tensor) -> Tensor:
            return self.pieces - 1 - self._scores(x).flip(2).max(dim=2).indices

    broken = HighestWins(*RELU)
    check(broken, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    with pytest.raises(AssertionError):
        check(broken, torch.tensor([[0.0]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_piece_wins_a_tie_on_both_sides_of_a_kink(dtype: torch.dtype) -> None:
    relu = MaxAffineSpline(*RELU).to(dtype)
    step = torch.finfo(dtype).tiny
    assert relu.codes(torch.tensor([[-step], [0.0], [-0.0], [step]], dtype=dtype)).flatten().tolist() == [0, 0, 0, 1]
    for pieces in range(1, 70):
        slopes = torch.full((3, pieces, 1), -1.0, dtype=dtype)
        slopes[:, pieces // 2 :] = 1.0
        flat = MaxAffineSpline(slopes, torch.zeros(3, pieces, dtype=dtype))
        assert flat.codes(torch.tensor([[0.0], [2.0]], dtype=dtype)).unique(dim=1).tolist() == [[0], [pieces // 2]]


@given(sizes)
@settings(max_examples=30, deadline=None)
def test_equal_codes_imply_equal_maps_and_the_vq_matrix_selects_them(size: tuple[int, ...]) -> None:
    units, pieces, in_features, _, seed = size
    spline, x = random_spline(units, pieces, in_features, seed), random_inputs(20, in_features, seed)
    codes, local, chosen = spline.codes(x), spline.affine_map(x), spline.vq_matrix(x)
    for a, b in itertools.combinations(range(len(x)), 2):
        if torch.equal(codes[a], codes[b]):
            assert torch.equal(local.slopes[a], local.slopes[b])
            assert torch.equal(local.offsets[a], local.offsets[b])
    assert torch.equal(chosen.sum(2), torch.ones(20, units, dtype=torch.float64))
    assert torch.equal(chosen.argmax(2), codes)
    assert torch.equal(torch.einsum("nkr,krd->nkd", chosen, spline.slopes), local.slopes)


@given(sizes, st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_every_unit_is_convex(size: tuple[int, ...], weight: float) -> None:
    units, pieces, in_features, batch, seed = size
    spline = random_spline(units, pieces, in_features, seed)
    a, b = random_inputs(batch, in_features, seed), 3 * random_inputs(batch, in_features, seed + 7)
    chord = weight * spline(a) + (1 - weight) * spline(b)
    assert bool((spline(weight * a + (1 - weight) * b) <= chord + 1e-12).all())


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 1.0])
def test_gradients_reach_input_slopes_and_offsets(beta: float) -> None:
    spline, x = random_spline(3, 4, 2, seed=0), random_inputs(5, 2, seed=0)
    scores = spline._scores(x).detach().topk(2, dim=2).values
    assert float((scores[..., 0] - scores[..., 1]).min()) > 1e-3, "an input too near to a kink for finite differences"

    class Soft(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spline = spline

        def forward(self, x: Tensor) -> Tensor:
            return self.spline.soft(x, beta)

    def value(slopes: Tensor, offsets: Tensor, x: Tensor) -> Tensor:
        return functional_call(Soft(), {"spline.slopes": slopes, "spline.offsets": offsets}, (x,))

    inputs = [t.detach().clone().requires_grad_() for t in (spline.slopes, spline.offsets, x)]
    assert torch.autograd.gradcheck(value, inputs)


def test_only_the_winning_piece_learns() -> None:
    spline, x = random_spline(3, 4, 2, seed=1), random_inputs(1, 2, seed=1)
    spline(x).sum().backward()
    won = spline.vq_matrix(x)[0]
    assert spline.slopes.grad is not None and torch.equal(spline.slopes.grad, won[..., None] * x)
    assert spline.offsets.grad is not None and torch.equal(spline.offsets.grad, won)


def test_a_spline_learns_a_convex_function() -> None:
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    spline = MaxAffineSpline(torch.randn(1, 8, 1, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.float64))
    optimizer = torch.optim.Adam(spline.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        (spline(x) - x.square()).square().mean().backward()
        optimizer.step()
    assert (spline(x) - x.square()).square().mean().item() < 1e-3


def test_soft_inference_of_the_relu_is_silu() -> None:
    x = torch.linspace(-9, 9, 41, dtype=torch.float64)[:, None]
    soft = MaxAffineSpline(*RELU).soft(x, 0.5)
    torch.testing.assert_close(soft, torch.nn.functional.silu(x), rtol=1e-14, atol=1e-15)


@given(sizes, st.floats(0, 0.999))
@settings(max_examples=30, deadline=None)
def test_soft_inference_equals_its_formula(size: tuple[int, ...], beta: float) -> None:
    units, pieces, in_features, batch, seed = size
    spline, x = random_spline(units, pieces, in_features, seed), random_inputs(batch, in_features, seed)
    scores = torch.einsum("krd,nd->nkr", spline.slopes, x) + spline.offsets
    weights = torch.softmax(beta / (1 - beta) * scores, dim=2)
    torch.testing.assert_close(spline.soft(x, beta), (weights * scores).sum(2), rtol=1e-9, atol=1e-9)
    assert torch.equal(spline.soft(x, 1.0), spline(x))
    torch.testing.assert_close(spline.soft(x, 0.0), scores.mean(2), rtol=1e-12, atol=1e-12)


def test_soft_inference_does_not_overflow_near_hard_inference() -> None:
    spline = random_spline(3, 4, 2, seed=2).float()
    x = 1e30 * random_inputs(5, 2, seed=2).float()
    torch.testing.assert_close(spline.soft(x, 1 - 1e-16), spline(x))


def test_pieces_that_are_not_present_never_count() -> None:
    full, x = random_spline(3, 2, 2, seed=3), random_inputs(9, 2, seed=3)
    far = torch.full((3, 1), 1e6, dtype=torch.float64)
    present = torch.tensor([[True, False, True]] * 3)
    slopes = torch.stack([full.slopes[:, 0], full.slopes[:, 0], full.slopes[:, 1]], dim=1)
    offsets = torch.cat([full.offsets[:, :1], far, full.offsets[:, 1:]], dim=1)
    partial = MaxAffineSpline(slopes, offsets, present=present)
    assert torch.equal(partial(x), full(x))
    assert torch.equal(partial.codes(x), 2 * full.codes(x))
    for beta in (0.0, 0.5, 1.0):
        torch.testing.assert_close(partial.soft(x, beta), full.soft(x, beta))
    partial.soft(x, 0.5).sum().backward()
    assert partial.offsets.grad is not None and bool((partial.offsets.grad[:, 1] == 0).all())
    assert torch.equal(partial.certain(x), full.certain(x))


def test_results_have_their_documented_shapes() -> None:
    spline, x = random_spline(units=3, pieces=4, in_features=2, seed=0), random_inputs(5, 2, seed=0)
    local = spline.affine_map(x)
    assert isinstance(local, LocalMap)
    rows = [spline(x), spline.soft(x, 0.5), local.offsets, spline.codes(x), spline.certain(x)]
    assert [tuple(row.shape) for row in rows] == [(5, 3)] * 5
    assert [row.dtype for row in rows] == [torch.float64] * 3 + [torch.int64, torch.bool]
    assert spline.vq_matrix(x).shape == (5, 3, 4) and local.slopes.shape == (5, 3, 2)
    assert (spline.units, spline.pieces, spline.in_features, spline.output_shape) == (3, 4, 2, (3,))
    assert repr(spline) == "MaxAffineSpline(units=3, pieces=4, in_features=2)"


def test_the_state_survives_saving_and_other_dtypes() -> None:
    spline, x = random_spline(3, 4, 2, seed=0), random_inputs(5, 2, seed=0)
    other = random_spline(3, 4, 2, seed=9)
    other.load_state_dict(spline.state_dict())
    assert torch.equal(other(x), spline(x))
    assert spline.float()(x.float()).dtype == torch.float32


def test_the_arguments_are_copied() -> None:
    slopes, offsets = torch.ones(1, 1, 1), torch.zeros(1, 1)
    spline = MaxAffineSpline(slopes, offsets)
    slopes.fill_(5.0)
    assert spline(torch.ones(1, 1)).item() == 1.0


SPLINE = random_spline(3, 4, 2, seed=0)
GOOD = torch.zeros(5, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(5, 3, dtype=torch.float64), ShapeMismatch, r"x: shape \(5, 3\), but \(N, 2\)"),
        (torch.zeros(2, dtype=torch.float64), ShapeMismatch, "flatten each input"),
        (torch.zeros(5, 2), ShapeMismatch, "float32 .*float64"),
        (torch.zeros(0, 2, dtype=torch.float64), BadInput, "x: the batch is empty"),
        (GOOD / 0, BadInput, "NaN"),
        (GOOD + torch.inf, BadInput, "infinite"),
        (GOOD.to_sparse(), BadInput, "x: a torch.sparse_coo tensor on cpu; give a dense one"),
        (GOOD.to("meta"), BadInput, "x: a torch.strided tensor on meta; give a dense one, on a real device"),
    ],
)
def test_bad_inputs_are_refused(x: Tensor, error: type[Exception], words: str) -> None:
    for call in (SPLINE, SPLINE.codes, SPLINE.affine_map, SPLINE.vq_matrix, SPLINE.certain):
        with pytest.raises(error, match=words):
            call(x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: MaxAffineSpline(torch.zeros(3, 4), torch.zeros(3, 4)), ShapeMismatch, "slopes"),
        (lambda: MaxAffineSpline(torch.zeros(3, 4, 2), torch.zeros(3, 5)), ShapeMismatch, "offsets"),
        (lambda: MaxAffineSpline(torch.zeros(3, 4, 2), torch.zeros(3, 4).double()), ShapeMismatch, "dtype"),
        (lambda: MaxAffineSpline(torch.zeros(3, 4, 2).int(), torch.zeros(3, 4).int()), BadInput, "floating point"),
        (lambda: MaxAffineSpline(torch.zeros(3, 0, 2), torch.zeros(3, 0)), BadInput, "at least one"),
        (
            lambda: MaxAffineSpline(torch.full((1, 1, 1), torch.nan), torch.zeros(1, 1)),
            BadInput,
            "slopes: it holds",
        ),
        (lambda: MaxAffineSpline(torch.zeros(1, 1, 1), torch.full((1, 1), torch.inf)), BadInput, "offsets: it holds"),
        (lambda: MaxAffineSpline(torch.zeros(4, 1, 1), torch.zeros(4, 1), output_shape=(3, 2)), ShapeMismatch, "K = 4"),
        (lambda: MaxAffineSpline(*RELU, present=torch.ones(1, 3)), ShapeMismatch, "present"),
        (lambda: MaxAffineSpline(*RELU, present=torch.zeros(1, 2).bool()), BadInput, "without any piece"),
        (lambda: MaxAffineSpline(RELU[0].to_sparse(), RELU[1]), BadInput, "slopes: a torch.sparse_coo tensor"),
        (lambda: MaxAffineSpline(RELU[0].to("meta"), RELU[1].to("meta")), BadInput, "slopes: .* on meta; give"),
        (lambda: MaxAffineSpline.from_centroids(torch.zeros(3, 2, device="meta")), BadInput, "centroids: .* on meta"),
        (lambda: check_dense("offsets", np.zeros((3, 2))), BadInput, "offsets: .* got ndarray; use torch.as_tensor"),
        (lambda: SPLINE.soft(GOOD, 1.5), BadInput, "beta: 1.5 is not"),
        (lambda: SPLINE.soft(GOOD, float("nan")), BadInput, "beta: nan is not"),
    ],
)
def test_bad_arguments_are_refused(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
