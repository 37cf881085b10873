"""What a network gives when one unit inside it is held or merged, computed by the network itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import undisturbed
from maxaffine._progress import progress_bar
from maxaffine._pruning.layers import Layer


@dataclass(frozen=True)
class Edit:
    """What stands in for a unit's value: factor * the value of another unit, or of its own argument, + shift."""

    layer: Layer
    unit: int
    other: int | None  # another unit of the layer; None: its own argument
    factor: float  # 0: held at the shift
    shift: float


class _Run:
    """One batch run through a network, every value kept."""

    def __init__(self, net: SplineNetwork, tensors: Sequence[Tensor]) -> None:
        self.graph = net.graph
        self.values: dict[int, Any] = dict(zip(net.graph.inputs, tensors, strict=True))
        for step in net.graph.steps:
            step.run(self.values)

    def change(self, edit: Edit) -> Tensor:
        """The largest change of each output, all in one row."""
        layer = edit.layer
        own = self.values[layer.step.result]
        source = own if edit.other is not None else self.values[layer.argument]
        entries = layer.by_channel(self.graph, source)[edit.unit if edit.other is None else edit.other]
        entries = edit.factor * entries + edit.shift if edit.factor else torch.full_like(entries, edit.shift)
        values = dict(self.values)
        values[layer.step.result] = layer.with_channel(self.graph, own, edit.unit, entries)
        moved = {layer.step.result}
        for step in self.graph.steps[layer.place + 1 :]:
            if not moved.isdisjoint(step.inputs):
                step.run(values)
                moved.update(number for number in step.outputs if number is not None)
        return torch.cat([self._largest(number, values) for number in self.graph.outputs])

    def _largest(self, number: int, values: dict[int, Any]) -> Tensor:
        value, after, before = self.graph.values[number], values[number], self.values[number]
        rows = value.to_rows((after - before) if after is not before else torch.zeros_like(before))
        return rows.abs().amax(0).cpu()


def changes(
    net: SplineNetwork, edits: Sequence[Edit], data: Iterable[tuple[Tensor, ...]], progress: bool | None
) -> list[Tensor]:
    """By how much each output moves at most over the data under each edit, made alone: (outputs,) each."""
    found: list[Tensor] = []
    if not edits:
        return found
    with undisturbed(net.inputs.device), progress_bar(progress, "changes", unit="edit") as bar:
        for tensors in data:
            run = _Run(net, tensors)
            moved = []
            for edit in edits:
                moved.append(run.change(edit))
                bar.update()
            found = moved if not found else [torch.maximum(a, b) for a, b in zip(found, moved, strict=True)]
    return found
