"""A user's own model: from a factory and weights, or from an exported archive; never from a pickled module."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from ..errors import BadInput, ModelError
from .checkpoint import SUFFIXES, read_weights

_NOT_A_MODEL = (
    "is either a file of weights, which do not say how to build the model: give package.module:factory and this file "
    "as state_dict; or a pickled module, which is refused because unpickling can run any code: save model.state_dict() "
    "alone, or export the model with torch.export.save to a .pt2 file"
)
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
_FORMS = "give package.module:factory, file.py:factory, or a .pt2 archive"


def load_model(
    source: str | os.PathLike[str], /, state_dict: str | os.PathLike[str] | None = None, **arguments: object
) -> nn.Module:
    """Load a model by naming the function that builds it, with its weights, or as a ``torch.export`` archive.

    | ``source`` | what happens |
    | --- | --- |
    | ``package.module:factory`` | the factory is imported (the current folder first) and called |
    | ``path/file.py:factory`` | the same for a file, whose folder is importable meanwhile |
    | ``*.pt2`` | the archive (exported with a dynamic batch) is loaded, unless something in it is known to run code |

    Importing a factory runs its module, so name only code that you trust. Weights are never unpickled.

    Args:
        source: One of the above.
        state_dict: File of weights for a factory's model, which must fit exactly: ``.safetensors``, or what
            ``torch.save(model.state_dict())`` wrote.
        **arguments: Arguments of the factory.

    Returns:
        The model, in eval mode (an archive stays in the mode it was exported in).

    Raises:
        BadInput: An argument does not apply to an archive.
        ModelError: The model cannot be found, built or loaded safely.

    >>> load_model("torch.nn:Linear", in_features=3, out_features=2)
    Linear(in_features=3, out_features=2, bias=True)
    """
    text = os.fspath(source)
    if text.endswith(".pt2"):
        if state_dict is not None or arguments:
            given = "state_dict" if state_dict is not None else next(iter(arguments))
            raise BadInput(f"{given}: does not apply to {text}, an archive that holds code and weights; leave it out")
        return _load_archive(Path(text).expanduser())
    if text.endswith(SUFFIXES):
        raise ModelError(f"{text}: {_NOT_A_MODEL}")
    module_name, separator, factory_name = text.rpartition(":")
    if not (separator and module_name and factory_name):
        raise ModelError(f"{text}: names no model; {_FORMS}")
    model = _call(text, module_name, factory_name, arguments)
    if state_dict is not None:
        _load_strictly(model, Path(state_dict).expanduser(), text)
    return model.eval()


def _call(text: str, module_name: str, factory_name: str, arguments: dict[str, object]) -> nn.Module:
    is_file = module_name.endswith(".py")
    folder = Path(module_name).expanduser().resolve().parent if is_file else Path.cwd()
    # Importable until the model is built: a factory may import its neighbors when it is called.
    with _importable(folder):
        module = _import(module_name, is_file)
        factory = _factory(module, module_name, factory_name)
        try:
            model = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise ModelError(f"{text}: calling it failed ({_words(error)}); check its arguments {arguments}") from error
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


def _factory(module: ModuleType, module_name: str, factory_name: str) -> Callable[..., object]:
    factory = getattr(module, factory_name, None)
    if factory is None:
        close = difflib.get_close_matches(factory_name, dir(module), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ModelError(f"{module_name}: has no {factory_name!r}; {hint}check the name after the colon")
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ModelError(
            f"{module_name}:{factory_name}: is a {type(factory).__name__}, not a factory; write a function that "
            "returns the model"
        )
    return factory


def _load_strictly(model: nn.Module, path: Path, text: str) -> None:
    try:
        model.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: does not fit the model of {text} ({error}); check the factory's arguments"
        ) from error


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
        raise ModelError(f"{path}: unreadable as a torch.export archive ({error}); {_CURE}") from error


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
