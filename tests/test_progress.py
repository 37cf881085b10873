"""Progress is shown where somebody watches: on a terminal and in a notebook, after two seconds; never in a file."""

from __future__ import annotations

import io
import sys
import types

import pytest

from maxaffine._progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("progress", "terminal", "notebook", "shown"),
    [
        (None, False, False, False),
        (None, True, False, True),
        (None, False, True, True),
        (True, False, False, True),
        (False, True, True, False),
    ],
)
def test_where_a_bar_is_shown(
    progress: bool | None, terminal: bool, notebook: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Packages of notebooks that are imported do not make one: its shell has a kernel.
    shell = types.SimpleNamespace(**{"kernel": None} if notebook else {})
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    stream = Terminal() if terminal else io.StringIO()
    bar = progress_bar(progress, "work", total=2, file=stream)
    assert bar.disable is not shown
    if shown:
        bar.start_t -= 3  # three seconds ago
        bar.refresh()
        bar.update(2)
        bar.close()
        assert bar.delay == (0 if progress else 2)
    assert ("work" in stream.getvalue()) is shown
