"""Every annotation of the library is checked while tests run, also where only a type checker imports its names."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from beartype import BeartypeConf, BeartypeDecorPlace
from beartype.claw import beartype_package

SOURCE = Path(__file__).resolve().parents[1] / "src"


def check_hints() -> None:
    """Check arguments and results from now on; nothing of the library may have been imported before."""
    # Before @dataclass adds a constructor: inherited hints of its fields are names in the module of the base class.
    conf = BeartypeConf(claw_decor_place_type=BeartypeDecorPlace.FIRST, claw_is_pep526=False)
    beartype_package("maxaffine", conf=conf)
    for path in sorted((SOURCE / "maxaffine").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
                exec(compile(ast.Module(node.body, []), str(path), "exec"), vars(module))
