"""Neighbours against a search that counts differing activation patterns one pair after another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maxaffine.data import DataSet, Split
from maxaffine.report import Choices, Contents
from maxaffine.report.audit import audit_lines, audit_of
from maxaffine.report.facts import Neighbours
from maxaffine.report.neighbours import INPUT, MEAN, neighbours_among, searched_inputs
from maxaffine.report.sections.subject import find_subject, spaced


def _found(model: nn.Module, data: DataSet, chosen: list[int], choices: Choices) -> Neighbours | None:
    subject = find_subject(model, data, choices)
    searched = searched_inputs(subject, choices)
    return None if searched is None else neighbours_among(searched, subject, chosen, choices)


def _patterns(model: nn.Sequential, inputs: Tensor) -> dict[str, np.ndarray]:
    """The codes of the module's three piecewise-affine layers, read off its own activations."""
    first = model[0](inputs)
    pooled = nn.functional.max_pool2d(first.relu(), 2, return_indices=True)
    hidden = model[4](pooled[0].flatten(1))
    patterns = {"1 (relu)": first > 0, "2 (max_pool2d)": pooled[1], "5 (relu)": hidden > 0}
    return {name: pattern.flatten(1).numpy() for name, pattern in patterns.items()}


def test_neighbours_equal_a_slow_search(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    found = contents.neighbours
    assert isinstance(found, Neighbours)
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


def test_shares_count_neighbours_of_the_same_class(contents: Contents, data: DataSet) -> None:
    found = contents.neighbours
    assert isinstance(found, Neighbours)
    shares = dict(found.shares)
    assert list(shares) == [INPUT, "1 (relu)", "2 (max_pool2d)", "5 (relu)", MEAN]
    hits = []
    for x, label in zip(data.test.inputs, data.test.labels, strict=True):
        far = (data.train.inputs - x).flatten(1).norm(dim=1)
        hits += [bool(data.train.labels[i] == label) for i in far.argsort()[: found.count]]
    assert shares[INPUT] == pytest.approx(np.mean(hits))
    assert found.chance == pytest.approx(1 / 3)


def test_operators_and_training_inputs_are_spread_out(model: nn.Sequential, data: DataSet) -> None:
    found = _found(model, data, [3], Choices(layers=2, neighbours=50, train_limit=7))
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
    network = nn.Sequential(nn.Flatten(), wide, nn.ReLU(), nn.Linear(2, 3))
    inputs = torch.cat([data.train.inputs, data.train.inputs[7:8]])
    copied = dataclasses.replace(data, train=Split(inputs, torch.cat([data.train.labels, data.train.labels[7:8]])))
    planted = data.test.inputs.clone()
    planted[11] = data.train.inputs[7]
    copied = dataclasses.replace(copied, test=Split(planted, data.test.labels))
    subject = find_subject(network.eval(), copied, Choices())
    searched = searched_inputs(subject, Choices())
    assert searched is not None
    found, audit = neighbours_among(searched, subject, [0], Choices()), audit_of(searched, subject)
    assert found.together == found.probes == 30 and found.twins == ((11, 7),)
    # Which ten others of the region are looked at is left to chance, so the pair may be there or not.
    assert audit.crowded == audit.inputs == 61
    assert {(pair.first, pair.second, pair.equal) for pair in audit.pairs} <= {(7, 60, True)}


def test_wrong_labels_are_looked_for_only_where_classes_are_told_apart(data: DataSet) -> None:
    layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1)]
    subject = find_subject(nn.Sequential(*layers).eval(), data, Choices())
    searched = searched_inputs(subject, Choices())
    assert searched is not None
    audit = audit_of(searched, subject)
    assert audit.suspects == () and audit.operators == ()
    assert not [line for line in audit_lines(audit) if "label-error" in line]


@given(st.integers(1, 200), st.integers(1, 200))
def test_spaced(length: int, count: int) -> None:
    places = spaced(length, count).tolist()
    assert len(set(places)) == len(places) == min(length, count)
    assert places == sorted(places)
    assert places[0] == 0
    assert count == 1 or places[-1] == length - 1
