"""The penalty on the alignment with centroids: values, gradients by finite differences, and what it leaves alone."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine.learning import CentroidAlignment, OrthogonalTemplates
from tests import oracles

X = torch.randn(6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _model(batch_norm: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    norm = [nn.BatchNorm2d(3)] if batch_norm else []
    layers = [nn.Conv2d(1, 3, 3), *norm, nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(12, 5)]
    model = nn.Sequential(*layers).double()
    for _ in range(3 if batch_norm else 0):
        model(torch.randn(8, 1, 4, 4).double())
    return model


def _expected(model: nn.Module, x: Tensor) -> Tensor:
    """The mean of 1 - cos from dense Jacobians, in evaluation mode."""
    training = model.training
    ((slopes,),) = oracles.jacobian(model.eval(), (x,))
    model.train(training)
    centroids = slopes.flatten(2).sum(1)
    return (1 - F.cosine_similarity(centroids, x.flatten(1), dim=1)).mean()


@pytest.mark.parametrize("batch_norm", [True, False])
def test_against_dense_jacobians(batch_norm: bool) -> None:
    model = _model(batch_norm)
    assert_close(CentroidAlignment(0.3)(model, X), 0.3 * _expected(model, X))
    assert_close(CentroidAlignment(0.3, samples=2)(model, X), 0.3 * _expected(model, X[:2]))


def test_gradient_by_finite_differences() -> None:
    model, penalty = _model(), CentroidAlignment(2.0)
    penalty(model, X).backward()
    for name, weight in model.named_parameters():
        found = torch.zeros_like(weight) if weight.grad is None else weight.grad
        for place in range(0, weight.numel(), 3):
            values = []
            for step in (1e-6, -1e-6):
                weight.data.view(-1)[place] += step
                values.append(2 * _expected(model, X))
                weight.data.view(-1)[place] -= step
            slope = (values[0] - values[1]) / 2e-6
            assert_close(found.view(-1)[place], slope, rtol=1e-5, atol=1e-7, msg=f"{name} {place}")


def test_a_step_along_it_aligns() -> None:
    model = _model(False)
    before = ma.templates.centroid_alignment(ma.capture(model.eval(), X), X).mean
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(12):
        optimizer.zero_grad()
        CentroidAlignment()(model, X).backward()
        optimizer.step()
    after = ma.templates.centroid_alignment(ma.capture(model.eval(), X), X).mean
    assert after > before + 0.2 and after == pytest.approx(1 - float(CentroidAlignment()(model, X).detach()))


def test_softmax_does_not_see_what_aligns() -> None:
    """One vector added to all rows of the last layer changes the penalty and no probability."""
    model = _model(False)
    before, shares = CentroidAlignment()(model, X).detach(), model(X).softmax(1)
    with torch.no_grad():
        model[-1].weight += torch.randn(12).double()  # pyright: ignore
    assert_close(model(X).softmax(1), shares)
    assert abs(CentroidAlignment()(model, X).detach() - before) > 1e-3


def test_zero_samples_and_dead_networks_count_as_right_angles() -> None:
    model = _model(False)
    penalty = CentroidAlignment()
    assert_close(penalty(model, torch.zeros(2, 1, 4, 4)).detach(), torch.tensor(1.0).double())
    dead = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        dead[1].weight.zero_(), dead[1].bias.fill_(-1)  # pyright: ignore
    value = penalty(dead, X)
    value.backward()
    assert value == 1 and all(w.grad is None or bool((w.grad == 0).all()) for w in dead.parameters())


def test_the_model_and_random_numbers_stay() -> None:
    model = nn.Sequential(nn.Dropout(0.5), _model()).train()
    buffers = {name: item.clone() for name, item in model.named_buffers()}
    state = torch.get_rng_state()
    CentroidAlignment()(model, X).backward()
    assert all(module.training for module in model.modules()) and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(item, buffers[name]) for name, item in model.named_buffers())
    with torch.no_grad():
        assert not CentroidAlignment()(model, X).requires_grad


class TwoInputs(nn.Module):
    """Two inputs, by keyword too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """One output each."""
        return F.relu(self.a(x) + self.b(y))


def test_several_inputs_are_one_vector() -> None:
    torch.manual_seed(0)
    model, x, y = TwoInputs().double(), torch.randn(4, 3).double(), torch.randn(4, 2).double()
    ((a, b),) = oracles.jacobian(model, (x, y))
    cosines = F.cosine_similarity(torch.cat([a.sum(1), b.sum(1)], 1), torch.cat([x, y], 1), dim=1)
    found = ma.templates.centroid_alignment(ma.capture(model, (x, y)), (x, y)).cosines
    assert_close(found, cosines.nan_to_num(0.0))
    for given in ((x, y), {"x": x, "y": y}):
        assert_close(CentroidAlignment()(model, given), (1 - found).mean())


def test_half_precision_and_copies() -> None:
    model = _model().float()
    plain = CentroidAlignment()(model, X.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(CentroidAlignment()(model, X.bfloat16()), plain, rtol=1e-2, atol=1e-2)
        assert CentroidAlignment()(model, X.float()).dtype == torch.float32
    penalty = CentroidAlignment(0.5, samples=3)
    penalty(model, X.float())
    assert repr(pickle.loads(pickle.dumps(penalty))) == "CentroidAlignment(0.5, samples=3)"


class Cut(nn.Module):
    """Cuts its graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Half of it is a constant to autograd."""
        return F.relu(x).flatten(1) + x.detach().flatten(1)


def test_bad_input() -> None:
    with pytest.raises(ma.BadInput, match="weight: -1.0"):
        CentroidAlignment(-1.0)
    with pytest.raises(ma.BadInput, match="samples: 0"):
        CentroidAlignment(samples=0)
    with pytest.raises(ma.BadInput, match="x: centroids are taken at inputs"):
        CentroidAlignment()(_model())
    with pytest.raises(ma.BadInput, match="Let it be differentiable from the inputs on$"):
        CentroidAlignment()(Cut(), X)
    with pytest.raises(ma.NotPiecewiseAffine):
        CentroidAlignment()(nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.SiLU()).double(), X)


@pytest.mark.parametrize("penalty", [CentroidAlignment(), OrthogonalTemplates(1.0, "maps")])
def test_a_batch_without_numbers(penalty: CentroidAlignment | OrthogonalTemplates) -> None:
    """It is refused at the first call with a model and at every later one."""
    model = _model()
    for _ in range(2):
        with pytest.raises(ma.BadInput, match="the batch is empty"):
            penalty(model, X[:0])
        with pytest.raises(ma.BadInput, match="NaN or infinity"):
            penalty(model, X * float("nan"))
        assert penalty(model, X).isfinite()


@pytest.mark.parametrize("training", [True, False])
def test_templates_with_batch_statistics(training: bool) -> None:
    """The gradients at x of the sums of the logits over the batch, through the batch's own mean and variance."""
    model = _model().train(training)
    buffers = {name: item.clone() for name, item in model.named_buffers()}
    found = OrthogonalTemplates(1.0, "maps", compare="products", samples=6, statistics="batch")(model, X)
    assert all(torch.equal(item, buffers[name]) for name, item in model.named_buffers()) and model.training == training
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x).sum(0), X)
    rows = jacobian.flatten(2).transpose(0, 1)
    gram = rows @ rows.mT
    assert_close(found, (gram.square().sum((1, 2)) - gram.diagonal(dim1=1, dim2=2).square().sum(1)).mean())
    running = OrthogonalTemplates(1.0, "maps", compare="products", samples=6)(model, X)
    assert (found == running) is not training or not training
    with pytest.raises(ma.BadInput, match="statistics: 'batch'"):
        OrthogonalTemplates(statistics="batch")


def test_products_with_batch_statistics_do_not_see_the_scale_before_batch_norm() -> None:
    """What collapsed trainings: with running statistics, halving the weights before batch-norm shrinks the penalty."""
    model = _model()
    penalties = [OrthogonalTemplates(1.0, "maps", compare="products", statistics=kind) for kind in ("running", "batch")]
    before = [float(penalty(model, X).detach()) for penalty in penalties]
    with torch.no_grad():
        model[0].weight.mul_(0.5), model[0].bias.mul_(0.5)  # pyright: ignore
    after = [float(penalty(model, X).detach()) for penalty in penalties]
    assert after[0] < 0.2 * before[0] and after[1] == pytest.approx(before[1], rel=1e-3)
