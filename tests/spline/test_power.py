"""Power diagrams: every point lies in the cell that its code names."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxaffine._spline import MaxAffineSpline, PowerDiagram
from maxaffine.errors import BadInput, ShapeMismatch

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**16))


def drawn(size: tuple[int, ...]) -> tuple[MaxAffineSpline, Tensor]:
    units, pieces, in_features, batch, seed = size
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(units, pieces, in_features + 1, generator=generator, dtype=torch.float64)
    x = 2 * torch.randn(batch, in_features, generator=generator, dtype=torch.float64)
    return MaxAffineSpline(both[..., :-1], both[..., -1]), x


def nearest(diagram: PowerDiagram, x: Tensor) -> Tensor:
    """The definition, |x - c|^2 - rho."""
    return ((x[:, None] - diagram.centers).square().sum(2) - diagram.squared_radii).argmin(1)


def bearing(diagram: PowerDiagram, cells: Tensor) -> Tensor:
    assert diagram.codes is not None
    return diagram.codes[cells]


@given(sizes)
@settings(max_examples=60)
def test_the_cells_of_a_unit_are_a_power_diagram(size: tuple[int, ...]) -> None:
    spline, x = drawn(size)
    for unit in range(spline.units):
        diagram, codes = spline.power_diagram(unit), spline.codes(x)[:, unit]
        torch.testing.assert_close(diagram.centers, spline.slopes[unit])
        assert torch.equal(nearest(diagram, x), codes) and torch.equal(diagram.locate(x), codes)
        assert torch.equal(bearing(diagram, diagram.locate(x))[:, 0], codes)


@given(sizes)
@settings(max_examples=60)
def test_the_cells_of_a_layer_are_a_power_diagram(size: tuple[int, ...]) -> None:
    spline, x = drawn(size)
    diagram, codes = spline.power_diagram(), spline.codes(x)
    assert len(diagram.centers) == spline.pieces**spline.units
    assert torch.equal(bearing(diagram, nearest(diagram, x)), codes)
    assert torch.equal(bearing(diagram, diagram.locate(x)), codes)
    occupied = spline.power_diagram(codes=codes.unique(dim=0))
    assert torch.equal(bearing(occupied, occupied.locate(x)), codes)


@given(sizes)
@settings(max_examples=20)
def test_centers_and_radii_of_a_layer_are_the_sums_of_its_pieces(size: tuple[int, ...]) -> None:
    spline, x = drawn(size)
    codes = spline.codes(x)
    diagram = spline.requires_grad_(False).power_diagram(codes=codes)
    for cell, code in enumerate(codes.tolist()):
        center = torch.stack([spline.slopes[k, r] for k, r in enumerate(code)]).sum(0)
        radius = sum(float(a) ** 2 for a in center) + 2 * sum(float(spline.offsets[k, r]) for k, r in enumerate(code))
        torch.testing.assert_close(diagram.centers[cell], center)
        assert float(diagram.squared_radii[cell]) == pytest.approx(radius, abs=1e-12)


def test_a_wrong_radius_misplaces_points() -> None:
    spline, x = drawn((1, 4, 2, 200, 6))
    right = spline.power_diagram(0)
    wrong = PowerDiagram(right.centers, right.squared_radii - spline.offsets[0])
    assert torch.equal(PowerDiagram(right.centers, right.squared_radii).locate(x), spline.codes(x)[:, 0])
    assert not torch.equal(wrong.locate(x), spline.codes(x)[:, 0])


def test_large_centers_swallow_no_offset() -> None:
    """|c|^2 + 2 B alone would not do: B is far below the last digit of |c|^2."""
    slopes = torch.tensor([[[1e4, 0.0], [1e4, 0.0], [1e4, 1e-3]]])
    spline = MaxAffineSpline(slopes, torch.tensor([[0.0, 1e-3, 0.0]]))
    x = torch.tensor([[0.0, 0.5], [0.0, 2.0]])
    diagram = spline.power_diagram(0)
    assert diagram.locate(x).tolist() == spline.codes(x).flatten().tolist() == [1, 2]
    assert diagram.squared_radii.unique().numel() == 1
    assert PowerDiagram(diagram.centers, diagram.squared_radii).locate(x).tolist() != [1, 2]


def test_pieces_that_are_not_present_have_no_cell() -> None:
    full, x = drawn((3, 2, 2, 40, 3))
    present = torch.tensor([[True, False, True]] * 3)
    slopes = torch.stack([full.slopes[:, 0], full.slopes[:, 0], full.slopes[:, 1]], dim=1)
    offsets = torch.cat([full.offsets[:, :1], torch.full_like(full.offsets[:, :1], 1e6), full.offsets[:, 1:]], dim=1)
    partial = MaxAffineSpline(slopes, offsets, present=present)
    assert partial.power_diagram(1).squared_radii.isinf().tolist() == [False, True, False]
    assert torch.equal(partial.power_diagram(1).locate(x), partial.codes(x)[:, 1])
    diagram = partial.power_diagram()
    assert bearing(diagram, torch.arange(8)).tolist() == [list(code) for code in itertools.product((0, 2), repeat=3)]
    assert torch.equal(bearing(diagram, diagram.locate(x)), partial.codes(x))
    with pytest.raises(BadInput, match="not present"):
        partial.power_diagram(codes=torch.ones(1, 3, dtype=torch.int64))


SPLINE, POINTS = drawn((3, 4, 2, 5, 0))
CENTERS, RADII = torch.zeros(2, 3), torch.zeros(2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: SPLINE.power_diagram(3), BadInput, "unit: 3 is not one of them"),
        (lambda: SPLINE.power_diagram(-1), BadInput, "unit: -1 is not one of them"),
        (lambda: SPLINE.power_diagram(0, codes=SPLINE.codes(POINTS)), BadInput, "leave one of them out"),
        (lambda: SPLINE.power_diagram(codes=torch.zeros(1, 2).long()), ShapeMismatch, r"\(M, 3\)"),
        (lambda: SPLINE.power_diagram(codes=torch.zeros(1, 3)), ShapeMismatch, "integers"),
        (lambda: SPLINE.power_diagram(codes=torch.full((1, 3), 4)), BadInput, "codes: some are not in 0..3"),
        (lambda: drawn((30, 2, 1, 1, 0))[0].power_diagram(), BadInput, r"1,073,741,824 cells.*give those to look at"),
        (lambda: SPLINE.power_diagram().locate(POINTS[:, :1]), ShapeMismatch, r"\(N, 2\)"),
        (lambda: PowerDiagram(CENTERS, torch.zeros(3)), ShapeMismatch, r"\(M, D\)"),
        (lambda: PowerDiagram(CENTERS, RADII, offsets=torch.zeros(3)), ShapeMismatch, r"\(M, D\)"),
        (lambda: PowerDiagram(CENTERS, RADII.double()), ShapeMismatch, "one dtype"),
        (lambda: PowerDiagram(CENTERS / 0, RADII), BadInput, "centers: it holds NaN"),
        (lambda: PowerDiagram(CENTERS, RADII / 0), BadInput, "squared_radii"),
        (lambda: PowerDiagram(CENTERS, RADII - torch.inf), BadInput, "one number at least"),
    ],
)
def test_bad_arguments_are_refused(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
