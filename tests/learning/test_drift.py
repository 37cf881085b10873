"""Recording codes through a training, against codes taken by hand from copies of the model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._codes import code_changes
from maxaffine._data import Split
from maxaffine._models import build, train


def blobs() -> Split:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    inputs = 0.3 * torch.rand(60, 1, 4, 4, generator=generator)
    inputs[:, 0, 0] += torch.eye(4)[labels] * 0.7
    return Split(inputs, labels)


def network(**options: object) -> nn.Module:
    return build("cnn", (1, 4, 4), 3, seed=0, **{"channels": (4,), "hidden": 8, **options})


def test_a_training_is_followed_epoch_by_epoch() -> None:
    data, model, copies = blobs(), network(), []
    x = torch.rand(300, 1, 4, 4)
    drift = ma.learning.CodeDrift(x)
    original = x.clone()

    def look(epoch: object = None) -> None:
        mode = [module.training for module in model.modules()]
        drift.record(model)
        assert mode == [module.training for module in model.modules()]
        copies.append(copy.deepcopy(model).eval())

    look()
    x.zero_()
    train(model, data, epochs=3, batch_size=16, lr=0.02, after_epoch=look)
    found = drift.result()
    nets = [ma.capture(moment, original[:2]) for moment in copies]
    by_hand = [net.codes(original) for net in nets]
    assert (
        found.operators == tuple(by_hand[0]) and found.moments == 4 and repr(drift) == "CodeDrift(4 moments recorded)"
    )
    for i in range(4):
        for j in range(4):
            means = [shares.mean() for shares in code_changes(by_hand[i], by_hand[j]).values()]
            torch.testing.assert_close(found.distances[:, i, j], torch.stack(means))
    assert bool((found.steps > 0).all()), "the fixture must train"


def test_recording_does_not_touch_the_training() -> None:
    def trained(record: bool) -> dict[str, torch.Tensor]:
        model, drift = network(), ma.learning.CodeDrift(blobs().inputs)
        train(model, blobs(), epochs=2, batch_size=16, after_epoch=lambda _: drift.record(model) if record else None)
        return model.state_dict()

    plain, recorded = trained(False), trained(True)
    assert all(torch.equal(plain[name], recorded[name]) for name in plain)


def test_chosen_operators_and_several_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(2, 4)
            self.relu, self.other = nn.ReLU(), nn.ReLU()

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.other(self.relu(self.first(a)) - self.relu(self.second(b)))

    model = Sum()
    drift = ma.learning.CodeDrift((torch.randn(5, 3), torch.randn(5, 2)), operators=["other"])
    for _ in range(2):
        drift.record(model)
    assert drift.result().operators == ("other",) and not drift.result().distances.any()


def test_bad_arguments_are_refused() -> None:
    drift = ma.learning.CodeDrift(blobs().inputs)
    with pytest.raises(ma.BadInput, match="moments: 0 of them"):
        drift.result()
    drift.record(network().eval())
    with pytest.raises(ma.BadInput, match="its operators are .* but .* when recording began"):
        drift.record(network(hidden=9))
    assert len(drift.moments) == 1
    with pytest.raises(ma.NotPiecewiseAffine):
        ma.learning.CodeDrift(torch.rand(2, 3)).record(nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()))
    with pytest.raises(ma.BadInput, match="operators"):
        ma.learning.CodeDrift(torch.rand(2, 3), operators=["typo"]).record(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
