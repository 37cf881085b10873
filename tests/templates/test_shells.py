"""The split by shells, against loops over all entries, rotations, and the untouched module."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._templates import Templates
from tests.zoo.networks import Net


def model_of(shape: tuple[int, ...], outputs: int = 2) -> nn.Sequential:
    """A network of one convolution of its own for inputs of a shape with channels."""
    kind = {3: nn.Conv2d, 4: nn.Conv3d}[len(shape)]
    torch.manual_seed(0)
    layers = [kind(shape[0], 3, 3, padding=1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(3 * int(np.prod(shape[1:])), outputs)).double().eval()


def found_on(shape: tuple[int, ...], count: int = 3) -> tuple[nn.Module, Tensor, Templates]:
    x = torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = model_of(shape)
    return model, x, ma.capture(model, x).templates(x)


def by_hand(slopes: Tensor, center: tuple[Fraction, ...]) -> Tensor:
    """A (C, *space) with every entry replaced by the mean over the entries at its exact distance, one by one."""
    space = slopes.shape[-len(center) :]
    places = list(product(*map(range, space)))
    away = {place: sum((p - c) ** 2 for p, c in zip(place, center, strict=True)) for place in places}
    result = torch.empty_like(slopes)
    for channel, place in product(range(len(slopes)), places):
        same = [slopes[(channel, *other)] for other in places if away[other] == away[place]]
        result[(channel, *place)] = torch.stack(same).mean()
    return result


@pytest.mark.parametrize(
    ("shape", "center"),
    [
        ((2, 5, 6), None),
        ((1, 4, 4), (0, 3)),
        ((3, 5, 5), (1.5, 2)),
        ((2, 4, 5, 3), None),
        ((1, 4, 4, 4), (0.5, 3, 1)),
        ((1, 1, 1, 4), None),
    ],
)
def test_split_by_hand(shape: tuple[int, ...], center: tuple[float, ...] | None) -> None:
    model, x, found = found_on(shape)
    shells = found.by_shells(center)
    middle = tuple(Fraction(n - 1, 2) for n in shape[1:]) if center is None else tuple(map(Fraction, center))
    assert shells.center == tuple(map(float, middle))
    for sample, unit in product(range(len(x)), range(2)):
        slopes = torch.as_tensor(found.slopes)[sample, unit]
        isotropic = by_hand(slopes, middle)
        assert_close(shells.spherical(sample, unit), isotropic)
        assert_close(shells.isotropic[sample, unit], (isotropic * x[sample]).sum())
        assert_close(shells.rest[sample, unit], ((slopes - isotropic) * x[sample]).sum())
        squares = torch.stack([isotropic.square().sum(), (slopes - isotropic).square().sum()])
        assert_close(shells.squares[sample, unit], squares)
        assert_close(squares.sum(), slopes.square().sum())  # the two are orthogonal
    total = shells.isotropic + shells.rest + shells.offsets
    assert_close(total, model(x).detach(), rtol=1e-12, atol=1e-12)
    assert_close(shells.share, shells.isotropic / (total - shells.offsets))
    assert bool(((shells.norm_share >= 0) & (shells.norm_share <= 1)).all())
    assert_close(shells.contributions.sum(), shells.offsets)


def test_radii_are_exact_and_cover_every_entry() -> None:
    shells = found_on((1, 6, 6, 6))[2].by_shells()
    # Of an even number of entries no one is the middle; the nearest eight are half the diagonal of a cube away.
    assert shells.radii[0] == 3**0.5 / 2 and shells.counts[0] == 8
    assert bool((shells.radii.diff() > 0).all()) and int(shells.counts.sum()) == 216
    assert shells.shells.flatten().bincount().tolist() == shells.counts.tolist()
    assert repr(shells) == "Shells: 9 about (2.5, 2.5, 2.5), of 2 units at 3 inputs"


def test_a_quarter_turn_leaves_the_isotropic_part() -> None:
    """<A_iso, x> about the middle is the same for a turned input, <A_rest, x> is not."""
    _, x, found = found_on((2, 5, 5, 5))
    shells = found.by_shells()
    slopes, isotropic = torch.as_tensor(found.slopes)[0, 1], shells.spherical(0, 1)
    for axes in ((1, 2), (1, 3), (2, 3)):
        turned = x[0].rot90(1, axes)
        assert_close((isotropic * turned).sum(), shells.isotropic[0, 1], rtol=1e-12, atol=1e-12)
        assert abs(float(((slopes - isotropic) * turned).sum() - shells.rest[0, 1])) > 1e-3


def test_variance_share_by_hand() -> None:
    _, x, found = found_on((2, 5, 5), count=7)
    shells = found.by_shells()
    share = shells.variance_share(1)
    for sample in range(7):
        isotropic = by_hand(torch.as_tensor(found.slopes)[sample, 1], (Fraction(2), Fraction(2)))
        rest = torch.as_tensor(found.slopes)[sample, 1] - isotropic
        parts = [torch.stack([(part * other).sum() for other in x]).var() for part in (isotropic, rest)]
        assert_close(share[sample], parts[0] / (parts[0] + parts[1]))
    with pytest.raises(ma.BadInput, match="x: a variance is over several inputs"):
        found_on((2, 5, 5), count=1)[2].by_shells().variance_share()


def test_an_isotropic_network_has_no_rest() -> None:
    steps = torch.arange(-3, 4, dtype=torch.float64)
    radii = (steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2).sqrt()
    linear = nn.Linear(343, 2).double()
    with torch.no_grad():
        linear.weight.copy_(torch.stack([(-radii).exp().flatten(), radii.cos().flatten()]))
    model = nn.Sequential(nn.Flatten(), linear, nn.ReLU(), nn.Linear(2, 1).double()).eval()
    x = torch.randn(4, 1, 7, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = ma.capture(model, x)
    shells = net.templates(x).by_shells()
    assert float(shells.rest.abs().max()) < 1e-12 and float(shells.variance_share().min()) > 1 - 1e-12
    # About another center it is not isotropic: the shells are really looked at.
    assert float(net.templates(x).by_shells((3, 3, 2)).rest.abs().max()) > 1e-2


def test_blocks_of_rows_and_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 1, 4, 4, 4)
    model = model_of((1, 4, 4, 4), outputs=3).float()
    whole = ma.capture(model, x).templates(x).by_shells()
    monkeypatch.setattr("maxaffine._templates.result.HELD_BYTES", 0)
    parts = ma.capture(model, x).templates(x).by_shells()
    assert_close(parts.profile, whole.profile)
    assert whole.profile.dtype == torch.float64 and whole.profile.shape == (2, 3, 1, len(whole.radii))
    assert_close(whole.isotropic + whole.rest + whole.offsets, model(x).double().detach(), rtol=1e-5, atol=1e-5)


def test_gates_held_and_no_channel() -> None:
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    model = Net(lambda m, x: m.b(m.a(x.unsqueeze(1)).flatten(1)), a=nn.Conv3d(1, 2, 3), b=nn.Linear(72, 1)).double()
    whole = ma.capture(model, x).templates(x).by_shells((2.5, 2, 2))
    assert whole.shells.shape == (6, 5, 5) and whole.profile.shape[2] == 1
    assert whole.spherical().shape == (6, 5, 5)
    assert ma.capture(model, x).templates(x).by_shells((2, 2)).profile.shape[2] == 6
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.GELU(), nn.Linear(4, 1)).double()
    flat = ma.capture(smooth, x[:, 0], smooth="frozen").templates(x[:, 0]).by_shells()
    assert_close(flat.isotropic + flat.rest + flat.offsets, smooth(x[:, 0]).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "center", "message"),
    [
        ((1, 4, 5, 6), (1, 2), r"center: \(1, 2\) has 2 numbers for the 3 axes 4 x 5 x 6"),
        ((1, 4, 5, 6), (1, 2, 6), r"center: \(1, 2, 6\) lies outside 4 x 5 x 6 entries"),
        ((1, 4, 5, 6), (-0.5, 2, 2), "lies outside"),
        ((1, 4, 5, 6), (float("nan"), 2, 2), "lies outside"),
        ((1, 4, 5, 6), (0.3, 2, 2), "is not in whole or half entries"),
        ((2, 4, 4), (1, 1, 1), "has 3 numbers for the 2 axes 4 x 4"),
        ((6, 4, 4), None, r"center: inputs of shape \(6, 4, 4\) are volumes .* or pictures of 6"),
        ((6, 4, 4), (1,), "center= with three numbers"),
    ],
)
def test_centers_that_are_none(shape: tuple[int, ...], center: tuple | None, message: str) -> None:
    with pytest.raises(ma.BadInput, match=message):
        found_on(shape)[2].by_shells(center)


@pytest.mark.parametrize("shape", [(8,), (2, 40), (1, 2, 2, 2, 2)])
def test_inputs_without_shells(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, *shape)
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 1))
    with pytest.raises(ma.BadInput, match="have no shells; by_shells is of pictures"):
        ma.capture(model, x).templates(x).by_shells()


def test_of_several_inputs_one() -> None:
    model = Net(lambda m, x, y: m.a(x.flatten(1)) + m.a(y.flatten(1)), a=nn.Linear(16, 2)).double()
    x, y = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    found = ma.capture(model, (x, y)).templates((x, y))
    parts = [found.by_shells(input=place) for place in (0, 1)]
    assert_close(sum(part.parts.sum(2) for part in parts) + found.offsets, found.values)
    with pytest.raises(ma.BadInput, match="input: 2 is not one of the 2 places"):
        found.by_shells(input=2)


def test_parts_that_do_not_add_up_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from maxaffine._templates.shells import Grid

    split = Grid.split

    def broken(grid: Grid, slopes: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts, *others = split(grid, slopes, x)
        return (parts * 1.001, *others)  # pyright: ignore[reportReturnType]

    monkeypatch.setattr(Grid, "split", broken)
    with pytest.raises(ma.ExactnessError, match="the parts miss <A, x>"):
        found_on((1, 4, 4, 4))[2].by_shells()


def test_nothing_of_the_caller_is_changed() -> None:
    model, x, found = found_on((1, 4, 4, 4))
    state, kept = torch.get_rng_state(), x.clone()
    found.by_shells()
    # Inputs that are being differentiated are read all the same.
    watched = ma.capture(model, x).templates(x[:1].clone().requires_grad_()).by_shells()
    assert not watched.isotropic.requires_grad
    watched.plot()
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(x, kept)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_drawn_in_slices_above_the_profile() -> None:
    shells = found_on((1, 5, 6, 7))[2].by_shells()
    axes = shells.plot(1, 1)
    words = [ax.get_title(loc="left") for ax in axes.child_axes[0].child_axes]  # pyright: ignore
    assert [line for line in words if "axis 1" in line][0] == "input x\naxis 1 at 2"
    assert sum("A_iso" in line for line in words) == 6  # A_iso and A_rest across three axes
    (profile, _) = axes.child_axes[1].get_lines()
    assert_close(torch.as_tensor(np.asarray(profile.get_ydata())), shells.profile[1, 1, 0])
    assert axes.texts[0].get_text().startswith("output 1" if "output 1" in shells.names[1] else shells.names[1])
    flat = found_on((3, 5, 6))[2].by_shells()
    assert len(flat.plot(size=4.0).child_axes[0].child_axes) == 5  # four pictures and their scale
    assert "<th>share</th>" in flat._repr_html_()
    with pytest.raises(ma.BadInput, match="unit: 7 is not one"):
        shells.plot(0, 7)
