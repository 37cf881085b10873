import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxaffine._data import DataSet, Split
from maxaffine._data.dataset import split_by_class
from maxaffine.errors import BadInput, DataError


def numbered(labels: list[int]) -> Split:
    return Split(torch.arange(len(labels), dtype=torch.float32)[:, None], torch.tensor(labels))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.floats(0.05, 0.9), st.integers(0, 2**32))
def test_split_keeps_every_row_once_and_every_class_in_training(labels, fraction, seed):
    counts = np.bincount(labels)
    if counts.max() < 2:
        with pytest.raises(DataError, match="two members"):
            split_by_class("lists", numbered(labels), ("a", "b", "c", "d", "e"), fraction, seed)
        return
    data = split_by_class("lists", numbered(labels), ("a", "b", "c", "d", "e"), fraction, seed)
    rows = torch.cat([data.train.inputs, data.test.inputs]).flatten().tolist()
    assert sorted(rows) == list(range(len(labels)))
    for split in (data.train, data.test):
        assert split.inputs.flatten().tolist() == sorted(split.inputs.flatten().tolist())
        assert all(labels[int(row)] == label for row, label in zip(split.inputs[:, 0], split.labels, strict=True))
    in_test = np.bincount(data.test.labels.numpy(), minlength=len(counts))
    for held, count in zip(in_test, counts, strict=True):
        assert held == (0 if count < 2 else min(max(1, round(fraction * count)), count - 1))


def test_split_depends_on_the_seed_alone():
    whole = numbered([0, 1] * 50)
    first, again, other = (split_by_class("s", whole, ("a", "b"), 0.3, seed).test.inputs for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_test_fraction_outside_the_open_unit_interval_is_refused(fraction):
    with pytest.raises(BadInput, match="test_fraction"):
        split_by_class("s", numbered([0, 0, 1, 1]), ("a", "b"), fraction, 0)


@pytest.mark.parametrize("seed", [-1, True])
def test_an_impossible_seed_is_refused(seed):
    with pytest.raises(BadInput, match=f"seed: {seed} is not a whole number of at least 0; the default is 0"):
        split_by_class("s", numbered([0, 0, 1, 1]), ("a", "b"), 0.5, seed)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), r"expected \(N, C, H, W\)"),
        (torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64), "float64"),
        (torch.zeros(2, 3), torch.zeros(2), "float32; reshape or cast"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), "labels: 3 for 2 inputs; give one label per input"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "holds nothing"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), "-1 is negative"),
    ],
)
def test_malformed_splits_are_refused(inputs, labels, message):
    with pytest.raises(DataError, match=message):
        Split(inputs, labels)


def test_parts_that_do_not_belong_together_are_refused():
    small, large = Split(torch.zeros(1, 2), torch.tensor([0])), Split(torch.zeros(1, 3), torch.tensor([0]))
    with pytest.raises(DataError, match="one training input"):
        DataSet("two", small, large, ("a",))
    with pytest.raises(DataError, match="label 0 has no name"):
        DataSet("two", small, small, ())


def test_representation_shows_sizes_and_no_numbers():
    split = numbered([0, 1, 1])
    data = DataSet("three", split, split.take(slice(0, 2)), ("a", "b"))
    assert repr(data) == "DataSet('three', input_shape=(1,), train 3, test 2, 2 classes)"
    assert len(data.test) == 2
    assert data.classes == 2
