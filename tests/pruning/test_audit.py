"""What the audit finds, against networks with planted units, and what removing them changes, against the module."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import maxaffine as ma
from maxaffine._partition import value_ranges
from maxaffine._pruning.boundaries import distances_between
from maxaffine._pruning.layers import layers_of, rows_of
from maxaffine.errors import BadInput, NotPiecewiseAffine
from maxaffine.pruning import audit
from tests.pruning.planted import Residual, cnn, inputs, mlp, without
from tests.zoo.networks import Net

EMPTY: Any = []


def units(layer: Any, kind: str) -> set[int]:
    return {found.unit for found in layer.of(kind)}


def test_planted_units_of_an_mlp_are_found_and_proved() -> None:
    model, x = mlp(), inputs()
    state = torch.get_rng_state()
    found = audit(ma.capture(model, x[:2]), x, (0, 1))
    assert torch.equal(state, torch.get_rng_state())
    layer = found["1"]
    assert (units(layer, "never"), units(layer, "duplicate"), units(layer, "opposite")) == ({1}, {4}, {5})
    assert 2 in units(layer, "always") and not layer.joined and (layer.units, layer.positions) == (8, 1)
    assert all(one.proved for one in layer.of("never")) and all(
        one.proved for one in layer.of("always") if one.unit == 2
    )
    (twin,), (mirror,) = layer.of("duplicate"), layer.of("opposite")
    assert twin.other == 3 and twin.factor == pytest.approx(2.5, abs=1e-12) and twin.distance < 1e-12
    assert mirror.other == 0 and mirror.factor == pytest.approx(-2) and mirror.distance < 1e-12 and mirror.change == ()
    assert found.samples == 200 and layer.largest_change < 1e-12
    with pytest.raises(BadInput, match="no layer is called"):
        found["nothing"]


@pytest.mark.parametrize("network", [mlp, cnn])
def test_changes_are_those_of_the_module_itself(network: Any) -> None:
    model = network()
    x, place = (inputs(60), 1) if network is mlp else (inputs(60, 1, 6, 6), 2)
    layer = audit(ma.capture(model, x[:2]), x, every=True).layers[0]
    covered = {found.unit for found in layer.findings}
    assert covered == set(range(layer.units))
    for found in layer.findings:
        if found.kind == "opposite":
            continue
        held = without(model, place, found.unit, found.factor, found.other, found.shift)
        expected = (held(x) - model(x)).abs().amax(0)
        torch.testing.assert_close(
            torch.tensor(found.change, dtype=torch.float64), expected.detach(), rtol=1e-9, atol=1e-12
        )
    others = layer.of("other")
    assert others and all(found.largest_change > 1e-6 for found in others), "a unit that works changes something"


def test_channels_through_batch_norm_and_pooling() -> None:
    x = inputs(80, 1, 6, 6)
    layer = audit(ma.capture(cnn(), x[:2]), x, (0, 1)).layers[0]
    assert (layer.units, layer.positions) == (5, 36)
    assert units(layer, "never") == {1, 2} and units(layer, "duplicate") == {3}
    assert all(found.proved for found in layer.of("never"))
    (twin,) = layer.of("duplicate")
    assert twin.other == 0 and twin.factor == pytest.approx(2, rel=1e-9)


def test_a_duplicate_must_agree_at_every_position() -> None:
    """On a map that is smaller than the kernel the middle shows a part of it: all positions decide."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)).double().eval()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
    x = inputs(30, 1, 2, 2)
    assert units(audit(ma.capture(model, x[:2]), x).layers[0], "duplicate") == {1}
    with torch.no_grad():  # the middle of a 2 x 2 map, at (1, 1), sees the upper left of the kernel alone
        model[0].weight[1, 0, 2, 2] += 0.1
    net = ma.capture(model, x[:2])
    rows = rows_of(net, layers_of(net)[0])
    assert rows is not None and torch.equal(rows.weights[0], rows.weights[1])
    assert units(audit(net, x).layers[0], "duplicate") == set()


@pytest.mark.parametrize(
    ("activation", "never", "always"),
    [
        (nn.LeakyReLU(0.1), set(), {0, 2}),  # both pieces slope
        (nn.PReLU(3), set(), {0, 2}),
        (nn.ReLU6(), {0, 2}, set()),  # saturated at 6 is flat too
        (nn.Hardtanh(), {0, 2}, {1}),
        (nn.Hardshrink(0.5), {1}, {0, 2}),
    ],
)
def test_other_activations(activation: nn.Module, never: set[int], always: set[int]) -> None:
    model: Any = nn.Sequential(nn.Linear(1, 3), activation, nn.Linear(3, 1)).double().eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.copy_(torch.tensor([-20.0, -0.5, 20.0]))
    x = inputs(50, 1) * 0.9
    layer = audit(ma.capture(model, x[:2]), x).layers[0]
    assert (units(layer, "never"), units(layer, "always")) == (never, always)
    assert all(found.largest_change < 1e-12 for found in (*layer.of("never"), *layer.of("always")))


def test_one_input_makes_no_unit_constant() -> None:
    x = inputs()
    layer = audit(ma.capture(mlp(), x[:2]), x[:1]).layers[0]
    assert all(bool((mlp()[0](x[:1])[:, unit] <= 0).all()) for unit in units(layer, "never"))
    assert len(layer.of("never")) + len(layer.of("always")) == 8  # each is on one piece at one input


def test_skip_connections_are_said() -> None:
    x = inputs()
    found = audit(ma.capture(Residual(), x[:2]), x, (0, 1))
    assert [layer.joined for layer in found.layers] == [False, False, True]
    assert 1 in units(found.layers[0], "never") and 2 in units(found.layers[1], "never")
    assert "joins several values" in repr(found)


def test_a_unit_that_wakes_in_a_corner_is_not_proved() -> None:
    """Active only where all four inputs exceed 0.99: on 200 random inputs never, over the box it may be."""
    model: Any = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 1.0, -3.99
        model[0].weight[1], model[0].bias[1] = 1.0, -4.001
    x, net = inputs(200, 4), ma.capture(model, inputs(2, 4))
    proved = {one.unit: one.proved for one in audit(net, x, (0, 1)).layers[0].of("never")}
    assert proved == {0: False, 1: True}
    assert {one.unit: one.proved for one in audit(net, x, (0, 0.99)).layers[0].of("never")} == {0: True, 1: True}


def test_ranges_hold_on_dense_samples() -> None:
    """Through two layers and a pooling every argument stays within what is proved, and not by a mile."""
    model, x = cnn(), inputs(2, 1, 6, 6)
    net = ma.capture(model, x)
    layers = layers_of(net)
    ranges = value_ranges(net, [layer.argument for layer in layers], (0.2, 0.6))
    assert ranges is not None
    points = torch.cat([0.2 + 0.4 * inputs(4000, 1, 6, 6), 0.2 + 0.4 * (inputs(4000, 1, 6, 6) > 0.5).double()])
    for layer, stop in zip(layers, (2, 5), strict=True):
        low, high = ranges[layer.argument]
        seen = model[:stop](points).detach().flatten(1).numpy()
        assert (seen.min(0) >= low).all() and (seen.max(0) <= high).all()
        assert np.median((high - low) / (np.ptp(seen, 0) + 1e-9)) < 12


def test_late_bounds_prove_nothing_and_say_so() -> None:
    x = inputs()
    found = audit(ma.capture(mlp(), x[:2]), x, (0, 1), time_limit=1e-9)
    assert not found.complete and not any(one.proved for one in found["1"].of("never"))
    assert "time_limit" in repr(found)


def test_data_from_loaders_and_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4).double(), nn.Linear(2, 4).double()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.relu(self.a(x)) + torch.relu(self.b(y))

    x, y = inputs(40), inputs(40, 2)
    net = ma.capture(Two(), (x[:2], y[:2]))
    plain = audit(net, (x, y)).to_dict()
    assert audit(net, DataLoader(TensorDataset(x, y), batch_size=40)).to_dict() == plain
    assert audit(net, DataLoader(TensorDataset(x, y, x[:, 0]), batch_size=40)).to_dict() == plain
    json.dumps(plain, allow_nan=False)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda net, x: audit(net, x[:0]), BadInput, "batch is empty"),
        (lambda net, x: audit(net, x.float()), BadInput, "dtype"),
        (lambda net, x: audit(net, torch.full_like(x, math.nan)), BadInput, "NaN"),
        (lambda net, x: audit(net, iter([x])), BadInput, "read once only"),
        (lambda net, x: audit(net, []), BadInput, "takes 1 inputs"),
        (lambda net, x: audit(net, DataLoader(EMPTY)), BadInput, "gave no batch"),
        (lambda net, x: audit(net, x, (0, 1), time_limit=0), BadInput, "time_limit"),
        (lambda net, x: audit(net, 3), BadInput, "data: expected inputs"),
        (lambda net, x: audit(net, x, (0, math.inf)), BadInput, "bounds: give .* finite"),
        (lambda net, x: audit(net, x, (1, 0)), BadInput, "bounds: give"),
        (lambda net, x: audit(net, x, 3), BadInput, "bounds: expected"),
        (lambda net, x: audit(net, x, rho=-1.0), BadInput, "rho, near"),
        (lambda net, x: audit(ma.capture(nn.Linear(3, 2).double(), x), x), BadInput, "no activation with knots"),
        (
            lambda net, x: audit(ma.capture(nn.GELU(), x, smooth="frozen"), x),
            NotPiecewiseAffine,
            "units that are on one piece alone",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], said: str) -> None:
    x = inputs(4)
    net = ma.capture(mlp(), x)
    with pytest.raises(error, match=said):
        call(net, x)


def test_all_dead_is_said_with_the_place() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].bias.fill_(-9)
    found = audit(ma.capture(model, inputs(2)), inputs())
    assert found.layers[0].dead and "every unit of 1 is idle" in repr(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000), st.floats(0, 3))
def test_boundary_distances_against_their_formula(features: int, count: int, seed: int, rho: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(count, features, generator=generator, dtype=torch.float64)
    offsets = torch.randn(count, generator=generator, dtype=torch.float64)
    found = distances_between(weights, offsets, rho)
    for a, b in product(range(count), repeat=2):
        if a == b:
            assert found[a, b] == math.inf
            continue
        w, v = weights[a].numpy(), weights[b].numpy()
        cosine = w @ v / np.linalg.norm(w) / np.linalg.norm(v)
        gap = abs(float(offsets[a]) / np.linalg.norm(w) - np.sign(cosine) * float(offsets[b]) / np.linalg.norm(v))
        assert float(found[a, b]) == pytest.approx(1 - abs(cosine) + rho * gap, abs=1e-9)
    scaled = distances_between(weights * 7, offsets * 7, rho)
    torch.testing.assert_close(scaled, found)
    flipped = distances_between(torch.cat([weights, -weights]), torch.cat([offsets, -offsets]), rho)
    assert bool((flipped[range(count), range(count, 2 * count)].abs() < 1e-9).all())


def test_it_is_drawn_and_shown() -> None:
    x = inputs()
    found = audit(ma.capture(mlp(), x[:2]), x)
    ax = found.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1 (8)", "3 (6)"]
    patches: Any = ax.patches
    assert sum(patch.get_width() for patch in patches) == pytest.approx(2)
    assert "<table" in found._repr_html_()


MOVED: dict[str, tuple[Any, int]] = {
    "channels last": (lambda y: y.permute(0, 2, 3, 1), 5),
    "a transposed axis": (lambda y: y.transpose(1, -1), 5),
    "tokens": (lambda y: y.flatten(2).transpose(1, 2), 5),
    "tokens, from channels last": (lambda y: y.permute(0, 2, -1, 1).reshape(len(y), -1, 5), 5),
    "a scaled and added map": (lambda y: (2 * y).movedim(1, 2) + 1, 5),
    "one row": (lambda y: y.flatten(1), 80),  # channels along no axis of their own
}


@pytest.mark.parametrize("kind", MOVED)
def test_channels_are_found_on_whatever_axis_they_are_put(kind: str) -> None:
    move, count = MOVED[kind]
    torch.manual_seed(0)
    convolution, last = nn.Conv2d(2, 5, 3).double(), nn.Linear(80, 3).double()
    with torch.no_grad():
        convolution.bias.copy_(torch.tensor([0.0, 0.0, -100.0, 0.0, 100.0]))  # pyright: ignore[reportOptionalMemberAccess]
    module = Net(lambda m, x: m.last(move(m.conv(x)).relu().flatten(1)), conv=convolution, last=last)
    x = torch.randn(30, 2, 6, 6, dtype=torch.float64)
    layer = audit(ma.capture(module, x[:2]), x).layers[0]
    assert layer.units == count
    expected = {2}, {4}
    if count == 80:
        expected = set(range(32, 48)), set(range(64, 80))
    assert (units(layer, "never"), units(layer, "always")) == expected
