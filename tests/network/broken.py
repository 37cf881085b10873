"""Captured networks broken on purpose: one operator's local map is off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

import maxaffine as ma
from maxaffine import SplineNetwork
from maxaffine._graph import LocalMap, Operator, Step, Traits


@dataclass(frozen=True, eq=False)
class Broken(Operator):
    """An operator that runs as before, but whose local map is off."""

    whole: Operator
    spoil: Callable[[LocalMap], LocalMap]

    @property
    def traits(self) -> Traits:
        return self.whole.traits

    def __call__(self, *inputs: Any) -> Any:
        return self.whole(*inputs)

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor | None:
        return self.whole.codes(inputs, value)

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return self.spoil(self.whole.local(inputs, value))


class Spoiled(LocalMap):
    """A local map with parts of it scaled."""

    def __init__(self, local: LocalMap, mv: float = 1, rmv: float = 1, offset: float = 1) -> None:
        self.local, self.factors = local, (mv, rmv, offset)

    def _times(self, items: Sequence[Tensor | None], which: int) -> tuple[Tensor | None, ...]:
        return tuple(None if item is None else item * self.factors[which] for item in items)

    def mv(self, tangents: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        return self._times(self.local.mv(tangents), 0)

    def rmv(self, cotangents: Sequence[Any]) -> tuple[Tensor | None, ...]:
        return self._times(self.local.rmv(cotangents), 1)

    def offsets(self) -> tuple[Tensor | None, ...]:
        return self._times(self.local.offsets(), 2)


def with_step(net: ma.SplineNetwork, name: str, change: Callable[[Step], Step]) -> ma.SplineNetwork:
    """The network with the step of one operator changed."""
    steps = tuple(change(s) if s.records and s.records[0].name == name else s for s in net.graph.steps)
    return SplineNetwork(replace(net.graph, steps=steps), net.inputs, net.output_spec, net.places)
