"""What an installed maxaffine promises: one version everywhere, a light import and a documented public surface."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import maxaffine

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PUBLIC_NAMES = 128  # some ten for each door, and what is caught

# Runs in a fresh interpreter; `body` is what is measured between the two snapshots of torch's global state.
PROBE = """
import json, random, sys
import numpy as np, torch

def state():
    return {{
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "grad mode": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "matmul tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn tf32": torch.backends.cudnn.allow_tf32,
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "torch rng": torch.get_rng_state().sum().item(),
        "numpy rng": repr(np.random.get_state()),
        "python rng": hash(random.getstate()),
        "numpy errors": repr(np.geterr()),
        "recursion limit": sys.getrecursionlimit(),
    }}

before, loaded = state(), set(sys.modules)
{body}
after = state()
changed = [name for name in before if before[name] != after[name]]
print(json.dumps({{"changed": changed, "modules": sorted(set(sys.modules) - loaded)}}))
"""


def _probe(body: str) -> dict:
    command = [sys.executable, "-c", PROBE.format(body=body)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_one_version_everywhere() -> None:
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    changelog = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation is not None and citation[1].strip("\"'") == VERSION
    assert changelog[0] == "Unreleased" and changelog[1] == VERSION
    assert importlib.metadata.version("maxaffine") == VERSION == maxaffine.__version__


def test_metadata_of_the_installed_package() -> None:
    metadata = importlib.metadata.metadata("maxaffine")
    core = {re.split(r"[<>=\[; ]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert core == {"torch", "numpy", "safetensors", "tqdm"}
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="maxaffine")
    assert script.value == "maxaffine_command:main" and callable(script.load())
    assert (Path(maxaffine.__file__).parent / "py.typed").exists()


def test_import_is_light_and_changes_nothing() -> None:
    """Beside torch and numpy it takes its own modules and one small package; `make bench` says how long that is."""
    found = _probe("import maxaffine")
    loaded = {module.split(".")[0] for module in found["modules"]} - sys.stdlib_module_names
    assert loaded == {"maxaffine", "safetensors"}
    assert found["changed"] == []


def test_probe_sees_changed_flags() -> None:
    """The check above can fail: each of these lines is reported under its name."""
    body = """
torch.set_num_threads(torch.get_num_threads() + 1)
torch.set_default_dtype(torch.float64)
torch.backends.cudnn.benchmark = True
torch.manual_seed(7)
torch.set_grad_enabled(False)
"""
    body += "import torch._dynamo"
    found = _probe(body)
    assert "torch._dynamo" in found["modules"]
    assert found["changed"] == ["threads", "default dtype", "grad mode", "cudnn benchmark", "torch rng"]


def test_public_names_exist_and_are_documented() -> None:
    doors = sorted(path.stem for path in Path(maxaffine.__file__).parent.glob("[a-z]*.py"))
    modules = [maxaffine, *(importlib.import_module(f"maxaffine.{door}") for door in doors if door != "errors")]
    offered = [(module, name) for module in modules for name in module.__all__]
    things = [getattr(module, name) for module, name in offered]
    names = [name for (_, name), thing in zip(offered, things, strict=True) if not isinstance(thing, ModuleType)]
    assert len(set(names)) == len(names) <= PUBLIC_NAMES
    assert [name for (_, name), thing in zip(offered, things, strict=True) if not (thing.__doc__ or "").strip()] == []
    assert set(importlib.import_module("maxaffine.errors").__all__) <= set(maxaffine.__all__)


def test_no_function_hides_a_public_module() -> None:
    """`import maxaffine.templates as t` gives the module, whatever was imported before."""
    for path in Path(maxaffine.__file__).parent.glob("[a-z]*.py"):
        module = importlib.import_module(f"maxaffine.{path.stem}")
        assert getattr(maxaffine, path.stem) is module
