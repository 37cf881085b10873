"""Units taken out of a module: what follows takes over what they gave, and torch-pruning removes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence, Knots, Step, as_tuple
from maxaffine._pruning.layers import Layer

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
WEIGHTED = (nn.Linear, *CONVOLUTIONS)


class KeptError(Exception):
    """Why units stay."""


@dataclass(frozen=True, eq=False)
class Consumer:
    """A module that takes units of a layer, and the numbers of its inputs that each of them is, in order."""

    module: Any
    places: Mapping[int, list[int]]  # by unit


@dataclass(frozen=True, eq=False)
class Site:
    """The module whose outputs are a layer's units, all that takes them, and whether nothing lies between."""

    module: Any
    consumers: tuple[Consumer, ...]
    bare: bool  # no normalization between the module and the activation


def weighted_module(model: nn.Module, net: SplineNetwork, layer: Layer) -> Any:
    """The linear or convolutional module that computes a layer's units; refused with the reason where none does."""
    if layer.joined:
        raise KeptError("its activation acts on several values joined, as by a skip connection")
    if len(layer.makers) != 1:
        raise KeptError("no layer with weights of its own comes before its activation")
    (record, *_) = layer.makers[0].records
    where = f"{record.module_path!r}" + (f" ({record.source})" if record.source else "")
    module = _module_at(model, record.module_path)
    if hasattr(module, "parametrizations"):
        raise KeptError(f"the weights of {where} are parametrized; remove_parametrizations makes them plain")
    if module is None or type(module) not in WEIGHTED:
        raise KeptError(f"its weights are used by a function call in {where}, not by nn.Linear or a convolution")
    paths = [step.records[0].module_path for step in net.graph.steps if step.operator.channel_axis is not None]
    if sum(_module_at(model, path) is module for path in paths) > 1:
        raise KeptError(f"{where} is shared: it is called more than once")
    owners = Counter(id(item) for part in model.modules() for item in part.parameters(recurse=False))
    if any(owners[id(item)] > 1 for item in module.parameters()):
        raise KeptError(f"{where} shares its weights with another module")
    return module


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


class Surgeon:
    """Removes units of a module; what torch-pruning finds to depend on what is asked of it once."""

    def __init__(self, model: nn.Module, inputs: Any, names: tuple[str, ...]) -> None:
        self.pruning, self.model = import_module("torch_pruning"), model
        for item in model.parameters():
            item.requires_grad_(item.is_floating_point())  # it follows autograd's graph
        with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            items = [item.clone() for item in inputs]  # those made in inference mode have no derivatives
            example = dict(zip(names, items, strict=True)) if names else tuple(items)
            graph = self.pruning.DependencyGraph()
            self.graph = graph.build_dependency(model, example_inputs=example, verbose=False)

    def site(self, module: Any, units: Sequence[int]) -> Site:
        """What depends on units of a module; refused with the reason where they cannot go alone."""
        if module not in self.graph.module2node:
            raise KeptError("torch-pruning does not see its module in the network")
        groups = {unit: self._group(module, [unit]) for unit in units}
        found: dict[Any, dict[int, list[int]]] = {}
        bare = True
        for unit, group in groups.items():
            for place, (dependency, numbers) in enumerate(group):
                target, kind = dependency.target.module, type(dependency.target.module)
                if place == 0:
                    continue
                if isinstance(target, nn.modules.batchnorm._BatchNorm):
                    bare = False
                elif kind in WEIGHTED and self.graph.is_in_channel_pruning_fn(dependency.handler):
                    if getattr(target, "groups", 1) > 1:
                        raise KeptError("a convolution in groups takes them")
                    found.setdefault(target, {})[unit] = list(numbers)
                elif not self._harmless(dependency):
                    raise KeptError(self._coupled(dependency))
        if not found:
            raise KeptError("no layer with weights takes them")
        return Site(module, tuple(Consumer(key, places) for key, places in found.items()), bare)

    def remove(self, module: Any, units: Sequence[int]) -> None:
        """Remove units of a module, with all that depends on them."""
        self._group(module, sorted(units)).prune()

    def _group(self, module: Any, units: Sequence[int]) -> Any:
        linear = isinstance(module, nn.Linear)
        function = self.pruning.prune_linear_out_channels if linear else self.pruning.prune_conv_out_channels
        return self.graph.get_pruning_group(module, function, list(units))

    def _harmless(self, dependency: Any) -> bool:
        kinds = self.graph.ops.OPTYPE
        carries = (kinds.ELEMENTWISE, kinds.RESHAPE, kinds.CONCAT, kinds.SPLIT, kinds.SLICE, kinds.PRELU, kinds.EXPAND)
        return dependency.target.type in carries

    def _coupled(self, dependency: Any) -> str:
        name = self.graph._module2name.get(dependency.target.module, "")
        if type(dependency.target.module).__name__ == "_OutputOp":
            return "they are outputs of the network"
        return f"they go only together with those of {name!r}" if name else "another operator depends on them"


def check_way(net: SplineNetwork, layer: Layer, inputs: Sequence[Tensor], kind: str, scaled: bool) -> None:
    """Refuse units that other values, kinks or offsets meet before the next layer, where the data cannot show it."""
    moved, graph, values = {layer.step.result}, net.graph, dict(zip(net.graph.inputs, inputs, strict=True))
    for place, step in enumerate(graph.steps):
        step.run(values)
        if place <= layer.place or moved.isdisjoint(step.inputs) or step.operator.channel_axis is not None:
            continue
        traits, name = step.operator.traits, step.records[0].name if step.records else "an operator"
        others = {graph.values[n].dependence for n in step.inputs if n not in moved} - {Dependence.CONSTANT}
        moved |= {number for number in step.outputs if number is not None}
        if others and traits.kind != "cat":
            raise KeptError(f"{name!r} joins them with other values")
        if kind != "never" and traits.pieces > 1 and (kind == "always" or not _alike(step, scaled)):
            raise KeptError(f"{name!r} bends them before the next layer")
        if scaled and traits.pieces == 1:
            taken = [values[n] for n in step.inputs]
            taken = [torch.zeros_like(item) if at in step.active else item for at, item in enumerate(taken)]
            if any(bool(item.any()) for item in as_tuple(step.operator(*taken))[:1]):
                raise KeptError(f"{name!r} adds an offset to them")


def _alike(step: Step, scaled: bool) -> bool:
    """Whether an operator does the same to all units, and of multiples, where they are scaled, makes multiples."""
    boundaries, traits = step.operator.boundaries(), step.operator.traits
    knots = boundaries.knots if isinstance(boundaries, Knots) else ()
    return traits.kind != "prelu" and (traits.homogeneous and not any(knots) or bool(knots) and not scaled)


def add_constants(consumer: Consumer, constants: Mapping[int, Tensor]) -> None:
    """Add what constant units give to what follows to its offset: b + sum of W[:, i] c_i over their inputs i."""
    module = consumer.module
    total = torch.zeros(module.weight.shape[0], dtype=module.weight.dtype, device=module.weight.device)
    for unit, values in constants.items():
        if values.any() and _pads_with_zeros(module):
            raise KeptError("their constant is not zero, and meets a convolution that pads with zeros")
        weight = module.weight.detach()[:, consumer.places[unit]]
        total += weight.reshape(*weight.shape[:2], -1).sum(2) @ values.to(total)
    if not total.any():
        return
    if module.bias is None:
        module.bias = nn.Parameter(total)
    else:
        module.bias.data += total


def merge(consumer: Consumer, unit: int, into: int, factor: float) -> None:
    """Let one unit give what another gave, which is a multiple of it: W[:, i] + factor W[:, j]."""
    weight = consumer.module.weight.data
    weight[:, consumer.places[into]] += factor * weight[:, consumer.places[unit]]


def _pads_with_zeros(module: Any) -> bool:
    if not isinstance(module, CONVOLUTIONS) or module.padding_mode != "zeros" or module.padding == "valid":
        return False
    if module.padding == "same":
        return any(size > 1 for size in module.kernel_size)
    return any(module.padding)


def constants_of(consumer: Consumer, run: Callable[[], object]) -> dict[int, Tensor]:
    """What constant units give a consumer while something runs the model: by unit, a number for each of its inputs."""
    seen: list[tuple[Tensor, Tensor]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        axis = 1 if inputs[0].dim() > 1 and isinstance(module, CONVOLUTIONS) else -1
        rows = inputs[0].detach().movedim(axis, 0).flatten(1)
        seen.append((rows.amin(1), rows.amax(1)))

    handle = consumer.module.register_forward_pre_hook(look)
    try:
        run()
    finally:
        handle.remove()
    least, most = torch.stack([low for low, _ in seen]).amin(0), torch.stack([high for _, high in seen]).amax(0)
    for unit, places in consumer.places.items():
        if not torch.equal(least[places], most[places]):
            raise KeptError(f"what follows unit {unit} varies although it does not")
    return {unit: least[places] for unit, places in consumer.places.items()}


def fold(site: Site, units: Sequence[int], slopes: Tensor, low: Tensor, high: Tensor) -> list[int]:
    """Let as many always active units as the next layer has outputs do the work of more; those that are then free."""
    # What the units u add to output j is affine in the input: sum_u V[j, u] s_u (W[u] x + b[u]). It lies between sums
    # of the ends of each term, so that a shift keeps it positive, where the activation passes it on.
    (consumer, *others), module = site.consumers, site.module
    after = consumer.module
    if type(module) is not nn.Linear or others or type(after) is not nn.Linear or not site.bare:
        raise KeptError("only a linear layer right before its activation and another linear layer is folded")
    if any(len(consumer.places[unit]) != 1 for unit in units):
        raise KeptError("each of them is several inputs of the next layer")
    columns = [consumer.places[unit][0] for unit in units]
    slopes, low, high = (item.to(module.weight) for item in (slopes, low, high))
    inner, outer = module.weight.detach()[list(units)], after.weight.detach()[:, columns]
    offsets = module.bias.detach()[list(units)] if module.bias is not None else inner.new_zeros(len(units))
    ends = torch.stack([outer * low, outer * high])
    least, most = ends.amin(0).sum(1), ends.amax(0).sum(1)
    shift = (most - least + least.abs()) / 16 - least
    kept = list(units)[: len(outer)]
    if module.bias is None:
        module.bias = nn.Parameter(module.weight.new_zeros(len(module.weight)))
    module.weight.data[kept] = (outer * slopes) @ inner / slopes[: len(kept), None]
    module.bias.data[kept] = ((outer * slopes) @ offsets + shift) / slopes[: len(kept)]
    after.weight.data[:, columns[: len(kept)]] = torch.eye(len(kept)).to(outer)
    if after.bias is None:
        after.bias = nn.Parameter(-shift)
    else:
        after.bias.data -= shift
    return list(units)[len(kept) :]
