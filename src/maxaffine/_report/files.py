"""Reports on disk: a folder that appears as a whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from maxaffine._drawing import png, require, svg
from maxaffine._progress import progress_bar
from maxaffine._report.contents import Contents
from maxaffine._report.illustrations import illustrations
from maxaffine._report.lookup import Lookup
from maxaffine._report.page import render
from maxaffine._report.results import as_json
from maxaffine.errors import BadInput, MaxAffineError

PAGE, RESULTS, FIGURES = "report.html", "results.json", "figures"
WEIGHTS, ARRAYS = "weights.safetensors", "plane.npz"
PACKAGES = ("matplotlib", "jinja2", "PIL", "scipy")


def require_packages() -> None:
    """Check, before any work is spent, that the packages which draw and lay out the page are installed."""
    require("a report", PACKAGES)


@contextmanager
def new_folder(out: str | os.PathLike[str], overwrite: bool = False, keep: Path | None = None) -> Iterator[Path]:
    """Give a folder that takes its place in one rename when the block ends well, and vanishes otherwise."""
    # The file to keep is read meanwhile: where it lies in the folder that is replaced, it is taken along.
    place = Path(os.path.realpath(out))
    staging: Path | None = None
    try:
        with _file_errors(place):
            _check_place(place, overwrite)
            # On the file system of the place, but without making the folders above it yet.
            beside = next(parent for parent in place.parents if parent.exists())
            staging = beside / f".{place.name}.{uuid4().hex}.part"
            staging.mkdir()
            if keep is not None and place in Path(os.path.realpath(keep)).parents and keep.is_file():
                shutil.copy2(keep, staging / keep.name)
        yield staging
        with _file_errors(place):
            # Something may have come meanwhile.
            _check_place(place, overwrite)
            _exchange(staging, place)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def write(contents: Contents | Lookup, folder: Path) -> None:
    """Write a page, every figure as PNG and SVG with its numbers as JSON, and all numbers in one file."""
    figures = folder / FIGURES
    with _file_errors(folder):
        figures.mkdir()
        for one in progress_bar(None, "figures", iterable=list(illustrations(contents)), unit="figure"):
            figure = one.draw()
            (figures / f"{one.name}.png").write_bytes(png(figure))
            _write(figures / f"{one.name}.svg", svg(figure))
            _write(figures / f"{one.name}.json", json.dumps(one.numbers, ensure_ascii=False, allow_nan=False))
        _write(folder / RESULTS, as_json(contents))
        _write(folder / PAGE, render(contents))


def _write(path: Path, text: str) -> None:
    """Write text in which names of files need not be valid text."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _check_place(place: Path, overwrite: bool) -> None:
    """Check that nothing is lost which nobody said may go."""
    if os.path.lexists(place) and not place.is_dir():
        raise BadInput(f"out: {place} is a file, and a folder is written; name another, such as {place}-page")
    if not place.is_dir() or not any(place.iterdir()):
        return
    if not overwrite:
        raise BadInput(f"out: {place} is there and not empty; name another folder, or pass overwrite=True")
    if Path.cwd().is_relative_to(place):
        raise BadInput(f"out: {place} holds the folder that you work in, so it is not overwritten; name another")


def _exchange(staging: Path, place: Path) -> None:
    """Put a folder into its place, or else what was there back."""
    old = staging.with_suffix(".old")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            place.rename(old)
        staging.rename(place)
    finally:
        # The old folder goes only where the new one stands, also after Ctrl-C between the two renames.
        if old.exists():
            if place.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(place)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MaxAffineError(f"out: {path} cannot be written ({error}); free some space or choose another") from error
