"""The built package, installed into an environment that holds what the wheel asks for and nothing else."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

import maxaffine

ROOT = Path(__file__).resolve().parents[1]
USE = """
import torch
import maxaffine as ma

model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).double()
x = torch.randn(5, 4, dtype=torch.float64)
net = ma.capture(model, x)
amap = net.affine_map(x)
assert torch.allclose(torch.einsum("nci,ni->nc", amap.slopes, x) + amap.offsets, model(x))
assert net.verify(model, x).exact
assert len(net.codes(x)) == 1
print(ma.__file__)
"""


def _required(name: str, found: dict[str, importlib.metadata.Distribution]) -> None:
    """Collect a distribution and all that it needs without extras."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return
    found[key] = importlib.metadata.distribution(name)
    for requirement in map(Requirement, found[key].requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            _required(requirement.name, found)


def _environment(folder: Path) -> Path:
    """A fresh environment whose packages are links to the core dependencies of ours; its python."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    found: dict[str, importlib.metadata.Distribution] = {}
    _required("maxaffine", found)
    del found["maxaffine"]
    for distribution in found.values():
        for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            link = packages / entry
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(entry))))
    return folder / "bin" / "python"


def _built(folder: Path) -> Path:
    """The folder of the source archive and of the wheel that was built from it."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_built_package(tmp_path: Path) -> None:
    built = _built(tmp_path / "dist")
    (wheel,) = built.glob("*.whl")
    (archive,) = built.glob("*.tar.gz")
    _holds_everything(wheel, archive)
    python = _environment(tmp_path / "env")
    install = ["install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    assert _run(python, "-m", "pip", "--version").returncode != 0  # nothing of ours leaks in
    version = f"maxaffine {maxaffine.__version__}\n"
    assert _run(python.with_name("maxaffine"), "--version").stdout == version
    assert _run(python, "-m", "maxaffine", "--version").stdout == version
    helped = _run(python, "-m", "maxaffine", "--help")
    assert helped.returncode == 0 and "report" in helped.stdout
    used = _run(python, "-c", USE)
    assert used.returncode == 0, used.stderr
    data = _run(python, "-m", "maxaffine", "operators", "--data", "digits")
    assert (
        data.returncode == 1 and "pip install 'maxaffine[data]'" in data.stderr
    )  # what is absent is asked for by name
    assert Path(used.stdout.strip()).is_relative_to(tmp_path / "env")


def _holds_everything(wheel: Path, archive: Path) -> None:
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "maxaffine").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    assert expected == {name for name in held if name.startswith("maxaffine/")}
    assert any(name.endswith("licenses/LICENSE") for name in held)
    with tarfile.open(archive) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames() if "/" in name}
    assert {f"src/{name}" for name in expected} | {"README.md", "LICENSE", "tests/test_docs.py"} <= names


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), env=environment, cwd="/", capture_output=True, text=True, check=False
    )
