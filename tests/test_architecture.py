"""The house rules that a syntax tree can show, on the library and, to prove that the checker sees, on broken trees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture import FUNCTION_LINES, Rooms, check_tree

ROOT = Path(__file__).resolve().parents[1]
ORDER = """
    errors <- files, spline <- graph <- maps, codes <- capture <- report <- cli
                                      data, models (beside; they import errors and files only)
"""


def _rooms() -> Rooms:
    return Rooms.from_markdown((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))


def test_library_obeys() -> None:
    violations = check_tree(ROOT / "src" / "maxaffine", _rooms())
    assert not violations, "\n" + "\n".join(map(str, violations))


def test_architecture_page_lists_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = set(re.findall(r"`(\w+)(?:/|\.py)`", text.split("## Symbols")[0]))
    assert {room if room == "errors" else f"_{room}" for room in _rooms().allowed} <= table


def test_every_file_that_the_page_sends_a_reader_to_is_there() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## Where to change what")[1]
    package = ROOT / "src" / "maxaffine"
    paths = re.findall(r"`((?:_|tests/|docs/)[\w/.]*(?:/|\.py|\.js|\.j2|\.md|\.html))`", table.split("## Symbols")[0])
    missing = [path for path in paths if not (package / path).exists() and not (ROOT / path).exists()]
    assert len(paths) > 30 and not missing


def test_order_is_read_from_the_page() -> None:
    rooms = Rooms.from_markdown(ORDER)
    assert rooms.allowed["codes"] == {"errors", "files", "spline", "graph"}
    assert rooms.allowed["report"] == rooms.allowed["codes"] | {"maps", "codes", "capture", "data", "models"}
    assert rooms.allowed["models"] == {"errors", "files"}
    with pytest.raises(ValueError, match="no longer states"):
        Rooms.from_markdown("# Architecture\n")


GOOD = {
    "__init__.py": 'from maxaffine._maps import AffineMap\n\n__all__ = ["AffineMap"]\n',
    "errors.py": '"""Errors."""\n',
    "_spline/__init__.py": "from maxaffine._spline.core import Spline\n",
    "_spline/core.py": "from ..errors import Bad\nTABLE = {'relu': 2}\n\ndef pieces(kind):\n    return TABLE[kind]\n",
    "_maps/__init__.py": "import torch\nfrom maxaffine._spline import Spline\n",
    "_graph/kinds.py": "class Kinked(Operator):\n    pass\n\ndef f(x):\n    return isinstance(x, Kinked)\n",
    "_graph/more.py": "class Twice(Kinked):\n    pass\n",
    "_capture/registry.py": "_RULES = {}\n\ndef rule(name):\n    _RULES[name] = name\n\nrule('aten.add')\n",
    "_report/__init__.py": "from maxaffine._data import load\n\ndef draw():\n    import matplotlib.pyplot as plt\n",
    "_capture/__init__.py": "from maxaffine._capture.capture import capture\n",
    "_capture/capture.py": "def capture(module):\n    return module\n",
    "partition.py": '"""Door."""\n\nfrom maxaffine._maps import AffineMap\n\n__all__ = ["AffineMap"]\n',
    "_cli.py": (
        "from maxaffine import _data as data\nfrom maxaffine._capture import capture\n\n"
        "try:\n    run()\nexcept Exception as cause:\n    raise SystemExit(2) from cause\n"
    ),
}

BROKEN = [
    ("direction", "_spline/core.py", "from maxaffine._maps import AffineMap"),
    ("direction", "_spline/core.py", "from .._maps import AffineMap"),
    ("direction", "_spline/core.py", "from .. import _maps"),
    ("direction", "_spline/core.py", "import maxaffine._maps"),
    ("direction", "_spline/core.py", "import maxaffine"),
    ("direction", "_spline/core.py", "from maxaffine import AffineMap"),
    ("direction", "_maps/affine.py", "from maxaffine._codes import Codes"),
    ("direction", "_models/mlp.py", "from maxaffine._spline import Spline"),
    ("direction", "_capture/export.py", "from maxaffine._data import load"),
    ("direction", "errors.py", "if TYPE_CHECKING:\n    from maxaffine._spline import Spline"),
    ("door", "_maps/affine.py", "from maxaffine._spline.core import Spline"),
    ("door", "_maps/affine.py", "from .._spline.core import Spline"),
    ("door", "_maps/affine.py", "from maxaffine._spline import core"),
    ("door", "_maps/affine.py", "from maxaffine._spline import _hidden"),
    ("door", "__init__.py", "from maxaffine._spline.core import Spline"),
    ("direction", "_report/page.py", "from maxaffine.partition import AffineMap"),
    ("direction", "_report/page.py", "from maxaffine import partition"),
    ("door", "partition.py", "from maxaffine._spline.core import Spline"),
    ("door", "partition.py", "def f(x):\n    return x"),
    ("door", "partition.py", "LIMIT = 3"),
    ("room", "utils/misc.py", "x = 1"),
    ("room", "_utils/misc.py", "x = 1"),
    ("local-import", "_maps/affine.py", "def f():\n    from maxaffine._spline import Spline"),
    ("local-import", "_maps/affine.py", "def f():\n    import numpy"),
    ("function-length", "_maps/affine.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
    ("operator", "_maps/affine.py", "def f(x):\n    return isinstance(x, Kinked)"),
    ("operator", "_maps/affine.py", "def f(x):\n    return isinstance(x, (graph.Twice, Operator))"),
    ("operator", "_maps/affine.py", "def f(x):\n    return isinstance(x, Operator | Twice)"),
    ("operator", "_maps/affine.py", "def f(x):\n    match x:\n        case Twice():\n            return 1"),
    ("state", "_maps/affine.py", "_CACHE = {}"),
    ("state", "_maps/affine.py", "_CACHE: dict = dict()"),
    ("state", "_maps/affine.py", "_CACHE = defaultdict(list)"),
    ("state", "_maps/affine.py", "TABLE = {1: 2}\n\ndef f():\n    TABLE[3] = 4"),
    ("state", "_maps/affine.py", "TABLE = [1]\n\ndef f():\n    TABLE.append(2)"),
    ("state", "_maps/affine.py", "TABLE = {1}\n\ndef f():\n    del TABLE[0]"),
    ("state", "_maps/affine.py", "n = 0\n\ndef f():\n    global n\n    n = 1"),
    ("state", "_capture/export.py", "_SEEN = []"),
    ("import-effect", "_maps/affine.py", "torch.set_num_threads(1)"),
    ("assert", "_maps/affine.py", "def f(x):\n    assert x > 0"),
    ("bare-except", "_maps/affine.py", "try:\n    f()\nexcept:\n    raise"),
    ("swallowed", "_maps/affine.py", "try:\n    f()\nexcept:\n    pass"),
    ("swallowed", "_maps/affine.py", "try:\n    f()\nexcept Exception:\n    pass"),
    ("swallowed", "_maps/affine.py", "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    print(e)"),
    ("swallowed", "_maps/affine.py", "with contextlib.suppress(Exception):\n    f()"),
]


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_good_tree_passes(tmp_path: Path) -> None:
    assert check_tree(_write(tmp_path, GOOD), Rooms.from_markdown(ORDER)) == []


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN, ids=lambda value: value.split("\n")[0][:40])
def test_broken_tree_is_reported(tmp_path: Path, rule: str, path: str, source: str) -> None:
    found = check_tree(_write(tmp_path, GOOD | {path: source + "\n"}), Rooms.from_markdown(ORDER))
    assert [(violation.rule, violation.path) for violation in found] == [(rule, path)]


def test_a_circle_is_reported_at_each_of_its_files(tmp_path: Path) -> None:
    parts = {
        "_maps/first.py": "from maxaffine._maps.second import f\n",
        "_maps/second.py": "from .._maps import third\n",
        "_maps/third.py": "if TYPE_CHECKING:\n    from maxaffine._maps.first import F\n",
        "_maps/outside.py": "from maxaffine._maps.first import F\n",
    }
    found = check_tree(_write(tmp_path, GOOD | parts), Rooms.from_markdown(ORDER))
    assert [(v.rule, v.path) for v in found] == [
        ("circle", f"_maps/{name}.py") for name in ("first", "second", "third")
    ]


def test_violation_reads_like_a_compiler_error(tmp_path: Path) -> None:
    (found,) = check_tree(_write(tmp_path, {"errors.py": "\nassert 1\n"}), Rooms.from_markdown(ORDER))
    assert str(found).startswith("errors.py:2: [assert] ")
