"""The tutorials run as notebooks, each from an empty folder and namespace, and print what their pages show."""

from __future__ import annotations

import doctest
import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tests.markdown import FLAGS, absent, blocks, needs
from website.notebooks import TUTORIALS, notebook

ROOT = TUTORIALS.parents[1]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all pages: half of the time of one is that of its first imports and its first capture."""
    # One page takes its photographs from examples/, which is no part of the installed library.
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    every = "--InteractiveShell.ast_node_interactivity=all"  # as a page shows it: not a cell's last expression alone
    manager = KernelManager(kernel_name="python3")
    quiet = {"TQDM_DISABLE": "1"}  # a slow machine would show bars that the page does not have
    manager.start_kernel(env=os.environ | {"PYTHONPATH": paths} | quiet, extra_arguments=[every])
    yield manager
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def _run(kernel: KernelManager, book: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook executed, with no name of an earlier one."""
    emptied = new_code_cell(f"%reset -f\n%cd -q {folder}")
    whole = nbformat.NotebookNode(book | {"cells": [emptied, *book.cells]})
    client = NotebookClient(whole, km=kernel, timeout=300)
    try:
        client.execute()
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    return book


def _check_outputs(book: nbformat.NotebookNode, text: str) -> None:
    """What each cell printed and gave is what its block of the page shows."""
    code = [block.code for block in blocks(text) if not block.skip]
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    for block, cell in zip(code, cells, strict=True):
        if not block.lstrip().startswith(">>>"):
            continue
        expected = "".join(example.want for example in doctest.DocTestParser().get_examples(block))
        printed = "".join(
            output.text if output.output_type == "stream" else output.data["text/plain"] + "\n"
            for output in cell.outputs
        )
        assert doctest.OutputChecker().check_output(expected, printed, FLAGS), f"{block}\nGot:\n{printed}"


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_notebook_runs(page: Path, kernel: KernelManager, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for reason in filter(None, map(absent, needs(text))):
        pytest.skip(reason)
    book = notebook(page)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) == sum(not block.skip for block in blocks(text)) > 0
    _check_outputs(_run(kernel, book, tmp_path), text)
    assert all(cell.execution_count for cell in code)
    assert list(tmp_path.glob("*.png"))  # what the page saves is written where the notebook is


PAGE = """# Title

<!-- needs: digits -->

Look at [another page](../other.md) and [the web](https://example.org).

```python
x = 1
```

![alt](dot.png)

```python
>>> x + 1
2
>>> for i in range(2):
...     print(i)
0
1
```

<!-- skip: slow -->
```python
raise SystemExit
```
"""


def test_page_becomes_cells(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "dot.png").write_bytes(b"png")
    cells = notebook(tmp_path / "page.md").cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "markdown", "code", "markdown"]
    assert cells[0].source == "# Title\n\nLook at another page and [the web](https://example.org)."
    assert cells[2].source == "![alt](attachment:dot.png)" and list(cells[2].attachments) == ["dot.png"]
    assert cells[3].source == "x + 1\nfor i in range(2):\n    print(i)"
    assert "raise SystemExit" in cells[4].source
    assert notebook(tmp_path / "page.md") == notebook(tmp_path / "page.md")


def test_other_outputs_are_reported(kernel: KernelManager, tmp_path: Path) -> None:
    text = "# Title\n\n```python\n>>> 3 + 4\n7\n>>> print(8)\n8\n```\n"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    book = _run(kernel, notebook(tmp_path / "page.md"), tmp_path)
    _check_outputs(book, text)
    for wrong in (text.replace("\n7", ""), text.replace("\n8", "\n9")):
        with pytest.raises(AssertionError, match=r"Got:\s+7\s+8"):
            _check_outputs(book, wrong)


def test_names_of_an_earlier_page_are_gone(kernel: KernelManager, tmp_path: Path) -> None:
    for name, code in (("first", "import math\nx = 1"), ("second", "x")):
        (tmp_path / f"{name}.md").write_text(f"# Title\n\n```python\n{code}\n```\n", encoding="utf-8")
    _run(kernel, notebook(tmp_path / "first.md"), tmp_path)
    with pytest.raises(CellExecutionError, match="name 'x' is not defined"):
        _run(kernel, notebook(tmp_path / "second.md"), tmp_path)


def test_failing_cell_is_reported(kernel: KernelManager, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Title\n\n```python\nundefined\n```\n", encoding="utf-8")
    with pytest.raises(CellExecutionError, match="undefined"):
        _run(kernel, notebook(tmp_path / "page.md"), tmp_path)
