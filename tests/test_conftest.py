"""What conftest.py promises: checked types, and a CI that cannot pass by skipping."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation

import maxaffine as ma
from maxaffine.errors import NotPiecewiseAffine
from tests.zoo.networks import Net

CASE = """
import pytest

def test_accelerator():
    pytest.skip("needs CUDA")

def test_data():
    {body}
"""


@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("pytest.skip('no data')", 1)])
def test_skips_fail_when_asked(tmp_path: Path, body: str, code: int) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_case.py").write_text(CASE.format(body=body), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {"MAXAFFINE_NO_SKIPS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert ("test_case.py::test_data: Skipped: no data" in done.stdout) == (code == 1)
    assert "test_accelerator: " not in done.stdout


def test_library_is_type_checked() -> None:
    with pytest.raises(BeartypeCallHintParamViolation, match="operator"):
        NotPiecewiseAffine(3, "a reason", "a cure")  # pyright: ignore[reportArgumentType]


def test_operators_that_are_registered_later_are_looked_up() -> None:
    x = torch.tensor([[-1.0, 3.0]])
    ma.capture(torch.nn.ReLU(), x)
    library = torch.library.Library("registered_later", "DEF")
    library.define("twice_raised(Tensor x) -> Tensor")
    library.impl("twice_raised", lambda x: 2 * x.relu(), "CompositeImplicitAutograd")
    net = ma.capture(Net(lambda _, x: torch.ops.registered_later.twice_raised(x)), x)
    assert net(x).tolist() == [[0.0, 6.0]] and [record.pieces for record in net.operators].count(2) == 1
