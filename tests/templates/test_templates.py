"""Templates against float64 autograd of the untouched module, on networks of the zoo and on chosen ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._maps import AffineMap
from maxaffine._templates import Templates, layer_templates
from tests import oracles
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured

BATCH = 3
# Outputs of no dimension and of several, several inputs, samples behind another axis, no bias.
SHAPED = tuple(case for case in ZOO if case.name in ("scalar_output", "two_inputs", "unet", "rnn_time_first"))


def classifier(channels: int = 1, classes: int = 5) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    module = nn.Sequential(*layers, nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(16, classes))
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)
    return module.double().eval()


@cache
def found(channels: int = 1) -> tuple[nn.Sequential, Tensor, ma.SplineNetwork, Templates]:
    module, x = classifier(channels), torch.randn(BATCH, channels, 8, 8, dtype=torch.float64)
    net = ma.capture(module, x)
    return module, x, net, net.templates(x)


def blockwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every row a block of its own."""
    monkeypatch.setattr("maxaffine._templates.result.HELD_BYTES", 0)
    original = AffineMap.rows

    def rows(self: AffineMap):
        for (block,) in original(self):
            yield from ((part,) for part in block.split(1, dim=1))

    monkeypatch.setattr(AffineMap, "rows", rows)


@pytest.mark.parametrize("case", sorted({*ZOO[::6], *SHAPED}, key=str), ids=str)
def test_networks_of_the_zoo(case: Case) -> None:
    module, inputs = case.build(), case.inputs(BATCH)
    net = captured(case)
    expected = oracles.affine_maps(module, inputs)
    x = inputs[0] if len(case.shapes) == 1 else inputs
    for output, (slopes, offsets) in enumerate(expected):
        result = net.templates(x, output=output)
        own = result.slopes if isinstance(result.slopes, tuple) else (result.slopes,)
        for mine, truth in zip(own, slopes, strict=True):
            assert_close(mine.flatten(1), truth.flatten(1), rtol=1e-8, atol=1e-8)
        norms = torch.stack([truth.reshape(BATCH, len(result.units), -1).norm(dim=2) for truth in slopes]).norm(dim=0)
        assert_close(result.norms, norms, rtol=1e-8, atol=1e-8)
        assert_close(result.offsets, offsets.reshape(BATCH, -1), rtol=1e-7, atol=1e-7)
        inner = oracles.apply_jacobian(slopes, inputs).reshape(BATCH, -1)
        assert_close(result.inner, inner, rtol=1e-7, atol=1e-7)
        assert_close(result.contributions.sum(), offsets.reshape(BATCH, -1), rtol=1e-7, atol=1e-7)


def test_in_blocks_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, net, whole = found()
    expected = whole.cosines
    blockwise(monkeypatch)
    result = net.templates(x)
    for name in ("inner", "norms", "offsets", "values", "bound"):
        assert_close(getattr(result, name), getattr(whole, name))
    assert_close(result.cosines, expected)
    assert "slopes" not in vars(result.affine_map), "nothing was built whole"
    assert_close(result.template(3), whole.template(3))


def test_cosines_and_matches() -> None:
    module, x, _, result = found()
    ((slopes, _),) = oracles.affine_maps(module, (x,))
    rows = nn.functional.normalize(slopes[0].flatten(2), dim=2)
    assert_close(result.cosines, rows @ rows.mT)
    assert_close(result.matches, (rows @ nn.functional.normalize(x.flatten(1), dim=1)[:, :, None])[..., 0])


def test_runner_up_says_what_made_the_winner_win() -> None:
    module, x, _, result = found()
    comparison = result.runner_up()
    ((blocks, _),) = oracles.affine_maps(module, (x,))
    slopes, logits = blocks[0], module(x).detach()
    for n, (first, second) in enumerate(logits.topk(2).indices.tolist()):
        assert (comparison.winners[n], comparison.losers[n]) == (f"class {first}", f"class {second}")
        difference = slopes[n, first] - slopes[n, second]
        assert isinstance(comparison.slopes, Tensor) and isinstance(comparison.shares, Tensor)
        assert_close(comparison.slopes[n], difference)
        assert_close(comparison.shares[n], difference * x[n])
        assert_close(comparison.inner[n], (difference * x[n]).sum())
        assert_close(comparison.margins[n], logits[n, first] - logits[n, second])
        assert_close(comparison.norms[n], difference.norm())
        angle = nn.functional.cosine_similarity(slopes[n, first].flatten(), slopes[n, second].flatten(), dim=0)
        assert_close(comparison.cosines[n], angle)
        step = difference * comparison.margins[n] / difference.norm() ** 2
        assert_close(comparison.distances[n], step.norm())
    assert "class" in repr(comparison) and len(repr(comparison).splitlines()) == 1 + BATCH


def test_of_equal_units_the_lower_wins() -> None:
    net = ma.capture(nn.Sequential(nn.Linear(2, 1, bias=False), Repeat()).eval(), torch.zeros(1, 2))
    comparison = net.templates(torch.ones(1, 2)).runner_up()
    assert (comparison.winners, comparison.losers) == (("class 0",), ("class 1",))
    assert float(comparison.margins) == 0


def test_distances_of_a_draw_are_zero() -> None:
    """Also where both templates are the same, or both units are dead."""
    net = ma.capture(nn.Sequential(nn.Linear(2, 1, bias=False), Repeat()).eval(), torch.zeros(1, 2))
    assert net.templates(torch.ones(1, 2)).runner_up().distances.tolist() == [0]
    layer = nn.Linear(2, 2).eval()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.copy_(torch.tensor([1.0, 0.0]))
    parallel = ma.capture(layer, torch.ones(1, 2)).templates(torch.ones(1, 2)).runner_up()
    assert parallel.distances.tolist() == [torch.inf], "they never meet"


class Repeat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, 3)


class Last(nn.Module):
    """Time first, the samples second: the logits of the last step and the sum over all."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[-1]).relu() + self.layer(x.sum(0))


def test_samples_behind_another_axis() -> None:
    torch.manual_seed(0)
    module, x = Last().double().eval(), torch.randn(5, 2, 3, dtype=torch.float64)
    result = ma.capture(module, x, batch_dim=1).templates(x)
    assert_close(result.inputs[0], x.movedim(1, 0))
    for n in range(2):
        own = torch.autograd.functional.jacobian(lambda part: module(part[:, None])[0], x[:, n])
        assert isinstance(result.slopes, Tensor) and isinstance(own, Tensor)
        assert_close(result.slopes[n], own)
        assert_close(result.inner[n], (own * x[:, n]).flatten(1).sum(1))


def test_units_of_a_layer() -> None:
    module, x, net, _ = found()
    part = nn.Sequential(*list(module)[:6])
    ((blocks, offsets),) = oracles.affine_maps(part, (x,))
    result = net.templates(x, classes=[7, 2], until="5")
    assert result.units == (7, 2) and result.names == ("unit (1, 1, 1)", "unit (0, 1, 0)")
    assert_close(result.slopes, blocks[0].flatten(1, 3)[:, [7, 2]])
    assert_close(result.offsets, offsets.flatten(1)[:, [7, 2]])
    assert_close(result.values, part(x).flatten(1)[:, [7, 2]].detach())


def test_top_keeps_what_is_largest_somewhere() -> None:
    module, x, net, _ = found()
    wanted = sorted(set(module(x).topk(2).indices.flatten().tolist()))
    assert net.templates(x, top=2).units == tuple(wanted)
    assert net.templates(x, classes=[4], top=2).units == (4,)


def test_names() -> None:
    _, x, net, whole = found()
    names = ["a", "b", "c", "d", "e"]
    result = net.templates(x, ["d", 1], names=names)
    assert (result.units, result.names) == ((3, 1), ("d", "b"))
    assert_close(result.template("d"), whole.template(3))
    assert_close(result.compare("b", "d").inner, whole.inner[:, 1] - whole.inner[:, 3])
    assert net.templates(x, 2, names={2: "cat"}).names == ("cat",)
    assert net.templates(x, torch.tensor([2]), names={3: "cat"}).names == ("class 2",)


def test_a_name_that_several_units_have_chooses_none_of_them() -> None:
    """ImageNet has two classes that are called crane."""
    _, x, net, _ = found()
    names = ["crane", "kite", "crane", "owl", "gull"]
    with pytest.raises(ma.BadInput, match=r"classes: 2 units are called 'crane': \[0, 2\]; choose one by its number"):
        net.templates(x, "crane", names=names)
    result = net.templates(x, [4, 2, 0], names=names)
    for call in (lambda: result.template("crane"), lambda: result.compare("gull", "crane")):
        with pytest.raises(ma.BadInput, match=r"unit: 2 units are called 'crane': \[2, 0\]; name one by its number"):
            call()
    assert_close(net.templates(x, ["kite", 0, 2], names=names).template("kite"), found()[3].template(1))


def test_layers() -> None:
    module, x, net, _ = found()
    layers = layer_templates(net, x, top=1)
    assert list(layers) == ["2", "3", "5", "7"]
    for name, result in layers.items():
        part = nn.Sequential(*list(module)[: int(name) + 1])
        assert result.values.amax(1).tolist() == pytest.approx(part(x).flatten(1).amax(1).tolist())
        ((blocks, _),) = oracles.affine_maps(part, (x,))
        assert_close(result.slopes, blocks[0].reshape(BATCH, -1, 1, 8, 8)[:, list(result.units)])
    assert list(layer_templates(net, x, "5")) == ["5"]
    deep = nn.Sequential(*[nn.ReLU() for _ in range(20)], nn.Linear(2, 2)).eval()
    some = list(layer_templates(ma.capture(deep, torch.ones(1, 2)), torch.ones(1, 2)))
    assert len(some) == 8 and (some[0], some[-2], some[-1]) == ("0", "19", "20")


@cache
def single(dtype: torch.dtype) -> tuple[nn.Module, ma.SplineNetwork]:
    module = classifier().to(dtype)
    return module, ma.capture(module, torch.zeros(2, 1, 8, 8, dtype=dtype))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([torch.float32, torch.float64]))
def test_logits_are_matches_plus_offsets(seed: int, dtype: torch.dtype) -> None:
    """Over magnitudes, in single and in double precision: the check passes, and what it bounds is small."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 1, 8, 8, generator=generator, dtype=dtype) * 10.0 ** (seed % 7 - 3)
    module, net = single(dtype)
    result = net.templates(x)
    assert_close(result.inner + result.offsets, module(x).double().detach(), rtol=1e-4, atol=float(result.bound.max()))
    assert float((result.bound / result.values.abs().amax(1)).max()) < (0.1 if dtype == torch.float32 else 1e-9)


class Broken(AffineMap):
    """A map whose templates are off by little."""

    def rows(self):
        for (block,) in super().rows():
            yield (block * (1 + 1e-7),)

    @property
    def slopes(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return next(iter(self.rows()))[0].reshape(self.batch, *self.out_shape, *self.in_shapes[0])


def test_a_template_that_misses_its_logit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, net, _ = found()
    monkeypatch.setattr("maxaffine._network.network.AffineMap", Broken)
    with pytest.raises(ma.ExactnessError, match=r"misses the value of a unit of the output"):
        net.templates(x)


def test_a_split_that_misses_the_offset_is_caught() -> None:
    _, x, net, _ = found()
    result = net.templates(x)
    wrong = dataclasses.replace(result, offsets=result.offsets * (1 + 1e-6))
    with pytest.raises(ma.ExactnessError, match="parts of the offset"):
        _ = wrong.contributions


BAD: list[tuple[str, Callable[[ma.SplineNetwork, Tensor], object]]] = [
    (r"classes: 5 is not a unit of the output; choose among 0..4", lambda net, x: net.templates(x, [5])),
    (r"classes: \[0, 1\] is not a unit", lambda net, x: net.templates(x, torch.tensor([[0, 1]]))),
    (
        "classes: True is not a unit",
        lambda net, x: net.templates(x, torch.tensor([True, False, True, False, False])),
    ),
    ("classes: 1.5 is not a unit", lambda net, x: net.templates(x, torch.tensor([1.5]))),
    ("are not different units; name at least one", lambda net, x: net.templates(x, [])),
    ("are not different units; name at least one", lambda net, x: net.templates(x, [1, 1])),
    ("classes: no unit is called 'cat'; names= gave none", lambda net, x: net.templates(x, "cat")),
    ("no unit is called 'cat'; there are a, b", lambda net, x: net.templates(x, "cat", names=list("abcde"))),
    ("names: the output has 5 units", lambda net, x: net.templates(x, names=["a"])),
    ("until: no operator or module is called 'nine'", lambda net, x: net.templates(x, until="nine")),
    (
        "output: the network has 1 outputs; got 3. There are: output=0",
        lambda net, x: net.templates(x, output=3),
    ),
    ("output: it chooses among", lambda net, x: net.templates(x, until="5", output=0)),
    ("top: 0 is less than 1", lambda net, x: net.templates(x, top=0)),
    ("classes: a single unit was chosen", lambda net, x: net.templates(x, 3).runner_up()),
    ("unit: 3 is not among the chosen units 1, 2", lambda net, x: net.templates(x, [1, 2]).template(3)),
    ("unit: 'cat' is not among", lambda net, x: net.templates(x).compare("cat", 1)),
    ("layers: none is named; give at least one", lambda net, x: layer_templates(net, x, [])),
    ("NaN", lambda net, x: net.templates(x * torch.nan)),
]


def test_classes_by_numpy_numbers() -> None:
    _, x, net, _ = found()
    expected = net.templates(x, [3, 1])
    for classes in (np.array([3, 1]), [np.int64(3), np.uint8(1)], torch.tensor([3, 1])):
        given = net.templates(x, classes)
        assert given.units == (3, 1) and torch.equal(given.inner, expected.inner)
    assert net.templates(x, np.int64(3)).units == (3,)


@pytest.mark.parametrize(("words", "call"), BAD, ids=[words for words, _ in BAD])
def test_bad_input(words: str, call: Callable[[ma.SplineNetwork, Tensor], object]) -> None:
    _, x, net, _ = found()
    with pytest.raises(ma.BadInput, match=words.replace("(", r"\(")):
        call(net, x)


class Two(nn.Module):
    """Two outputs, and one that no slope leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.other = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.head(x), self.other(x.relu()), x > 0


def test_several_outputs_are_listed() -> None:
    x = torch.randn(2, 4)
    net = ma.capture(Two().eval(), x)
    listed = r"There are: output=0 of shape \(3,\), output=1 of shape \(2,\); rows of units inside: until='head' of 3"
    with pytest.raises(
        ma.BadInput, match="output: the network has 3 outputs; choose one of 0..2, or name until=. " + listed
    ):
        net.templates(x)
    with pytest.raises(
        ma.BadInput, match="output: output 2 is not a piecewise-affine function of the input; choose another. " + listed
    ):
        net.templates(x, output=2)
    assert net.templates(x, output=1).layer == "output 1"
    assert net.templates(x, until="other").values.shape == (2, 2)
