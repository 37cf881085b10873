"""Weights to and from files: never half written, never unpickled beyond tensors."""

from __future__ import annotations

import errno
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from .._files import beside, replacing
from ..errors import BadInput, ModelError, first_line

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
    """Read what `save_weights`, ``torch.save(model.state_dict())`` or safetensors wrote, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds pickled Python objects, or no weights at all; unpickling can run any code, so it is "
            "refused: save model.state_dict() alone"
        ) from error
    except Exception as error:  # what the readers raise on damaged files is not one family
        reason = first_line(error)
        raise ModelError(f"{path}: unreadable as weights ({reason}); check the path, or save them again") from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: holds one {type(state).__name__}, not tensors by name; save model.state_dict()")
    if odd := [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]:
        raise ModelError(
            f"{path}: its entry {odd[0]!r} is not a tensor with a name (a training checkpoint?); save "
            "model.state_dict() alone"
        )
    return dict(state)
