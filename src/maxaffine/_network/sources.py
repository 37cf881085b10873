"""Where a network's constants come from: the module's parameters and buffers by name, and what was computed of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from maxaffine._graph import Graph, Operator, tensors_in


@dataclass(frozen=True)
class Recipe:
    """Constants that were computed from others once, at capture."""

    operator: Operator  # takes no inputs: the tensors are among its arguments
    outputs: tuple[Tensor | None, ...]  # what it gave


@dataclass(frozen=True)
class Source:
    """A parameter or buffer of the module."""

    tensor: Tensor  # the frozen copy that the graph holds
    parameter: bool
    persistent: bool  # whether it is part of the module's state_dict
    trained: bool  # whether it required a gradient


@dataclass(frozen=True)
class Sources:
    """Parameters and buffers by their names in the module, and the recipes of what was computed from them, in order."""

    named: dict[str, Source]
    recipes: tuple[Recipe, ...]
    lost: tuple[str, ...] = ()  # parameters that the network needs, and that are not found in its graph

    @classmethod
    def of(
        cls, named: dict[str, Source], recipes: Iterable[Recipe], graph: Graph, needed: Collection[int], whole: bool
    ) -> Sources:
        """The sources of a graph: of a whole module all that it has, of a part what it needs (by identity)."""
        known, kept = {id(source.tensor) for source in named.values()}, []
        for recipe in recipes:  # what depends on named tensors
            if not known.isdisjoint(map(id, tensors_in(recipe.operator))):
                kept.append(recipe)
                known.update(id(tensor) for tensor in recipe.outputs if tensor is not None)
        used = cls(named, tuple(kept)).used_by(graph)
        wanted = [name for name, source in named.items() if source.parameter and id(source.tensor) in needed]
        lost = tuple(name for name in wanted if name not in used.named)
        return replace(used, lost=lost, named=named if whole else used.named)

    def used_by(self, graph: Graph) -> Sources:
        """Those that a graph needs."""
        needed = {id(tensor) for step in graph.steps for tensor in tensors_in(step.operator)}
        kept: list[Recipe] = []
        for recipe in reversed(self.recipes):  # those that use a constant come after the one that makes it
            if any(id(tensor) in needed for tensor in recipe.outputs if tensor is not None):
                kept.append(recipe)
                needed.update(map(id, tensors_in(recipe.operator)))
        named = {name: source for name, source in self.named.items() if id(source.tensor) in needed}
        return replace(self, named=named, recipes=tuple(reversed(kept)))
