"""A user's own model: from a factory and weights, or from an exported archive; never from a pickled module."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from ..errors import BadInput, ModelError
from .archive import load_archive
from .checkpoint import SUFFIXES, read_weights

_NOT_A_MODEL = (
    "is either a file of weights, which do not say how to build the model: give package.module:factory and this file "
    "as state_dict; or a pickled module, which is refused because unpickling can run any code: save model.state_dict() "
    "alone, or export the model with torch.export.save to a .pt2 file"
)
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
        return load_archive(Path(text).expanduser())
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
