from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from maxaffine._learning.classifier import find_classifier, logits_of, named_weight, unwrap
from maxaffine._models import build, cnn
from maxaffine.errors import BadInput


class Auxiliary(nn.Module):
    """The auxiliary head is registered last and used in training mode only, as in Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.fc = nn.Linear(6, 3)
        self.auxiliary = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        features = self.body(x).relu()
        return (self.fc(features), self.auxiliary(features)) if self.training else self.fc(features)


class Heads(nn.Module):
    def __init__(self, combine: Callable[..., Any]) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(3))
        self.prototypes = nn.Parameter(torch.randn(3, 4))
        self.combine = combine

    def forward(self, x: Tensor) -> Any:
        return self.combine(self, F.relu(self.body(x)), x)


class Record:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def _pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Adapted(nn.Linear):
    """W + B A with B of zeros, as low-rank adapters begin."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.a, self.b = nn.Parameter(torch.randn(2, in_features)), nn.Parameter(torch.zeros(out_features, 2))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input @ self.a.T @ self.b.T


class Directions(nn.Linear):
    """Cosines in the place of products."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(F.normalize(input), F.normalize(self.weight))


class Masked(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight * torch.tensor([1.0, 0.0, 1.0, 1.0]), self.bias)


class Casting(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.double(), self.weight.double(), self.bias.double()).float()


class Pair(nn.Linear):
    def forward(self, input: Tensor) -> Any:
        return super().forward(input), self.bias


def _tripled(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return 3 * output


def _scaled() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.register_forward_hook(_tripled)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), layer)


X = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
FOUND = {
    "itself": (lambda: nn.Linear(4, 3), X, ""),
    "mlp": (lambda: build("mlp", (1, 8, 8), 10, seed=0), IMAGES, "5"),
    "cnn": (lambda: build("cnn", (1, 8, 8), 10, seed=0), IMAGES, "11"),
    "resnet": (lambda: build("resnet", (1, 8, 8), 10, seed=0), IMAGES, "8"),
    "mobilenet": (lambda: build("mobilenet", (1, 8, 8), 10, seed=0), IMAGES, "26"),
    "1 x 1 convolution and pooling": (_pooled, IMAGES, "2"),
    "auxiliary head registered behind it": (Auxiliary, X, "fc"),
    "softmax behind it": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3), nn.Softmax(dim=1)), X, "1"),
    "frozen": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).requires_grad_(False), X, "2"),
    "record": (lambda: Heads(lambda m, h, x: Record(m.right(h))), X, "right"),
    "mapping": (lambda: Heads(lambda m, h, x: {"logits": m.left(h)}), X, "left"),
    "sequence of one": (lambda: Heads(lambda m, h, x: [m.left(h)]), X, "left"),
    "used twice": (lambda: Heads(lambda m, h, x: m.left(h) + m.left(-h)), X, "left"),
    "positional inputs": (lambda: Heads(lambda m, h, x: m.left(h)), (X,), "left"),
    "keyword inputs": (lambda: Heads(lambda m, h, x: m.left(h)), {"x": X}, "left"),
    "called by keyword": (lambda: Heads(lambda m, h, x: m.left(input=h)), X, "left"),
    "a subclass that casts": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Casting(4, 3)), X, "2"),
    "parametrized": (lambda: nn.Sequential(nn.Linear(4, 4), parametrizations.weight_norm(nn.Linear(4, 3))), X, "1"),
    "token inputs": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3)),
        torch.ones(2, 2).long(),
        "2",
    ),
}
UNCLEAR = {
    "two heads": (lambda m, h, x: m.left(h) + m.right(h), r"\['left', 'right'\] make the outputs together"),
    "two heads of two outputs": (lambda m, h, x: torch.cat([m.left(h), m.right(h)], 1), r"make the outputs together"),
    "a scale behind it": (lambda m, h, x: m.scale * m.left(h), r"scale reach the outputs past 'left'"),
    "a way around it": (lambda m, h, x: m.left(h) + x[:, :3], r"the inputs reach the outputs past 'left'"),
    "functional": (lambda m, h, x: h @ m.prototypes.T, r"prototypes reach the outputs past 'body'"),
    "constant": (lambda m, h, x: torch.ones(len(x), 3), r"no linear layer or 1 x 1 convolution does"),
}


@pytest.mark.parametrize("name", FOUND)
def test_is_found_by_what_computes_the_outputs(name: str) -> None:
    factory, x, path = FOUND[name]
    assert find_classifier(factory(), x) == path


def test_the_last_registered_layer_would_be_wrong() -> None:
    model = Auxiliary()
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    assert find_classifier(model, X) != last


@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_classifiers_are_refused_with_the_candidates(name: str) -> None:
    combine, cause = UNCLEAR[name]
    with pytest.raises(BadInput, match=cause) as caught:
        find_classifier(Heads(combine), X)
    assert "'left' (3 rows)" in str(caught.value) and 'layer="..."' in str(caught.value)


def test_a_model_without_candidates_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(BadInput, match="none, but a .* parameter can be named"):
        find_classifier(model, IMAGES)


def test_many_candidates_are_cut_short() -> None:
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(30))
    with pytest.raises(BadInput, match=r"the candidates are \.\.\., '18' .*'29' \(2 rows\)$"):
        named_weight(model, "nothing")


def test_the_model_is_left_as_it_was() -> None:
    model = cnn((1, 8, 8), 10).train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    x = IMAGES.clone()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    find_classifier(model, x)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and torch.equal(x, IMAGES) and not x.requires_grad
    assert not any(module._forward_hooks for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    assert [weight.requires_grad for weight in model.parameters()][:2] == [False, True]


def test_hooks_go_and_modes_return_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        find_classifier(model, X)
    assert model.training and not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("layer", "shape"), [("left", (3, 4)), ("prototypes", (3, 4)), ("left.weight", (3, 4))])
def test_a_layer_or_a_parameter_can_be_named(layer: str, shape: tuple[int, ...]) -> None:
    model = Heads(lambda m, h, x: h)
    weight = named_weight(model, layer)
    assert tuple(weight.shape) == shape and weight.requires_grad


@pytest.mark.parametrize("layer", ["scale", "combine", "left.nothing", "nowhere.weight"])
def test_what_has_no_rows_is_refused(layer: str) -> None:
    with pytest.raises(BadInput, match=rf"layer: '{layer}' is not a linear layer"):
        named_weight(Heads(lambda m, h, x: h), layer)


def test_wide_and_grouped_convolutions_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2))
    for layer in ("0", "1"):
        with pytest.raises(BadInput, match="is not a linear layer"):
            named_weight(model, layer)


def test_one_class_is_refused() -> None:
    with pytest.raises(BadInput, match="one class has nothing to be orthogonal to"):
        named_weight(nn.Linear(4, 1), "")


def test_outputs_without_logits_are_refused() -> None:
    with pytest.raises(BadInput, match="returns a tuple, not a tensor of logits"):
        logits_of((X, X))


def test_wrappers_are_looked_through() -> None:
    model = nn.Linear(4, 3)
    assert unwrap(nn.DataParallel(torch.compile(model, backend="eager"))) is model  # pyright: ignore[reportArgumentType]
    assert unwrap(model) is model


ODD: dict[str, Callable[[], nn.Module]] = {
    "adapted": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Adapted(4, 3)),
    "directions": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Directions(4, 3)),
    "masked": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Masked(4, 3)),
    "a hook behind it": _scaled,
}


@pytest.mark.parametrize("name", ODD)
def test_layers_that_are_not_their_weight_times_their_input_are_refused(name: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(BadInput, match=r"'2' gives something else than its weight times its input; name one with"):
        find_classifier(ODD[name](), X)


def test_a_layer_that_returns_more_than_its_outputs_is_refused() -> None:
    model = Heads(lambda m, h, x: m.left(h)[0])
    model.left = Pair(4, 3)
    with pytest.raises(BadInput, match="'left' gives something else"):
        find_classifier(model, X)


RENEWED: dict[str, Callable[[nn.Module], Any]] = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
}


@pytest.mark.parametrize("name", RENEWED)
@pytest.mark.parametrize("layer", ["2", "2.weight"])
def test_weights_that_a_hook_renews_are_refused(name: str, layer: str) -> None:
    """Their tensor is that of the last pass: its gradient may lead nowhere, and its values are old after a step."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        RENEWED[name](model[2])
    model(X)
    assert find_classifier(model, X) == "2"
    with pytest.raises(BadInput, match=rf"the weight of '{layer}' is a tensor that the last pass has left there"):
        named_weight(model, layer)
