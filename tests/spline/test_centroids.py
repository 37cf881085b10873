"""The codes of a spline made of centroids are the K-means assignment: scikit-learn's, and that of exact arithmetic."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from maxaffine._spline import MaxAffineSpline
from maxaffine.errors import BadInput, ShapeMismatch


def exact_assignment(x: Tensor, codebook: Tensor) -> list[int]:
    """The nearest centroid in rational arithmetic; the lowest wins a tie."""
    rows = [[Fraction(value) for value in row] for row in codebook.tolist()]
    assigned = []
    for point in x.tolist():
        distances = [sum((Fraction(v) - c) ** 2 for v, c in zip(point, row, strict=True)) for row in rows]
        assigned.append(distances.index(min(distances)))
    return assigned


def predicted(x: Tensor, codebook: Tensor) -> list[int]:
    """scikit-learn's assignment to given centroids."""
    model = KMeans(len(codebook), random_state=0).fit(codebook.numpy())
    model.cluster_centers_ = np.ascontiguousarray(codebook.numpy())
    return np.asarray(model.predict(x.numpy())).tolist()


def gaussian(rows: int, in_features: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, in_features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k_codebooks_are_k_assignments_of_scikit_learn(dtype: torch.dtype) -> None:
    data, fresh = gaussian(300, 5, 4, dtype), gaussian(500, 5, 5, dtype)
    models = [KMeans(7, random_state=seed).fit(data.numpy()) for seed in range(3)]
    codebooks = torch.stack([torch.from_numpy(model.cluster_centers_) for model in models])
    spline = MaxAffineSpline.from_centroids(codebooks)
    expected = torch.stack([torch.from_numpy(model.predict(fresh.numpy())).long() for model in models], dim=1)
    assert torch.equal(spline.codes(fresh), expected)
    assert torch.equal(MaxAffineSpline.from_centroids(codebooks[0]).codes(fresh), expected[:, :1])
    # What is decoded is the chosen centroid, and the value tells how far away it is.
    decoded = spline.affine_map(fresh).slopes
    for k, model in enumerate(models):
        torch.testing.assert_close(decoded[:, k], torch.from_numpy(model.cluster_centers_)[expected[:, k]])
    distortion = fresh.square().sum(1, keepdim=True) - 2 * spline(fresh)
    torch.testing.assert_close(distortion, (fresh[:, None] - decoded).square().sum(2), rtol=1e-5, atol=1e-5)


whole = st.integers(-3, 3)


@given(st.data(), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=60)
def test_ties_go_to_the_lowest_centroid_as_in_scikit_learn(data: st.DataObject, dtype: torch.dtype) -> None:
    """Small whole numbers and halves: they tie often, and nothing is rounded."""
    width = data.draw(st.integers(1, 3))
    row = st.lists(whole, min_size=width, max_size=width)
    centroids = data.draw(st.lists(row, min_size=1, max_size=7, unique_by=tuple))
    points = data.draw(st.lists(row, min_size=1, max_size=20))
    codebook, x = torch.tensor(centroids, dtype=dtype), torch.tensor(points, dtype=dtype) / 2
    spline = MaxAffineSpline.from_centroids(codebook)
    assert spline.codes(x).flatten().tolist() == exact_assignment(x, codebook) == predicted(x, codebook)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 9))
@settings(max_examples=40)
def test_where_a_code_is_certain_it_is_that_of_exact_arithmetic(
    seed: int, width: int, dtype: torch.dtype, power: int
) -> None:
    """Far from the origin, where rounding bites: an open code may be wrong, a certain one never."""
    offset = 10.0**power
    codebook = (gaussian(6, width, seed) + offset).to(dtype)
    x = (gaussian(30, width, seed + 1) + offset).to(dtype)
    try:
        spline = MaxAffineSpline.from_centroids(codebook)
    except BadInput as error:
        named = re.search(r"cannot tell centroids (\d+) and (\d+) of unit 0 apart", str(error))
        assert named is not None
        mine, other = ([Fraction(value) for value in codebook[int(number)].tolist()] for number in named.groups())
        gap = sum((a - b) ** 2 for a, b in zip(mine, other, strict=True))
        size = 2 * sum(a * a for a in mine) + sum(b * b for b in other)
        assert gap <= 2 * (width + 10) * Fraction(torch.finfo(dtype).eps) / 2 * size
        return
    exact = torch.tensor(exact_assignment(x, codebook))
    right = spline.codes(x)[:, 0] == exact
    assert bool(right[spline.certain(x)[:, 0]].all())
    if power == 0:
        assert spline.certain(x).float().mean() > 0.8


def test_rounding_does_bite_and_certain_says_where() -> None:
    """In single precision, 128 from the origin, some codes are wrong (scikit-learn's too); doubles mend them."""
    codebook, x = gaussian(8, 6, 0, torch.float32) + 128, gaussian(4000, 6, 1, torch.float32) + 128
    exact = torch.tensor(exact_assignment(x, codebook))
    spline = MaxAffineSpline.from_centroids(codebook)
    wrong = spline.codes(x)[:, 0] != exact
    assert 0 < int(wrong.sum()) < 200 and not bool((wrong & spline.certain(x)[:, 0]).any())
    assert predicted(x, codebook) != exact.tolist()
    double = MaxAffineSpline.from_centroids(codebook.double())
    assert torch.equal(double.codes(x.double())[:, 0], exact) and bool(double.certain(x.double()).all())
    mean = codebook.mean(0)
    centered = MaxAffineSpline.from_centroids(codebook - mean)
    assert int((centered.codes(x - mean)[:, 0] != exact).sum()) < int(wrong.sum()) / 10


def test_a_proof_that_is_too_bold_is_caught() -> None:
    codebook, x = gaussian(8, 6, 0, torch.float32) + 128, gaussian(4000, 6, 1, torch.float32) + 128
    spline = MaxAffineSpline.from_centroids(codebook)
    wrong = spline.codes(x)[:, 0] != torch.tensor(exact_assignment(x, codebook))
    bold = spline._scores(x).topk(2, dim=2).values.diff(dim=2).flatten() != 0
    assert bool((wrong & bold).any()), "any difference of scores at all is no proof"


def scores_in(order: Tensor, codebook: Tensor) -> Tensor:
    """Every centroid's score at every centroid, its products and its offset rounded and added up in this order."""
    offsets = (-codebook.double().square().sum(1) / 2).to(codebook.dtype)
    products = codebook[:, None] * codebook
    terms = torch.cat([products, offsets[None, :, None].expand(len(codebook), -1, 1)], dim=2)
    total = torch.zeros_like(terms[..., 0])
    for place in order.tolist():
        total = total + terms[..., place]
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 3, 8, 40])
@pytest.mark.parametrize("origin", [0.0, 10.0, 1000.0])
def test_centroids_win_at_themselves_in_every_order_of_summation(dtype: torch.dtype, width: int, origin: float) -> None:
    """The nearest pair that is accepted does, and a twentieth of its distance is too near: the bound is no excuse."""

    def pair(distance: float) -> Tensor:
        return torch.stack([start, start + distance * along]).to(dtype)

    def accepted(distance: float) -> bool:
        try:
            MaxAffineSpline.from_centroids(pair(distance))
        except BadInput:
            return False
        return True

    def lost(distance: float) -> bool:
        orders = [torch.arange(width + 1), torch.arange(width, -1, -1), *(torch.randperm(width + 1) for _ in range(20))]
        winners = [scores_in(order, pair(distance)).argmax(1).tolist() for order in orders]
        return any(found != [0, 1] for found in winners)

    start, along = gaussian(2, width, width)
    start = start + origin
    along /= along.norm()
    farthest = 1e-2 * (1 + origin) * (1 if dtype == torch.float32 else 1e-4) * width
    distances = [farthest / 1.25**power for power in range(40)]
    nearest = min(distance for distance in distances if accepted(distance))
    assert distances[-1] < nearest < distances[0] and not lost(nearest)
    assert any(lost(nearest / 20 * 1.25**power) for power in range(13))


def test_one_product_is_no_proof() -> None:
    """1e5 and 1e5 + 1 are told apart by a processor that rounds a x + b once, and not by one that rounds a x first."""
    codebook = torch.tensor([[1e5], [1e5 + 1]])
    offsets = (-codebook.double().square().sum(1) / 2).float()
    once = (codebook.double() @ codebook.double().T + offsets.double()).float()
    twice = scores_in(torch.tensor([0, 1]), codebook)
    assert once.argmax(1).tolist() == [0, 1] and twice.argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_centroids_count_as_the_first(dtype: torch.dtype) -> None:
    """Equal rows need not get equal products: where a row lies in the matrix decides how its sum is rounded."""
    codebook = gaussian(3, 17, 0, dtype)[[0, 1, 0, 1, 2, 2, 0]]
    spline = MaxAffineSpline.from_centroids(torch.stack([codebook, codebook.flip(0)]))
    codes = spline.codes(gaussian(500, 17, 1, dtype))
    assert codes[:, 0].unique().tolist() == [0, 1, 4] and codes[:, 1].unique().tolist() == [0, 1, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nothing_is_certain_in_sums_too_long_for_the_dtype(dtype: torch.dtype) -> None:
    spline = MaxAffineSpline.from_centroids(torch.stack([torch.zeros(900), torch.ones(900)]).to(dtype))
    assert spline.codes(torch.ones(1, 900, dtype=dtype)).item() == 1
    assert not bool(spline.certain(torch.ones(1, 900, dtype=dtype)).any())


def test_large_codebooks_are_checked_in_parts() -> None:
    codebook = torch.arange(2500.0, dtype=torch.float64)[:, None]
    spline = MaxAffineSpline.from_centroids(codebook)
    x = torch.rand(100, 1, dtype=torch.float64) * 2500
    assert spline.codes(x).flatten().tolist() == (x - codebook.T).abs().argmin(1).tolist()


@pytest.mark.parametrize(
    ("centroids", "error", "words"),
    [
        (torch.zeros(3), ShapeMismatch, "centroids: shape"),
        (torch.zeros(2, 3).int(), BadInput, "centroids: empty, or not floating point"),
        (torch.zeros(0, 3), BadInput, "at least one centroid"),
        (torch.zeros(2, 0), BadInput, "at least one centroid of one feature"),
        (torch.zeros(2, 3) / 0, BadInput, "centroids: it holds NaN"),
        (torch.full((1, 3), 1e20), BadInput, "squares overflow torch.float32"),
        (torch.tensor([[1e5], [1e5 + 1]]), BadInput, r"cannot tell centroids 0 and 1 of unit 0 apart.*\.double"),
        (
            torch.tensor([[1e8], [1e8 + 1]], dtype=torch.float64),
            BadInput,
            "cannot tell centroids 0 and 1 .* centroids and inputs$",
        ),
        (torch.tensor([[[0.0], [1.0], [2.0]], [[8.0], [90.0], [90.5]]]).bfloat16(), BadInput, "1 and 2 of unit 1 "),
        (torch.tensor([[0.0, 1.0], [99.0, 98.0], [99.0, 98.125]]).half(), BadInput, "1 and 2 of unit 0 "),
        (torch.tensor([[1e-30], [2e-30]]), BadInput, "0 and 1 of unit 0 "),
    ],
)
def test_bad_centroids_are_refused(centroids: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        MaxAffineSpline.from_centroids(centroids)
