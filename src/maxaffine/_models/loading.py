"""A user's own model: from a factory and weights, or from an exported file; never from a pickled module."""

import ast
import copy
import difflib
import importlib
import importlib.util
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..errors import BadInput, ModelError
from .checkpoint import SUFFIXES, fit, read_weights
from .nature import nature
from .onnx_network import load_onnx

EXPORTED = (".pt2", ".onnx")
_NOT_A_MODEL = (
    "is either a file of weights, which do not say how to build the model: give package.module:factory and this file "
    "as state_dict; or a pickled module, which is refused because unpickling can run any code: save model.state_dict() "
    "alone, or export the model with torch.export.save to a .pt2 file"
)
_FORMS = "give package.module:factory, file.py:factory, a .pt2 archive or an .onnx file"
# torch itself warns against archives (.pt2) from strangers: reading one unpickles some of its members, loads compiled
# libraries, and evaluates its sizes and guards as Python. The archive of an ordinary network needs none of the former
# and only arithmetic in the latter, so anything else is refused. This closes the known ways; it is not a sandbox. The
# patterns give nothing back once it is matched (++, *+), so that no text makes them search for long.
_CODE_MEMBER = re.compile(r"/(custom_obj|opaque_obj)[^/]*$|/aotinductor/|\.(so|dll|dylib|cubin|cpp)$")
_SYMBOL = r"Symbol\('\w++'(?:, \w++=(?:True|False))*+\)"
_ARITHMETIC = r"[a-z]{0,3}\d++|[-+*/%<>=!, ()]"
# What torch evaluates or pastes into generated source, and the only forms of it that an export writes.
_EVALUATED = {
    "expr_str": re.compile(rf"(?:{_SYMBOL}|[A-Z][A-Za-z]*+(?=\()|{_ARITHMETIC})*+"),
    "guards_code": re.compile(rf"(?:L\['\w++'\]|\[\d++\]|\.size\(\)|\.shape|{_ARITHMETIC})*+"),
    "name": re.compile(r"[\w.]*+"),
}
_CURE = "export the model again with torch.export.save, or give a factory and a state_dict"


def load_model(
    source: str | os.PathLike[str], /, state_dict: str | os.PathLike[str] | None = None, **arguments: object
) -> nn.Module:
    """Load a model by naming the function that builds it, with its weights, or as an exported file.

    | ``source`` | what happens |
    | --- | --- |
    | ``package.module:factory`` | the factory is imported (the current folder first) and called |
    | ``package.module:factory(width=64)`` | the same, with these arguments, which are literals |
    | ``package.module:network`` | a module that stands there is copied |
    | ``path/file.py:factory`` | the same for a file, whose folder is importable meanwhile |
    | ``*.pt2`` | the archive (exported with a dynamic batch) is loaded, unless something in it is known to run code |
    | ``*.onnx`` | the graph is read (the extra ``maxaffine[onnx]``), once its outputs agree with onnxruntime's |

    Importing a factory runs its module, so name only code that you trust. Weights are never unpickled.

    A checkpoint of Lightning or another trainer is opened where it holds tensors, and prefixes of its names, such as
    ``module.``, are dropped where all names fit then; a warning says so.

    Args:
        source: One of the above.
        state_dict: File of weights for a factory's model, which must fit exactly: ``.safetensors``, or what
            ``torch.save(model.state_dict())`` or a trainer wrote.
        **arguments: Arguments of the factory. Of an ``.onnx`` file: ``output``, the name of the one output that is
            wanted, and ``inputs``, a batch (N, *in) on which the file is compared with onnxruntime in place of a random
            one; what came of it is the attribute ``agreement`` of the model.

    Returns:
        The model, in eval mode (an archive stays in the mode it was exported in).

    Raises:
        BadInput: An argument does not apply to an exported file.
        ModelError: The model cannot be found, built or loaded safely, or differs from onnxruntime.

    >>> load_model("torch.nn:Linear(3, out_features=2)")
    Linear(in_features=3, out_features=2, bias=True)
    """
    text = os.fspath(source)
    if text.endswith(EXPORTED):
        allowed = ("output", "inputs") if text.endswith(".onnx") else ()
        given = [*(["state_dict"] if state_dict is not None else []), *(arguments.keys() - set(allowed))]
        if given:
            raise BadInput(f"{given[0]}: does not apply to {text}, which holds code and weights; leave it out")
        path = Path(text).expanduser()
        return load_onnx(path, **arguments) if text.endswith(".onnx") else _load_archive(path)  # pyright: ignore[reportArgumentType]
    if text.endswith(SUFFIXES):
        raise ModelError(f"{text}: {_NOT_A_MODEL}")
    # The first colon that a name follows, up to the end or to arguments: these may hold colons, and so may paths.
    parts = re.fullmatch(r"(.+?):(\w+)(\(.*\))?", text, re.DOTALL)
    if parts is None:
        raise ModelError(f"{text}: names no model; {_FORMS}")
    model = _call(text, parts[1], parts[2], *_literals(text, parts[3]), arguments)
    if state_dict is not None:
        path = Path(state_dict).expanduser()
        fit(model, read_weights(path), path, text)
    return model.eval()


def _literals(text: str, written: str | None) -> tuple[list[object], dict[str, object]]:
    """The arguments that are written after a factory, by their places and by their names."""
    try:
        call = ast.parse(f"f{written or '()'}", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if None in named:
            raise ValueError
        return [ast.literal_eval(value) for value in call.args], {str(name): value for name, value in named.items()}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelError(
            f"{text}: its arguments are not all literals; write numbers, quoted text, None, True, False, and tuples, "
            "lists or dicts of them, such as make(width=64, layers=(3, 4))"
        ) from error


def _call(
    text: str, module_name: str, name: str, places: list[object], written: dict[str, object], given: dict[str, object]
) -> nn.Module:
    arguments = {**written, **given}
    is_file = module_name.endswith(".py")
    folder = Path(module_name).expanduser().resolve().parent if is_file else Path.cwd()
    # Importable until the model is built: a factory may import its neighbors when it is called.
    with _importable(folder):
        found = _find(_import(module_name, is_file), module_name, name)
        if isinstance(found, nn.Module):
            if places or arguments:
                raise ModelError(f"{text}: {name} is a module already, which takes no arguments; leave them out")
            return copy.deepcopy(found)
        try:
            model = found(*places, **arguments)
        except (Exception, SystemExit) as error:
            given_words = ", ".join([*map(repr, places), *(f"{key}={value!r}" for key, value in arguments.items())])
            raise ModelError(
                f"{text}: calling it failed ({_words(error)}); check its arguments {given_words or '(none)'}"
            ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{text}: returned a {type(model).__name__}, not an nn.Module; let it return the model")
    return model


def _import(module_name: str, is_file: bool) -> ModuleType:
    try:
        return _import_file(Path(module_name).expanduser()) if is_file else importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything, or be a script that exits
        raise ModelError(
            f"{module_name}: cannot be imported ({_words(error)}); check the name, install what is missing, or start "
            "from the folder that holds it"
        ) from error


def _import_file(path: Path) -> ModuleType:
    name = f"maxaffine_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _find(module: ModuleType, module_name: str, name: str) -> Any:
    found = getattr(module, name, None)
    if found is None:
        close = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ModelError(f"{module_name}: has no {name!r}; {hint}check the name after the colon")
    if not callable(found):
        raise ModelError(
            f"{module_name}:{name}: is a {type(found).__name__}, not a factory; write a function that returns the model"
        )
    return found


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()  # else a file written a moment ago may be missed
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _load_archive(path: Path) -> nn.Module:
    """Load a ``.pt2`` archive as the module of its program, in the mode it was exported in."""
    try:
        content = path.read_bytes()
        _refuse_code(content, path)
        return torch.export.load(io.BytesIO(content)).module()
    except ModelError:
        raise
    except Exception as error:  # what torch raises on a foreign or damaged archive is not one family
        found = nature(path) or f"unreadable as a torch.export archive ({error}); {_CURE}"
        raise ModelError(f"{path}: {found}") from error


def _refuse_code(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if len(names) != len(set(names)):
            raise ModelError(f"{path}: two members have the same name, so what would be read is unclear; {_CURE}")
        for name in names:
            if _CODE_MEMBER.search(name):
                raise ModelError(f"{path}: its member {name} is code or is made by code; {_CURE}")
            if name.endswith(".pt"):
                _refuse_pickle(archive.read(name), name, path)
            elif name.endswith(".json"):
                _refuse_expressions(json.loads(archive.read(name)), name, path)


def _refuse_pickle(member: bytes, name: str, path: Path) -> None:
    try:
        torch.load(io.BytesIO(member), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: {name} holds pickled Python objects, which can run code; {_CURE}") from error


def _refuse_expressions(tree: object, name: str, path: Path) -> None:
    for key, value in _fields(tree):
        if key == "use_pickle" and value is not False:
            raise ModelError(f"{path}: {name} asks for a tensor to be unpickled, which can run code; {_CURE}")
        if isinstance(value, str) and key in _EVALUATED and not _EVALUATED[key].fullmatch(value):
            raise ModelError(f"{path}: {name} has the {key} {value!r}, which torch would evaluate as Python; {_CURE}")


def _fields(tree: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every leaf of a JSON tree with the key it stands under."""
    if isinstance(tree, dict):
        for inner, value in tree.items():
            yield from _fields(value, inner)
    elif isinstance(tree, list):
        for value in tree:
            yield from _fields(value, key)
    else:
        yield key, tree
