"""A network is the same after it was copied, pickled, saved, or sent to another process."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._graph.naming import Named, loaded_target
from tests.zoo.networks import Net

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def _forward(m: Any, x: Tensor) -> Tensor:
    """Selections of every kind, a constant output and a final softmax."""
    y = m.a(x).relu()
    ordered = torch.cat([y.topk(3, 1).values, y.median(1, keepdim=True).values, y.cummax(1).values, y.sort(1)[0]], 1)
    return (ordered + y.amax(1, keepdim=True) - y.amin(1, keepdim=True)).softmax(1)


def model() -> nn.Module:
    torch.manual_seed(0)
    return Net(_forward, a=nn.Linear(6, 4)).eval()


def torch_saved(net: ma.SplineNetwork) -> ma.SplineNetwork:
    stream = io.BytesIO()
    torch.save({"net": net}, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)["net"]


def dumped(net: ma.SplineNetwork) -> ma.SplineNetwork:
    stream = io.BytesIO()
    joblib.dump(net, stream)
    stream.seek(0)
    return joblib.load(stream)


WAYS: dict[str, Callable[[ma.SplineNetwork], ma.SplineNetwork]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "torch": torch_saved,
    "joblib": dumped,
}


@pytest.fixture(scope="module")
def net() -> ma.SplineNetwork:
    return ma.capture(model(), X, output="pre_activation")


@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_same(net: ma.SplineNetwork, way: str) -> None:
    other = WAYS[way](net)
    assert other.fingerprint == net.fingerprint and other.operators == net.operators
    assert torch.equal(other(X), net(X)) and other.codes(X) == net.codes(X)
    assert torch.equal(other.affine_map(X).slopes, net.affine_map(X).slopes)  # pyright: ignore[reportArgumentType]
    assert other.verify(model(), X).exact
    assert WAYS[way](other.double()).fingerprint == net.double().fingerprint


def test_what_was_computed_since_stays_out_of_the_file(net: ma.SplineNetwork) -> None:
    size = len(pickle.dumps(net))
    assert net.affine_map(X).batch == 4 and net.fingerprint and not net.convex
    assert len(pickle.dumps(net)) == size


def test_another_process_reads_it(net: ma.SplineNetwork, tmp_path: Path) -> None:
    torch.save(net, tmp_path / "net.pt")
    code = "import sys, torch; print(torch.load(sys.argv[1], weights_only=False).fingerprint)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "net.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == net.fingerprint


def test_an_operator_of_a_library_that_is_not_loaded() -> None:
    with pytest.raises(ma.ModelError, match=r"operator lib\.bent is unknown in this process; import what registers"):
        loaded_target(Named("lib", "bent", "default"))
