"""Reports on disk: a page with its folder of figures, or a folder, appears as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from maxaffine._drawing import png, svg
from maxaffine._progress import progress_bar
from maxaffine._report import figures
from maxaffine._report.audit import audit_rows
from maxaffine._report.contents import Contents
from maxaffine._report.illustrations import illustrations, neighbors_name
from maxaffine._report.lookup import Lookup
from maxaffine._report.page import GENERATOR, render
from maxaffine._report.results import as_json
from maxaffine.errors import BadInput, MaxAffineError

PAGE, RESULTS, FIGURES, WEIGHTS = "report.html", "results.json", "figures", "weights.safetensors"
ARRAYS = "plane.npz"
PAGES = (".html", ".htm")
# In a folder that a report made: the names of all that it put there, so that nothing else is ever removed.
LIST = ".maxaffine-report"


def page_of(out: Path) -> Path:
    """Where the page of a report goes.

    Args:
        out: A page (``.html``), or a folder, which then gets ``report.html``.

    Returns:
        The page.
    """
    return out if out.suffix.lower() in PAGES else out / PAGE


def files_of(page: Path) -> Path:
    """The folder with the figures of a page.

    Args:
        page: The page.

    Returns:
        Its name without the suffix, and ``_files``.
    """
    return page.with_name(f"{page.stem}_files")


@contextmanager
def staged_page(page: Path, keep: Path | None = None) -> Iterator[Path]:
    """Give a page that takes its place, and its folder with it, when the block ends well, and vanishes otherwise.

    Args:
        page: The page to be. An earlier report there is replaced; anything else is left alone.
        keep: The weights that the report reads. Those that an earlier report left in the folder are taken along.

    Yields:
        The page to write, in a folder of its own beside the folder of its figures, which is there.

    Raises:
        BadInput: There is something other than a report at its place, or at that of its figures.
        MaxAffineError: The file system refuses.
    """
    folder, staging = files_of(page), page.with_name(f".{page.name}.{uuid4().hex}.part")
    made = []
    try:
        with _file_errors(page):
            _check_page(page)
            made = [parent for parent in page.parents if not parent.exists()]
            (staging / folder.name).mkdir(parents=True)
            _take_along(keep, folder, staging / folder.name)
        yield staging / page.name
        with _file_errors(page):
            _check_page(page)
            _list(staging / folder.name)
            _exchange(staging, page)
        made = []
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in made:
            # Only while it is empty.
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def write(contents: Contents, page: Path) -> None:
    """Write a page, and beside it every figure as PNG and SVG with its numbers as JSON.

    Args:
        contents: What to write.
        page: The page; the folder of its figures is there.

    Raises:
        MaxAffineError: The file system refuses, or the page would be too large.
    """
    folder = files_of(page)
    with _file_errors(page):
        drawn = list(illustrations(contents))
        for one in progress_bar(None, "figures", iterable=drawn, unit="figure"):
            figure = one.draw()
            (folder / f"{one.name}.png").write_bytes(png(figure))
            _write(folder / f"{one.name}.svg", svg(figure))
            _write(folder / f"{one.name}.json", json.dumps(one.numbers, ensure_ascii=False, allow_nan=False))
        _write(folder / RESULTS, as_json(contents))
        _write(page, render(contents, folder.name))


def _write(path: Path, text: str) -> None:
    """Write text in which names of files need not be valid text."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _check_page(page: Path) -> None:
    """Check that writing a page destroys nothing but an earlier one."""
    folder = files_of(page)
    if page.is_dir():
        raise BadInput(f"out: {page} is a folder; name a page inside it")
    if page.exists() and GENERATOR.encode() not in page.read_bytes()[:1000]:
        raise BadInput(f"out: {page} is not a report and would be lost; name another page")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"out: {folder}, where the figures go, is a file; name another page")
    if stranger := _stranger(folder):
        raise BadInput(
            f"out: the folder {folder}, where the figures go, holds {stranger!r}, which no report put there and which"
            " would be lost; name another page"
        )


def _stranger(folder: Path) -> str | None:
    """A file in a folder that no report put there."""
    if not folder.is_dir():
        return None
    listed = folder / LIST
    own = {LIST, *listed.read_text(encoding="utf-8", errors="replace").splitlines()} if listed.is_file() else set()
    return next((name for name in _names(folder) if name not in own), None)


def _names(folder: Path) -> Iterator[str]:
    """The names of all files in a folder and those inside it, one after another: there may be very many."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        yield from (Path(parent, name).relative_to(folder).as_posix() for name in sorted(names))


def _list(folder: Path) -> None:
    """Write down what a report put into its folder."""
    (folder / LIST).write_text("\n".join(_names(folder)), encoding="utf-8")


def _take_along(weights: Path | None, folder: Path, staging: Path) -> None:
    """Copy the weights that an earlier report left, where this one reads them."""
    if weights is not None and os.path.realpath(weights) == os.path.realpath(folder / WEIGHTS) and weights.is_file():
        shutil.copy2(weights, staging / WEIGHTS)


def _exchange(staging: Path, page: Path) -> None:
    """Put page and figures into their places, and the earlier ones back when that fails."""
    with ExitStack() as undone:
        for place in (files_of(page), page):
            if place.exists():
                old = staging / f"{place.name}.old"
                place.rename(old)
                undone.callback(old.rename, place)
            (staging / place.name).rename(place)
            undone.callback(place.rename, staging / place.name)
        undone.pop_all()


def write_lookup(lookup: Lookup, folder: Path) -> None:
    """Write the numbers of a lookup and its picture grids.

    Args:
        lookup: What to write.
        folder: An existing folder without them.

    Raises:
        MaxAffineError: The file system refuses.
    """
    found, audit = lookup.neighbors, lookup.audit
    with _file_errors(folder):
        (folder / FIGURES).mkdir()
        for query in found.queries:
            figure = figures.neighbors_figure(query, found)
            (folder / FIGURES / f"{neighbors_name(query.index)}.png").write_bytes(png(figure))
        if audit is not None:
            for name, rows in audit_rows(audit).items():
                figure = figures.examples_figure(rows, audit.pictures)
                (folder / FIGURES / f"{name}.png").write_bytes(png(figure))
        _write(folder / RESULTS, as_json(lookup))


@contextmanager
def staged(out: Path, keep: Path | None = None) -> Iterator[Path]:
    """Give a folder beside ``out`` that takes its place when the block ends well, and vanishes when it does not.

    Args:
        out: The folder to be. An earlier report (or lookup) there is replaced; anything else is left alone.
        keep: As for `staged_page`.

    Yields:
        The folder to write into.

    Raises:
        BadInput: ``out`` is a file, or a folder that holds something other than a report.
        MaxAffineError: The file system refuses.
    """
    staging = out.with_name(f".{out.name}.{uuid4().hex}.part")
    try:
        with _file_errors(out):
            _check_folder(out)
            staging.mkdir(parents=True)
            _take_along(keep, out, staging)
        yield staging
        with _file_errors(out):
            _check_folder(out)
            _list(staging)
            _replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MaxAffineError(f"out: {path} cannot be written ({error}); free some space or choose another") from error


def _check_folder(out: Path) -> None:
    """Check that writing a report to a folder destroys nothing but an earlier one."""
    if os.path.lexists(out) and not out.is_dir():
        raise BadInput(f"out: {out} is a file; name a folder")
    if stranger := _stranger(out):
        raise BadInput(
            f"out: the folder {out} holds {stranger!r}, which no report put there and which would be lost; name a new"
            " or empty folder"
        )


def _replace(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
        return
    old = staging.with_suffix(".old")
    out.rename(old)
    try:
        staging.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)
