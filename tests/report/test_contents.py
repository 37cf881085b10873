"""The numbers of a report against automatic differentiation of the module itself."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maxaffine.data import DataSet, Split
from maxaffine.errors import BadInput, NotPiecewiseAffine
from maxaffine.network import SplineNetwork
from maxaffine.report import Choices, Contents, assemble
from maxaffine.report import contents as assembling
from maxaffine.report.contents import choose_inputs

ONE = Choices(images=1, checked=4, checked_double=2, probes=4)


def _assemble(model: nn.Module, data: DataSet, **options: Any) -> Contents:
    return assemble(model.eval(), data, dataclasses.replace(ONE, **options), "a network", "drawn at random")


def _gradient(model: nn.Module, x: Tensor, unit: int) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf[None])[0, unit], leaf)[0]


def test_splits_equal_autograd(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    for one in contents.explanations:
        x = data.test.inputs[one.index]
        logits = model(x[None])[0].detach()
        assert [split.unit for split in one.splits] == logits.argsort(descending=True).tolist()
        for split in one.splits:
            gradient = _gradient(model, x, split.unit)
            inner = float((gradient * x).sum())
            np.testing.assert_allclose(split.template, gradient.numpy(), atol=1e-6)
            assert split.logit == float(logits[split.unit])
            assert split.inner == pytest.approx(inner, abs=1e-5)
            assert split.offset == pytest.approx(split.logit - inner, abs=1e-5)
            assert sum(value for _, value in split.contributions) + split.others == pytest.approx(
                split.offset, abs=1e-5
            )
            assert split.exact
        assert one.scale == max(np.abs(split.template).max() for split in one.splits)


def test_checks_ran_in_both_dtypes_and_found_nothing(contents: Contents) -> None:
    assert [check.dtype for check in contents.checks] == ["float32", "float64"]
    reports = [check.report for check in contents.checks]
    assert all(report is not None and report.exact for report in reports)
    assert contents.exact


def test_accuracy_is_that_of_the_module(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    answers = model(data.test.inputs).argmax(1)
    assert contents.accuracy == pytest.approx(float((answers == data.test.labels).double().mean()))
    for one in contents.explanations:
        assert one.predicted == data.class_names[answers[one.index]]
        assert one.right == (answers[one.index] == data.test.labels[one.index])


def test_broken_capture_is_found(model: nn.Sequential, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def crooked(module: nn.Sequential, example: Tensor, **options: Any) -> SplineNetwork:
        last = nn.Linear(3, 3, dtype=example.dtype).requires_grad_(False)
        last.weight.copy_(torch.eye(3) * (1 + 1e-3))
        other = nn.Sequential(*module, last)
        return capture(other, example, **options)

    capture = assembling.capture
    monkeypatch.setattr(assembling, "capture", crooked)
    found = _assemble(model, data)
    assert not found.exact
    assert not any(check.report.exact for check in found.checks if check.report)
    assert not all(split.exact for one in found.explanations for split in one.splits)


def test_classes_below_the_top_are_left_out_but_the_own_class_stays(model: nn.Sequential, data: DataSet) -> None:
    found = _assemble(model, data, images=30, classes=1)
    sizes = {one.right: len(one.splits) for one in found.explanations}
    assert sizes == {True: 1, False: 2}
    assert all(one.splits[-1].label for one in found.explanations)


def test_outputs_that_are_no_classes(data: DataSet) -> None:
    torch.manual_seed(0)
    found = _assemble(nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU()), data)
    assert found.accuracy is None
    assert found.explanations[0].right is None
    assert found.explanations[0].predicted.startswith("output ")
    assert found.exact


def test_an_output_of_any_shape_and_several_of_them(data: DataSet) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.head = nn.Linear(36, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"map": self.conv(x).relu(), "logits": self.head(x.flatten(1))}

    torch.manual_seed(0)
    model = Two().requires_grad_(False)
    whole = _assemble(model, data)
    assert whole.accuracy is None
    one = whole.explanations[0]
    x = data.test.inputs[one.index]
    flat = model(x[None])["map"].flatten()
    assert one.splits[0].unit == int(flat.argmax())
    assert one.splits[0].logit == pytest.approx(float(flat.max()))
    assert _assemble(model, data, output_index=1).accuracy is not None
    with pytest.raises(BadInput, match="output_index: the model has 2 outputs"):
        _assemble(model, data, output_index=2)


def test_stops_before_a_softmax(model: nn.Sequential, data: DataSet) -> None:
    soft = nn.Sequential(model, nn.Softmax(1))
    with pytest.raises(NotPiecewiseAffine, match="softmax"):
        _assemble(soft, data)
    found = _assemble(soft, data, output="pre_activation")
    split = found.explanations[0].splits[0]
    logits = model(data.test.inputs[found.explanations[0].index][None])[0]
    assert found.exact
    assert split.logit == pytest.approx(float(logits[split.unit]))


def test_stops_behind_a_module(model: nn.Sequential, data: DataSet) -> None:
    found = _assemble(nn.Sequential(model, nn.Tanh()), data, until="0.5")
    one = found.explanations[0]
    inner = nn.Sequential(*list(model.children())[:6])(data.test.inputs[one.index][None])[0]
    assert found.exact
    assert one.splits[0].logit == pytest.approx(float(inner.max()))


def test_a_model_that_cannot_change_its_dtype_is_said_to_be_unchecked(data: DataSet) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(36, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight.float()

    first, second = _assemble(Single(), data).checks
    assert first.report is not None and first.report.exact
    assert second.report is None and "cannot run in float64" in second.reason


def test_float64_models_are_checked_once(model: nn.Sequential, data: DataSet) -> None:
    found = _assemble(copy.deepcopy(model).double(), data)
    assert [check.dtype for check in found.checks] == ["float64"]


def test_the_model_is_left_as_it_was(model: nn.Sequential, data: DataSet) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _assemble(nn.Sequential(model, nn.Softmax(1)), data, until="0.5")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=40), st.integers(1, 12))
def test_chosen_inputs(rows: list[tuple[bool, int]], count: int) -> None:
    right, labels = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    chosen = choose_inputs(right, labels, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(rows))
    answers = right[chosen].tolist()
    assert answers == sorted(answers, reverse=True)
    assert answers.count(False) >= min(count // 3, int((~right).sum()))
    available = Counter(labels[right].tolist())
    shown = Counter(labels[[index for index in chosen if right[index]]].tolist())
    # One class after another: no class is shown twice more than another that still has inputs left.
    for label, times in shown.items():
        assert all(shown[other] >= times - 1 for other, left in available.items() if left > shown[other]), label


def test_one_test_input_is_enough(model: nn.Sequential, data: DataSet) -> None:
    single = dataclasses.replace(data, test=Split(data.test.inputs[:1], data.test.labels[:1]))
    found = _assemble(model, single, images=6)
    assert [one.index for one in found.explanations] == [0]
