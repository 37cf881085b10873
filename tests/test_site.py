"""The documentation as a site: it builds without a warning, leads nowhere wrong, and loads nothing from elsewhere."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

from maxaffine._cli.main import COMMANDS
from tests.site import faults

ROOT = Path(__file__).resolve().parents[1]
DOORS = sorted(door.stem for door in (ROOT / "src" / "maxaffine").glob("[a-z]*.py"))


def _build(source: Path, site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-c", str(ROOT / "website")]
    return subprocess.run([*command, *options, str(source), str(site)], capture_output=True, text=True, check=False)


def test_site(tmp_path: Path) -> None:
    built = _build(ROOT / "docs", tmp_path)
    assert built.returncode == 0, built.stderr
    assert faults(tmp_path) == []
    names, home, commands = (
        (tmp_path / page).read_text(encoding="utf-8")
        for page in ("api/index.html", "index.html", "project/command-line.html")
    )
    for door in DOORS:
        page = (tmp_path / "api" / f"{door}.html").read_text(encoding="utf-8")
        offered = importlib.import_module(f"maxaffine.{door}")
        assert [name for name in offered.__all__ if f">{name}</" not in names] == []
        called = [name for name in offered.__all__ if inspect.isroutine(getattr(offered, name))]
        assert [name for name in called if f'id="maxaffine.{door}.{name}"' not in page] == []
    assert "In twenty lines" in home and 'href="project/architecture.html"' in home  # README, its links led to pages
    assert re.findall(r"<h2>(\w+)<", commands) == [command.__name__.rpartition(".")[2] for command in COMMANDS]


BROKEN = {
    "[there](gone.md)": "gone.md",
    "[there](#nowhere)": "nowhere",
    "![picture](gone.png)": "gone.png",
    "$$\\nonsense{x}$$": "nonsense",
    "{py:func}`maxaffine.nothing`": "maxaffine.nothing",
}


def test_broken_page_fails(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("\n\n".join(["# title", *BROKEN]), encoding="utf-8")
    built = _build(tmp_path, tmp_path / "site", "-D", "html_static_path=", "-D", "html_css_files=")
    assert built.returncode != 0
    assert [complaint for complaint in BROKEN.values() if complaint not in built.stderr] == []


def test_faults_are_seen(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="gone.html">a</a><a href="#gone">b</a><a href="#here" id="here">c</a><a href="https://example.org">d</a>'
        '<script src="https://example.org/x.js"></script><link rel="stylesheet" href="//example.org/x.css">',
        encoding="utf-8",
    )
    (tmp_path / "x.css").write_text('@import "https://example.org/y.css"; a { background: url(//example.org/z.png) }')
    assert faults(tmp_path) == [
        "index.html: no such file: gone.html",
        "index.html: no such place: #gone",
        "index.html: loads https://example.org/x.js",
        "index.html: loads //example.org/x.css",
        "x.css: loads https://example.org/y.css",
        "x.css: loads //example.org/z.png",
    ]
