"""Labels in another order than the outputs: found where they are, and never where chance or weakness looks like it."""

from __future__ import annotations

import dataclasses
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from maxaffine._data import DataSet, Split
from maxaffine._report import Choices, Contents, as_json, as_text
from maxaffine._report.collect import _choose
from maxaffine._report.facts import Accuracy
from maxaffine._report.labels import label_order
from maxaffine._report.page import render
from maxaffine._report.sections.hints import hints_of
from maxaffine._report.subject import find_subject

NAMES = tuple("abcdefghij")


def _answers(labels: Tensor, order: Tensor, skill: float, seed: int) -> Tensor:
    """Output ``order[label]`` with this probability, any output otherwise."""
    draw = torch.Generator().manual_seed(seed)
    guessed = torch.randint(0, len(order), (len(labels),), generator=draw)
    return torch.where(torch.rand(len(labels), generator=draw) < skill, order[labels], guessed)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [40, 400])
def test_a_permuted_network_is_found(classes: int, count: int) -> None:
    labels, order = torch.arange(count) % classes, torch.arange(classes).roll(1)
    found = label_order(_answers(labels, order, 0.9, 0), labels, NAMES[:classes])
    assert found is not None
    # Class c + 1 is answered by output c.
    names = [NAMES[(c + 1) % classes] for c in range(classes)]
    assert found.class_names == tuple(names)
    assert found.moved == tuple((f"output {c}", name) for c, name in enumerate(names))
    assert found.share > 0.85 > 0.3 > found.given
    assert f"accuracy {found.given:.1%} as given, {found.share:.1%} if output 0 means {names[0]!r}" in found.finding
    assert f"--class-names {','.join(names)} " in found.cure


def test_the_share_is_the_best_of_all_orders() -> None:
    draw = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 4, (200,), generator=draw)
    answers = _answers(labels, torch.tensor([2, 0, 3, 1]), 0.8, 4)
    found = label_order(answers, labels, NAMES[:4])
    best = max(float((torch.tensor(order)[labels] == answers).double().mean()) for order in permutations(range(4)))
    assert found is not None and found.share == pytest.approx(best)


def test_two_swapped_classes_are_found() -> None:
    labels, order = torch.arange(400) % 5, torch.tensor([0, 1, 2, 4, 3])
    found = label_order(_answers(labels, order, 0.95, 0), labels, NAMES[:5])
    assert found is not None and found.moved == (("output 3", "e"), ("output 4", "d"))
    assert found.class_names == ("a", "b", "c", "e", "d")


def test_classes_without_test_inputs() -> None:
    """What is there is mapped; what is not has no known output, so no whole list is offered."""
    labels, order = torch.arange(300) % 4, torch.arange(10).roll(1)
    found = label_order(_answers(labels, order, 0.9, 0), labels, NAMES)
    assert found is not None and found.class_names == ()
    assert found.moved == (("output 0", "b"), ("output 1", "c"), ("output 2", "d"), ("output 9", "a"))
    assert "--class-names FILE" in found.cure


def test_names_are_quoted_for_a_shell_or_put_in_a_file() -> None:
    labels = torch.arange(60) % 2
    found = label_order(1 - labels, labels, ("$a b", "it's"), ("an output of at most 0", "an output above 0"))
    assert found is not None and """--class-names 'it'"'"'s,$a b' """ in found.cure
    assert "if an output of at most 0 means \"it's\", an output above 0 means '$a b'." in found.finding
    commas = label_order(1 - labels, labels, ("a,b", "c"))
    assert commas is not None and "--class-names FILE" in commas.cure


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [1, 4, 12, 60, 400])
def test_chance_and_weakness_say_nothing(classes: int, count: int) -> None:
    """Guesses, weak networks in the right order and in another one, and good ones in the right order."""
    labels, same = torch.arange(count) % classes, torch.arange(classes)
    for seed in range(15):
        for order, skill in ((same, 0.0), (same, 0.3), (same, 0.9), (same.roll(1), 0.15)):
            assert label_order(_answers(labels, order, skill, seed), labels, NAMES[:classes]) is None


def test_few_samples_say_nothing_however_clear() -> None:
    labels = torch.arange(10)
    assert label_order(labels.roll(1), labels, NAMES) is None
    assert label_order(torch.tensor([1, 0, 1, 0]), torch.tensor([0, 1, 0, 1]), ("a", "b")) is None
    assert label_order(labels[:0], labels[:0], NAMES) is None


def test_confusions_say_nothing() -> None:
    """Collapsed outputs, one class taken for another, one class alone: no order is better by half of the errors."""
    labels = torch.arange(300) % 10
    assert label_order(torch.full_like(labels, 7), labels, NAMES) is None
    assert label_order(labels // 2 * 2, labels, NAMES) is None
    assert label_order(torch.where(labels == 3, 4, labels), labels, NAMES) is None
    assert label_order(torch.ones(50, dtype=torch.long), torch.zeros(50, dtype=torch.long), ("a", "b")) is None


def _permuted(model: nn.Sequential, order: list[int]) -> nn.Sequential:
    """The same network with its outputs in another order: output c is what ``order[c]`` was."""
    last = model[-1]
    assert isinstance(last, nn.Linear)
    moved = nn.Linear(last.in_features, len(order))
    moved.load_state_dict({"weight": last.weight[order], "bias": last.bias[order]})
    return nn.Sequential(*list(model)[:-1], moved).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def plain() -> DataSet:
    """Three classes that a linear layer tells apart."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    inputs = 0.2 * torch.rand(90, 1, 6, 6, generator=draw)
    inputs[torch.arange(90), 0, labels * 2] += 0.6
    return DataSet("rows", Split(inputs[:45], labels[:45]), Split(inputs[45:], labels[45:]), ("cat", "dog", "ship"))


@pytest.fixture(scope="module")
def teller(plain: DataSet) -> nn.Sequential:
    """Each output sums the rows of its class."""
    weight = torch.zeros(3, 6, 6)
    for c in range(3):
        weight[c, 2 * c] = 1.0
    first, last = nn.Linear(36, 36), nn.Linear(36, 3)
    first.load_state_dict({"weight": torch.eye(36), "bias": torch.full((36,), -0.1)})
    last.load_state_dict({"weight": weight.flatten(1), "bias": torch.zeros(3)})
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last).eval().requires_grad_(False)


def _accuracy(network: nn.Module, data: DataSet, fresh: bool = False) -> Accuracy:
    found, _, _ = _choose(find_subject(network, data, Choices(), fresh=fresh), Choices())
    assert found is not None
    return found


def test_names_in_the_order_of_the_outputs_cure_it(plain: DataSet, teller: nn.Sequential) -> None:
    right = _accuracy(teller, plain)
    assert right.share == 1 and right.order is None
    network = _permuted(teller, [1, 2, 0])
    found = _accuracy(network, plain)
    assert found.order is not None and found.share == found.order.given == 0 and found.order.share == 1
    assert found.order.class_names == ("dog", "ship", "cat")
    cured = plain.ordered(found.order.class_names)
    assert _accuracy(network, cured) == right
    # Each answer has the name of the class that the picture is of.
    subject = find_subject(network, cured, Choices())
    names = [subject.answer_name(answer) for answer in subject.ask(subject.test).tolist()]
    assert names == [plain.class_names[label] for label in plain.test.labels.tolist()]
    # What was drawn or trained here has the labels of this data.
    assert _accuracy(network, plain, fresh=True).order is None


def test_a_report_says_so_first(contents: Contents) -> None:
    labels = torch.arange(60) % 3
    order = label_order((labels + 1) % 3, labels, contents.origin.class_names)
    assert order is not None and contents.accuracy is not None and contents.accuracy.order is None
    whole = dataclasses.replace(contents, accuracy=Accuracy(order.given, 60, order))
    assert as_text(whole).startswith(f"{order.finding} {order.cure}\n") and hints_of(whole)[0].finding == order.finding
    page = render(whole)
    assert page.index("different orders?") < page.index("Exact.</strong>") < page.index('class="facts"')
    assert '"moved": [' in as_json(whole)
    assert "different orders?" not in render(contents) and "another order" not in as_text(contents)


def test_names_of_more_outputs_than_the_data_has_classes(plain: DataSet, teller: nn.Sequential) -> None:
    """A network that knows four classes: the three of the data are found among its outputs by name."""
    network = _permuted(teller, [1, 0, 2, 0])
    last = network[-1]
    assert isinstance(last, nn.Linear)
    last.bias[3] = -100.0
    right = _accuracy(network, plain.ordered(["dog", "cat", "ship", "frog"]))
    assert right.share == 1 and right.order is None
    swapped = _accuracy(network, plain.ordered(["cat", "frog", "dog", "ship"]))
    assert swapped.order is not None
    assert swapped.order.moved == (("output 0", "dog"), ("output 1", "cat"), ("output 2", "ship"))


def test_a_single_output_of_the_other_sign(plain: DataSet, teller: nn.Sequential) -> None:
    keep = {part: getattr(plain, part).labels < 2 for part in ("train", "test")}
    two = {part: getattr(plain, part).take(mask.nonzero().flatten()) for part, mask in keep.items()}
    pair = dataclasses.replace(plain, class_names=("cat", "dog"), **two)
    sign = nn.Linear(36, 1)
    last = teller[-1]
    assert isinstance(last, nn.Linear)
    sign.load_state_dict({"weight": last.weight[:1] - last.weight[1:2], "bias": torch.zeros(1)})
    network = nn.Sequential(*list(teller)[:-1], sign).eval().requires_grad_(False)
    order = _accuracy(network, pair).order
    assert order is not None and ("an output above 0", "cat") in order.moved
    cured = _accuracy(network, pair.ordered(["dog", "cat"]))
    assert cured.share == 1 and cured.order is None
