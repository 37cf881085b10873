"""Neighbors at every depth, against distances of the activation patterns of the user's own module."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import maxaffine as ma
from maxaffine._codes import Codes
from maxaffine._search import depth
from maxaffine._search.depth import neighbors
from maxaffine.errors import BadInput, ShapeMismatch


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    torch.manual_seed(2)
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 7), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(7, 3)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def net(model: nn.Module) -> ma.SplineNetwork:
    return ma.capture(model, torch.zeros(2, 1, 6, 6))


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def pattern_distances(model: nn.Sequential, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Shares of unequal activations and winners, read off the module."""

    def patterns(x: Tensor) -> dict[str, Tensor]:
        first = model[0](x)
        pooled, winners = nn.functional.max_pool2d(first.relu(), 2, return_indices=True)
        found = {"1": first > 0, "2": winners, "5": model[4](pooled.flatten(1)) > 0}
        return {name: pattern.flatten(1) for name, pattern in found.items()}

    p, q = patterns(a), patterns(b)
    return {name: (p[name][:, None] != q[name][None]).double().mean(2) for name in p}


def test_equals_a_sort_of_the_modules_own_patterns(model: nn.Sequential, net: ma.SplineNetwork) -> None:
    queries, searched = drawn(9, 0), drawn(40, 1)
    found = neighbors(net, queries, searched, k=6)
    expected = pattern_distances(model, queries, searched)
    assert list(found) == list(expected) == ["1", "2", "5"]
    mean = sum(expected.values(), torch.zeros(9, 40, dtype=torch.float64)) / 3
    for near, distance in [*((found[name], d) for name, d in expected.items()), (found.mean, mean)]:
        order = (distance * 2**30).round().argsort(dim=1, stable=True)[:, :6]
        assert torch.equal(near.ids, order)
        torch.testing.assert_close(near.distances, distance.gather(1, order))


def test_inputs_loaders_and_codes_are_the_same(net: ma.SplineNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, searched = drawn(3, 0), drawn(20, 1)
    expected = neighbors(net, queries, searched, k=4)
    loader = DataLoader(TensorDataset(searched, torch.zeros(20)), batch_size=7)
    for given in ((net.codes(queries), loader), (queries, net.codes(searched)), (queries, searched)):
        monkeypatch.setattr(depth, "BATCH", 3)
        found = neighbors(net, *given, k=4)
        for name in expected:
            assert torch.equal(found[name].ids, expected[name].ids)
        assert torch.equal(found.mean.distances, expected.mean.distances)


def test_large_tensors_are_encoded_in_batches(net: ma.SplineNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    batch_codes = type(net)._batch_codes

    def spy(*arguments: object) -> Codes:
        found = batch_codes(*arguments)  # type: ignore[arg-type]
        sizes.append(found.batch)
        return found

    monkeypatch.setattr(type(net), "_batch_codes", spy)
    neighbors(net, drawn(2, 0), drawn(600, 1))
    assert sorted(sizes) == [2, 88, 256, 256]


def test_chosen_operators(net: ma.SplineNetwork) -> None:
    queries, searched = drawn(3, 0), drawn(20, 1)
    whole, part = neighbors(net, queries, searched), neighbors(net, queries, searched, operators=["5"])
    assert list(part) == ["5"]
    assert torch.equal(part["5"].ids, whole["5"].ids) and torch.equal(part.mean.ids, part["5"].ids)


class Dead(nn.Module):
    """A layer whose every ReLU is off, between two that switch."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.dead, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        nn.init.constant_(self.dead.bias, bias)
        # What comes next is to switch, also behind a layer that is always on.
        self.shift = max(bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.last(h + self.after(h)).relu()

    def after(self, h: Tensor) -> Tensor:
        return self.dead(h).relu() - self.shift


@pytest.mark.parametrize("bias", [-100.0, 100.0])
def test_a_dead_layer_is_left_out(bias: float) -> None:
    """Always off or always on: against the mean over the two layers of the module that switch."""
    module = Dead(bias).eval().requires_grad_(False)
    net = ma.capture(module, torch.zeros(2, 6))
    queries, searched = (torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (5, 30))
    found = neighbors(net, queries, searched, k=4)
    first, dead, last = (record.name for record in net.operators if record.pieces > 1)
    assert list(found) == [first, last] and found.left_out == (dead,)

    def patterns(x: Tensor) -> list[Tensor]:
        h = module.first(x)
        return [h > 0, module.last(h.relu() + module.after(h.relu())) > 0]

    pairs = zip(patterns(queries), patterns(searched), strict=True)
    distance = torch.stack([(a[:, None] != b).double().mean(2) for a, b in pairs]).mean(0)
    order = distance.argsort(dim=1, stable=True)[:, :4]
    assert torch.equal(found.mean.ids, order) and torch.equal(found.mean.distances, distance.gather(1, order))
    assert found.mean.left_out == (dead,)
    words = f"left out: 1 operator that never switches on the data ({dead})"
    assert words in str(found) and words in found._repr_html_()
    with pytest.raises(KeyError, match="left out: 1 operator"):
        found[dead]
    # What a query does at an operator that never switches on the searched inputs is the same for all of them.
    assert list(neighbors(net, queries, searched[:1], k=1)) == [first, dead, last]


def test_a_network_that_never_switches_has_the_mean_alone() -> None:
    layer = nn.Linear(6, 8)
    nn.init.constant_(layer.bias, 100.0)
    net = ma.capture(nn.Sequential(layer, nn.ReLU()).eval(), torch.zeros(2, 6))
    found = neighbors(net, torch.rand(2, 6), torch.rand(9, 6), k=3)
    assert list(found) == [] and found.left_out == ("1",)
    assert found.mean.ids.tolist() == [[0, 1, 2]] * 2 and not found.mean.distances.any()
    assert str(found).count("mean") == 2


def test_looks(net: ma.SplineNetwork) -> None:
    x = drawn(8, 0)
    found = neighbors(net, x, x, k=2)
    first = int(found["1"].ids[0, 1])
    assert str(found).startswith("DepthNeighbors: 8 queries, the 2 nearest at 3 operators\n")
    assert f"0 (0.000), {first} (" in str(found) and str(found).count("mean") == 5
    assert found._repr_html_().count("<tr>") == 1 + 5 * 4
    with pytest.raises(KeyError, match="no operator '9'; searched were"):
        found["9"]


def test_bad_input(net: ma.SplineNetwork) -> None:
    x = drawn(8, 0)
    with pytest.raises(BadInput, match="k=9, but the index holds 8 rows"):
        neighbors(net, x, x, k=9)
    with pytest.raises(BadInput, match="k=0"):
        neighbors(net, x, x, k=0)
    with pytest.raises(BadInput, match=r"\['typo'\] are not piecewise-affine operators"):
        neighbors(net, x, x, operators=["typo"])
    with pytest.raises(BadInput, match="operators: none"):
        neighbors(net, x, x, operators=[])
    with pytest.raises(BadInput, match=r"searched: codes without the operators \['1', '2'\]"):
        neighbors(net, x, net.codes(x, ["5"]))
    with pytest.raises(ShapeMismatch):
        neighbors(net, x[..., 1:], x)
    affine = ma.capture(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), x[:2])
    with pytest.raises(BadInput, match="no piecewise-affine operator"):
        neighbors(affine, x, x)


class BothWays(nn.Module):
    """Two layers in both directions over eight steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.rnn = nn.RNN(2, 6, num_layers=2, bidirectional=True, batch_first=True, nonlinearity="relu")
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0][:, -1]


def test_neighbors_of_sequences_at_a_time_step() -> None:
    """By the states' signs of every layer and direction at that step, from either end; bad steps are refused."""
    model, x = BothWays(), torch.randn(30, 8, 2, generator=torch.Generator().manual_seed(4))
    net = ma.capture(model, x[:2])
    # The second layer's states are the module's own outputs, forward and backward side by side.
    outputs, _ = model.rnn(x)
    for time in (0, 5, -1):
        found = neighbors(net, x[:4], x, k=3, time=time)
        patterns = outputs[:, time] > 0
        expected = (patterns[:4, None, :6] != patterns[None, :, :6]).double().mean(2).sort(1).values[:, :3]
        backward = (patterns[:4, None, 6:] != patterns[None, :, 6:]).double().mean(2).sort(1).values[:, :3]
        layers = [one.distances for one in found.values()]
        assert len(layers) == 4
        assert torch.equal(layers[2], expected) and torch.equal(layers[3], backward)
    with pytest.raises(BadInput, match="time: 8 is not one of the 8 steps"):
        neighbors(net, x[:1], x, time=8)
    with pytest.raises(BadInput, match="leave one of the two out"):
        neighbors(net, x[:1], x, time=1, operators=["rnn.relu"])
    with pytest.raises(BadInput, match="no recurrent layer"):
        neighbors(net, x[:1], x, time=1, axis=1)
