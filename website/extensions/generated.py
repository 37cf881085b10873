"""Parts of pages that the code itself tells: the public names, and what each command says with --help."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
from types import ModuleType
from typing import Any
from unittest import mock

from sphinx.application import Sphinx

import maxaffine
from maxaffine.cli import main

WIDTH = "92"
_COMMAND = re.compile(r"^    (\w+)\b", re.M)


def public_names() -> str:
    """A table of everything in ``maxaffine``, each with the first line of its documentation."""
    rows = ["| name | what it is |", "| --- | --- |"]
    for name in sorted(maxaffine.__all__, key=str.lower):
        thing = getattr(maxaffine, name)
        summary = (inspect.getdoc(thing) or "").split("\n")[0].replace("|", "\\|").replace("*", "\\*")
        if isinstance(thing, ModuleType):
            room = thing.__name__.split(".")[1]
            rows.append(f"| [`{name}`]({room}.md) | {summary} |")
        else:
            room = thing.__module__.split(".")[1]
            rows.append(f"| {{py:obj}}`{name} <maxaffine.{room}.{name}>` | {summary} |")
    return "\n".join(rows)


def _help(*words: str) -> str:
    with mock.patch.dict(os.environ, COLUMNS=WIDTH), contextlib.redirect_stdout(io.StringIO()) as told:
        main([*words, "--help"])
    return told.getvalue()


def command_line() -> str:
    """The help of the program and of each of its commands."""
    program = _help()
    parts = [f"```text\n{program}```"]
    for command in _COMMAND.findall(program.split("commands:")[1]):
        parts.append(f"## {command}\n\n```text\n{_help(command)}```")
    return "\n\n".join(parts)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    for mark, part in (("<!-- public names -->", public_names), ("<!-- command line -->", command_line)):
        if mark in source[0]:
            app.env.note_reread()
            source[0] = source[0].replace(mark, part())


def _skip(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """Leave out what a named tuple says of its fields; the class has documented them."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Write each part when its page is read."""
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
