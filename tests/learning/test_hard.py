from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

import maxaffine as ma
from maxaffine.learning import orthogonal_classifier
from maxaffine.models import mlp

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _mlp(classes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return mlp((1, 8, 8), classes, widths=(16,))


def _weight(model: nn.Sequential, place: int = 3) -> Tensor:
    weight = model[place].weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _angles(weight: Tensor) -> Tensor:
    rows = F.normalize(weight.detach().double().flatten(1), dim=1)
    return (rows @ rows.T - torch.eye(len(rows))).abs().max()


def _train(model: nn.Module, steps: int = 30) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), torch.arange(6) % 4).backward()
        optimizer.step()


@pytest.mark.parametrize("classes", [2, 4, 16])
def test_rows_stay_orthogonal_with_free_norms(classes: int) -> None:
    model = _mlp(classes)
    norms = _weight(model).norm(dim=1)
    first = F.normalize(_weight(model)[0], dim=0)
    assert orthogonal_classifier(model, X) == "3"
    assert _angles(_weight(model)) < 1e-6
    torch.testing.assert_close(_weight(model).norm(dim=1), norms)
    torch.testing.assert_close(F.normalize(_weight(model)[0], dim=0), first)
    if classes == 4:
        _train(model)
        assert _angles(_weight(model)) < 1e-5
        assert (_weight(model).norm(dim=1) - norms).abs().min() > 1e-2
        assert (F.normalize(_weight(model)[0], dim=0) - first).norm() > 0.05


def test_the_plain_layer_does_not_stay_orthogonal() -> None:
    model = _mlp(4)
    nn.init.orthogonal_(_weight(model))
    _train(model)
    assert _angles(_weight(model)) > 1e-2


def test_pointwise_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert orthogonal_classifier(model, X) == "2"
    _train(model)
    assert _weight(model, 2).shape == (4, 5, 1, 1) and _angles(_weight(model, 2)) < 1e-5


def test_it_can_be_saved_removed_and_captured() -> None:
    model, twin = (_mlp(4, seed=seed) for seed in (0, 1))
    for one in (model, twin):
        orthogonal_classifier(one, layer="3")
    twin.load_state_dict(model.state_dict())
    expected = model(X)
    torch.testing.assert_close(twin(X), expected)
    assert ma.verify(ma.capture(model, X), model, X).exact
    assert ma.OrthogonalTemplates(1.0)(model, X).item() < 1e-10
    parametrize.remove_parametrizations(model[3], "weight")
    assert isinstance(model[3].weight, nn.Parameter)
    torch.testing.assert_close(model(X), expected)


def test_frozen_layers_stay_frozen_and_no_randomness_is_drawn() -> None:
    model = _mlp(4)
    model[3].requires_grad_(False)
    before = torch.get_rng_state()
    orthogonal_classifier(model, X)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(weight.requires_grad for weight in model[3].parameters())
    assert all(weight.requires_grad for weight in model[1].parameters())


def test_bad_input_is_named() -> None:
    wide = _mlp(17)
    with pytest.raises(ma.BadInput, match="the 17 rows of 16 numbers of '3' cannot be made orthogonal"):
        orthogonal_classifier(wide, X)
    model = _mlp(4)
    with pytest.raises(ma.BadInput, match="pass x, or name it"):
        orthogonal_classifier(model)
    with pytest.raises(ma.BadInput, match="'3.weight' is no module"):
        orthogonal_classifier(model, layer="3.weight")
    _weight(model)[1] = 2 * _weight(model)[0]
    with pytest.raises(ma.BadInput, match="cannot be made orthogonal"):
        orthogonal_classifier(model, X)
    nn.init.normal_(_weight(model))
    orthogonal_classifier(model, X)
    with pytest.raises(ma.BadInput, match="parametrised weight already"):
        orthogonal_classifier(model, X)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.head = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
        self.head.weight = self.inside.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.inside(x)))


def test_tied_weights_are_not_torn_apart() -> None:
    model = Tied()
    with pytest.raises(ma.BadInput, match=r"'head' is tied to \['inside.weight'\]"):
        orthogonal_classifier(model, torch.rand(3, 5))
    assert model.head.weight is model.inside.weight


def test_a_layer_under_two_names_is_found_by_either() -> None:
    model = nn.ModuleDict({"a": nn.Linear(5, 3)})
    model["b"] = model["a"]
    assert orthogonal_classifier(model, layer="b") == "b"
    assert model["a"] is model["b"] and _angles(model["a"].weight) < 1e-6  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    model = nn.Linear(5, 3, dtype=dtype)
    with pytest.raises(ma.BadInput, match=str(dtype)):
        orthogonal_classifier(model, layer="")
    assert isinstance(model.weight, nn.Parameter)
