"""Parts of pages that the code itself tells: the public names, and what each command says with --help."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from sphinx.application import Sphinx

import maxaffine
from maxaffine._cli import main

WIDTH = "92"
_COMMAND = re.compile(r"^    (\w+)\b", re.M)


def public_names() -> str:
    """Everything in ``maxaffine`` and its modules, each with the first line of its documentation."""
    names = sorted(path.stem for path in Path(maxaffine.__file__).parent.glob("[a-z]*.py"))
    modules = [importlib.import_module(f"maxaffine.{name}") for name in names if name != "errors"]
    return "\n\n".join(map(_table, [maxaffine, *modules]))


def _table(module: ModuleType) -> str:
    page = module.__name__.rpartition(".")[2] if module is not maxaffine else "main"
    rows = [f"## [{module.__name__}]({page}.md)", "", _summary(module), "", "| name | what it is |", "| --- | --- |"]
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, ModuleType):
            rows += [f"| `{name}` | {_summary(thing)} |"] if module is not maxaffine else []
        else:
            home = "maxaffine.errors" if thing.__module__ == "maxaffine.errors" else module.__name__
            rows.append(f"| {{py:obj}}`{name} <{home}.{name}>` | {_summary(thing)} |")
    return "\n".join(rows)


def _summary(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0].replace("|", "\\|").replace("*", "\\*")


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
