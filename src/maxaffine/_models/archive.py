"""``torch.export`` archives (.pt2), opened only when nothing in them is known to run code.

torch itself warns against archives from strangers: reading one unpickles some of its members, loads compiled libraries,
and evaluates its sizes and guards as Python. The archive of an ordinary network needs none of the former and only
arithmetic in the latter, so anything else is refused here. This closes the known ways; it is not a sandbox.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..errors import ModelError

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


def load_archive(path: Path) -> nn.Module:
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
