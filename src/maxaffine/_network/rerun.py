"""The user's untouched module, run again: on copies, what it keeps and the random state left as they were."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_leaves

from maxaffine._network.copying import FAILURES, copy_module
from maxaffine._network.network import Network, output_names
from maxaffine._untouched import keep_attributes
from maxaffine.errors import BadInput

Rerun = Callable[[tuple[Tensor, ...]], list[Tensor]]


def run_on_copies(
    model: nn.Module,
    tensors: tuple[Tensor, ...],
    names: tuple[str, ...] = (),
    leaves: Callable[[Any], list[Any]] = tree_leaves,
) -> list[Any]:
    """Run a module on copies of its inputs and of its buffers, and leave the random state as it was."""
    # It holds the module that was captured, and takes no copies of buffers.
    inner = model.module if isinstance(model, nn.DataParallel) else model
    # Fresh copies: an in-place first operator, or a module in training mode, writes into them.
    inputs = tuple(item.clone() for item in tensors)
    buffers = {name: buffer.clone() for name, buffer in inner.named_buffers()}
    devices = sorted({item.device.index or 0 for item in tensors if item.device.type == "cuda"})
    with torch.random.fork_rng(devices), foreign():
        named = dict(zip(names, inputs, strict=True)) if names else {}
        return leaves(functional_call(inner, buffers, () if named else inputs, named))


@contextlib.contextmanager
def foreign() -> Iterator[None]:
    """A user's code: an error of a kind of its own is raised as a RuntimeError, which every caller foresees."""
    try:
        yield
    except FAILURES:
        raise
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def rerun(net: Network, model: nn.Module) -> Rerun:
    """The function that runs the module as it was captured, from input tensors to output tensors."""
    names = net.inputs.names if net.inputs.keyword else ()
    kept = output_names(net.output_spec)

    def leaves(found: Any) -> list[Any]:
        values, spec = tree_flatten(found)
        if len(values) == len(kept):
            return values
        # One output of several was captured, by its name.
        named = dict(zip(output_names(spec), values, strict=True))
        return [named[name] for name in kept] if named.keys() >= {*kept} else values

    def call(tensors: tuple[Tensor, ...]) -> list[Tensor]:
        try:
            values = _run(model, tensors, names, leaves)
        except Exception as error:
            cause = (str(error).strip().splitlines() or [""])[0]
            raise BadInput(
                f"model: it failed on x ({type(error).__name__}: {cause}). Cure: check that model(x) runs; capture it"
                " again if it was moved or converted since"
            ) from error
        if len(values) != len(net.graph.outputs):
            raise BadInput(
                f"model: it returns {len(values)} tensors, the network {len(net.graph.outputs)}; capture it without"
                " until= to check it, or check a module that stops at the same place"
            )
        return values

    return call


def _run(
    model: nn.Module, tensors: tuple[Tensor, ...], names: tuple[str, ...], leaves: Callable[[Any], list[Any]]
) -> list[Any]:
    """From the state that the module is in, on a copy of it, or on itself where it does not stand being copied."""
    with keep_attributes(model):
        try:
            return run_on_copies(copy_module(model), tensors, names, leaves)
        except FAILURES:
            return run_on_copies(model, tensors, names, leaves)
