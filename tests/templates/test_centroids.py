"""The measure of alignment with centroids: against dense Jacobians, and how it is shown."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import nn
from torch.testing import assert_close

import maxaffine as ma
from tests import oracles

measure = ma.templates.centroid_alignment
X = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.LeakyReLU(0.2), nn.Linear(4, 3)).double()


MODEL = _model()
NET = ma.capture(MODEL, X)


@pytest.mark.parametrize(("until", "layers"), [(None, 5), ("1", 2), ("2", 3)])
def test_against_dense_jacobians(until: str | None, layers: int) -> None:
    ((slopes,),) = oracles.jacobian(MODEL[:layers], (X,))
    expected = F.cosine_similarity(slopes.sum(1), X, dim=1)
    found = measure(NET, X, until=until)
    assert_close(found.cosines, expected)
    assert found.mean == pytest.approx(float(expected.mean()))
    assert found.standard_error == pytest.approx(float(expected.std()) / math.sqrt(7))
    wrong = F.cosine_similarity(slopes.abs().sum(1), X, dim=1)
    with pytest.raises(AssertionError):
        assert_close(found.cosines, wrong)


def test_full_alignment_and_none() -> None:
    model = nn.Linear(6, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(X[:1])
    found = measure(ma.capture(model, X), torch.cat([X[:1], -3 * X[:1], 0 * X[:1]])).cosines
    assert_close(found, torch.tensor([1.0, -1.0, 0.0]).double())


def test_float32_one_sample_and_strides() -> None:
    single = ma.capture(_model().float(), X.float())
    assert_close(measure(single, X.float()).cosines, measure(NET, X).cosines, rtol=1e-4, atol=1e-5)
    alone = measure(NET, X[:1])
    assert math.isnan(alone.standard_error) and "±" not in repr(alone)
    assert_close(measure(NET, X.T.contiguous().T).cosines, measure(NET, X).cosines)


def test_shown() -> None:
    found = measure(NET, X)
    assert f"{found.mean:.3f} ±" in repr(found) and found.to_dict()["cosines"] == found.cosines.tolist()
    axes = found.plot(label="before")
    assert measure(NET, 2 * X).plot(axes, label="after") is axes
    legend = axes.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["before", "after"]
    heights = [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sum(heights) == pytest.approx(2)


def test_bad_input() -> None:
    with pytest.raises(ma.BadInput, match="no operator or module is called 'nine'"):
        measure(NET, X, until="nine")
    with pytest.raises(ma.NotPiecewiseAffine, match="centroids need them"):
        measure(ma.capture(nn.SiLU(), torch.rand(1, 2), smooth="frozen"), torch.rand(1, 2))
