"""The fingerprint changes with what the codes depend on, and with nothing else."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured

# Every so many networks of the zoo.
STRIDE = 10


class Pair(nn.Module):
    """Two linear layers and a maximum, connected in one of three ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.a, self.b = how, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.a(x).relu()
        if self.how == "chain":
            return self.b(first).relu()
        if self.how == "skip":
            return (self.b(first) + x).relu()
        return (self.b(x) + 0 * first).relu()


def _pair(how: str = "chain") -> Pair:
    torch.manual_seed(3)
    return Pair(how).eval()


@pytest.mark.parametrize("case", ZOO[::STRIDE], ids=str)
def test_captured_again_it_is_the_same(case: Case) -> None:
    first = captured(case, torch.float32)
    again = ma.capture(copy.deepcopy(case.build(torch.float32)), case.inputs(4, torch.float32, 1))
    assert first.fingerprint == again.fingerprint


def test_it_is_the_same_for_any_number_of_samples_and_in_another_process() -> None:
    found = {ma.capture(_pair(), torch.zeros(n, 4)).fingerprint for n in (2, 3, 17)}
    code = (
        "import torch, maxaffine as ma; from tests.network.test_fingerprint import _pair;"
        "print(ma.capture(_pair(), torch.zeros(5, 4)).fingerprint)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found == {there.stdout.strip()} and len(there.stdout.strip()) == 64


def test_every_parameter_counts() -> None:
    x = torch.zeros(2, 4)
    here = ma.capture(_pair(), x).fingerprint
    for name, parameter in _pair().named_parameters():
        model = _pair()
        with torch.no_grad():
            place = dict(model.named_parameters())[name].view(-1)
            place[-1] = torch.nextafter(place[-1], torch.tensor(9.0))
        assert ma.capture(model, x).fingerprint != here, (name, parameter.shape)


def test_wiring_dtype_and_operators_count() -> None:
    x = torch.zeros(2, 4)
    found = [ma.capture(_pair(how), x).fingerprint for how in ("chain", "skip", "side")]
    found += [ma.capture(_pair().double(), x.double()).fingerprint]
    for activation in (nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), nn.Hardtanh(), nn.ReLU6()):
        found.append(ma.capture(nn.Sequential(_pair().a, activation), x).fingerprint)
    pools = [nn.MaxPool1d(2, 2), nn.MaxPool1d(2, 1), nn.MaxPool1d(3, 1)]
    found += [ma.capture(pool, torch.zeros(2, 1, 4)).fingerprint for pool in pools]
    assert len(set(found)) == len(found)


def test_codes_carry_it() -> None:
    net = ma.capture(_pair(), torch.zeros(2, 4))
    x = torch.randn(6, 4)
    assert net.codes(x).metadata == {"fingerprint": net.fingerprint}
    assert (
        net.codes([(x,), (x,)]).metadata
        == net.codes(x, operators=list(net.codes(x))[:1]).metadata
        == net.codes(x).metadata
    )
