"""Distances to the boundaries of units: against slow loops over dense Jacobians, regions, and moved batch means."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._partition import BoundaryDistances
from tests import oracles

distances = ma.partition.boundary_distances
X = torch.randn(5, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """A convolution, a block with a skip and batch-norm, one activation per channel, and one with two knots."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.body = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm, self.bent, self.last = nn.BatchNorm2d(3), nn.PReLU(3), nn.Linear(75, 4)
        with torch.no_grad():
            for item in (self.norm.running_mean, self.norm.running_var, self.norm.weight):
                assert item is not None
                item.uniform_(0.5, 2)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The pre-activations, and what the layer of each reads."""
        z0 = self.first(x)
        h = F.relu(z0)
        z1 = h + self.norm(self.body(h))
        g = self.bent(z1)
        return [z0, h, z1, g, self.last(g.flatten(1))]

    def forward(self, x: Tensor) -> Tensor:
        """The logits, clipped."""
        return F.hardtanh(self.stages(x)[-1], -0.5, 0.25)


MODEL = Residual().double().eval()
NET = ma.capture(MODEL, X)


def _slow(z: Tensor, of: list[Tensor], knots: tuple[float, ...] = (0.0,)) -> Tensor:
    """The signed distances of one sample's units, each by a gradient of its own."""
    found = []
    for value in z.flatten():
        parts = torch.autograd.grad(value, of, retain_graph=True, materialize_grads=True)
        length = math.sqrt(sum(float(part.square().sum()) for part in parts))
        nearest = min((value.item() - knot for knot in knots), key=abs)
        found.append(nearest / length)
    return torch.tensor(found, dtype=torch.float64).reshape(z.shape)


@pytest.mark.parametrize("space", ["input", "layer"])
def test_against_gradients_unit_by_unit(space: str) -> None:
    found = distances(NET, X, space=space).signed
    assert list(found) == ["relu", "bent", "hardtanh"]
    rows: list[list[Tensor]] = [[], [], []]
    for x in X:
        leaf = x[None].clone().requires_grad_()
        z0, h, z1, g, z2 = MODEL.stages(leaf)
        reads = [leaf, leaf, leaf] if space == "input" else [leaf, h, g]
        for row, z, of, knots in zip(rows, (z0, z1, z2), reads, ((0.0,), (0.0,), (-0.5, 0.25)), strict=True):
            row.append(_slow(z, [of], knots))
    for name, row in zip(found, rows, strict=True):
        assert_close(found[name], torch.cat(row), rtol=1e-9, atol=1e-11)


def test_the_nearest_unit_is_as_far_as_the_side_of_the_region() -> None:
    found = distances(NET, X)
    assert_close(found.nearest, torch.tensor([ma.partition.region(NET, x[None]).distance for x in X]).double())
    wrong = BoundaryDistances({name: 1.01 * item for name, item in found.signed.items()}, "input")
    with pytest.raises(AssertionError):
        assert_close(wrong.nearest, found.nearest)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.floats(-2, 2).filter(lambda step: abs(step) > 1e-3))
def test_the_batch_mean_makes_the_sum_of_squares_least(seed: int, convolution: bool, step: float) -> None:
    """Theorem 1, by moving the means: in every channel, and for weights and scales of any kind."""
    torch.manual_seed(seed)
    first, norm = (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)) if convolution else (nn.Linear(6, 3), nn.BatchNorm1d(3))
    model = nn.Sequential(first, norm, nn.ReLU()).double().eval()
    x = torch.randn(8, *((2, 5, 5) if convolution else (6,)), dtype=torch.float64) + 3 * torch.rand(1).double()
    others = [0, *range(2, x.dim())]

    def sums(shift: float) -> tuple[Tensor, float]:
        with torch.no_grad():
            norm.running_mean.copy_(first(x).mean(others) + shift)  # pyright: ignore[reportOptionalMemberAccess]
            norm.running_var.copy_(first(x).var(others, correction=0))  # pyright: ignore[reportOptionalMemberAccess]
        found = distances(ma.capture(model, x), x, space="layer")
        return found.signed["2"].square().sum(others), found.centering["2"]

    (best, full), (moved, share) = sums(0.0), sums(step)
    assert (moved > best).all() and full == pytest.approx(1, abs=1e-12) and share < full
    # The parallel axis theorem: what a shift adds is n (shift / |w|)^2.
    lengths = first.weight.detach().flatten(1).norm(dim=1)
    count = first(x)[:, 0].numel()
    assert_close(moved - best, count * (step / lengths) ** 2, rtol=1e-6, atol=1e-9)
    with torch.no_grad():  # what is learned after it moves the boundary away again
        norm.bias.fill_(0.5)
    assert sums(0.0)[1] < full


def test_units_without_a_boundary_are_infinitely_far() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight[0] = 0  # pyright: ignore
        model[0].bias.copy_(torch.tensor([-1.0, 5.0]))  # pyright: ignore
        model[2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # pyright: ignore
    x = torch.rand(4, 3, dtype=torch.float64)
    found = distances(ma.capture(model.eval(), x), x).signed
    # The first unit is constant and off, so that nothing moves the first unit after it either.
    assert (found["1"][:, 0] == -math.inf).all() and found["1"][:, 1].isfinite().all()
    assert found["3"][:, 0].isinf().all() and found["3"][:, 1].isfinite().all()


def test_blocks_dtypes_layouts_and_the_network_stay() -> None:
    whole = distances(NET, X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maxaffine._partition.distances.CHUNK", 100)
        for space in ("input", "layer"):
            blocks, once = distances(NET, X, space=space), distances(NET, X[:1], space=space)
            for name, item in distances(NET, X, space=space).signed.items():
                assert_close(blocks.signed[name], item)
                assert_close(once.signed[name], item[:1])
    single = Residual().eval()
    net = ma.capture(single, X.float())
    state = torch.get_rng_state()
    found = distances(net, X.float().contiguous(memory_format=torch.channels_last))
    assert torch.equal(state, torch.get_rng_state()) and found.signed["relu"].dtype == torch.float64
    assert_close(found.signed["relu"], whole.signed["relu"], rtol=1e-4, atol=1e-5)


class Masked(nn.Module):
    """A mask between two activations: the second one's layer reads what is masked, not the input."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two inputs."""
        h = torch.where(x > 0, 3 * x, y)
        return F.relu(2 * h + 1)


def test_several_inputs_and_masks() -> None:
    x, y = torch.randn(2, 4, 3, dtype=torch.float64).unbind(0)
    net = ma.capture(Masked(), (x, y))
    layer, own = (distances(net, (x, y), space=space).signed["relu"] for space in ("layer", "input"))
    h = torch.where(x > 0, 3 * x, y)
    assert_close(layer, (2 * h + 1) / 2)
    assert_close(own, (2 * h + 1) / torch.where(x > 0, 6.0, 2.0).double())


def test_an_activation_of_the_input_itself() -> None:
    x = torch.tensor([[2.0, -0.5]])
    for space in ("layer", "input"):
        assert distances(ma.capture(nn.ReLU(), x), x, space=space).signed["relu"].tolist() == [[2.0, -0.5]]


def test_ctrl_c_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxaffine._partition.distances.CHUNK", 1)
    signed, calls = ma._partition.distances._signed, []  # pyright: ignore

    def interrupted(*arguments: object) -> list[Tensor]:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return signed(*arguments)

    monkeypatch.setattr("maxaffine._partition.distances._signed", interrupted)
    found = distances(NET, X)
    assert len(found) == 2 and not found.complete and "interrupted" in repr(found)
    with pytest.raises(KeyboardInterrupt):
        distances(NET, X)


def test_shown_as_a_table_and_as_histograms() -> None:
    found, layer = distances(NET, X), distances(NET, X, space="layer")
    assert math.isnan(distances(NET, X[:1], space="layer").centering["hardtanh"])
    assert "input space" in repr(found) and "centering" in repr(layer) and "<table>" in layer._repr_html_()
    assert found.to_dict()["signed"].keys() == found.signed.keys()
    axes = found.plot(other=distances(NET, 2 * X), labels=("before", "after"))
    assert len(axes.child_axes) == 3
    with pytest.raises(ma.BadInput, match="other: it is of another space"):
        found.plot(other=layer)
    with pytest.raises(ma.BadInput, match='use space="layer"'):
        _ = found.centering
    with pytest.raises(ma.BadInput, match='measure with space="input"'):
        _ = layer.nearest


def test_bad_input() -> None:
    with pytest.raises(ma.BadInput, match="space: expected one of"):
        distances(NET, X, space="output")
    with pytest.raises(ma.BadInput, match=r"operators: \['body'\] are not among"):
        distances(NET, X, operators=["body"])
    with pytest.raises(ma.BadInput, match="operators: the list is empty"):
        distances(NET, X, operators=[])
    with pytest.raises(ma.BadInput, match="no activation"):
        distances(ma.capture(nn.MaxPool2d(2), torch.rand(1, 1, 4, 4)), torch.rand(1, 1, 4, 4))
    with pytest.raises(ma.BadInput, match="x: .*NaN|x: .*nan|finite"):
        distances(NET, torch.full_like(X, math.nan))
    with pytest.raises(ma.NotPiecewiseAffine):
        distances(ma.capture(nn.SiLU(), torch.rand(1, 2), smooth="frozen"), torch.rand(1, 2))


def test_the_oracle_knows_the_first_layer() -> None:
    """The distance to the first activation's boundary, from the whole Jacobian at once."""
    first = nn.Sequential(MODEL.first)
    ((slopes,),) = oracles.jacobian(first, (X,))
    lengths = slopes.flatten(4).flatten(1, 3).norm(dim=2).reshape(5, 3, 5, 5)
    assert_close(distances(NET, X, operators=["relu"]).signed["relu"], MODEL.first(X).detach() / lengths)
