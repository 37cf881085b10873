"""Networks that standardize inside, and training on values, against the same written out and scikit-learn's R2."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from maxaffine import BadInput, capture
from maxaffine._data import Split
from maxaffine._models import Normalized, build, r2, save_weights, standardized, train
from maxaffine._models.loading import load_model
from tests.tables import targets_of


def _part(rows: int = 50, targets: int = 2) -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator) * torch.tensor([1.0, 1000.0, 1e-3]) + torch.tensor([0.0, 5e3, 2.0])
    x[:, 2] = 7.5  # a constant column
    y = torch.stack([3e4 + 10 * x[:, 1], x[:, 0].abs()], 1)[:, :targets]
    return Split(x, torch.zeros(rows, dtype=torch.int64), y)


def test_what_a_standardized_network_computes(tmp_path):
    part = _part()
    model = standardized("mlp", part, 2, seed=1).eval()
    inner = build("mlp", (3,), 2, seed=1, widths=(64, 64)).double()
    x, y = part.inputs.double(), targets_of(part).double()
    mean, std = x.mean(0), x.std(0, correction=0)
    std[2] = 1
    wanted = inner((x - mean) / std) * y.std(0, correction=0) + y.mean(0)
    torch.testing.assert_close(model(part.inputs).double(), wanted, rtol=1e-5, atol=1e-5)
    net = capture(model.double(), x[:2], task="values")
    assert net.verify(model, x).exact  # affine at both ends: exact in the table's own units
    save_weights(model.float(), tmp_path / "w.safetensors")
    other = Split(torch.randn(9, 3), torch.zeros(9, dtype=torch.int64), torch.randn(9, 2))
    again = load_model("maxaffine._models:standardized", tmp_path / "w.safetensors", name="mlp", part=other, outputs=2)
    assert torch.equal(again(part.inputs), model(part.inputs))  # the spread comes with the weights


def test_classes_and_pictures():
    labels = torch.arange(50) % 2
    rows = standardized("mlp", Split(_part().inputs, labels), 2, seed=0)
    assert type(rows) is Normalized and rows(_part().inputs).shape == (50, 2)
    pictures = Split(torch.rand(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64), torch.rand(6, 1))
    model = standardized("cnn", pictures, 1, seed=0).eval()
    assert dict(model.named_buffers())["mean"].tolist() == [0.0] and model(pictures.inputs).shape == (6, 1)


def test_r2_against_scikit_learn():
    part, torch_model = _part(), nn.Linear(3, 2)
    with torch.no_grad():
        torch_model.weight.copy_(torch.tensor([[0.0, 9.0, 0.0], [0.1, 0.0, 0.0]]))
    wanted = r2_score(targets_of(part).numpy(), torch_model(part.inputs).detach().numpy())
    assert r2(torch_model, part, batch_size=7) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(BadInput, match="it has labels and no targets; use accuracy"):
        r2(torch_model, Split(part.inputs, part.labels))


def test_training_on_values_is_that_of_the_errors_in_units_of_their_variance():
    """Against one step of Adam written out: its first step is lr times the sign of the gradient."""
    part, layer = _part(8), nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    scale = targets_of(part).std(0, correction=0)
    loss = ((layer(part.inputs) - targets_of(part)) / scale).square().mean()
    (gradient,) = torch.autograd.grad(loss, [layer.weight])
    (epoch,) = train(layer, part, epochs=1, lr=0.01).history
    torch.testing.assert_close(layer.weight, before - 0.01 * gradient.sign(), rtol=0, atol=1e-5)
    assert epoch.loss == pytest.approx(loss.item(), rel=1e-5) and epoch.accuracy == pytest.approx(1 - epoch.loss)


def test_training_learns_and_keeps_the_best_epoch():
    part = _part(200)
    model = standardized("mlp", part, 2, seed=0)
    found = train(model, part, epochs=30, batch_size=32, validation=part)
    assert found.history[-1].validation_accuracy == pytest.approx(r2(model, part), abs=0.01) and r2(model, part) > 0.98


def test_models_with_other_outputs_are_refused():
    with pytest.raises(BadInput, match=r"model: it gives \(1, 3\) for one input, not \(1, 2\) values"):
        train(nn.Linear(3, 3), _part(), epochs=1)
