"""The nearest training inputs of some test inputs, in the code distance of each operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from maxaffine.codes import Codes, code_distance
from maxaffine.data import DataSet
from maxaffine.graph import OperatorRecord
from maxaffine.network import SplineNetwork
from maxaffine.report.facts import Choices, Neighbour, Neighbourhood, Neighbours

BATCH = 256
INPUT = "the input itself"
MEAN = "mean of these"


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
    available = [record for record in net.operators if record.pieces > 1]
    if not available:
        return None
    layers = {available[i].name: _title(available[i]) for i in spaced(len(available), choices.layers).tolist()}
    encoded, probes = spaced(len(train), choices.train_limit), spaced(len(test), choices.probes)
    searched = _codes(net, train[encoded], list(layers))
    labels = data.train.labels[encoded]
    count = min(choices.neighbours, len(encoded))

    by_probe = _distances(_codes(net, test[probes], list(layers)), searched, layers)
    by_probe = {INPUT: torch.cdist(test[probes].double().flatten(1), train[encoded].double().flatten(1))} | by_probe
    shares = {name: _share(distance, labels, data.test.labels[probes], count) for name, distance in by_probe.items()}
    by_query = _distances(_codes(net, test[list(chosen)], list(layers)), searched, layers)
    queries = tuple(_query(row, index, by_query, encoded, test, data, count) for row, index in enumerate(chosen))
    shown = {near.index for query in queries for _, layer in query.layers for near in layer}
    return Neighbours(
        operators=tuple(layers),
        available=len(available),
        encoded=len(encoded),
        count=count,
        probes=len(probes),
        shares=tuple(shares.items()),
        chance=_chance(labels, data.test.labels[probes]),
        queries=queries,
        inputs={index: train[index].cpu().double().numpy() for index in sorted(shown)},
    )


def _codes(net: SplineNetwork, inputs: Tensor, operators: list[str]) -> Codes:
    return net.codes(DataLoader(TensorDataset(inputs), batch_size=BATCH), operators)


def _title(record: OperatorRecord) -> str:
    """The operator's name, with its kind where the name does not tell it: ``2 (relu)``."""
    return record.name if record.kind in record.name else f"{record.name} ({record.kind})"


def _distances(queries: Codes, searched: Codes, titles: Mapping[str, str]) -> dict[str, Tensor]:
    """Code distances (queries, searched) of each operator, and their mean where there are several."""
    found = {title: code_distance(queries[name], searched[name]) for name, title in titles.items()}
    return found if len(found) == 1 else found | {MEAN: code_distance(queries, searched)}


def _nearest(distance: Tensor, count: int) -> Tensor:
    """Columns of the smallest distances of each row, the first of equals first."""
    return distance.argsort(dim=1, stable=True)[:, :count]


def _share(distance: Tensor, labels: Tensor, wanted: Tensor, count: int) -> float:
    return float((labels[_nearest(distance, count)] == wanted[:, None]).double().mean())


def _chance(labels: Tensor, wanted: Tensor) -> float:
    classes = int(max(labels.max(), wanted.max())) + 1
    frequencies = torch.bincount(labels, minlength=classes).double() / len(labels)
    return float(frequencies[wanted].mean())


def _query(
    row: int,
    index: int,
    distances: Mapping[str, Tensor],
    encoded: Tensor,
    test: Tensor,
    data: DataSet,
    count: int,
) -> Neighbourhood:
    label = int(data.test.labels[index])
    layers = []
    for name, distance in distances.items():
        places = _nearest(distance[row : row + 1], count)[0].tolist()
        layers.append((name, tuple(_neighbour(int(encoded[p]), float(distance[row, p]), label, data) for p in places)))
    return Neighbourhood(index, test[index].cpu().double().numpy(), data.class_names[label], tuple(layers))


def _neighbour(index: int, distance: float, label: int, data: DataSet) -> Neighbour:
    own = int(data.train.labels[index])
    return Neighbour(index, data.class_names[own], own == label, distance)
