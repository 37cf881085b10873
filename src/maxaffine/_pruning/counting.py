"""What the units of every layer do on data: which pieces they use, and how alike they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import undisturbed
from maxaffine._progress import progress_bar
from maxaffine._pruning.layers import Layer


@dataclass(eq=False)
class Activity:
    """What the units of one layer did, over all entries: samples times positions."""

    entries: int = 0
    low: Tensor = field(default_factory=lambda: torch.tensor([]))  # (channels,) the lowest piece used
    high: Tensor = field(default_factory=lambda: torch.tensor([]))  # the highest
    least: Tensor = field(default_factory=lambda: torch.tensor([]))  # the least value
    most: Tensor = field(default_factory=lambda: torch.tensor([]))  # the largest value
    total: Tensor = field(default_factory=lambda: torch.tensor([]))  # sum of the values, float64
    slope: Tensor = field(default_factory=lambda: torch.tensor([]))  # of the piece used last
    shift: Tensor = field(default_factory=lambda: torch.tensor([]))  # of the piece used last: value - slope * argument
    alike: Tensor = field(default_factory=lambda: torch.tensor([]))  # (channels, channels) entries with equal codes
    products: Tensor = field(default_factory=lambda: torch.tensor([]))  # sums of products of values

    @property
    def single(self) -> Tensor:
        """(channels,) whether one piece was used alone."""
        return self.low == self.high

    @property
    def flat(self) -> Tensor:
        """(channels,) whether one flat piece was used alone, so that the value was the same everywhere."""
        return self.single & (self.slope == 0)

    @property
    def sloped(self) -> Tensor:
        """(channels,) whether one sloped piece was used alone, so that the unit was affine."""
        return self.single & (self.slope != 0)

    @property
    def mean(self) -> Tensor:
        """(channels,) the mean value."""
        return self.total / self.entries

    @property
    def disagreement(self) -> Tensor:
        """(channels, channels) the share of entries at which two units have different codes."""
        return 1 - self.alike / self.entries

    def add(self, codes: Tensor, values: Tensor, slopes: Tensor, shifts: Tensor, pieces: int) -> None:
        """Count further entries, (channels, entries) of each."""
        exact = values.double()
        alike = sum((hot @ hot.mT for hot in ((codes == r).double() for r in range(pieces))), start=torch.tensor(0.0))
        codes = codes.byte()
        ends = {"low": codes.amin(1), "high": codes.amax(1), "least": values.amin(1), "most": values.amax(1)}
        sums = {"total": exact.sum(1), "alike": alike, "products": exact @ exact.mT}
        for name, found in ends.items():
            choose = torch.minimum if name in ("low", "least") else torch.maximum
            setattr(self, name, choose(getattr(self, name), found) if self.entries else found)
        for name, found in sums.items():
            setattr(self, name, getattr(self, name) + found if self.entries else found)
        self.slope, self.shift = slopes[:, -1], shifts[:, -1]
        self.entries += codes.shape[1]


def count(
    net: SplineNetwork, layers: Sequence[Layer], data: Iterable[tuple[Tensor, ...]], progress: bool | None
) -> tuple[list[Activity], int]:
    """The activity of every layer's units on data, and the number of samples."""
    found, samples = [Activity() for _ in layers], 0
    at = {layer.place: number for number, layer in enumerate(layers)}
    with undisturbed(net.inputs.device):
        for tensors in progress_bar(progress, "activity", iterable=data, unit="batch"):
            samples += tensors[0].shape[net.inputs.batch_dims[0]]
            for place, (step, arguments, value, _) in enumerate(net.graph.walk(tensors)):
                if place not in at:
                    continue
                layer, operator = layers[at[place]], step.operator
                codes = operator.codes(arguments, value)
                argument = arguments[step.active[0]]
                local = operator.local(arguments, value)
                (slopes, *_) = local.mv([torch.ones_like(argument)])
                pairs = (codes, value, slopes, value - slopes * argument)
                parts = [layer.by_channel(net.graph, item).cpu() for item in pairs if item is not None]
                found[at[place]].add(parts[0], parts[1], parts[2], parts[3], operator.traits.pieces)
    return found, samples
