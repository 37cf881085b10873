"""The nearest training inputs of some test inputs, in the code distance of each operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from maxaffine.codes import Codes
from maxaffine.data import DataSet
from maxaffine.errors import BadInput
from maxaffine.graph import OperatorRecord
from maxaffine.network import SplineNetwork
from maxaffine.report.facts import Choices, Neighbour, Neighbourhood, Neighbours
from maxaffine.search import Neighbors, neighbors

BATCH = 256
INPUT = "the input itself"
MEAN = "mean of these"


@dataclass(frozen=True)
class Searched:
    """The training inputs that are searched.

    Attributes:
        numbers: Their numbers in the training set (N,).
        codes: Their codes.
        titles: The operators that are looked at, and what to call them.
        available: How many piecewise-affine operators there are in all.
    """

    numbers: Tensor
    codes: Codes
    titles: Mapping[str, str]
    available: int


def spaced(length: int, count: int) -> Tensor:
    """Return at most ``count`` numbers from 0 to length - 1, evenly spaced, the first and the last among them.

    Data may be sorted by class, so the first ones would not do.

    Example:
        >>> spaced(100, 4).tolist()
        [0, 33, 66, 99]
    """
    if count >= length:
        return torch.arange(length)
    return torch.linspace(0, length - 1, count, dtype=torch.float64).round().long()


def searched_inputs(net: SplineNetwork, train: Tensor, choices: Choices) -> Searched | None:
    """Encode the training inputs that are searched.

    Args:
        net: The captured network.
        train: Training inputs (N, *input_shape), as the network takes them.
        choices: How many of them, and at which operators.

    Returns:
        Them; None for a network without piecewise-affine operators.

    Raises:
        BadInput: If a chosen operator is none of the network's.
    """
    available = {record.name: record for record in net.operators if record.pieces > 1}
    if not available:
        return None
    names = list(available)
    if choices.operators is None:
        kept = [names[i] for i in spaced(len(names), choices.layers).tolist()]
    else:
        kept = list(choices.operators)
        if unknown := [name for name in kept if name not in available]:
            raise BadInput(f"operators: {unknown} are not piecewise-affine operators here; there are {names}")
    numbers = spaced(len(train), choices.train_limit)
    loader = DataLoader(TensorDataset(train[numbers]), batch_size=BATCH)
    titles = {name: _title(available[name]) for name in kept}
    return Searched(numbers, net.codes(loader, kept), titles, len(available))


def find_neighbours(
    net: SplineNetwork, train: Tensor, test: Tensor, data: DataSet, chosen: Sequence[int], choices: Choices
) -> Neighbours | None:
    """Find the nearest training inputs in d_l(x, x') = share of the units of operator l with different codes.

    Args:
        net: The captured network.
        train: Training inputs (N, *input_shape), as the network takes them.
        test: Test inputs, likewise.
        data: The data set, for classes.
        chosen: Numbers of the test inputs to show.
        choices: What to look at.

    Returns:
        The neighbours; None for a network without piecewise-affine operators.

    Source: the nearest neighbours in partition distance of Balestriero and Baraniuk, "A Spline Theory of Deep Networks"
    (ICML 2018).
    """
    searched = searched_inputs(net, train, choices)
    return None if searched is None else neighbours_among(searched, net, train, test, data, chosen, choices)


def neighbours_among(
    searched: Searched,
    net: SplineNetwork,
    train: Tensor,
    test: Tensor,
    data: DataSet,
    chosen: Sequence[int],
    choices: Choices,
) -> Neighbours:
    """As `find_neighbours`, among training inputs that are encoded already.

    Args:
        searched: The encoded training inputs.
        net: As there.
        train: As there.
        test: As there.
        data: As there.
        chosen: As there.
        choices: As there.

    Returns:
        The neighbours.
    """
    count = min(choices.neighbours, len(searched.numbers))
    probes = spaced(len(test), choices.probes)
    asked = test[torch.cat([probes, torch.tensor(list(chosen), dtype=torch.int64)])]
    found = neighbors(net, asked, searched.codes, count, list(searched.titles))
    by_layer = {title: found[name] for name, title in searched.titles.items()}
    by_layer |= {MEAN: found.mean} if len(by_layer) > 1 else {}
    labels, wanted = data.train.labels[searched.numbers], data.test.labels[probes]
    nearest = {INPUT: _nearest_pixels(test[probes], train[searched.numbers], count)}
    nearest |= {title: near.ids[: len(probes)] for title, near in by_layer.items()}
    shares = {title: float((labels[ids] == wanted[:, None]).double().mean()) for title, ids in nearest.items()}
    queries = tuple(
        _query(len(probes) + row, index, by_layer, searched.numbers, test, data) for row, index in enumerate(chosen)
    )
    shown = {near.index for query in queries for _, layer in query.layers for near in layer}
    return Neighbours(
        operators=tuple(searched.titles),
        available=searched.available,
        encoded=len(searched.numbers),
        count=count,
        probes=len(probes),
        shares=tuple(shares.items()),
        chance=_chance(labels, wanted),
        queries=queries,
        inputs={index: train[index].cpu().double().numpy() for index in sorted(shown)},
    )


def _nearest_pixels(probes: Tensor, inputs: Tensor, count: int) -> Tensor:
    """The nearest inputs in Euclidean distance, in float64 for a few inputs at a time."""
    flat = probes.double().flatten(1)
    parts = [torch.cdist(flat, part.double().flatten(1)).cpu() for part in inputs.split(BATCH)]
    return torch.cat(parts, dim=1).argsort(dim=1, stable=True)[:, :count]


def _title(record: OperatorRecord) -> str:
    """The operator's name, with its kind where the name does not tell it: ``2 (relu)``."""
    return record.name if record.kind in record.name else f"{record.name} ({record.kind})"


def _chance(labels: Tensor, wanted: Tensor) -> float:
    classes = int(max(labels.max(), wanted.max())) + 1
    frequencies = torch.bincount(labels, minlength=classes).double() / len(labels)
    return float(frequencies[wanted].mean())


def _query(
    row: int, index: int, found: Mapping[str, Neighbors], numbers: Tensor, test: Tensor, data: DataSet
) -> Neighbourhood:
    label = int(data.test.labels[index])
    layers = []
    for title, near in found.items():
        pairs = zip(numbers[near.ids[row]].tolist(), near.distances[row].tolist(), strict=True)
        layers.append((title, tuple(_neighbour(number, distance, label, data) for number, distance in pairs)))
    return Neighbourhood(index, test[index].cpu().double().numpy(), data.class_names[label], tuple(layers))


def _neighbour(index: int, distance: float, label: int, data: DataSet) -> Neighbour:
    own = int(data.train.labels[index])
    return Neighbour(index, data.class_names[own], own == label, distance)
