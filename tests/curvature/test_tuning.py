"""Curvature tuning: probes against scikit-learn, what is chosen against all that was tried, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine import curvature
from maxaffine._curvature.probe import fit_probe
from maxaffine._data import Split
from maxaffine.errors import BadInput


def rings(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return x, (x.norm(dim=1) > 1.2).long()


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.Hardtanh(), nn.Linear(6, 5)).eval()


TRAIN, VALIDATION = rings(120, 0), rings(80, 1)
GRID = (0.9, 0.3, 0.6)


def tuned(**options: Any) -> curvature.Tuning:
    return curvature.tune(network(), TRAIN, VALIDATION, GRID, **options)


def test_probes_are_penalized_logistic_regressions() -> None:
    x, y = rings(200, 3)
    rows, penalty = torch.cat([x.square(), 5 * x, torch.ones(len(x), 1)], 1), 0.01
    state = torch.get_rng_state()
    probe = fit_probe(rows, y, 2, penalty)
    assert torch.equal(torch.get_rng_state(), state)
    scaled = (rows - rows.mean(0)) / (rows - rows.mean(0)).square().mean().sqrt()
    # Two classes have one difference of rows, and of all pairs the shortest halves it.
    other = LogisticRegression(C=2 / (penalty * len(x)), tol=1e-10, max_iter=1000).fit(scaled.numpy(), y.numpy())
    truth = torch.from_numpy(other.decision_function(scaled.numpy())).double()
    with torch.no_grad():
        logits = probe(rows).double()
    assert_close(logits[:, 1] - logits[:, 0], truth, rtol=1e-3, atol=1e-3)


def test_features_of_dead_units_do_not_count() -> None:
    x, y = rings(60, 4)
    tiny = torch.cat([x.square(), 1e-30 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))], 1)
    with torch.no_grad():
        assert_close(
            fit_probe(tiny, y, 2, 1e-3)(tiny),
            fit_probe(x.square(), y, 2, 1e-3 * 2 / 5)(x.square()),
            rtol=1e-3,
            atol=1e-3,
        )


def test_the_best_beta_is_the_one_that_validates_best() -> None:
    user = network()
    state = torch.get_rng_state()
    found = curvature.tune(user, TRAIN, VALIDATION, GRID)
    assert torch.equal(torch.get_rng_state(), state)
    assert [trial.beta for trial in found.trials] == [1.0, *GRID] and found.features == "3"
    right = {}
    for trial in found.trials:
        # Each trial by hand: soften up to the features, fit, count.
        features = user[:4] if trial.beta == 1 else curvature.soften(user[:4], trial.beta, example=TRAIN[0])
        with torch.no_grad():
            fitted, judged = (features(x) for x, _ in (TRAIN, VALIDATION))
        probe = fit_probe(fitted, TRAIN[1], 2, 1e-3)
        right[trial.beta] = (probe(judged).argmax(1) == VALIDATION[1]).double()
        assert trial.validation == pytest.approx(float(right[trial.beta].mean()))
        assert trial.train == pytest.approx(float((probe(fitted).argmax(1) == TRAIN[1]).double().mean()))
        difference = right[trial.beta] - right[1.0]
        assert trial.gain == pytest.approx(float(difference.mean()))
        assert trial.error == pytest.approx(float(difference.std()) / 80**0.5)
    most = max(float(item.mean()) for item in right.values())
    assert found.best == max(beta for beta, item in right.items() if float(item.mean()) == most)
    with torch.no_grad():
        share = float((found.model(VALIDATION[0]).argmax(1) == VALIDATION[1]).double().mean())
    assert share == found.chosen.validation == pytest.approx(most)
    assert all(item.requires_grad for item in found.model.parameters())


def test_the_network_itself_wins_a_tie() -> None:
    x = torch.tensor([[-1.0], [1.0]]).repeat(10, 1)
    y = (x[:, 0] > 0).long()
    found = curvature.tune(nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2)), (x, y), (x, y), (0.9, 0.8))
    assert found.best == 1 and "the network itself" in repr(found)


def test_captured_networks_splits_and_named_features() -> None:
    net = ma.capture(network(), TRAIN[0][:2])
    whole = curvature.tune(net, Split(*TRAIN), Split(*VALIDATION), GRID)
    assert whole.to_dict() == tuned().to_dict()
    early = curvature.tune(net, TRAIN, VALIDATION, GRID, features="1", form="energy", batch_size=7)
    assert early.features == "1" and isinstance(early.model.get_submodule("probe"), nn.Linear)
    assert early.model.get_submodule("probe").in_features == 8
    images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
    x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
    with pytest.raises(BadInput, match="features.*does not end in a linear layer"):
        curvature.tune(images, (x, y), (x, y), GRID)
    flat = curvature.tune(images, (x, y), (x, y), GRID, features="1")
    assert flat.model(x).shape == (20, 3)


def test_shown_as_table_and_picture() -> None:
    found = tuned()
    ax = found.plot(size=4.0)
    assert ax.get_xlabel() == "beta" and len(ax.lines) >= 3
    assert found.plot(ax) is ax
    plt.close("all")
    assert found._repr_html_().count("<tr>") == 5 and "standard error" in repr(found)


def test_an_interrupt_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(does: Any, *_: Any, iterable: Any, **__: Any) -> Any:
        yield next(iter(iterable))
        raise KeyboardInterrupt

    monkeypatch.setattr("maxaffine._curvature.tuning.progress_bar", stop)
    found = tuned()
    assert found.interrupted and [trial.beta for trial in found.trials] == [1.0, 0.9] and "interrupted" in repr(found)


X, Y = TRAIN
BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: curvature.tune(network(), TRAIN, VALIDATION, (0.5, 1.0)), r"grid.*\[0, 1\)"),
    (lambda: curvature.tune(network(), TRAIN, VALIDATION, (0.5, 0.5)), "grid.*different"),
    (lambda: curvature.tune(network(), TRAIN, VALIDATION, ()), "grid"),
    (lambda: curvature.tune(network(), TRAIN, VALIDATION, penalty=0.0), "penalty"),
    (lambda: curvature.tune(network(), (X, Y[:5]), VALIDATION), "train: labels"),
    (lambda: curvature.tune(network(), TRAIN, (X[:0], Y[:0])), "validation: labels"),
    (lambda: curvature.tune(network(), TRAIN, (X, Y.float())), "validation: labels"),
    (lambda: curvature.tune(network(), (X, 0 * Y), VALIDATION), "nothing to tell apart"),
    (lambda: curvature.tune(network(), X, VALIDATION), "train: expected a pair"),
    (lambda: curvature.tune(network(), (X, Y), (X / 0, Y)), "validation.*NaN"),
    (lambda: curvature.tune(network(), Split(X, 0 * Y, X), VALIDATION), "values to predict"),
    (lambda: curvature.tune(network(), TRAIN, VALIDATION, features="9"), "'9'"),
    (lambda: curvature.tune(nn.Linear(2, 3), TRAIN, VALIDATION), "linear in its inputs"),
    (lambda: curvature.tune(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), TRAIN, VALIDATION), "no piecewise"),
]


@pytest.mark.parametrize(("call", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(BadInput, match=f"(?s){words}"):
        call()
