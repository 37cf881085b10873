"""One seed: fields, three answers, and for each a network on the crops and another on their shell averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.volumes.fields import HALF, Universe, sample
from examples.volumes.network import cauchy, network, predict, train

FIELDS, TEST_FIELDS, CANDIDATES = 130, 40, 80
EPOCHS, ASKED = 10, 400


@dataclass(frozen=True)
class Data:
    """Training and test crops in units of the training crops' deviation, with answers about the training mean."""

    inputs: tuple[Tensor, Tensor]
    answers: tuple[Tensor, Tensor]

    def averaged(self) -> Data:
        """The same with every crop replaced by its means over shells."""
        first, second = (shell_averages(item) for item in self.inputs)
        return Data((first, second), self.answers)


def shell_averages(x: Tensor) -> Tensor:
    """Crops (N, 1, side, side, side) with the mean of its shell about the middle in every voxel."""
    steps = torch.arange(-HALF, HALF + 1) ** 2
    squares = steps[:, None, None] + steps[:, None] + steps
    _, shells, counts = squares.flatten().unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(x), len(counts)).index_add_(1, shells, x.flatten(1))
    return (sums / counts)[:, shells].reshape(x.shape)


def measure(seed: int) -> dict[str, Any]:
    """Every number of one seed, by truth; the same crops for all of them."""
    universe = Universe()
    # Seeds of fields apart from each other, so that none is in two parts.
    parts = (sample(universe, FIELDS, CANDIDATES, 2 * seed), sample(universe, TEST_FIELDS, CANDIDATES, 2 * seed + 1))
    scale = parts[0].inputs.std()
    first, second = (torch.from_numpy(part.inputs / scale) for part in parts)
    ellipsoid, sphere = [part.ellipsoidal for part in parts], [part.spherical for part in parts]
    found: dict[str, Any] = {"inputs": [len(first), len(second)]}
    found["ellipsoid"] = one = _one(Data((first, second), _centered(ellipsoid)), seed)
    found["sphere"] = _one(Data((first, second), _centered(sphere)), seed)
    # A control: by distance alone, and as hard to tell as the ellipsoid is for whoever sees distances alone.
    deviation = float(np.sqrt((1 - one["averages"]["r2"]) * ellipsoid[1].var()))
    generator = np.random.default_rng(seed)
    noisy = [answers + generator.normal(0, deviation, len(answers)) for answers in sphere]
    found["noise"] = _one(Data((first, second), _centered(noisy)), seed)
    return found


def _centered(answers: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    first, second = (torch.from_numpy(part - answers[0].mean()).float() for part in answers)
    return first, second


def _one(data: Data, seed: int) -> dict[str, Any]:
    averaged = data.averaged()
    model, again = network(seed), network(seed)
    train(model, data.inputs[0], data.answers[0], EPOCHS, seed)
    train(again, averaged.inputs[0], averaged.answers[0], EPOCHS, seed)
    found = {"crops": _quality(model, data), "averages": _quality(again, averaged)}
    return found | {"shells": shares(model, data.inputs[1][:ASKED])}


def _quality(model: nn.Module, data: Data) -> dict[str, float]:
    x, y = data.inputs[1], data.answers[1]
    errors = predict(model, x) - y
    return {"loss": float(cauchy(errors)), "r2": float(1 - errors.square().mean() / y.var(correction=0))}


def shares(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """How the outputs at some crops split by shells, what the parts vary by, and what other rests would change."""
    shells = ma.capture(model, x[:2]).templates(x, progress=False).by_shells()
    values = predict(model, x)
    means = shell_averages(x)
    # Means over shells and what they leave out are independent in such a field, so each may be another crop's.
    other = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    changed = predict(model, means + (x - means)[other]) - values
    parts = {"isotropic": shells.isotropic, "rest": shells.rest, "offsets": shells.offsets}
    total = shells.isotropic + shells.rest + shells.offsets
    return {name: [float(part.mean()), float(part.std())] for name, part in parts.items()} | {
        "share": float(shells.share.median()),
        "norm_share": float(shells.norm_share.median()),
        "variance_share": float(shells.variance_share().median()),
        "exchanged": float(changed.square().mean() / 2 / values.var()),
        "miss": float((total[:, 0] - values).abs().max()),
    }
