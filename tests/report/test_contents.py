"""The numbers of a report against automatic differentiation of the module itself."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maxaffine import SplineNetwork
from maxaffine._data import DataSet, Split
from maxaffine._report import Choices, Contents, LeftOut, assemble, find_subject
from maxaffine._report import collect as assembling
from maxaffine._report import subject as capturing
from maxaffine._report.sections import cut, memory, origin
from maxaffine._report.sections.answers import choose_inputs
from maxaffine._report.subject import Meaning
from maxaffine._templates import Memorization
from maxaffine.errors import BadInput, NotPiecewiseAffine

ONE = Choices(images=1, checked=4, checked_double=2, probes=4, cells=50, memorized=8)


def _assemble(model: nn.Module, data: DataSet, **options: Any) -> Contents:
    return assemble(find_subject(model.eval(), data, dataclasses.replace(ONE, **options)))


def _gradient(model: nn.Module, x: Tensor, unit: int) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf[None])[0, unit], leaf)[0]


def test_splits_equal_autograd(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    for one in contents.answers:
        x = data.test.inputs[one.index]
        logits = model(x[None])[0].detach()
        assert [split.unit for split in one.splits] == logits.argsort(descending=True).tolist()
        for split in one.splits:
            gradient = _gradient(model, x, split.unit)
            inner = float((gradient * x).sum())
            np.testing.assert_allclose(split.template, gradient.numpy(), atol=1e-6)
            assert split.value == float(logits[split.unit])
            assert split.inner == pytest.approx(inner, abs=1e-5)
            assert split.offset == pytest.approx(split.value - inner, abs=1e-5)
            assert sum(value for _, value in split.contributions) + split.others == pytest.approx(
                split.offset, abs=1e-5
            )
            assert split.exact
            assert split.norm == pytest.approx(float(gradient.norm()), rel=1e-5)
            assert split.match == pytest.approx(inner / float(gradient.norm() * x.norm()), abs=1e-5)


def test_runner_ups_equal_autograd(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    for one in contents.answers:
        x = data.test.inputs[one.index]
        logits = model(x[None])[0].detach()
        first, second = logits.argsort(descending=True)[:2].tolist()
        difference = _gradient(model, x, first) - _gradient(model, x, second)
        up = one.runner_up
        assert up is not None
        assert (up.winner, up.loser) == (data.class_names[first], data.class_names[second])
        assert up.margin == pytest.approx(float(logits[first] - logits[second]), abs=1e-5)
        assert up.inner == pytest.approx(float((difference * x).sum()), abs=1e-5)
        assert up.inner + up.offset == pytest.approx(up.margin)
        assert up.distance == pytest.approx(up.margin / float(difference.norm()), rel=1e-4)
        assert up.size == pytest.approx(float(x.norm()))
        np.testing.assert_allclose(up.template, difference.numpy(), atol=1e-6)
        np.testing.assert_allclose(up.shares, (difference * x).numpy(), atol=1e-6)


def test_checks_ran_in_both_dtypes_and_found_nothing(contents: Contents) -> None:
    assert [check.dtype for check in contents.checks] == ["float32", "float64"]
    reports = [check.report for check in contents.checks]
    assert all(report is not None and report.exact for report in reports)
    assert contents.exact


def test_accuracy_is_that_of_the_module(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    answers = model(data.test.inputs).argmax(1)
    assert contents.accuracy is not None and contents.accuracy.inputs == len(data.test)
    assert contents.accuracy.share == pytest.approx(float((answers == data.test.labels).double().mean()))
    for one in contents.answers:
        assert one.predicted == data.class_names[answers[one.index]]
        assert one.right == (answers[one.index] == data.test.labels[one.index])


def test_inputs_set_aside_here_are_doubtful_tests_of_what_was_trained_elsewhere(
    model: nn.Sequential, data: DataSet
) -> None:
    subject = capturing.find_subject(model, data, ONE)
    drawn = dataclasses.replace(subject, data=dataclasses.replace(data, set_aside=True))
    fresh = dataclasses.replace(drawn, fresh=True)
    for one, doubtful in [(drawn, True), (fresh, False), (subject, False)]:
        assert origin.origin_of(one).doubtful_test == doubtful


def test_broken_capture_is_found(model: nn.Sequential, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def crooked(module: nn.Sequential, example: Tensor, **options: Any) -> SplineNetwork:
        last = nn.Linear(3, 3, dtype=example.dtype).requires_grad_(False)
        last.weight.copy_(torch.eye(3) * (1 + 1e-3))
        other = nn.Sequential(*module, last)
        return capture(other, example, **options)

    capture = capturing.capture
    for module in (capturing, origin):
        monkeypatch.setattr(module, "capture", crooked)
    found = _assemble(model, data)
    assert not found.exact
    assert not any(check.report.exact for check in found.checks if check.report)
    assert not all(split.exact for answer in found.answers for split in answer.splits)
    assert found.hints[0].place in ("exact", "space")


def test_classes_below_the_top_are_left_out_but_the_own_class_stays(model: nn.Sequential, data: DataSet) -> None:
    found = _assemble(model, data, images=30, classes=1)
    # The runner-up is always shown.
    assert all(len(one.splits) == 2 for one in found.answers if one.right)
    assert {len(one.splits) for one in found.answers if not one.right} <= {2, 3}
    assert all(any(split.label for split in one.splits) for one in found.answers)


def test_outputs_that_are_no_classes(data: DataSet) -> None:
    torch.manual_seed(0)
    found = _assemble(nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU()), data)
    assert found.accuracy is None
    assert found.answers[0].right is None
    assert found.answers[0].predicted.startswith("output ") and found.answers[0].runner_up is not None
    assert isinstance(found.memory, LeftOut) and found.meaning is Meaning.SCORES
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
    one = whole.answers[0]
    x = data.test.inputs[one.index]
    shaped = model(x[None])["map"][0]
    places = [(0, 1, 1), (1, 2, 2), (1, 3, 3)]
    assert [split.name for split in one.splits] == [f"output {place}" for place in places]
    assert [split.value for split in one.splits] == pytest.approx([float(shaped[place]) for place in places])
    assert one.runner_up is None and one.picture is not None
    np.testing.assert_allclose(one.picture, shaped.numpy())
    assert _assemble(model, data, output_index=1).accuracy is not None
    with pytest.raises(BadInput, match="output_index: the model has 2 outputs"):
        _assemble(model, data, output_index=2)


def test_stops_before_a_softmax(model: nn.Sequential, data: DataSet) -> None:
    soft = nn.Sequential(model, nn.Softmax(1))
    with pytest.raises(NotPiecewiseAffine, match="softmax"):
        _assemble(soft, data)
    found = _assemble(soft, data, output="pre_activation")
    split = found.answers[0].splits[0]
    logits = model(data.test.inputs[found.answers[0].index][None])[0]
    assert found.exact
    assert split.value == pytest.approx(float(logits[split.unit]))


def test_stops_behind_a_module(model: nn.Sequential, data: DataSet) -> None:
    found = _assemble(nn.Sequential(model, nn.Tanh()), data, until="0.5")
    one = found.answers[0]
    inner = nn.Sequential(*list(model.children())[:6])(data.test.inputs[one.index][None])[0]
    assert found.exact
    assert one.splits[0].value == pytest.approx(float(inner.max()))


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


def test_data_without_labels(model: nn.Sequential, data: DataSet) -> None:
    train, test = (Split(part.inputs, torch.zeros_like(part.labels)) for part in (data.train, data.test))
    bare = DataSet("bare", train, test, ("unlabeled",))
    found = _assemble(model, bare, images=3)
    assert found.meaning is Meaning.VALUES and found.accuracy is None
    assert isinstance(found.memory, LeftOut) and "the network gives values" in found.memory.reason
    assert [one.label for one in found.answers] == [one.predicted for one in found.answers] == ["", "", ""]
    assert not isinstance(found.neighbors, LeftOut) and found.neighbors.shares == ()
    assert not isinstance(found.audit, LeftOut) and found.audit.suspects == ()
    assert not isinstance(found.cut, LeftOut) and found.cut.areas == () and found.cut.check.exact
    assert found.exact


def test_a_single_output_says_one_of_two_classes(data: DataSet) -> None:
    torch.manual_seed(2)
    train, test = (Split(part.inputs, part.labels % 2) for part in (data.train, data.test))
    two = DataSet("two", train, test, ("no", "yes"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 1))
    found = _assemble(network, two, images=4)
    said = (network(two.test.inputs)[:, 0] > 0).long()
    assert found.meaning is Meaning.SIGN and found.accuracy is not None
    assert found.accuracy.share == pytest.approx(float((said == two.test.labels).double().mean()))
    assert [one.predicted for one in found.answers] == [two.class_names[said[one.index]] for one in found.answers]
    assert [one.runner_up for one in found.answers] == [None] * 4
    assert isinstance(found.memory, LeftOut) and "a single output" in found.memory.reason


def test_affine_networks_say_what_does_not_apply(data: DataSet) -> None:
    found = _assemble(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), data, images=3)
    assert isinstance(found.neighbors, LeftOut) and "one affine map" in found.neighbors.reason
    assert isinstance(found.audit, LeftOut)
    assert not isinstance(found.cut, LeftOut) and found.cut.partition.regions == 1 and found.exact


def test_networks_that_jump_have_no_plane(data: DataSet) -> None:
    found = _assemble(nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Hardshrink(), nn.Linear(6, 3)), data, images=3)
    assert isinstance(found.cut, LeftOut) and "hardshrink" in found.cut.reason
    assert found.exact and found.answers


def test_two_inputs_span_no_plane(model: nn.Sequential, data: DataSet) -> None:
    found = _assemble(model, data, images=2)
    assert isinstance(found.cut, LeftOut) and "three test inputs" in found.cut.reason
    same = Split(data.test.inputs[:1].expand(5, -1, -1, -1).clone(), data.test.labels[:5])
    found = _assemble(model, dataclasses.replace(data, test=same), images=5)
    assert isinstance(found.cut, LeftOut) and "three test inputs" in found.cut.reason


def test_what_costs_too_much_is_left_out(model: nn.Sequential, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, cut, origin):
        monkeypatch.setattr(module, "WORK", 1e3)
    monkeypatch.setattr(assembling, "ENCODE_WORK", 1e3)
    monkeypatch.setattr(assembling, "ANSWER_WORK", 4e3)
    found = _assemble(model, data, images=3)
    for part in (found.memory, found.neighbors, found.audit, found.cut):
        assert isinstance(part, LeftOut) and re.search(r"\d", part.reason)
    assert found.accuracy is not None and 3 <= found.accuracy.inputs < 30
    assert len(found.answers) == 3 and found.exact


def test_ctrl_c_in_a_section_ends_the_report(
    model: nn.Sequential, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = memory.memorization

    def halved(*arguments: Any, **options: Any) -> Memorization:
        found = whole(*arguments, **options)
        return dataclasses.replace(found, test=None)

    monkeypatch.setattr(memory, "memorization", halved)
    with pytest.raises(KeyboardInterrupt):
        _assemble(model, data, images=3)


def test_the_plane_is_the_networks(contents: Contents, model: nn.Sequential, data: DataSet) -> None:
    found = contents.cut
    assert not isinstance(found, LeftOut)
    assert sorted(found.anchors) == sorted(one.index for one in contents.answers)
    assert found.labels == tuple(data.class_names[data.test.labels[index]] for index in found.anchors)
    assert found.check.exact and found.check.samples == 512
    assert sum(share for _, share in found.areas) == pytest.approx(1)
    partition = found.partition
    inside = [partition.centers[number] for number in range(0, partition.regions, 7)]
    for t in inside:
        (x,) = partition.frame.points(t[None])
        answer = copy.deepcopy(model).double()(x).argmax()
        assert int(partition.classes[partition.locate(t[None])]) == int(answer)
    if found.share == 1 and partition.frame.anchors is not None:
        span = data.test.inputs[list(found.anchors)].double()
        located = partition.frame.points(partition.frame.anchors)[0]
        torch.testing.assert_close(located, span)


def test_a_part_of_the_plane_is_shown_where_the_answer_changes(data: DataSet) -> None:
    torch.manual_seed(4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 3))
    found = _assemble(network, data, images=3, cells=40).cut
    assert not isinstance(found, LeftOut)
    assert 0 < found.share < 1 and found.partition.regions <= 60
    whole = _assemble(network, data, images=3, cells=10**6).cut
    assert not isinstance(whole, LeftOut) and whole.share == 1
    # The estimate is one: within a factor of four.
    assert whole.expected / 4 < whole.partition.regions < 4 * whole.expected
    sides = [np.ptp(part.partition.cells.points, axis=0) for part in (found, whole)]
    np.testing.assert_allclose(sides[0], found.share * sides[1])


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
    assert [one.index for one in found.answers] == [0]
    assert isinstance(found.memory, LeftOut) and "two of each" in found.memory.reason
