"""The house rules that a syntax tree can show, on the library and, to prove that the checker sees, on broken trees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture import FUNCTION_LINES, Rooms, check_tree

ROOT = Path(__file__).resolve().parents[1]
ORDER = """
    errors <- spline <- graph <- maps, codes <- capture <- report <- cli
                                      data, models (beside; they import errors only)
"""


def _rooms() -> Rooms:
    return Rooms.from_markdown((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))


def test_library_obeys() -> None:
    violations = check_tree(ROOT / "src" / "maxaffine", _rooms())
    assert not violations, "\n" + "\n".join(map(str, violations))


def test_architecture_page_lists_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = set(re.findall(r"`(\w+)(?:/|\.py)`", text.split("## Symbols")[0]))
    assert set(_rooms().allowed) <= table


def test_order_is_read_from_the_page() -> None:
    rooms = Rooms.from_markdown(ORDER)
    assert rooms.allowed["codes"] == {"errors", "spline", "graph"}
    assert rooms.allowed["report"] == {"errors", "spline", "graph", "maps", "codes", "capture", "data", "models"}
    assert rooms.allowed["models"] == {"errors"}
    with pytest.raises(ValueError, match="no longer states"):
        Rooms.from_markdown("# Architecture\n")


GOOD = {
    "__init__.py": 'from maxaffine.maps import AffineMap\n\n__all__ = ["AffineMap"]\n',
    "errors.py": '"""Errors."""\n',
    "spline/__init__.py": "from maxaffine.spline.core import Spline\n",
    "spline/core.py": "from ..errors import Bad\nTABLE = {'relu': 2}\n\ndef pieces(kind):\n    return TABLE[kind]\n",
    "maps/__init__.py": "import torch\nfrom maxaffine.spline import Spline\n",
    "graph/kinds.py": "class Kinked(Operator):\n    pass\n\ndef f(x):\n    return isinstance(x, Kinked)\n",
    "graph/more.py": "class Twice(Kinked):\n    pass\n",
    "capture/registry.py": "_RULES = {}\n\ndef rule(name):\n    _RULES[name] = name\n\nrule('aten.add')\n",
    "report/__init__.py": "from maxaffine.data import load\n\ndef draw():\n    import matplotlib.pyplot as plt\n",
    "capture/__init__.py": "from maxaffine.capture.capture import capture\n",
    "capture/capture.py": "def capture(module):\n    return module\n",
    "cli.py": (
        "from maxaffine import data\nfrom maxaffine.capture import capture\n\n"
        "try:\n    run()\nexcept Exception as cause:\n    raise SystemExit(2) from cause\n"
    ),
}

BROKEN = [
    ("direction", "spline/core.py", "from maxaffine.maps import AffineMap"),
    ("direction", "spline/core.py", "from ..maps import AffineMap"),
    ("direction", "spline/core.py", "from .. import maps"),
    ("direction", "spline/core.py", "import maxaffine.maps"),
    ("direction", "spline/core.py", "import maxaffine"),
    ("direction", "spline/core.py", "from maxaffine import AffineMap"),
    ("direction", "maps/affine.py", "from maxaffine.codes import Codes"),
    ("direction", "models/mlp.py", "from maxaffine.spline import Spline"),
    ("direction", "capture/export.py", "from maxaffine.data import load"),
    ("direction", "errors.py", "if TYPE_CHECKING:\n    from maxaffine.spline import Spline"),
    ("door", "maps/affine.py", "from maxaffine.spline.core import Spline"),
    ("door", "maps/affine.py", "from ..spline.core import Spline"),
    ("door", "maps/affine.py", "from maxaffine.spline import core"),
    ("door", "maps/affine.py", "from maxaffine.spline import _hidden"),
    ("door", "__init__.py", "from maxaffine.spline.core import Spline"),
    ("room", "utils/misc.py", "x = 1"),
    ("local-import", "maps/affine.py", "def f():\n    from maxaffine.spline import Spline"),
    ("local-import", "maps/affine.py", "def f():\n    import numpy"),
    ("function-length", "maps/affine.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
    ("operator", "maps/affine.py", "def f(x):\n    return isinstance(x, Kinked)"),
    ("operator", "maps/affine.py", "def f(x):\n    return isinstance(x, (graph.Twice, Operator))"),
    ("operator", "maps/affine.py", "def f(x):\n    return isinstance(x, Operator | Twice)"),
    ("operator", "maps/affine.py", "def f(x):\n    match x:\n        case Twice():\n            return 1"),
    ("state", "maps/affine.py", "_CACHE = {}"),
    ("state", "maps/affine.py", "_CACHE: dict = dict()"),
    ("state", "maps/affine.py", "_CACHE = defaultdict(list)"),
    ("state", "maps/affine.py", "TABLE = {1: 2}\n\ndef f():\n    TABLE[3] = 4"),
    ("state", "maps/affine.py", "TABLE = [1]\n\ndef f():\n    TABLE.append(2)"),
    ("state", "maps/affine.py", "TABLE = {1}\n\ndef f():\n    del TABLE[0]"),
    ("state", "maps/affine.py", "n = 0\n\ndef f():\n    global n\n    n = 1"),
    ("state", "capture/export.py", "_SEEN = []"),
    ("import-effect", "maps/affine.py", "torch.set_num_threads(1)"),
    ("assert", "maps/affine.py", "def f(x):\n    assert x > 0"),
    ("bare-except", "maps/affine.py", "try:\n    f()\nexcept:\n    raise"),
    ("swallowed", "maps/affine.py", "try:\n    f()\nexcept:\n    pass"),
    ("swallowed", "maps/affine.py", "try:\n    f()\nexcept Exception:\n    pass"),
    ("swallowed", "maps/affine.py", "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    print(e)"),
    ("swallowed", "maps/affine.py", "with contextlib.suppress(Exception):\n    f()"),
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
        "maps/first.py": "from maxaffine.maps.second import f\n",
        "maps/second.py": "from ..maps import third\n",
        "maps/third.py": "if TYPE_CHECKING:\n    from maxaffine.maps.first import F\n",
        "maps/outside.py": "from maxaffine.maps.first import F\n",
    }
    found = check_tree(_write(tmp_path, GOOD | parts), Rooms.from_markdown(ORDER))
    assert [(v.rule, v.path) for v in found] == [("circle", f"maps/{name}.py") for name in ("first", "second", "third")]


def test_violation_reads_like_a_compiler_error(tmp_path: Path) -> None:
    (found,) = check_tree(_write(tmp_path, {"errors.py": "\nassert 1\n"}), Rooms.from_markdown(ORDER))
    assert str(found).startswith("errors.py:2: [assert] ")
