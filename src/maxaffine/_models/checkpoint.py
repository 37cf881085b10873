"""Weights to and from files: never half written, never unpickled beyond tensors."""

import errno
import io
import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from .._files import beside, replacing
from ..errors import BadInput, ModelError, first_line
from .nature import nature

# Where trainers keep weights, in the order of preference: those that were trained, then their averages.
PLACES = (
    *("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema"),
)
# What data parallelism, compilation and trainers put ahead of the names of a model that they wrap.
PREFIXES = ("module.", "model.", "net.", "network.")
COMPILED, AVERAGED = "_orig_mod.", "n_averaged"
SHOWN = 3
SUFFIXES = (".safetensors", ".pt", ".pth")


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers to the CPU, contiguous."""
    state = module.state_dict()
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def check_writable(path: Path) -> Path:
    """The path, once it is checked, before any work is spent, that weights can be written to it."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"checkpoint: {path} ends in none of {', '.join(SUFFIXES)}; the suffix decides the format")
    # Tried with another file in the same folder: permissions alone do not tell of a read-only or full disk, and the old
    # weights stay until there are new ones.
    part = beside(path)
    try:
        part.touch()
        part.unlink()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        reason = error.strerror
        raise BadInput(
            f"checkpoint: {path} cannot be written ({reason}); give a file in an existing, writable folder"
        ) from error
    return path


def save_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a module's parameters and buffers, so that the path holds either the old file or the whole new one.

    Args:
        module: Any module.
        path: The file; ``.safetensors``, or ``.pt`` and ``.pth`` for a file that ``weights_only=True`` reads.

    Raises:
        BadInput: The suffix is unknown, the path is a folder, or the file system refuses a file there.
        ModelError: The file cannot be written to its end.
    """  # noqa: DOC502
    write_weights(snapshot(module), check_writable(Path(path)))


def write_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write weights in the format of the suffix, so that the path holds either the old file or the whole new one."""
    content = io.BytesIO()
    if path.suffix == ".safetensors":
        content.write(safetensors.torch.save(state))
    else:
        torch.save(state, content)
    try:
        with replacing(path) as part:
            part.write_bytes(content.getbuffer())
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error}); free some space or choose another folder") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read what `save_weights`, ``torch.save(model.state_dict())``, a trainer or safetensors wrote, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the readers raise on damaged files is not one family
        if found := nature(path):
            raise ModelError(f"{path}: {found}") from error
        if isinstance(error, pickle.UnpicklingError):
            raise ModelError(
                f"{path}: holds pickled Python objects, or no weights at all; unpickling can run any code, so it is "
                "refused: save model.state_dict() alone"
            ) from error
        reason = first_line(error)
        raise ModelError(f"{path}: unreadable as weights ({reason}); check the path, or save them again") from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: holds one {type(state).__name__}, not tensors by name; save model.state_dict()")
    if odd := _odd(state):
        places = [place for place in PLACES if isinstance(state.get(place), Mapping) and state[place]]
        places = [place for place in places if not _odd(state[place])]
        if not places:
            raise ModelError(
                f"{path}: its entry {odd[0]!r} is not a tensor with a name, and none of its entries is what a trainer "
                f"keeps weights in ({', '.join(PLACES)}); save model.state_dict() alone"
            )
        others = f", not of {' or '.join(map(repr, places[1:]))}" if places[1:] else ""
        warnings.warn(
            f"{path.name}: a checkpoint; the weights are those of its entry {places[0]!r}{others}", stacklevel=4
        )
        state = state[places[0]]
    return dict(state)


def _odd(state: Mapping[Any, Any]) -> list[Any]:
    """The entries that are not tensors by name."""
    return [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]


def fit(model: nn.Module, state: dict[str, Tensor], path: Path, text: str) -> None:
    """Give a model its weights, whose names may have the prefixes of a wrapper that they were trained in."""
    wanted = model.state_dict()
    names, dropped = {name: name for name in state}, ""
    if any(COMPILED in name for name in names):
        # A compiled part may be anywhere inside.
        names, dropped = {name.replace(COMPILED, ""): old for name, old in names.items()}, COMPILED
    if AVERAGED in names and AVERAGED not in wanted:
        del names[AVERAGED]  # of torch.optim.swa_utils.AveragedModel
    plain = names
    while names.keys() != wanted.keys():
        prefix = next((p for p in PREFIXES if names and all(name.startswith(p) for name in names)), None)
        if prefix is None:
            break
        names, dropped = {name.removeprefix(prefix): old for name, old in names.items()}, dropped + prefix
    if names.keys() != wanted.keys() and len(names.keys() & wanted.keys()) <= len(plain.keys() & wanted.keys()):
        names = plain
    found = {name: state[old] for name, old in names.items()}
    shapes = [
        f"{name}: {tuple(value.shape)} in the file, {tuple(wanted[name].shape)} in the model"
        for name, value in found.items()
        if name in wanted and isinstance(wanted[name], Tensor) and value.shape != wanted[name].shape
    ]
    misfits = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [names[name] for name in found if name not in wanted],
        "of another shape": shapes,
    }
    if any(misfits.values()):
        words = "; ".join(f"{len(which)} {how} ({_few(which)})" for how, which in misfits.items() if which)
        raise ModelError(f"{path}: does not fit the model of {text}: {words}; check the factory and its arguments")
    try:
        model.load_state_dict(found, strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: does not fit the model of {text} ({error}); check the factory's arguments"
        ) from error
    if dropped:
        warnings.warn(f"{path.name}: the names of its weights begin with {dropped!r}, which was dropped", stacklevel=4)


def _few(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
