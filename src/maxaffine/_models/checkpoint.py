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

from ..errors import BadInput, ModelError, first_line

SUFFIXES = (".safetensors", ".pt", ".pth")


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers.

    Args:
        module: Any module.

    Returns:
        Name -> copy on the CPU, contiguous.

    >>> sorted(snapshot(nn.Linear(2, 1)))
    ['bias', 'weight']
    """
    state = module.state_dict()
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def writable(path: Path) -> Path:
    """Check, before any work is spent, that weights can be written to a path.

    Args:
        path: The file to be.

    Returns:
        The same path.

    Raises:
        BadInput: The suffix is unknown, the path is a folder, or the file system refuses a file beside it.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"checkpoint: {path} ends in none of {', '.join(SUFFIXES)}; the suffix decides the format")
    part = _part_of(path)
    try:
        part.touch()
        part.unlink()
        reason = os.strerror(errno.EISDIR) if path.is_dir() else ""
    except OSError as error:
        reason = error.strerror
    if reason:
        raise BadInput(f"checkpoint: {path} cannot be written ({reason}); give a file in an existing, writable folder")
    return path


def save_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a module's parameters and buffers, so that the path holds either the old file or the whole new one.

    Args:
        module: Any module.
        path: The file; ``.safetensors``, or ``.pt`` and ``.pth`` for a file that ``weights_only=True`` reads.
    """
    write_weights(snapshot(module), writable(Path(path)))


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write weights so that the path holds either the old file or the whole new one, whenever the process ends.

    Args:
        state: Name -> tensor.
        path: The file; ``.safetensors``, or ``.pt`` and ``.pth`` for a file that ``weights_only=True`` reads.

    Raises:
        ModelError: The file cannot be written.
    """
    content = io.BytesIO()
    if path.suffix == ".safetensors":
        content.write(safetensors.torch.save(dict(state)))
    else:
        torch.save(dict(state), content)
    part = _part_of(path)
    try:
        with part.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error}); free some space or choose another folder") from error
    finally:
        part.unlink(missing_ok=True)


def _part_of(path: Path) -> Path:
    """The file beside a path that holds its new content until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights that `write_weights`, ``torch.save(model.state_dict())`` or safetensors wrote.

    Args:
        path: The file; anything but ``.safetensors`` is read with ``weights_only=True``.

    Returns:
        Name -> tensor on the CPU.

    Raises:
        ModelError: The file is unreadable, or holds something else than tensors by name.
    """
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
        told = first_line(error)
        raise ModelError(f"{path}: unreadable as weights ({told}); check the path, or save them again") from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: holds one {type(state).__name__}, not tensors by name; save model.state_dict()")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            what = "is no tensor" if isinstance(name, str) else "has no name"
            raise ModelError(
                f"{path}: its entry {name!r} {what} (a training checkpoint?); save model.state_dict() alone"
            )
    return dict(state)
