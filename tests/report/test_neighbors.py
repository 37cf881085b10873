"""Neighbors against a search that counts differing activation patterns one pair after another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maxaffine._data import DataSet, Split
from maxaffine._report import Choices, Contents, as_text, look_up, lookup_text
from maxaffine._report.audit import Audit, _judges, audit_lines, audit_of
from maxaffine._report.facts import LeftOut, Neighborhoods
from maxaffine._report.neighbors import (
    INPUT,
    MEAN,
    NEARLY,
    apart,
    nearly_equal,
    neighbors_among,
    searched_inputs,
    typical_distance,
)
from maxaffine._report.page import render
from maxaffine._report.subject import find_subject, spread_evenly
from maxaffine.errors import BadInput


def _found(model: nn.Module, data: DataSet, chosen: list[int], choices: Choices) -> Neighborhoods | None:
    subject = find_subject(model, data, choices)
    searched = searched_inputs(subject, choices)
    return None if isinstance(searched, LeftOut) else neighbors_among(searched, subject, chosen, choices)


def _patterns(model: nn.Sequential, inputs: Tensor) -> dict[str, np.ndarray]:
    """The codes of the module's three piecewise-affine layers, read off its own activations."""
    first = model[0](inputs)
    pooled = nn.functional.max_pool2d(first.relu(), 2, return_indices=True)
    hidden = model[4](pooled[0].flatten(1))
    patterns = {"1 (relu)": first > 0, "2 (max_pool2d)": pooled[1], "5 (relu)": hidden > 0}
    return {name: pattern.flatten(1).numpy() for name, pattern in patterns.items()}


def test_neighbors_equal_a_slow_search(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    found = contents.neighbors
    assert isinstance(found, Neighborhoods)
    train = _patterns(model, data.train.inputs)
    for query in found.queries:
        own = {name: pattern[0] for name, pattern in _patterns(model, data.test.inputs[query.index][None]).items()}
        distances = {
            name: np.array([np.mean(own[name] != other) for other in pattern]) for name, pattern in train.items()
        }
        distances[MEAN] = np.mean(list(distances.values()), axis=0)
        assert [name for name, _ in query.layers] == list(distances)
        for name, layer in query.layers:
            nearest = sorted(range(60), key=lambda index, name=name: (round(distances[name][index], 12), index))[:4]
            # Means that are equal but for their last bit may stand in either order.
            ordered = sorted(layer, key=lambda one: (round(one.distance, 12), one.index))
            assert [one.index for one in (ordered if name == MEAN else layer)] == nearest
            assert [one.distance for one in layer] == pytest.approx(distances[name][nearest].tolist())
            assert [one.label for one in layer] == [data.class_names[data.train.labels[one.index]] for one in layer]
            assert [one.same for one in layer] == [one.label == query.label for one in layer]
    assert set(found.inputs) == {one.index for query in found.queries for _, layer in query.layers for one in layer}


def test_shares_count_neighbors_of_the_same_class(contents: Contents, data: DataSet) -> None:
    found = contents.neighbors
    assert isinstance(found, Neighborhoods)
    shares = dict(found.shares)
    assert list(shares) == [INPUT, "1 (relu)", "2 (max_pool2d)", "5 (relu)", MEAN]
    hits = []
    for x, label in zip(data.test.inputs, data.test.labels, strict=True):
        far = (data.train.inputs - x).flatten(1).norm(dim=1)
        hits += [bool(data.train.labels[i] == label) for i in far.argsort()[: found.count]]
    assert shares[INPUT] == pytest.approx(np.mean(hits))
    assert found.chance == pytest.approx(1 / 3)


def test_operators_and_training_inputs_are_spread_out(model: nn.Sequential, data: DataSet) -> None:
    found = _found(model, data, [3], Choices(layers=2, neighbors=50, train_limit=7))
    assert found is not None
    assert (found.operators, found.available) == (("1", "5"), 3)
    assert found.encoded == found.count == 7
    assert {one.index for one in found.queries[0].layers[0][1]} == {0, 10, 20, 30, 39, 49, 59}


def test_one_operator_has_no_mean(data: DataSet) -> None:
    found = _found(nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU()), data, [0], Choices())
    assert found is not None
    assert [name for name, _ in found.queries[0].layers] == ["2 (relu)"]


def test_affine_networks_have_none(data: DataSet) -> None:
    assert _found(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), data, [0], Choices()) is None


def test_classes_missing_from_the_training_part(model: nn.Sequential, data: DataSet) -> None:
    few = dataclasses.replace(data, train=data.train.take(torch.tensor([0, 3, 6])))
    found = _found(model, few, [1], Choices())
    assert found is not None
    assert found.chance == pytest.approx(1 / 3)
    assert not any(one.same for _, layer in found.queries[0].layers for one in layer)


def test_test_inputs_that_are_training_inputs_are_found(model: nn.Module, data: DataSet) -> None:
    planted = data.test.inputs.clone()
    planted[11] = data.train.inputs[42]
    found = _found(model, dataclasses.replace(data, test=Split(planted, data.test.labels)), [0], Choices())
    assert found is not None and (11, 42) in found.twins
    clean = _found(model, data, [0], Choices())
    assert clean is not None and (11, 42) not in clean.twins


def test_inputs_of_one_large_region_are_no_copies(data: DataSet) -> None:
    wide = nn.Linear(36, 2)
    nn.init.constant_(wide.bias, 100.0)
    with torch.no_grad():
        # One unit that switches parts the inputs in two halves.
        wide.weight[1] = 1.0
        wide.bias[1] = -float(data.train.inputs.flatten(1).sum(1).median())
    network = nn.Sequential(nn.Flatten(), wide, nn.ReLU(), nn.Linear(2, 3))
    inputs = torch.cat([data.train.inputs, data.train.inputs[7:8]])
    copied = dataclasses.replace(data, train=Split(inputs, torch.cat([data.train.labels, data.train.labels[7:8]])))
    planted = data.test.inputs.clone()
    planted[11] = data.train.inputs[7]
    copied = dataclasses.replace(copied, test=Split(planted, data.test.labels))
    subject = find_subject(network.eval(), copied, Choices())
    searched = searched_inputs(subject, Choices())
    assert not isinstance(searched, LeftOut)
    found, audit = neighbors_among(searched, subject, [0], Choices()), audit_of(searched, subject)
    assert found.together == found.probes == 30 and found.twins == ((11, 7),)
    # Which ten others of the region are looked at is left to chance, so the pair may be there or not.
    assert audit.crowded == audit.inputs == 61
    assert {(pair.first, pair.second, pair.equal) for pair in audit.pairs} <= {(7, 60, True)}


def test_wrong_labels_are_looked_for_only_where_classes_are_told_apart(data: DataSet) -> None:
    layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1)]
    subject = find_subject(nn.Sequential(*layers).eval(), data, Choices())
    searched = searched_inputs(subject, Choices())
    assert not isinstance(searched, LeftOut)
    audit = audit_of(searched, subject)
    assert audit.suspects == () and audit.operators == ()
    assert not [line for line in audit_lines(audit) if "label-error" in line]


@pytest.mark.parametrize("bias", [-100.0, 100.0])
def test_an_operator_that_never_switches_is_left_out(data: DataSet, bias: float) -> None:
    """Beside one that switches: against a search by that one alone."""
    torch.manual_seed(1)
    first, dead, last = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 3)
    nn.init.constant_(dead.bias, bias)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), dead, nn.ReLU(), last).eval()
    found = _found(network, data, [0], Choices(neighbors=4))
    alone = _found(network, data, [0], Choices(neighbors=4, operators=("2",)))
    assert found is not None and alone is not None
    assert found.left_out == ("4 (relu)",) and found.operators == ("2",) and found.available == 2
    assert found.shares == alone.shares and found.queries[0].layers == alone.queries[0].layers
    assert found.left_out_words == "Left out: 4 (relu), which never switches on the searched training inputs."
    assert alone.left_out == () and alone.left_out_words == ""
    text = lookup_text(look_up(find_subject(network, data, Choices(neighbors=4)), [0]))
    assert "\n" + found.left_out_words + "\n" in text


def test_a_report_says_what_is_left_out(contents: Contents) -> None:
    assert isinstance(contents.neighbors, Neighborhoods)
    near = dataclasses.replace(contents.neighbors, left_out=("a", "b"))
    words = "Left out: 2 operators that never switch on the searched training inputs (a, b)."
    assert near.left_out_words == words
    assert isinstance(contents.audit, Audit)
    audit = dataclasses.replace(contents.audit, too_small=(("rare", 2),), judges=10)
    whole = dataclasses.replace(contents, neighbors=near, audit=audit)
    for text in (as_text(whole), render(whole)):
        assert near.left_out_words in text and audit.too_small_words in text
    assert "eft out" not in as_text(contents) and "oo small" not in as_text(contents)


def test_where_nothing_switches_nothing_is_near(data: DataSet) -> None:
    layer = nn.Linear(36, 3)
    nn.init.constant_(layer.bias, 100.0)
    subject = find_subject(nn.Sequential(nn.Flatten(), layer, nn.ReLU()).eval(), data, Choices())
    found = searched_inputs(subject, Choices())
    assert isinstance(found, LeftOut)
    assert found.reason.startswith("Nothing ever switches at 2 (relu) on the 60 training inputs")
    with pytest.raises(BadInput, match=r"operators: nothing ever switches at 2 \(relu\) .*; name others"):
        look_up(subject)


@pytest.mark.parametrize("small", [1, 2, 3])
def test_a_class_of_few_inputs_is_not_suspected(model: nn.Module, data: DataSet, small: int) -> None:
    """One more class of one to three inputs, drawn like those of the others."""
    labels = data.train.labels.clone()
    labels[6 : 6 + small] = 3
    few = dataclasses.replace(data, train=Split(data.train.inputs, labels), class_names=(*data.class_names, "rare"))
    subject = find_subject(model, few, Choices())
    searched = searched_inputs(subject, Choices())
    assert not isinstance(searched, LeftOut)
    audit = audit_of(searched, subject)
    assert audit.too_small == (("rare", small),) and audit.judges == 10
    assert not [one for one in audit.suspects if one.label == "rare"]
    words = f"Too small to judge (at most 10 inputs each): 1 class (rare with {small})."
    assert audit.too_small_words == words and f"  {words}" in audit_lines(audit)


def test_data_of_small_classes_is_judged_by_fewer_neighbors() -> None:
    assert _judges(torch.arange(60) % 3) == 10
    assert _judges(torch.arange(24) % 4) == 5
    assert _judges(torch.arange(6)) == 3


@given(st.integers(1, 200), st.integers(1, 200))
def test_spaced(length: int, count: int) -> None:
    places = spread_evenly(length, count).tolist()
    assert len(set(places)) == len(places) == min(length, count)
    assert places == sorted(places)
    assert places[0] == 0
    assert count == 1 or places[-1] == length - 1


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3)])
def test_two_inputs_drawn_at_random_are_one_apart(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(400, *shape, generator=torch.Generator().manual_seed(0))
    if len(shape) == 1:
        # The columns of a table have units of their own.
        inputs = inputs * torch.tensor([1e-3, 1.0, 1e4, 0.0])
    scale = typical_distance(inputs)
    squares = torch.stack([apart(inputs, inputs.roll(by, 0), scale).square() for by in range(400)])
    assert float(squares.mean()) == pytest.approx(0.75 if len(shape) == 1 else 1.0, rel=1e-6)
    nearly = inputs.clone()
    nearly[:, 0] *= 1.01
    assert (apart(inputs, nearly, scale) < NEARLY).all() and (apart(inputs, inputs, scale) == 0).all()


def test_nearly_equal_is_nearer_than_chance_brings_any_two() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.rand(1200, 4, generator=generator)
    limit, scale = nearly_equal(few, typical_distance(few)), typical_distance(few)
    # Of four columns many pairs are as near as that share by chance, and none within the limit.
    apart_ = torch.pdist(few.double() / scale)
    assert (apart_ < NEARLY).sum() > 5 and 0 < limit < NEARLY and not (apart_ < limit).any()
    many = torch.rand(1200, 64, generator=generator)
    assert nearly_equal(many, typical_distance(many)) == NEARLY
    # Copies of all do not make it smaller, which are found then; too few to tell; all equal.
    twice = torch.cat([many, many + 1e-3])
    assert nearly_equal(twice, typical_distance(twice)) == nearly_equal(few[:10], scale) == NEARLY
    assert nearly_equal(few[:1].expand(50, -1), scale) == 0
