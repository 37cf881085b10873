from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import maxaffine as ma
from maxaffine._models import build
from tests.learning.oracles import pair_sum, slope_of, templates

X = torch.rand(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
COMPARE = ("products", "cosines")


def _small(seed: int = 0) -> nn.Sequential:
    """Convolution, batch-norm with statistics of its own, ReLU, max-pooling and dropout, in training mode."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(27, 4),
    ).double()
    for _ in range(3):
        model(2 + 3 * torch.rand(8, 1, 8, 8, dtype=torch.float64))
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "small": _small,
    "mlp": lambda: build("mlp", (1, 8, 8), 4, seed=0, widths=(12, 9)).double(),
    "resnet": lambda: build("resnet", (1, 8, 8), 4, seed=0, width=3, blocks=(1, 1)).double(),
}


@pytest.mark.parametrize("compare", COMPARE)
def test_on_the_classifier_it_is_the_double_loop(compare: str) -> None:
    model = _small()
    penalty = ma.learning.OrthogonalTemplates(0.3, compare=compare)
    assert penalty(model, X).item() == pytest.approx(0.3 * pair_sum([*model.parameters()][-2], compare), rel=1e-12)


@pytest.mark.parametrize("compare", COMPARE)
@pytest.mark.parametrize("name", NETWORKS)
def test_on_maps_it_is_the_double_loop_over_jacobians(name: str, compare: str) -> None:
    model = NETWORKS[name]()
    found = ma.learning.OrthogonalTemplates(0.3, on="maps", compare=compare, samples=3)(model, X).item()
    still = copy.deepcopy(model).eval()
    expected = [pair_sum(rows, compare) for rows in templates(still, X[:3])]
    assert found == pytest.approx(0.3 * sum(expected) / 3, rel=1e-10)


def test_on_maps_it_agrees_with_the_captured_network() -> None:
    model = _small()
    found = ma.learning.OrthogonalTemplates(1.0, on="maps", compare="products")(model, X).item()
    slopes = torch.as_tensor(ma.capture(model.eval(), X).affine_map(X).slopes).flatten(2)
    assert found == pytest.approx(sum(pair_sum(rows, "products") for rows in slopes) / len(X), rel=1e-10)


@pytest.mark.parametrize("on", ["classifier", "maps"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_equals_finite_differences(name: str, on: str) -> None:
    model = NETWORKS[name]()
    penalty = ma.learning.OrthogonalTemplates(0.7, on=on)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(penalty(model, X), list(parameters.values()), allow_unused=True)
    places = torch.Generator().manual_seed(1)
    for (path, weight), gradient in zip(parameters.items(), gradients, strict=True):
        place = tuple(int(torch.randint(size, (), generator=places)) for size in weight.shape)
        expected = slope_of(lambda: penalty(model, X), weight, place)
        found = 0.0 if gradient is None else gradient[place].item()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8), path


def test_the_finite_differences_catch_a_cut_graph() -> None:
    model = NETWORKS["mlp"]()
    rows = templates(model, X).detach()
    assert not rows.requires_grad
    penalty = ma.learning.OrthogonalTemplates(1.0, on="maps")
    first = next(model.parameters())
    (gradient,) = torch.autograd.grad(penalty(model, X), first)
    assert gradient.abs().max() > 1e-4


class Scaling(nn.Module):
    """Changes its inputs in place, as data that ask for no gradient allow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.mul_(2).sub_(1))


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_inputs_that_the_model_changes_in_place(on: str) -> None:
    torch.manual_seed(2)
    model, x = Scaling(), torch.rand(4, 2, 3)
    before = x.clone()
    penalty = ma.learning.OrthogonalTemplates(1.0, on=on)(model, x)
    penalty.backward()
    assert torch.equal(x, before)
    layers = copy.deepcopy(model.layers).double()
    rows = templates(lambda y: layers(2 * y - 1), x.double())
    weight = [*layers.parameters()][-2]
    expected = pair_sum(weight, "products") if on == "classifier" else sum(pair_sum(r, "cosines") for r in rows) / 4
    assert penalty.item() == pytest.approx(expected, rel=1e-5)


def test_only_some_classes_and_samples() -> None:
    model = NETWORKS["mlp"]()
    found = ma.learning.OrthogonalTemplates(1.0, on="maps", compare="products", samples=2, classes=[3, 1])(
        model, X
    ).item()
    expected = [pair_sum(rows[[3, 1]], "products") for rows in templates(model, X[:2])]
    assert found == pytest.approx(sum(expected) / 2, rel=1e-10)


def test_several_inputs_count_as_one() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)
            self.out = nn.Linear(4, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.out((self.left(a) + self.right(b)).relu())

    model = Two().double()
    a, b = torch.rand(4, 3, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    penalty = ma.learning.OrthogonalTemplates(1.0, on="maps", compare="products")
    rows = templates(lambda ab: model(ab[:, :3], ab[:, 3:]), torch.cat([a, b], 1))
    expected = sum(pair_sum(one, "products") for one in rows) / 4
    assert penalty(model, (a, b)).item() == pytest.approx(expected, rel=1e-10)
    assert penalty(model, {"b": b, "a": a}).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_the_model_is_left_as_it_was(on: str) -> None:
    model = _small().train()
    model[1].eval()
    x = X.clone()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    ma.learning.OrthogonalTemplates(1.0, on=on)(model, x)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and torch.equal(x, X) and not x.requires_grad
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_loss_and_penalty_in_either_order(on: str) -> None:
    """A training pass changes the running statistics in place between the penalty and the backward pass."""
    gradients = []
    for first in (True, False):
        model = NETWORKS["resnet"]().train()
        penalty = ma.learning.OrthogonalTemplates(1.0, on=on)
        penalty(model, X)
        terms = [lambda m=model, p=penalty: p(m, X), lambda m=model: F.cross_entropy(m(X), torch.arange(5) % 4)]
        values = [term() for term in (terms if first else terms[::-1])]
        (values[0] + values[1]).backward()
        gradients.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    # Behind the training pass, the templates are those of the renewed running statistics.
    close = [torch.allclose(a, b) for a, b in zip(*gradients, strict=True)]
    assert all(close) if on == "classifier" else len(close) == len(list(model.parameters()))


def test_accumulation_adds_up() -> None:
    model = NETWORKS["mlp"]()
    penalty = ma.learning.OrthogonalTemplates(0.5)
    labels = torch.arange(4)
    (F.cross_entropy(model(X[:4]), labels) + penalty(model, X)).backward()
    whole = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    for rows in (slice(0, 2), slice(2, 4)):
        ((F.cross_entropy(model(X[rows]), labels[rows]) + penalty(model, X[rows])) / 2).backward()
    parts = [weight.grad for weight in model.parameters() if weight.grad is not None]
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("on", ["classifier", "maps"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_round_it(on: str, dtype: torch.dtype) -> None:
    model = NETWORKS["mlp"]().float()
    x = X.float()
    penalty = ma.learning.OrthogonalTemplates(1.0, on=on)
    expected = penalty(model, x)
    with torch.autocast("cpu", dtype=dtype):
        assert model(x).dtype == dtype
        found = penalty(model, x)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(penalty(model, x.to(dtype).float()), penalty(model, x.to(dtype)))


def test_scaled_gradients_are_scaled_whole() -> None:
    """As a gradient scaler does it: the sum is multiplied, and the gradients divided again."""
    model = NETWORKS["mlp"]().float()
    penalty = ma.learning.OrthogonalTemplates(1.0, on="maps")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(X.float()), torch.zeros(5).long()) + penalty(model, X.float())
    weights = list(model.parameters())
    plain = torch.autograd.grad(loss, weights, retain_graph=True)
    scaled = torch.autograd.grad(1024 * loss, weights)
    torch.testing.assert_close([gradient / 1024 for gradient in scaled], list(plain), rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_without_gradients_it_is_a_number(on: str) -> None:
    model = _small()
    penalty = ma.learning.OrthogonalTemplates(1.0, on=on)
    with torch.no_grad():
        value = penalty(model, X)
    assert not value.requires_grad and value.item() == pytest.approx(penalty(model, X).item())
    with torch.inference_mode():
        assert penalty(model, X).item() == pytest.approx(value.item())


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_training_with_it_makes_the_templates_orthogonal(on: str) -> None:
    model = NETWORKS["mlp"]()
    penalty = ma.learning.OrthogonalTemplates(1.0, on=on, compare="cosines")
    before = penalty(model, X).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        (F.cross_entropy(model(X[:4]), torch.arange(4)) + penalty(model, X)).backward()
        optimizer.step()
    assert penalty(model, X).item() < 0.05 * before
    assert model(X[:4]).argmax(1).tolist() == [0, 1, 2, 3]


def test_the_classifier_is_found_once_per_model(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = NETWORKS["mlp"](), _small()
    penalty = ma.learning.OrthogonalTemplates(1.0)
    expected = penalty(first, X).item()
    monkeypatch.setattr("maxaffine._learning.orthogonal_templates.find_classifier", lambda model, x: pytest.fail())
    assert penalty(first).item() == expected and penalty(first, X).item() == expected
    monkeypatch.undo()
    assert penalty(second, X).item() == pytest.approx(pair_sum([*second.parameters()][-2], "products"))
    with pytest.raises(ma.BadInput, match="pass x once, or name it"):
        penalty(first)
    assert ma.learning.OrthogonalTemplates(1.0, layer="5")(first).item() == expected


def test_it_can_be_copied_and_pickled() -> None:
    model = _small()
    penalty = ma.learning.OrthogonalTemplates(0.5, compare="cosines")
    expected = penalty(model, X).item()
    for twin in (pickle.loads(pickle.dumps(penalty)), copy.deepcopy(penalty)):
        assert repr(twin) == repr(penalty) and twin(model, X).item() == expected


REFUSED = {
    "gelu": (nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.GELU(), nn.Linear(5, 3)), "gelu"),
    "softmax": (nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softmax(dim=1)), "softmax"),
    "layer norm": (nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3)), "layer_norm"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_maps_of_what_is_not_piecewise_affine_are_refused(name: str) -> None:
    model, operator = REFUSED[name]
    with pytest.raises(ma.NotPiecewiseAffine, match=operator):
        ma.learning.OrthogonalTemplates(1.0, on="maps")(model, X.float())
    assert ma.learning.OrthogonalTemplates(1.0)(model, X.float()).item() > 0


class Sign(torch.autograd.Function):
    """A step with the derivative of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return grad_outputs[0]


class Split(nn.Module):
    """Two branches, the hidden one of which a function changes."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.skip = nn.Linear(64, 7), nn.Linear(7, 3), nn.Linear(64, 3)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.head(self.change(self.body, x).relu()) + self.skip(x)


def _without_graph(body: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return body(x)


CUT: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "detached": lambda body, x: body(x).detach(),
    "no_grad": _without_graph,
    "straight through": lambda body, x: Sign.apply(body(x)),
    "checkpointed": lambda body, x: checkpoint(body, x, use_reentrant=True),
}


@pytest.mark.parametrize("name", CUT)
def test_maps_that_autograd_does_not_give_are_refused(name: str) -> None:
    torch.manual_seed(0)
    model = Split(CUT[name]).double()
    with pytest.raises(ma.BadInput, match="model: autograd does not give its templates"):
        ma.learning.OrthogonalTemplates(1.0, on="maps")(model, X)
    whole = Split(lambda body, x: checkpoint(body, x, use_reentrant=False)).double()
    assert ma.learning.OrthogonalTemplates(1.0, on="maps")(whole, X).item() > 0


def test_an_input_without_influence_has_no_template() -> None:
    class First(nn.Linear):
        def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(input)

    torch.manual_seed(0)
    model, x = First(6, 3), torch.rand(4, 6)
    found = ma.learning.OrthogonalTemplates(1.0, on="maps", compare="products")(model, (x, torch.rand(4, 2)))
    assert found.item() == pytest.approx(pair_sum(model.weight, "products"), rel=1e-5)


class Keeping(nn.Module):
    """Keeps what a term of the loss needs, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 7), nn.Linear(7, 3)
        self.calls, self.seen = 0, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.body(x.flatten(1)).relu()
        self.calls += 1
        self.seen.append(self.hidden)
        return self.head(self.hidden)


@pytest.mark.parametrize("on", ["classifier", "maps"])
def test_what_the_model_keeps_of_its_own_pass_stays(on: str) -> None:
    model = Keeping().double()
    model(X)
    hidden = model.hidden
    ma.learning.OrthogonalTemplates(1.0, on=on, samples=2)(model, X)
    assert model.hidden is hidden and model.calls == 1 and len(model.seen) == 1
    hidden.sum().backward()


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it does not trace, the checks of annotations too
@pytest.mark.parametrize(
    ("part", "on"), [("step", "maps"), ("model", "classifier"), ("layer", "classifier"), ("layer", "maps")]
)
def test_torch_compile(part: str, on: str) -> None:
    def step(model: nn.Module, penalty: ma.learning.OrthogonalTemplates) -> Tensor:
        return F.cross_entropy(model(X), torch.arange(5) % 4) + penalty(model, X)

    plain, model = NETWORKS["mlp"](), NETWORKS["mlp"]()
    expected = step(plain, ma.learning.OrthogonalTemplates(0.5, on=on))
    expected.backward()
    own: Any = model
    if part == "layer":
        own[1] = torch.compile(own[1], backend="aot_eager")
    run = torch.compile(step, backend="aot_eager") if part == "step" else step
    compiled: Any = torch.compile(model, backend="aot_eager") if part == "model" else model
    found = run(compiled, ma.learning.OrthogonalTemplates(0.5, on=on))
    found.backward()
    torch.testing.assert_close(found, expected)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


BAD = {
    "weight: -1": lambda: ma.learning.OrthogonalTemplates(-1.0),
    "weight: nan": lambda: ma.learning.OrthogonalTemplates(float("nan")),
    "on: 'weights'": lambda: ma.learning.OrthogonalTemplates(1.0, on="weights"),
    "compare: 'angles'": lambda: ma.learning.OrthogonalTemplates(1.0, compare="angles"),
    "samples: 0": lambda: ma.learning.OrthogonalTemplates(1.0, on="maps", samples=0),
    "classes: ": lambda: ma.learning.OrthogonalTemplates(1.0, on="maps", classes=[2, 2]),
    "on: layer=": lambda: ma.learning.OrthogonalTemplates(1.0, on="maps", layer="5"),
    "on: .*classes=": lambda: ma.learning.OrthogonalTemplates(1.0, classes=[0, 1]),
    "classes: .7. are not among": lambda: ma.learning.OrthogonalTemplates(1.0, on="maps", classes=[0, 7])(_small(), X),
    'x: on="maps" takes': lambda: ma.learning.OrthogonalTemplates(1.0, on="maps")(_small()),
    "model: its outputs have shape": lambda: ma.learning.OrthogonalTemplates(1.0, on="maps")(_small()[:4], X),
    "one class": lambda: ma.learning.OrthogonalTemplates(1.0)(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), X.float()),
    "not .N, C. with two": lambda: ma.learning.OrthogonalTemplates(1.0, on="maps")(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), X.float()
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message: str) -> None:
    with pytest.raises(ma.BadInput, match=message):
        BAD[message]()
