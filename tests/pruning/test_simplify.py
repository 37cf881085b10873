"""The smaller module against the one that was given, and against surgery by hand."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader

from maxaffine.errors import BadInput, ExactnessError
from maxaffine.pruning import Simplified, simplify
from tests.pruning.planted import Residual, cnn, inputs, mlp

EMPTY: Any = []


def kept(found: Simplified, kind: str = "never") -> dict[str, str]:
    """Why units of each layer stay, where they do."""
    return {one.layer: one.kept for one in found.removals if one.kind == kind and one.kept}


def test_an_mlp_is_pruned_as_by_hand() -> None:
    model, x = mlp(), inputs()
    before = copy.deepcopy(model.state_dict())
    found: Any = simplify(model, x, (0, 1))
    assert all(torch.equal(before[name], item) for name, item in model.state_dict().items())
    left = [0, 2, 3, 5, 6, 7]  # without the one that is never active, and the double of unit 3
    first, second = model[0], model[2]
    assert torch.equal(found.model[0].weight, first.weight[left]) and torch.equal(found.model[0].bias, first.bias[left])
    by_hand = second.weight.detach().clone()
    by_hand[:, 3] += 2.5 * by_hand[:, 4]
    rows = found.model[2].weight
    match = [int((by_hand[:, left] - row).abs().sum(1).argmin()) for row in rows]
    torch.testing.assert_close(rows, by_hand[match][:, left], rtol=1e-12, atol=1e-12)
    dense = torch.rand(20_000, 3, dtype=torch.float64)
    torch.testing.assert_close(found.model(dense), model(dense), rtol=1e-12, atol=1e-12)
    assert found.removed >= 2 and found.difference < 1e-13 and "(proved)" in found.holds
    assert found.parameters == tuple(sum(p.numel() for p in m.parameters()) for m in (model, found.model))


def test_a_cnn_keeps_its_classes_and_can_be_kept_and_exported() -> None:
    model, x = cnn(), inputs(60, 1, 6, 6)
    found: Any = simplify(model, x, (0, 1))
    smaller = found.model
    assert [type(part) for part in smaller] == [type(part) for part in model]
    # Two channels are never active, one for want of weights, and one is another's double.
    assert smaller[0].out_channels == smaller[1].num_features == smaller[4].in_channels == 2
    dense = inputs(500, 1, 6, 6)
    torch.testing.assert_close(smaller(dense), model(dense), rtol=1e-12, atol=1e-12)
    again = pickle.loads(pickle.dumps(smaller))
    again.load_state_dict(smaller.state_dict())
    exported = torch.export.export(smaller, (x[:2],)).module()
    assert torch.equal(again(x), smaller(x))
    torch.testing.assert_close(exported(x[:2]), smaller(x[:2]))
    smaller(x).sum().backward()
    assert all(item.grad is not None for item in smaller.parameters())


def test_constants_are_pushed_on_where_that_is_exact() -> None:
    """A ReLU6 at 6 gives 6 at every position: exact without padding, and not where zeros are padded."""
    x = inputs(50, 1, 6, 6)
    for padding in (0, 1):
        model = cnn(nn.ReLU6(), padding)
        with torch.no_grad():
            model[1].bias[1] = 30
            model[4].weight[:, 1] *= 0.01
        found: Any = simplify(model, x)
        reasons = kept(found)
        assert ("pads with zeros" in reasons.get("2", "")) == bool(padding), reasons
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)
        left = 5 - sum(len(one.units) for one in found.removals if one.layer == "2" and not one.kept)
        assert found.model[0].out_channels == left < 5  # those that are zero go in both cases


def test_a_layer_without_offsets_is_given_some() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 3), nn.ReLU6(), nn.Linear(3, 1, bias=False)).double()
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([0.0, 20.0, 0.1]))
    found: Any = simplify(model, inputs(40, 2))
    assert found.model[0].out_features == 2 and found.model[2].bias is not None
    assert float(found.model[2].bias.detach()) == pytest.approx(6 * float(model[2].weight.detach()[0, 1]))


@pytest.mark.parametrize("bounds", [None, (0, 1)])
def test_always_active_units_are_folded(bounds: Any) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        model[0].bias[:9] = 5.0
        model[0].bias[9:] = 0.0
        model[0].weight[9:] = torch.tensor([[1.0, -1.0, 0.1], [-1.0, 0.2, 1.0], [0.3, 1.0, -1.0]])
    found: Any = simplify(model, inputs(), bounds)
    assert found.model[0].out_features == 12 - 9 + 2
    dense = inputs(3000)
    torch.testing.assert_close(found.model(dense), model(dense), rtol=1e-12, atol=1e-12)
    far = 40 * (inputs(3000) - 0.5)  # there the folded units are off while the old ones need not be
    assert bool(((found.model(far) - model(far)).abs() > 0.1).any())


def test_residual_networks() -> None:
    x = inputs()
    model: Any = Residual()
    found: Any = simplify(model, x, (0, 1))
    (inner,) = [one for one in found.removals if one.kind == "never" and not one.kept]
    assert 2 in inner.units and found.model.inner.out_features == found.model.outer.in_features == 6 - len(inner.units)
    assert found.model.stem.out_features == 4 and "go only together with" in kept(found)["relu"]
    torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)


def test_modes_of_the_caller_change_nothing() -> None:
    model, x = mlp().float(), inputs().float()
    expected = simplify(model, x).to_dict()
    with torch.inference_mode():
        assert simplify(model, x + 0).to_dict() == expected
    with torch.no_grad(), torch.autocast("cpu"):
        assert simplify(model, x).to_dict() == expected
    assert expected["removed"] >= 4 and expected["difference"] < 1e-6


def test_a_branch_that_is_idle_keeps_one_unit() -> None:
    model: Any = Residual()
    with torch.no_grad():
        model.inner.bias.fill_(-90.0)
    x = inputs()
    found: Any = simplify(model, x)
    assert found.model.inner.out_features == 1
    torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)


class Shuffled(list):
    """Batches that come in another order each time."""

    def __iter__(self) -> Iterator[Any]:
        self.reverse()
        return super().__iter__()


def test_modes_types_and_frozen_parameters_stay() -> None:
    model = cnn().float()
    model.train()
    model[1].eval()
    model[7].weight.requires_grad_(False)
    x = inputs(60, 1, 6, 6).float()
    state = torch.get_rng_state()
    found: Any = simplify(model, Shuffled([(part, torch.zeros(20)) for part in x.split(20)]))
    assert torch.equal(state, torch.get_rng_state())
    assert [part.training for part in model.modules()] == [part.training for part in found.model.modules()]
    assert {item.dtype for item in found.model.parameters()} == {torch.float32}
    assert not found.model[7].weight.requires_grad and found.model[0].weight.requires_grad
    assert found.removed >= 3 and found.verify(model, x) < 1e-5


def test_where_it_may_differ_is_said() -> None:
    model: Any = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.copy_(torch.tensor([0.0, -2.0]))
    x = inputs(50, 1)
    found: Any = simplify(model, x)
    assert found.removed == 1 and "on the 50 inputs given" in found.holds and found.verify(model, x) == 0
    with pytest.raises(ExactnessError, match="give simplify these inputs too"):
        found.verify(model, 5 * x)
    assert found.verify(model, 5 * x, raises=False) > 0.01
    corner = simplify(model, x, (0, 2.5))
    assert corner.removed == 0 and kept(corner) == {"1": "not proved over the bounds"}
    assert simplify(model, x, (0, 1.999)).removed == 1
    assert set(found.to_dict()) == {"parameters", "samples", "difference", "holds", "removed", "removals"}
    assert "<table" in found._repr_html_()


class Shared(nn.Module):
    """One linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(torch.relu(self.layer(x)))))


class Functional(nn.Module):
    """Weights of its own in a function call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.zeros(4))
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(F.linear(x, self.weight, self.bias)))


def _tied() -> nn.Module:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    model[2].weight = model[0].weight
    return model


def _normalized() -> nn.Module:
    return nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 1))


def _outputs() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Shared, "is shared: it is called more than once"),
        (Functional, "used by a function call in"),
        (_tied, "shares its weights with another module"),
        (_normalized, "are parametrized"),
        (_outputs, "outputs of the network"),
    ],
)
def test_what_cannot_be_mapped_stays_and_says_where(make: Any, said: str) -> None:
    torch.manual_seed(3)
    model, x = make().double(), inputs()
    with torch.no_grad():
        next(item for name, item in model.named_parameters() if name.endswith("bias"))[1] = -50.0
    found: Any = simplify(model, x)
    reasons = kept(found)
    assert any(said in reason for reason in reasons.values()), reasons
    torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_wrong_removal_is_undone() -> None:
    """What torch-pruning cannot see, here a sum over all units, is seen in the outputs."""

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            z = F.hardtanh(self.first(x))
            return self.head(z) + z.mean(1, keepdim=True)

    torch.manual_seed(0)
    model: Any = Summed().double()
    with torch.no_grad():
        model.first.bias[2] = 9
    found: Any = simplify(model, inputs(60, 2))
    assert found.removed == 0 and any(kept(found).values())
    torch.testing.assert_close(found.model(inputs(60, 2)), model(inputs(60, 2)))


@pytest.mark.parametrize(
    ("data", "bounds", "said"),
    [
        (inputs()[:0], None, "empty"),
        (inputs() * torch.nan, None, "NaN"),
        (inputs() - 40, None, "every unit of '1' "),
        (inputs(), (0, 0.5), "some of the data lies outside"),
        (inputs(), (0, torch.inf), "finite"),
        (iter([inputs()]), None, "read twice"),
        (DataLoader(EMPTY), None, "gave no batch"),
    ],
)
def test_bad_input(data: Any, bounds: Any, said: str) -> None:
    model: Any = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    with pytest.raises(BadInput, match=said):
        simplify(model, data, bounds)


class Met(nn.Module):
    """Units that something else meets before the next layer: unit 1 never active, unit 3 the double of unit 2."""

    def __init__(self, meeting: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.meeting = nn.Linear(2, 6), nn.Linear(6, 2), meeting
        with torch.no_grad():
            self.first.bias.copy_(torch.tensor([0.1, -100, 0.3, 0.6, 9, 9]))
            self.first.weight[2] = torch.tensor([0.1, 0.2])
            self.first.weight[3] = 2 * self.first.weight[2]

    def forward(self, x: Tensor) -> Tensor:
        """Two outputs."""
        return self.last(self.meeting(F.relu(self.first(x)), x))


@pytest.mark.parametrize(
    ("meeting", "kinds"),
    [
        (lambda h, x: torch.maximum(h, x.sum(1, keepdim=True) - 5), {"never", "duplicate", "always"}),
        (lambda h, x: h + F.relu(x.sum(1, keepdim=True) - 5), {"never", "duplicate", "always"}),
        (lambda h, x: F.hardtanh(h, -1, 50), {"duplicate", "always"}),
        (lambda h, x: torch.clamp(h, max=50), {"duplicate", "always"}),
    ],
    ids=["maximum", "sum", "hardtanh", "clamp"],
)
@pytest.mark.parametrize("bounds", [None, (-400, 400)])
def test_what_the_data_cannot_show_of_the_way_is_refused(meeting: Any, kinds: set[str], bounds: Any) -> None:
    model, x = Met(meeting).double().eval(), inputs(200, 2)
    found = simplify(model, x, bounds)
    assert found.holds == "at every input" or kinds == {"duplicate", "always"}
    wide = inputs(2000, 2) * 800 - 400 if found.holds == "at every input" else x
    torch.testing.assert_close(found.model(wide), model(wide), rtol=1e-10, atol=1e-10)
    assert all(one.kept for one in found.removals if one.kind in kinds)
    assert bounds or kinds <= {one.kind for one in found.removals}


@pytest.mark.parametrize("meeting", [lambda h, x: F.leaky_relu(h, 0.1), lambda h, x: torch.cat([h * 2, h[:, :0]], 1)])
def test_what_passes_multiples_on_is_no_hindrance(meeting: Any) -> None:
    model = Met(meeting).double().eval()
    found: Any = simplify(model, inputs(200, 2))
    assert {one.kind for one in found.removals if not one.kept} >= {"never", "duplicate"}
    assert found.verify(model, inputs(50, 2)) < 1e-12


def test_multiples_with_other_slopes_are_no_duplicates() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(2, 4), nn.PReLU(4), nn.Linear(4, 5)).double().eval()
    with torch.no_grad():
        for unit in (1, 2):  # the double of unit 0 where they are active, and below only unit 2 is
            model[0].weight[unit], model[0].bias[unit] = 2 * model[0].weight[0], 2 * model[0].bias[0]
        model[1].weight.copy_(torch.tensor([0.1, 0.5, 0.1, 0.2]))
    wide = inputs(4000, 2) * 6 - 3
    found: Any = simplify(model, wide[model[0](wide)[:, 0] > 0.1][:300])
    assert [one.units for one in found.removals if one.kind == "duplicate" and not one.kept] == [(2,)]
    torch.testing.assert_close(found.model(wide), model(wide), rtol=1e-12, atol=1e-12)
