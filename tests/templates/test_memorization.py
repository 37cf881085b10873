"""Memorization against slow loops, its optimum against a numerical optimization."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

import maxaffine as ma
from maxaffine._data import Split
from maxaffine._templates import Alignment, Memorization, optimal_templates
from tests import oracles

CLASSES = 4


def _network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.LeakyReLU(), nn.Linear(9, CLASSES)).double().eval()


X = torch.randn(7, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 3, 2, 0])
NET = ma.capture(_network(), X)


def test_against_a_slow_loop() -> None:
    ((blocks, _),) = oracles.affine_maps(_network(), (X,))
    found = ma.templates.memorization(NET, (X, Y)).train
    for n, (x, y) in enumerate(zip(X.numpy().reshape(7, -1), Y.tolist(), strict=True)):
        rows = blocks[0][n].numpy().reshape(CLASSES, -1)
        cosines = [float(row @ x / np.linalg.norm(row) / np.linalg.norm(x)) for row in rows]
        rest = [c for c in range(CLASSES) if c != y]
        assert float(found.own[n]) == pytest.approx(cosines[y])
        assert float(found.others[n]) == pytest.approx(np.mean([cosines[c] for c in rest]))
        lengths = [float(np.linalg.norm(row)) for row in rows]
        assert float(found.ratios[n]) == pytest.approx(np.mean([lengths[c] / lengths[y] for c in rest]))
        best = optimal_templates(torch.tensor(x)[None], torch.tensor([y]), CLASSES)[0].numpy()
        angle = float((rows * best).sum() / np.linalg.norm(rows) / np.linalg.norm(best))
        assert float(found.alignments[n]) == pytest.approx(angle)
    assert found.right.tolist() == (_network()(X).argmax(1) == Y).tolist()


@pytest.mark.parametrize(("classes", "budget"), [(2, 1.0), (3, 0.5), (6, 4.0)])
def test_the_optimum_against_a_numerical_optimization(classes: int, budget: float) -> None:
    """Cross-entropy over all templates with sum |A_c|^2 <= alpha, minimized by projected gradient: it is convex."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=5), 1

    def loss(rows: np.ndarray) -> tuple[float, np.ndarray]:
        logits = rows @ x
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return -math.log(shares[y]), (shares - np.eye(classes)[y])[:, None] * x

    found = generator.normal(size=(classes, 5)) / 10
    for _ in range(5000):
        found = found - 0.2 * loss(found)[1]
        found *= min(1, math.sqrt(budget) / np.linalg.norm(found))
    best = optimal_templates(torch.tensor(x)[None], torch.tensor([y]), classes, budget)[0].numpy()
    assert found == pytest.approx(best, abs=1e-6)
    assert loss(best)[0] <= loss(found)[0] + 1e-12
    assert float((best**2).sum()) == pytest.approx(budget)


def test_a_network_of_optimal_templates_is_at_the_optimum() -> None:
    layer = nn.Linear(5, CLASSES, bias=False).double().eval()
    x, y = torch.randn(1, 5, dtype=torch.float64), torch.tensor([2])
    with torch.no_grad():
        layer.weight.copy_(optimal_templates(x, y, CLASSES, 3.0)[0])
    train = ma.templates.memorization(ma.capture(layer, x), (x, y)).train
    assert train.summary == pytest.approx(train.optimum)
    assert train.optimum == pytest.approx({"own": 1, "others": -1, "ratio": 1 / 3, "alignment": 1, "accuracy": 1})
    wrong = ma.templates.memorization(ma.capture(layer, x), (x, torch.tensor([0]))).train
    assert wrong.summary["alignment"] < 0 and wrong.summary["accuracy"] == 0


def test_every_form_of_data_is_the_same() -> None:
    whole = ma.templates.memorization(NET, (X, Y))
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    same = [
        ma.templates.memorization(NET, loader, progress=False),
        ma.templates.memorization(NET, SimpleNamespace(inputs=X, labels=Y), batch_size=2),
        ma.templates.memorization(NET, [(X[:4], Y[:4]), [X[4:], Y[4:]]]),
        ma.templates.memorization(NET, iter([(X, Y.to(torch.int32))])),
    ]
    for other in same:
        assert_close(other.train.own, whole.train.own)
        assert_close(other.train.alignments, whole.train.alignments)
    single = _network().float()
    split = Split(X.float(), Y)
    net = ma.capture(single, split.inputs)
    assert_close(ma.templates.memorization(net, split).train.own, whole.train.own, rtol=1e-4, atol=1e-4)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.relu(self.a(x) + self.b(y))


def test_several_inputs() -> None:
    torch.manual_seed(0)
    module = TwoInputs().double().eval()
    x, y, labels = torch.randn(6, 3).double(), torch.randn(6, 2).double(), torch.arange(6) % 4
    net = ma.capture(module, (x, y))
    (((first, second), _),) = oracles.affine_maps(module, (x, y))
    rows, joined = torch.cat([first, second], 2), torch.cat([x, y], 1)
    cosines = F.cosine_similarity(rows, joined[:, None], dim=2)
    own = torch.where(rows.norm(dim=2) > 0, cosines, 0.0)[torch.arange(6), labels]
    assert_close(ma.templates.memorization(net, ((x, y), labels)).train.own, own)
    assert_close(ma.templates.memorization(net, [(x, y, labels)]).train.own, own)
    named = ma.capture(module, {"x": x, "y": y})
    assert_close(ma.templates.memorization(named, [({"x": x, "y": y}, labels)]).train.own, own)
    assert_close(ma.templates.memorization(named, ({"x": x, "y": y}, labels), batch_size=4).train.own, own)
    assert_close(ma.templates.memorization(named, [(x, y, labels)]).train.own, own)
    with pytest.raises(ma.BadInput, match="loader: a batch has 4 entries"):
        ma.templates.memorization(named, [(x, y, x, labels)])


def test_the_score_is_what_does_not_carry_over() -> None:
    found = ma.templates.memorization(NET, (X, Y), test=(X[:4], Y[:4]))
    assert found.test is not None and len(found.test) == 4
    train = found.train.alignments
    mean, error = float(train.mean()), float(train.std()) / math.sqrt(7)
    # Labels drawn at random: the templates do not fit them.
    assert mean < 2 * error and math.isnan(found.score) and math.isnan(found.standard_error)
    x = torch.randn(90, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    answers = _network()(x).argmax(1)
    fitting = ma.templates.memorization(NET, (x[:60], answers[:60]), test=(x[60:], answers[60:]))
    assert fitting.test is not None
    means = [float(part.alignments.mean()) for part in (fitting.train, fitting.test)]
    assert fitting.score == pytest.approx(1 - means[1] / means[0])
    same = ma.templates.memorization(NET, (x, answers), test=(x, answers))
    assert same.score == pytest.approx(0) and same.standard_error > 0
    ((blocks, _),) = oracles.affine_maps(_network(), (X,))
    least_matched = (blocks[0].reshape(7, CLASSES, -1) @ X.reshape(7, -1, 1)).argmin(1).flatten()
    worst = ma.templates.memorization(NET, (X, least_matched), test=(X, Y))
    assert math.isnan(worst.score) and math.isnan(worst.standard_error)
    assert worst.reason.startswith("the templates do not fit the training inputs (mean alignment -")
    assert f"cannot be told: {worst.reason}" in worst.plot().get_title().replace("\n", " ")


def _alignment(mean: float, spread: float, count: int) -> Alignment:
    """Alignments of two values, half of the inputs each."""
    values = mean + spread * (2.0 * (torch.arange(count) % 2) - 1).double()
    zeros = torch.zeros(count, dtype=torch.float64)
    return Alignment(CLASSES, zeros.long(), zeros, zeros, zeros, values, zeros.bool())


UNFIT = "do not fit the training inputs (mean alignment "
CANNOT = [
    # What was "none is memorized (± 35890.9 %)": a mean of next to nothing.
    (_alignment(1e-5, 0.05, 200), _alignment(0.0, 0.05, 200), UNFIT + "1e-05 ± 0.0"),
    (_alignment(0.0, 0.0, 9), _alignment(0.0, 0.0, 9), UNFIT + "0 ± 0)"),
    (_alignment(-0.2, 0.1, 200), _alignment(0.1, 0.1, 200), UNFIT + "-0.2 ± "),
    (_alignment(0.06, 0.3, 90), _alignment(0.06, 0.3, 90), UNFIT + "0.06 ± 0.0"),
    # They fit, but two test inputs that disagree say nothing.
    (_alignment(0.1, 0.1, 200), _alignment(0.1, 0.1, 2), "200 training and 2 test inputs spread too far"),
]


@pytest.mark.parametrize(("train", "test", "reason"), CANNOT, ids=range(len(CANNOT)))
def test_what_cannot_be_told_says_why(train: Alignment, test: Alignment, reason: str) -> None:
    found = Memorization(train, test)
    assert reason in found.reason
    assert math.isnan(found.score) and math.isnan(found.standard_error)
    assert f"score cannot be told: {found.reason}" in repr(found) and "cannot be told" in found._repr_html_()


def test_what_can_be_told_has_no_reason() -> None:
    """All of it, none of it, and less than none of it fails to carry over."""
    train = _alignment(0.1, 0.1, 200)
    for test, score in ((0.0, 1.0), (0.1, 0.0), (0.12, -0.2)):
        found = Memorization(train, _alignment(test, 0.1, 200))
        assert found.reason == "" and found.score == pytest.approx(score) and found.standard_error < 0.15


def test_a_network_that_learned_nothing_of_the_labels_cannot_be_told() -> None:
    """Labels that have nothing to do with the inputs, on a real network."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(300, 1, 3, 4, dtype=torch.float64, generator=draw)
    y = torch.randint(0, CLASSES, (300,), generator=draw)
    found = ma.templates.memorization(NET, (x[:200], y[:200]), test=(x[200:], y[200:]))
    assert "do not fit the training inputs" in found.reason


def test_the_standard_error_is_the_spread_over_draws() -> None:
    """Against the spread of the score over many draws of the data, the network held fixed."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(4000, 1, 3, 4, dtype=torch.float64, generator=generator)
    labels = _network()(pool).argmax(1)
    drawn = []
    for _ in range(40):
        rows = torch.randint(4000, (2, 60), generator=generator)
        drawn.append(
            ma.templates.memorization(NET, (pool[rows[0]], labels[rows[0]]), test=(pool[rows[1]], labels[rows[1]]))
        )
    spread = float(torch.tensor([item.score for item in drawn]).std())
    assert float(torch.tensor([item.standard_error for item in drawn]).mean()) == pytest.approx(spread, rel=0.35)


def test_a_single_input_has_a_score_and_no_standard_error() -> None:
    best = _network()(X).argmax(1)
    found = ma.templates.memorization(NET, (X[:1], best[:1]), test=(X, best))
    assert found.score == found.score and math.isnan(found.standard_error)


def test_zero_templates_and_zero_inputs_count_as_no_match() -> None:
    layer = nn.Linear(2, 2, bias=False).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = ma.templates.memorization(ma.capture(layer, x), (x, torch.tensor([0, 1]))).train
    assert found.own.tolist() == [0, 0] and found.others.tolist() == [1, 0]
    assert found.ratios.tolist() == [math.inf, 0] and found.alignments[1] == 0
    nn.init.zeros_(layer.weight)
    dead = ma.templates.memorization(ma.capture(layer, x), (x, torch.tensor([0, 1]))).train
    assert dead.alignments.tolist() == [0, 0]


def test_words() -> None:
    found = ma.templates.memorization(NET, (X, Y), test=(X, Y))
    titles, *rows = [line.split() for line in repr(found).splitlines()[1:]]
    assert titles == ["inputs", "own", "others", "ratio", "alignment", "accuracy"] and len(rows) == 3
    assert rows[-1] == ["optimum", "1.000", "−1.000", "0.333", "1.000", "1.000"] and "score" in repr(found)
    assert "optimum" in found._repr_html_() and found._repr_html_().count("<tr>") == 4
    assert "score" not in repr(ma.templates.memorization(NET, (X, Y)))


def test_figure() -> None:
    panels = ma.templates.memorization(NET, (X, Y), test=(X[:4], Y[:4])).plot().child_axes
    labels = [ax.get_xlabel() for ax in panels]
    assert labels[0] == "cos(x, A_y)" and labels[-1] == "alignment with the optimum"
    # The mean of the training data, that of the test data, the optimum.
    places = [[float(np.asarray(line.get_xdata())[0]) for line in ax.lines] for ax in panels]
    found = ma.templates.memorization(NET, (X, Y)).train
    assert places[0][0] == pytest.approx(float(found.own.mean())) and places[0][2] == 1
    assert places[2][2] == pytest.approx(1 / 3)
    heights = sum(patch.get_height() for patch in panels[0].patches)  # pyright: ignore[reportAttributeAccessIssue]
    assert heights == pytest.approx(2)
    assert len(ma.templates.memorization(NET, (X, Y)).plot().child_axes[0].lines) == 2


def test_ctrl_c_keeps_what_was_measured() -> None:
    def interrupted(first: int):
        for _ in range(first):
            yield X, Y
        raise KeyboardInterrupt

    found = ma.templates.memorization(NET, interrupted(2), test=(X, Y))
    assert len(found.train) == 14 and not found.train.complete and found.test is None
    assert "interrupted" in repr(found)
    with pytest.raises(KeyboardInterrupt):
        ma.templates.memorization(NET, interrupted(0))


class Map(nn.Module):
    """A picture in, a picture out, and the logits inside."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.last = nn.Linear(12, 4), nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.logits(x.flatten(1))).unflatten(1, (1, 3, 4))


def test_a_classifier_that_is_not_found_is_asked_for() -> None:
    net = ma.capture(Map().double().eval(), X)
    listed = r"There are: output=0 of shape \(1, 3, 4\); rows of units inside: .*until='logits' of 4 units"
    with pytest.raises(ma.BadInput, match=r"not .C,. logits, one per class; choose another. " + listed):
        ma.templates.memorization(net, (X, Y))
    assert ma.templates.memorization(net, (X, Y), until="logits").train.classes == 4


def test_one_class_is_refused() -> None:
    net = ma.capture(nn.Linear(3, 1).eval(), torch.zeros(1, 3), task="classes")
    with pytest.raises(ma.BadInput, match="output: the output is a single logit, and memorization compares"):
        ma.templates.memorization(net, (torch.zeros(1, 3), torch.tensor([0])))
    with pytest.raises(ma.BadInput, match="classes: 1 is less than 2"):
        optimal_templates(X, Y, 1)
    with pytest.raises(ma.BadInput, match="x: an input is zero"):
        optimal_templates(X * 0, Y, 4)
    for labels in (Y + 1, Y - 1):
        with pytest.raises(ma.BadInput, match=r"labels: some are not in 0..3; number the classes from 0"):
            optimal_templates(X, labels, 4)
    with pytest.raises(ma.BadInput, match="budget: -1.0 is negative; give at least 0"):
        optimal_templates(X, Y, 4, -1.0)


BAD = [
    ("loader: labels 1..7 are not all in 0..3; number the classes from 0", (X, Y + (Y == 0) * 7)),
    ("loader: labels -1..3 are not all in 0..3", (X, Y - (Y == 0) * 1)),
    ("loader: 7 inputs and 3 labels", (X, Y[:3])),
    ("loader: 7 inputs and 3 labels", [(X, Y[:3])]),
    ("loader: labels are class numbers", (X, Y.double())),
    ("loader: labels are class numbers of shape .* one-hot rows", [(X, torch.eye(7))]),
    ("loader: labels are class numbers of shape .* one-hot rows", (X, torch.eye(7))),
    ("loader: labels are class numbers of shape .* got .7, 1.", (X, Y[:, None])),
    ("loader: labels are class numbers of shape .* got ..", (X[:1], Y[0])),
    ("loader: expected a data loader .* got Tensor", X),
    ("loader: expected a data loader .* got int", 3),
    ("loader: expected a data loader .* a batch was Tensor", DataLoader(X, batch_size=2)),  # pyright: ignore
    ("loader: a batch has 3 entries; give one for each input", [(X, X, Y)]),
    ("loader: it gave no batch", []),
    ("loader: give one part of the data set, data.train", SimpleNamespace(train=1, test=2)),
]


@pytest.mark.parametrize(("words", "data"), BAD, ids=[words for words, _ in BAD])
def test_bad_input(words: str, data: object) -> None:
    with pytest.raises(ma.BadInput, match=words):
        ma.templates.memorization(NET, data)


def test_bad_options() -> None:
    with pytest.raises(ma.BadInput, match="batch_size: 0 is less than 1"):
        ma.templates.memorization(NET, (X, Y), batch_size=0)
    with pytest.raises(ma.BadInput, match="test: no unseen data was given"):
        _ = ma.templates.memorization(NET, (X, Y)).score
