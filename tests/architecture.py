"""The checker behind ``test_architecture.py``: what the syntax tree of a source tree says about the house rules.

It reads files and imports nothing, so it also judges trees that cannot run.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "maxaffine"
FUNCTION_LINES = 50
# Packages behind an extra: the only ones that a function may import for itself.
OPTIONAL = frozenset(
    {
        "faiss",
        "jinja2",
        "lance",
        "lightning",
        "matplotlib",
        "mpl_toolkits",
        "onnx",
        "onnxruntime",
        "PIL",
        "pyarrow",
        "ray",
        "scipy",
        "sklearn",
        "starlette",
        "torch_pruning",
        "transformers",
        "uvicorn",
    }
)
# The door of the rule registry: the only module-level state that may change, and the only room whose modules may call
# something (the registration) while they are imported.
REGISTRY_ROOM = "capture"
REGISTRY_NAMES = frozenset({"_RULES", "_SMOOTH"})

_CONTAINERS = frozenset({"dict", "list", "set", "defaultdict", "OrderedDict", "deque", "Counter", "bytearray"})
_MUTATORS = frozenset(
    "append extend insert remove pop popitem clear update setdefault add discard appendleft sort reverse".split()
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Violation:
    """One broken rule at one place."""

    rule: str
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


@dataclass(frozen=True)
class Rooms:
    """Which room may import which.

    Attributes:
        allowed: For every room, the rooms that it may import.
    """

    allowed: dict[str, frozenset[str]]

    @classmethod
    def from_markdown(cls, text: str) -> Rooms:
        """Read the order out of ARCHITECTURE.md, which names a room without its underscore.

        One line says ``a <- b, c <- d`` (left is imported by right); another lists the rooms that stand ``(beside; they
        import a, b and c only)`` and may be imported by ``report``, ``explore`` and ``cli``.
        """
        chain = re.search(r"^\s*(errors <- .*)$", text, re.MULTILINE)
        beside = re.search(r"^\s*([\w, ]+) \(beside; they import ([\w, ]+) only\)", text, re.MULTILINE)
        if chain is None or beside is None:
            raise ValueError("ARCHITECTURE.md no longer states the import order in the form that this test reads")
        allowed: dict[str, frozenset[str]] = {}
        aside = frozenset(name.strip() for name in beside.group(1).split(","))
        for group in chain.group(1).split("<-"):
            names = [name.strip() for name in group.split(",")]
            left = frozenset(allowed)
            allowed.update({name: left | aside if name in ("report", "explore", "cli") else left for name in names})
        return cls(allowed | dict.fromkeys(aside, frozenset(re.split(", | and ", beside.group(2)))))


def check_tree(package: Path, rooms: Rooms) -> list[Violation]:
    """Every broken rule in the package at the folder ``package``."""
    operators = _operators(package)
    paths = sorted(package.rglob("*.py"))
    found = [violation for path in paths for violation in _check_file(path, package, rooms, operators)]
    return found + list(_circles(package, paths))


def _circles(package: Path, paths: list[Path]) -> Iterator[Violation]:
    """Files that import each other, directly or by way of others, also for the sake of a type alone."""
    names = {".".join([PACKAGE, *path.relative_to(package).with_suffix("").parts]): path for path in paths}
    reached: dict[str, set[str]] = {}
    for name, path in names.items():
        imported = _imported(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(package))
        targets = {full for _, module, taken in imported for full in (module, *(f"{module}.{item}" for item in taken))}
        reached[name] = targets & names.keys() - {name}
    for _ in names:  # as far as a way through all files may be
        grown = {name: found.union(*(reached[other] for other in found)) for name, found in reached.items()}
        if grown == reached:
            break
        reached = grown
    for name, found in reached.items():
        if name in found:
            around = sorted(other for other in found if name in reached[other] and other != name)
            message = f"imports itself by way of {', '.join(around)}"
            yield Violation("circle", names[name].relative_to(package).as_posix(), 1, message)


def _operators(package: Path) -> frozenset[str]:
    """The kinds of operators in the graph's room: whatever derives from its Operator."""
    classes = [
        node
        for path in package.glob("_graph/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    found = {"Operator"}
    for _ in classes:  # as deep as classes may derive from each other
        found |= {node.name for node in classes if any(isinstance(b, ast.Name) and b.id in found for b in node.bases)}
    return frozenset(found - {"Operator"})


def _check_file(path: Path, package: Path, rooms: Rooms, operators: frozenset[str]) -> Iterator[Violation]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    relative = path.relative_to(package)
    room = _room(relative.parts[0].removesuffix(".py"))
    checks = [
        _imports(tree, relative, package, rooms),
        _furniture(tree, relative),
        _local_imports(tree, relative),
        _sizes(tree),
        _state(tree, room),
        _errors(tree),
        [] if room == "graph" else _told_apart(tree, operators),
    ]
    for rule, line, message in itertools.chain(*checks):
        yield Violation(rule, relative.as_posix(), line, message)


_Finding = tuple[str, int, str]


def _room(name: str) -> str:
    """The room of a package or module, called without its underscore; doors have none, and keep their names."""
    return name[1:] if name.startswith("_") and not name.startswith("__") else name


def _is_door(relative: Path) -> bool:
    """Whether a module is public: what users import, made of what the rooms offer."""
    return len(relative.parts) == 1 and not relative.name.startswith("_") and relative.name != "errors.py"


def _furniture(tree: ast.Module, relative: Path) -> Iterator[_Finding]:
    """What stands in a door: it offers what the rooms hold, and holds nothing."""
    if _is_door(relative):
        for statement in tree.body:
            bound = [name for name, _ in _bindings(statement)]
            words = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not (words or isinstance(statement, ast.ImportFrom) or bound == ["__all__"]):
                yield "door", statement.lineno, f"a public module only imports: {ast.unparse(statement)[:60]}"


def _imports(tree: ast.Module, relative: Path, package: Path, rooms: Rooms) -> Iterator[_Finding]:
    room = _room(relative.parts[0].removesuffix(".py"))
    door = _is_door(relative)
    entrance = door or room in ("__init__", "__main__")
    if not entrance and room not in rooms.allowed:
        yield "room", 1, f"room {room!r} is not in ARCHITECTURE.md"
        return
    for node, module, names in _imported(tree, relative):
        package_name, _, inside = module.partition(".")
        if package_name != PACKAGE:
            continue
        place, _, deeper = inside.partition(".")
        target = _room(place)
        if module == PACKAGE and not entrance:
            yield "direction", node.lineno, "imports the package itself, which imports every room"
        if not target or target == room:
            continue
        if not entrance and (target not in rooms.allowed[room] or place == target != "errors"):
            yield "direction", node.lineno, f"{room} imports {place}, which is not a room to its left"
        behind = [name for name in names if name.startswith("_") or _is_hidden_module(package / place, name)]
        # What needs an extra is not imported with its room, so its own public module reaches for it.
        if (deeper and not (door and deeper in OPTIONAL)) or behind:
            yield "door", node.lineno, f"reaches behind the door of {target}: {module} {behind or ''}".rstrip()


def _told_apart(tree: ast.Module, operators: frozenset[str]) -> Iterator[_Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            kinds = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            kinds |= {name.attr for name in ast.walk(node.args[1]) if isinstance(name, ast.Attribute)}
        elif isinstance(node, ast.MatchClass):
            kinds = {getattr(node.cls, "id", getattr(node.cls, "attr", ""))}
        else:
            continue
        if kinds & operators:
            yield "operator", node.lineno, f"asks whether an operator is {', '.join(sorted(kinds & operators))}"


def _local_imports(tree: ast.Module, relative: Path) -> Iterator[_Finding]:
    functions = (node for node in ast.walk(tree) if isinstance(node, _Function))
    local = {id(node) for function in functions for node in ast.walk(function)}
    for node, module, _ in _imported(tree, relative):
        if id(node) in local and module.split(".")[0] not in OPTIONAL:
            yield "local-import", node.lineno, f"{module} is imported inside a function and is no optional extra"


def _imported(tree: ast.Module, relative: Path) -> Iterator[tuple[ast.stmt, str, list[str]]]:
    """Every import as (statement, absolute module, names taken from it)."""
    here = [PACKAGE, *relative.parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [alias.name for alias in node.names]
            if module == PACKAGE:
                # `from maxaffine import room` names a room; anything else it takes is no room to anyone's left.
                yield from ((node, f"{PACKAGE}.{name}", []) for name in names)
            else:
                yield node, module, names


def _is_hidden_module(room: Path, name: str) -> bool:
    """Whether a name is a module of the room that the room's ``__init__`` does not itself offer under that name."""
    door = room / "__init__.py"
    if not ((room / name).with_suffix(".py").exists() or (room / name / "__init__.py").exists()):
        return False
    tree = ast.parse(door.read_text(encoding="utf-8")) if door.exists() else ast.Module([], [])
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return name not in {alias.asname or alias.name for node in imports for alias in node.names}


def _sizes(tree: ast.Module) -> Iterator[_Finding]:
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            spent = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - spent
            if length > FUNCTION_LINES:
                yield "function-length", node.lineno, f"{node.name} has {length} lines (limit {FUNCTION_LINES})"


def _state(tree: ast.Module, room: str) -> Iterator[_Finding]:
    registry = room == REGISTRY_ROOM
    containers: dict[str, int] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant) and not registry:
            yield "import-effect", statement.lineno, f"runs at import time: {ast.unparse(statement)[:60]}"
        for name, value in _bindings(statement):
            if not _is_container(value) or (registry and name in REGISTRY_NAMES):
                continue
            containers[name] = statement.lineno
            if not _has_content(value):
                yield "state", statement.lineno, f"{name} starts empty, so it is there to change"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield "state", node.lineno, f"global {', '.join(node.names)}"
        for place in _mutated(node):
            if isinstance(place, ast.Name) and place.id in containers:
                yield "state", place.lineno, f"changes the module-level {place.id} of line {containers[place.id]}"


def _bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that one statement binds, each with its value."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        value = statement.value
        yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))


def _is_container(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        callee = value.func
        name = callee.attr if isinstance(callee, ast.Attribute) else callee.id if isinstance(callee, ast.Name) else ""
        return name in _CONTAINERS
    return isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)


def _has_content(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return bool(value.keywords) or any(not isinstance(argument, ast.Name) for argument in value.args)
    if isinstance(value, ast.Dict):
        return bool(value.keys)
    return bool(value.elts) if isinstance(value, ast.List | ast.Set) else True


def _mutated(node: ast.AST) -> Iterator[ast.expr]:
    """The containers that one statement or call changes in place."""
    if isinstance(node, ast.Assign | ast.Delete):
        yield from (target.value for target in node.targets if isinstance(target, ast.Subscript))
    elif isinstance(node, ast.AugAssign):
        yield node.target.value if isinstance(node.target, ast.Subscript) else node.target
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
        yield node.func.value


def _errors(tree: ast.Module) -> Iterator[_Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield "assert", node.lineno, "validate with an error of maxaffine.errors: `python -O` removes asserts"
        elif isinstance(node, ast.ExceptHandler):
            broad = node.type is None or bool({"Exception", "BaseException"} & _names(node.type))
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                yield "swallowed", node.lineno, "catches everything and raises nothing"
            elif node.type is None:
                yield "bare-except", node.lineno, "names no exception"
        elif isinstance(node, ast.Call) and "suppress" in _names(node.func):
            if any({"Exception", "BaseException"} & _names(argument) for argument in node.args):
                yield "swallowed", node.lineno, "suppresses every exception"


def _names(node: ast.expr) -> set[str]:
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found | {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
