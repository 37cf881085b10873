"""A report on disk: the whole folder appears at once, or nothing does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from maxaffine.drawing import png
from maxaffine.errors import BadInput, MaxAffineError
from maxaffine.report import figures
from maxaffine.report.facts import Contents
from maxaffine.report.lookup import Lookup, audit_rows
from maxaffine.report.page import render
from maxaffine.report.results import as_json

PAGE, RESULTS, FIGURES, WEIGHTS = "report.html", "results.json", "figures", "weights.safetensors"
ARRAYS = "plane.npz"


def write(contents: Contents, folder: Path) -> None:
    """Write the page, the numbers and the figures.

    Args:
        contents: What to write.
        folder: An existing folder without a report.

    Raises:
        MaxAffineError: The file system refuses.
    """
    with _told(folder):
        (folder / FIGURES).mkdir()
        for explanation in contents.explanations:
            figure = figures.explanation_figure(explanation)
            (folder / FIGURES / f"templates-{explanation.index:05}.png").write_bytes(png(figure))
        if (found := contents.neighbours) is not None:
            for query in found.queries:
                figure = figures.neighbours_figure(query, found)
                (folder / FIGURES / f"neighbours-{query.index:05}.png").write_bytes(png(figure))
        (folder / RESULTS).write_text(as_json(contents), encoding="utf-8")
        (folder / PAGE).write_text(render(contents), encoding="utf-8")


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
            (folder / FIGURES / f"neighbours-{query.index:05}.png").write_bytes(png(figure))
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
