"""Reports on disk: a page with its folder of figures, or a folder, appears as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from maxaffine.drawing import png, svg
from maxaffine.errors import BadInput, MaxAffineError
from maxaffine.progress import progress_bar
from maxaffine.report import figures
from maxaffine.report.audit import audit_rows
from maxaffine.report.contents import Contents
from maxaffine.report.illustrations import illustrations, neighbours_name
from maxaffine.report.lookup import Lookup
from maxaffine.report.page import GENERATOR, render
from maxaffine.report.results import as_json

PAGE, RESULTS, FIGURES, WEIGHTS = "report.html", "results.json", "figures", "weights.safetensors"
ARRAYS = "plane.npz"
PAGES = (".html", ".htm")
# What a page's folder may hold.
OWN = (".png", ".svg", ".json", ".safetensors")


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
def staged_page(page: Path) -> Iterator[Path]:
    """Give a page that takes its place, and its folder with it, when the block ends well, and vanishes otherwise.

    Args:
        page: The page to be. An earlier report there is replaced; anything else is left alone.

    Yields:
        The page to write, in a folder of its own beside the folder of its figures, which is there.

    Raises:
        BadInput: There is something else than a report at its place, or at that of its figures.
        MaxAffineError: The file system refuses.
    """
    _check_page(page)
    staging = page.with_name(f".{page.name}.{uuid4().hex}.part")
    made = [folder for folder in (page.parent, *page.parent.parents) if not folder.exists()]
    try:
        with _told(page):
            (staging / files_of(page).name).mkdir(parents=True)
        yield staging / page.name
        _check_page(page)
        with _told(page):
            _exchange(staging, page)
        made = []
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in made:
            # Only while it is empty.
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def write(contents: Contents, page: Path) -> None:
    """Write a page, and beside it every figure as PNG and SVG with its numbers as JSON.

    Args:
        contents: What to write.
        page: The page; the folder of its figures is there.

    Raises:
        MaxAffineError: The file system refuses, or the page would be too large.
    """
    folder = files_of(page)
    with _told(page):
        drawn = list(illustrations(contents))
        for one in progress_bar(None, "figures", iterable=drawn, unit="figure"):
            figure = one.draw()
            (folder / f"{one.name}.png").write_bytes(png(figure))
            (folder / f"{one.name}.svg").write_text(svg(figure), encoding="utf-8")
            text = json.dumps(one.numbers, ensure_ascii=False, allow_nan=False)
            (folder / f"{one.name}.json").write_text(text, encoding="utf-8")
        (folder / RESULTS).write_text(as_json(contents), encoding="utf-8")
        page.write_text(render(contents, folder.name), encoding="utf-8")


def _check_page(page: Path) -> None:
    """Check that writing a page destroys nothing but an earlier one."""
    folder = files_of(page)
    if page.is_dir():
        raise BadInput(f"out: {page} is a folder; name a page inside it")
    if page.exists() and GENERATOR.encode() not in page.read_bytes()[:1000]:
        raise BadInput(f"out: {page} is no report and would be lost; name another page")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"out: {folder}, where the figures go, is a file; name another page")
    strangers = sorted(item.name for item in folder.iterdir() if item.suffix not in OWN) if folder.is_dir() else []
    if strangers:
        raise BadInput(
            f"out: the folder {folder}, where the figures go, holds {strangers[0]!r}, which is no part of a report and"
            " would be lost; name another page"
        )


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
    found, audit = lookup.neighbours, lookup.audit
    with _told(folder):
        (folder / FIGURES).mkdir()
        for query in found.queries:
            figure = figures.neighbours_figure(query, found)
            (folder / FIGURES / f"{neighbours_name(query.index)}.png").write_bytes(png(figure))
        if audit is not None:
            for name, rows in audit_rows(audit).items():
                figure = figures.examples_figure(rows, audit.pictures)
                (folder / FIGURES / f"{name}.png").write_bytes(png(figure))
        (folder / RESULTS).write_text(as_json(lookup), encoding="utf-8")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a folder beside ``out`` that takes its place when the block ends well, and vanishes when it does not.

    Args:
        out: The folder to be. An earlier report (or lookup) there is replaced; anything else is left alone.

    Yields:
        The folder to write into.

    Raises:
        BadInput: ``out`` is a file, or a folder that holds something else than a report.
        MaxAffineError: The file system refuses.
    """
    check_replaceable(out)
    staging = out.with_name(f".{out.name}.{uuid4().hex}.part")
    try:
        with _told(out):
            staging.mkdir(parents=True)
        yield staging
        check_replaceable(out)
        with _told(out):
            _replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MaxAffineError(f"out: {path} cannot be written ({error}); free some space or choose another") from error


def check_replaceable(out: Path) -> None:
    """Check that writing a report to a folder destroys nothing but an earlier report.

    Args:
        out: The folder to be.

    Raises:
        BadInput: It is a file, or holds something that no report writes.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"out: {out} is a file; name a folder")
    if out.is_dir():
        own = {PAGE, RESULTS, FIGURES, WEIGHTS, ARRAYS}
        strangers = sorted(entry.name for entry in out.iterdir() if entry.name not in own)
        if strangers:
            raise BadInput(
                f"out: the folder {out} holds {strangers[0]!r}, which is no part of a report and would be lost; name a "
                "new or empty folder"
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
