"""Planted duplicates and planted wrong labels are found, and a loop over pairs gives the same scores."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import maxaffine as ma
from maxaffine._codes import Codes
from maxaffine._data import DataSet, Split, load
from maxaffine._models import build, train
from maxaffine._search.audit import label_errors, near_duplicates
from maxaffine.errors import BadInput
from tests.search.drawn import drawn, naive_distance


class Planted(NamedTuple):
    """Digits with planted copies at the end, and a network that learned them with planted wrong labels."""

    codes: Codes
    given: Tensor
    right: Tensor
    wrong: Tensor
    copies: dict[str, set[tuple[int, int]]]


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load("digits")


@pytest.fixture(scope="module")
def planted(digits: DataSet) -> Planted:
    """5% of the labels are wrong; 20 exact copies, 20 darker ones, 20 with noise."""
    draw = torch.Generator().manual_seed(0)
    x, right = digits.train.inputs, digits.train.labels
    wrong = torch.randperm(len(x), generator=draw)[: len(x) // 20]
    given = right.clone()
    given[wrong] = (right[wrong] + torch.randint(1, 10, (len(wrong),), generator=draw)) % 10
    model = build("cnn", digits.input_shape, 10, seed=0)
    train(model, Split(x, given), epochs=6, seed=0, progress=False)
    net = ma.capture(model, x[:2])
    places = torch.randperm(len(x), generator=draw)[:60].view(3, 20)
    noise = 0.02 * torch.randn(20, *digits.input_shape, generator=draw)
    added = [x[places[0]], 0.9 * x[places[1]], (x[places[2]] + noise).clamp(0, 1)]
    copies = {
        name: {(int(place), len(x) + 20 * kind + i) for i, place in enumerate(places[kind])}
        for kind, name in enumerate(("exact", "darker", "noisy"))
    }
    return Planted(net.codes(torch.cat([x, *added])), given, right, wrong, copies)


def test_planted_duplicates_are_found(planted: Planted) -> None:
    found = near_duplicates(planted.codes)
    pairs = {tuple(pair) for pair in found.pairs.tolist()}
    rates = {name: len(wanted & pairs) / 20 for name, wanted in planted.copies.items()}
    assert rates["exact"] == 1 and rates["darker"] >= 0.95 and rates["noisy"] >= 0.9
    every = set().union(*planted.copies.values())
    assert len(every & {tuple(pair) for pair in found.pairs[:60].tolist()}) >= 54
    assert len(pairs - every) <= 0.03 * planted.codes.batch
    exact = [tuple(pair) in planted.copies["exact"] for pair in found.pairs.tolist()]
    assert all(exact[:20]) and found.scores[:20].tolist() == [1.0] * 20


def test_planted_label_errors_are_found(planted: Planted, digits: DataSet) -> None:
    n = len(planted.given)
    found = label_errors(planted.codes.rows(slice(0, n)), planted.given)
    candidates, wrong = set(found.candidates.tolist()), set(planted.wrong.tolist())
    assert len(candidates & wrong) >= 0.9 * len(wrong)
    assert len(candidates & wrong) >= 0.9 * len(candidates)
    corrected = found.suggested[planted.wrong] == planted.right[planted.wrong]
    assert corrected.double().mean() >= 0.9
    assert found.operators == ("6", "7", "10")


def test_right_labels_give_few_candidates(planted: Planted) -> None:
    found = label_errors(planted.codes.rows(slice(0, len(planted.right))), planted.right)
    assert len(found) <= 0.01 * len(planted.right)


@given(st.integers(5, 9), st.integers(1, 4), st.integers(0, 200))
def test_scores_equal_a_loop(n: int, k: int, seed: int) -> None:
    codes = drawn(n, seed)
    weights = {"relu": 0.5, "pool": 0.25, "wide": 1.0}
    distance = naive_distance(codes, codes, weights).tolist()
    others = [sorted((d, j) for j, d in enumerate(row) if j != i)[:k] for i, row in enumerate(distance)]
    expected = {}
    for i, near in enumerate(others):
        for d, j in near:
            score = 1.0 if d == 0 else 1 - d / max(others[i][-1][0], others[j][-1][0])
            if score >= 0.3:
                expected[min(i, j), max(i, j)] = score
    found = near_duplicates(codes, 0.3, weights, k)
    assert {tuple(pair) for pair in found.pairs.tolist()} == set(expected)
    pairs = [tuple(pair) for pair in found.pairs.tolist()]
    assert found.scores.tolist() == pytest.approx([expected[pair] for pair in pairs])
    assert found.distances.tolist() == pytest.approx([distance[a][b] for a, b in pairs])
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


@given(st.integers(5, 9), st.integers(1, 4), st.integers(0, 200), st.sampled_from([0.25, 0.5, 1.0]))
def test_label_scores_equal_a_loop(n: int, k: int, seed: int, threshold: float) -> None:
    codes = drawn(n, seed)
    labels = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed))
    votes = [[0, 0, 0] for _ in range(n)]
    switching = [name for name in ("pool", "wide") if len(codes[name].unpack().unique(dim=0)) > 1]
    if not switching:
        with pytest.raises(BadInput, match="none of"):
            label_errors(codes, labels, ["pool", "wide"], k, threshold)
        return
    for name in switching:
        for i, row in enumerate(naive_distance(codes, codes, {name: 1.0}).tolist()):
            for _, j in sorted((d, j) for j, d in enumerate(row) if j != i)[:k]:
                votes[i][int(labels[j])] += 1
    found = label_errors(codes, labels, ["pool", "wide"], k, threshold)
    others = [labels.tolist().count(int(label)) - 1 for label in labels]
    pairs = zip(votes, labels.tolist(), others, strict=True)
    scores = [1 - vote[label] / (len(switching) * min(k, reach)) if reach else 0.0 for vote, label, reach in pairs]
    suggested = [vote.index(max(vote)) for vote in votes]
    assert found.scores.tolist() == pytest.approx(scores)
    assert found.suggested.tolist() == suggested
    wanted = [i for i in range(n) if scores[i] >= threshold and suggested[i] != int(labels[i]) and others[i] >= k]
    assert found.candidates.tolist() == sorted(wanted, key=lambda i: (-scores[i], i))
    small = {int(label): count + 1 for label, count in zip(labels, others, strict=True) if count < k}
    assert found.too_small == small


@given(st.integers(5, 9), st.integers(1, 4), st.integers(0, 50))
def test_names_of_classes_do_not_matter(n: int, k: int, seed: int) -> None:
    """However large they are: nothing is kept for the classes between them."""
    codes = drawn(n, seed)
    labels = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed))
    small, large = (label_errors(codes, given, k=k, threshold=0.5) for given in (labels, labels * 2**61))
    assert torch.equal(large.suggested, small.suggested * 2**61)
    assert torch.equal(large.scores, small.scores) and torch.equal(large.candidates, small.candidates)


def test_inputs_of_one_region_are_not_their_own_neighbors() -> None:
    codes = Codes.from_tensors({"relu": (torch.tensor([[0, 1]] * 6 + [[1, 1]]), 2)})
    found = near_duplicates(codes, k=2)
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all() and found.scores.tolist() == [1.0] * len(found)
    assert found.groups == ((0, 1, 2, 3, 4, 5),)
    errors = label_errors(codes, [0, 0, 0, 0, 0, 1, 1], k=1)
    assert errors.candidates.tolist() == [5, 6]
    assert not (errors.neighbors == torch.arange(7)[:, None]).any()


def _clusters(sizes: list[int], seed: int = 0, units: int = 64) -> tuple[Codes, Tensor]:
    """Codes around one center per class: inputs of a class differ in a few units, those of two in half of them."""
    draw = torch.Generator().manual_seed(seed)
    centers = torch.randint(0, 2, (len(sizes), units), generator=draw)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    flips = (torch.rand(len(labels), units, generator=draw) < 0.05).long()
    return Codes.from_tensors({"relu": (centers[labels] ^ flips, 2)}), labels


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 10])
@pytest.mark.parametrize("apart", [True, False])
def test_small_classes_are_too_small_to_judge(size: int, apart: bool) -> None:
    """A class of at most k inputs, in a place of its own or (where nothing was learned of it) among another class."""
    codes, labels = _clusters([40, 40, size])
    if not apart:
        codes, labels = _clusters([40, 40 + size])[0], labels
    given = labels.clone()
    given[[3, 50]] = torch.tensor([1, 0])
    for threshold in (0.9, 0.5):
        found = label_errors(codes, given, threshold=threshold)
        assert found.candidates.tolist() == [3, 50]
        assert found.suggested[found.candidates].tolist() == [0, 1]
        assert found.too_small == {2: size}
        assert f"too small to judge with k=10: 1 classes (2 of {size})" in str(found)
        assert f"2 of {size}" in found._repr_html_()
    scores = found.scores[80:].tolist()
    assert scores == ([0.0] * size if apart or size == 1 else pytest.approx(scores))
    # Each of the others of a class that lies apart is among the nearest, so none is missing.
    assert not apart or max(scores) == 0


def test_a_class_of_more_than_k_is_judged() -> None:
    """What says nothing of a small class finds the same errors once the class is large enough."""
    codes, labels = _clusters([40, 40, 11])
    given = labels.clone()
    given[[3, 85]] = torch.tensor([2, 1])
    found = label_errors(codes, given)
    assert found.candidates.tolist() == [3, 85] and found.too_small == {}
    assert label_errors(codes, given, k=11).candidates.tolist() == [85]


def _with_dead(codes: Codes, name: str, pieces: int = 2) -> Codes:
    """The same codes with an operator before and one after them, neither of which ever switches."""
    still = torch.full((codes.batch, 7), pieces - 1)
    dead = Codes.from_tensors({f"{name} 1": (still, pieces), f"{name} 2": (still * 0, pieces)})
    return Codes({f"{name} 1": dead[f"{name} 1"], **codes, f"{name} 2": dead[f"{name} 2"]})


@pytest.mark.parametrize("pieces", [1, 2, 4, 9])
def test_operators_that_never_switch_judge_nothing(pieces: int) -> None:
    codes, labels = _clusters([30, 30])
    given = labels.clone()
    given[[3, 50]] = torch.tensor([1, 0])
    dead = _with_dead(codes, "dead", pieces)
    plain, found = label_errors(codes, given), label_errors(dead, given)
    assert found.left_out == dead.unswitched == ("dead 1", "dead 2") and found.operators == ("relu",)
    assert torch.equal(found.scores, plain.scores) and found.candidates.tolist() == [3, 50]
    assert "left out: 2 operators that never switch on the data (dead 1, dead 2)" in str(found)
    assert label_errors(dead, given, ["relu", "dead 2"]).left_out == ("dead 2",)
    with pytest.raises(BadInput, match=r"operators: none of \['dead 1'\] ever switches on these inputs"):
        label_errors(dead, given, "dead 1")
    near, alike = near_duplicates(dead), near_duplicates(codes)
    assert near.left_out == ("dead 1", "dead 2") and torch.equal(near.distances, alike.distances)
    assert torch.equal(near.pairs, alike.pairs) and "left out: 2 operators" in str(near)
    # What is asked for by name is compared, whether it switches or not.
    assert near_duplicates(dead, weights={"relu": 1.0, "dead 1": 1.0}).left_out == ()


def test_where_nothing_switches_all_are_one_region() -> None:
    codes = Codes.from_tensors({name: (torch.ones(5, 3, dtype=torch.long), 2) for name in "ab"})
    found = near_duplicates(codes, k=2)
    assert found.left_out == () and found.distances.tolist() == [0.0] * len(found)
    assert codes.unswitched == ("a", "b") and codes.rows(0).unswitched == ()


def test_groups_join_pairs() -> None:
    rows = [[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1, 1], [1] * 8, [1] * 8]
    found = near_duplicates(Codes.from_tensors({"relu": (torch.tensor(rows), 2)}), k=3)
    assert found.groups == ((3, 4), (0, 1, 2))


def test_looks(planted: Planted) -> None:
    duplicates = near_duplicates(planted.codes)
    errors = label_errors(planted.codes.rows(slice(0, len(planted.given))), planted.given)
    a, b = duplicates.pairs[0].tolist()
    assert (
        str(duplicates).splitlines()[2].split() == [str(a), str(b), "0.0000", "1.000"]
        and str(a) in duplicates._repr_html_()
    )
    worst = int(errors.candidates[0])
    assert str(errors).startswith(f"LabelErrors: {len(errors)} candidates among 1438 inputs, at 6, 7, 10\n")
    assert f"\n  {worst} " in str(errors) and f"<td>{worst}</td>" in errors._repr_html_()


def test_bad_input() -> None:
    codes = drawn(6, 0)
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(BadInput, match="threshold="):
            near_duplicates(codes, threshold)
        with pytest.raises(BadInput, match="threshold="):
            label_errors(codes, [0] * 6, threshold=threshold)
    with pytest.raises(BadInput, match="k=6, but an input has 5 others"):
        near_duplicates(codes, k=6)
    with pytest.raises(BadInput, match="k=10, but an input has 5 others"):
        label_errors(codes, [0] * 6)
    with pytest.raises(BadInput, match=r"labels: torch.int64 of shape \(5,\); give 6"):
        label_errors(codes, [0] * 5)
    with pytest.raises(BadInput, match="-1 is negative"):
        label_errors(codes, [0, 0, 0, 0, 0, -1])
    with pytest.raises(BadInput, match=r"torch.float32 of shape \(6,\)"):
        label_errors(codes, torch.zeros(6))
    with pytest.raises(BadInput, match="unknown"):
        label_errors(codes, [0] * 6, ["typo"])
    with pytest.raises(BadInput, match="operators: none is named"):
        label_errors(codes, [0] * 6, [])
    with pytest.raises(BadInput, match="all zero"):
        near_duplicates(codes, weights={})
