from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

import maxaffine as ma
from maxaffine._learning import orthogonal_classifier
from maxaffine._learning.hard import OrthogonalRows
from maxaffine._models import mlp
from tests.learning.oracles import slope_of

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


def _train(model: nn.Module, steps: int = 30, optimizer: torch.optim.Optimizer | None = None) -> None:
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-2)
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


def _gram_schmidt(rows: Tensor) -> Tensor:
    """Row after row, less its parts along those before it."""
    kept: list[Tensor] = []
    for row in rows:
        for other in kept:
            row = row - (row @ other) / (other @ other) * other
        kept.append(row)
    return torch.stack(kept)


def test_rows_are_those_of_gram_and_schmidt_and_so_are_gradients() -> None:
    rows = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, expected = OrthogonalRows()(rows), _gram_schmidt(rows)
    torch.testing.assert_close(found, expected)
    pairs = [torch.autograd.grad((weights * value).sum(), rows)[0] for value in (found, expected)]
    torch.testing.assert_close(*pairs)
    for shape in ((4, 6), (3, 3), (2, 4, 1, 1)):
        again = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(OrthogonalRows(), again) and torch.autograd.gradgradcheck(
            OrthogonalRows(), again
        )


@pytest.mark.parametrize("decay", [0.01, 1.0])
def test_weight_decay_shortens_the_rows_and_turns_none(decay: float) -> None:
    """AdamW's default took Householder vectors apart, whose signs are entries that must not shrink."""
    model = _mlp(4)
    orthogonal_classifier(model, X)
    before = _weight(model).clone()
    optimizer = torch.optim.SGD([*model[3].parameters()], lr=0.1, weight_decay=decay)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(_weight(model), (1 - 0.1 * decay) * before)
    _train(model, 60, torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=decay))
    assert _angles(_weight(model)) < 1e-5 and _weight(model).norm(dim=1).min() > 0.05
    assert model(X).argmax(1).tolist() == [0, 1, 2, 3, 0, 1]


def test_the_optimizer_may_be_older_and_the_weight_may_be_assigned() -> None:
    model = _mlp(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    orthogonal_classifier(model, X)
    before = _weight(model).clone()
    _train(model, 5, optimizer)
    assert (_weight(model) - before).abs().max() > 1e-2
    rows = torch.randn(4, 16)
    model[3].weight = rows
    torch.testing.assert_close(_weight(model), _gram_schmidt(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_the_penalty_differentiates_through_it(on: str) -> None:
    model = _mlp(4).double()
    orthogonal_classifier(model, X.double())
    penalty = ma.learning.OrthogonalTemplates(1.0, on=on)
    rows = next(weight for name, weight in model[3].named_parameters() if name.endswith("original"))
    (gradient,) = torch.autograd.grad(penalty(model, X.double()), rows)
    place = (1, 2)
    expected = slope_of(lambda: penalty(model, X.double()), rows, place)
    assert gradient[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


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
    assert ma.capture(model, X).verify(model, X).exact
    assert ma.learning.OrthogonalTemplates(1.0)(model, X).item() < 1e-10
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
    with pytest.raises(ma.BadInput, match="'3.weight' is not a module"):
        orthogonal_classifier(model, layer="3.weight")
    _weight(model)[1] = 2 * _weight(model)[0]
    with pytest.raises(ma.BadInput, match="cannot be made orthogonal"):
        orthogonal_classifier(model, X)
    nn.init.normal_(_weight(model))
    orthogonal_classifier(model, X)
    with pytest.raises(ma.BadInput, match="parametrized already; name a plain layer"):
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
