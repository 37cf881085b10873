"""Finding the layer that makes a classifier's outputs, by what computed them and not by where it stands."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils._pytree import tree_map

from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LISTED = 12
# How the names of a layer's own parameters begin: whole, split by a parametrization, or by an old hook.
_OWN = ("weight", "bias", "parametrizations.")


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of data-parallel training and of torch.compile."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def as_written(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that torch.compile is not to trace, with compiled modules run as they are written."""
    # Compiled code has no double backward and may pass hooks by, and a trace cannot look into a capture.
    if torch.compiler.is_compiling():
        return torch.compiler.disable(as_written)(function, *arguments)
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and setting the stance would load it
        return function(*arguments)
    with torch.compiler.set_stance("force_eager"):
        return function(*arguments)


@contextmanager
def recording_gradients() -> Iterator[None]:
    """Record gradients inside the block, also where the caller is in ``no_grad`` or in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def first_samples(x: Any, count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The first samples of some inputs, detached, as the positional and the keyword arguments of a module."""

    def take(item: Any) -> Any:
        return item.detach()[:count] if isinstance(item, Tensor) and item.ndim else item

    if isinstance(x, Mapping):
        return (), {str(name): tree_map(take, item) for name, item in x.items()}
    return tuple(tree_map(take, item) for item in (x if isinstance(x, tuple | list) else (x,))), {}


def logits_of(output: Any) -> Tensor:
    """The logits in what a module returned: a tensor, a sequence of one, or a record with ``logits``."""
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise BadInput(
            f"model: it returns a {type(output).__name__}, not a tensor of logits or a record with a field 'logits'; "
            'wrap it in a module that returns the logits alone, or name the classifier with layer="..."'
        )
    return output


def named_weight(model: nn.Module, layer: str) -> Tensor:
    """The rows (C, d) of a layer or parameter, live: one per class."""
    try:
        found = attrgetter(layer)(model) if layer else model
    except AttributeError:
        found = None
    weight = found.weight if isinstance(found, nn.Module) and _is_candidate(found) else found
    if not isinstance(weight, Tensor) or weight.ndim < 2 or math.prod(weight.shape[2:]) != 1:
        raise BadInput(
            f"layer: {layer!r} is not a linear layer, 1 x 1 convolution or (C, d) parameter; {_choice(model)}"
        )
    if not isinstance(weight, nn.Parameter) and _is_left_over(weight, model):
        raise BadInput(
            f"layer: the weight of {layer!r} is a tensor that the last pass has left there, as pruning and the old "
            "weight_norm and spectral_norm do, and not the parameters behind it; use torch.nn.utils.parametrizations, "
            "or torch.nn.utils.prune.remove"
        )
    if weight.shape[0] < 2:
        raise BadInput(
            f"layer: {layer!r} has one row, and one class has nothing to be orthogonal to; give a classifier of two or "
            "more classes"
        )
    return weight.flatten(1)


def find_classifier(model: nn.Module, x: Any) -> str:
    """The path of the linear layer or 1 x 1 convolution that the outputs are made of; empty for the model."""
    # The model runs once, on two samples, and what computed the logits is followed back: the layer must be the only one
    # that is met, with no other parameter and no way around it from the inputs. Softmax and pooling may follow it.
    return as_written(_search, model, x)


def writable(item: Any) -> Any:
    """A copy that a module may change in place, where a leaf of the graph may not be; other items stay."""
    return item.clone() if isinstance(item, Tensor) else item


def _search(model: nn.Module, x: Any) -> str:
    nodes: dict[Any, str] = {}
    odd: list[str] = []
    with ExitStack() as stack:
        for path, module in _candidates(model):
            stack.callback(module.register_forward_hook(_recorder(nodes, odd, path), with_kwargs=True).remove)
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(recording_gradients())
        # Leaves of their own: frozen parameters are seen too, and nothing of the model's is touched.
        values = {name: _leaf(item.detach()) for name, item in model.named_parameters()}
        buffers = {name: item.clone() for name, item in model.named_buffers()}
        args, kwargs = tree_map(_leaf_of_its_own, first_samples(x, 2))
        args, kwargs = tree_map(writable, (args, kwargs))
        logits = logits_of(functional_call(model, {**values, **buffers}, args, kwargs))
    paths, leaves = _sources(logits, nodes)
    if len(paths) == 1 and not leaves:
        return paths.pop()
    others = [name for name, item in values.items() if any(item is leaf for leaf in leaves)]
    if len(paths) == 1:
        cause = f"{', '.join(others) or 'the inputs'} reach the outputs past {sorted(paths)[0]!r}"
    else:
        cause = f"{sorted(paths)} make the outputs together" if paths else "no linear layer or 1 x 1 convolution does"
    if odd:
        cause += f", and {odd[-1]!r} gives something else than its weight times its input"
    raise BadInput(f"model: no single layer makes the outputs: {cause}; {_choice(model)}")


def _recorder(nodes: dict[Any, str], odd: list[str], path: str) -> Any:
    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Any) -> None:
        if _is_product(module, [*args, *kwargs.values()][0], output):
            nodes[output.grad_fn] = path
        else:
            odd.append(path)

    return hook


def _is_product(module: Any, x: Tensor, output: Any) -> bool:
    """Whether a layer gave W x + b and nothing else, as a subclass may that adapts, masks or normalizes W."""
    names = [name for name, _ in module.named_parameters()]
    if not isinstance(output, Tensor) or not all(name.startswith(_OWN) for name in names):
        return False
    plain: Any = next(kind for kind in (nn.Linear, *_CONVOLUTIONS) if isinstance(module, kind))
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        expected = plain.forward(module, x.to(module.weight.dtype))
        bound = torch.finfo(output.dtype).eps ** 0.5 * expected.norm()
        return bool((output.to(expected.dtype) - expected).norm() <= bound)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.requires_grad_(tensor.is_floating_point())


def _leaf_of_its_own(item: Any) -> Any:
    return _leaf(item.clone()) if isinstance(item, Tensor) else item


def _sources(logits: Tensor, nodes: Mapping[Any, str]) -> tuple[set[str], list[Tensor]]:
    """The layers that the logits come from, and the leaves that reach them past those layers."""
    # Autograd's graph backward: a layer that was recorded ends its branch, and a leaf met elsewhere went past it.
    paths: set[str] = set()
    leaves: list[Tensor] = []
    stack, seen = [logits.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in nodes:
            paths.add(nodes[node])
        elif isinstance(leaf := getattr(node, "variable", None), Tensor):
            leaves.append(leaf)
        else:
            stack.extend(following for following, _ in node.next_functions)
    return paths, leaves


def _candidates(model: nn.Module) -> list[tuple[str, Any]]:
    return [(path, module) for path, module in model.named_modules() if _is_candidate(module)]


def _is_candidate(module: nn.Module) -> bool:
    """A linear layer or a 1 x 1 convolution, whose rows all live in one space: without groups."""
    if isinstance(module, _CONVOLUTIONS):
        return math.prod(module.kernel_size) == 1 and module.groups == 1
    return isinstance(module, nn.Linear)


def _is_left_over(weight: Tensor, model: nn.Module) -> bool:
    """Whether a module keeps a tensor as a plain attribute, where a hook renews it at the next pass."""
    return any(weight is value for module in model.modules() for value in vars(module).values())


def _choice(model: nn.Module) -> str:
    found = [f"{path!r} ({len(module.weight)} rows)" for path, module in _candidates(model)]
    shown = (["..."] if len(found) > _LISTED else []) + found[-_LISTED:]
    listed = ", ".join(shown) or "none, but a (C, d) parameter can be named too"
    return f'name one with layer="..."; the candidates are {listed}'
