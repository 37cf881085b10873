"""Max-affine regression as scikit-learn sees it: its contract, differences of splines, and the module inside."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import maxaffine as ma
from maxaffine.sklearn import MaxAffineRegressor


@pytest.mark.filterwarnings("ignore::Warning")
def test_it_keeps_the_contract_of_scikit_learn() -> None:
    # It passes that one, too, but for the annotations, which the tests check.
    known = {"check_do_not_raise_errors_in_init_or_set_params": "it gives values of other types"}
    results = check_estimator(MaxAffineRegressor(3, 2), on_skip=None, expected_failed_checks=known)
    assert len(results) > 40 and all(result["status"] != "failed" for result in results)


def test_a_difference_of_splines_fits_what_no_convex_function_does_and_its_module_is_captured_exactly() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (800, 2))
    y = np.abs(x[:, 0]) - np.abs(2 * x[:, 1] - 0.5)
    both, convex = MaxAffineRegressor(4, 4).fit(x, y), MaxAffineRegressor(8).fit(x, y)
    assert both.score(x, y) > 0.99 > 0.8 > convex.score(x, y)
    inputs = torch.tensor(x[:50])
    net = ma.capture(both.module_, inputs)
    assert net.verify(both.module_, inputs).exact
    assert np.allclose(net(inputs).detach().numpy()[:, 0], both.predict(x[:50]), atol=1e-12)


def test_values_are_the_difference_of_the_two_maxima() -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (300, 3))
    fit = MaxAffineRegressor(4, 3).fit(x, np.sin(3 * x[:, 0]) * x[:, 1])
    spline = fit.module_[0]
    assert isinstance(spline, ma.MaxAffineSpline)
    stored = {name: tensor.numpy() for name, tensor in spline.state_dict().items()}
    present = stored.get("present", np.ones(stored["offsets"].shape, bool))
    scores = np.einsum("krd,nd->knr", stored["slopes"], x) + stored["offsets"][:, None]
    parts = np.where(present[:, None], scores, -np.inf)
    assert np.allclose(parts[0].max(1) - parts[1].max(1), fit.predict(x), atol=1e-12)


def test_it_is_cloned_and_pickled() -> None:
    x = np.linspace(-1, 1, 50)[:, None]
    fit = MaxAffineRegressor(3, subtracted=2, steps=7).fit(x, x[:, 0] ** 2)
    copied = clone(fit)
    assert isinstance(copied, MaxAffineRegressor) and copied.get_params() == fit.get_params()
    assert np.array_equal(pickle.loads(pickle.dumps(fit)).predict(x), fit.predict(x))
