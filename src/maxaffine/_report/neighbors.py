"""The nearest training inputs of some test inputs, in the code distance of each operator."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from maxaffine._codes import Codes
from maxaffine._data import DataSet
from maxaffine._report.facts import Choices, LeftOut, Neighbor, Neighborhood, Neighborhoods
from maxaffine._report.subject import Subject, spread_evenly, title_of
from maxaffine._search import Neighbors, neighbors
from maxaffine.errors import BadInput

BLOCK = 256
# Inputs are nearly equal up to this share of the typical distance of two training inputs, or less where chance brings
# some of them that near: in so many cases. It is told from some of them among at most so many numbers.
NEARLY, CHANCE, SAMPLED, HELD = 0.1, 0.05, 400, 2**24
INPUT = "the input itself"
MEAN = "mean of these"
AFFINE = "The network has no piecewise-affine operator, so it treats all inputs alike: one affine map for all of them."


@dataclass(frozen=True)
class Searched:
    """The training inputs that are searched."""

    numbers: Tensor  # (N,) in the training set
    codes: Codes
    titles: Mapping[str, str]  # what to call the operators that are looked at
    available: int  # piecewise-affine operators in all
    left_out: tuple[str, ...] = ()  # what to call those that never switch on the searched inputs


def searched_inputs(subject: Subject, choices: Choices) -> Searched | LeftOut:
    """Encode the training inputs that are searched, or say why there is nothing to search by."""
    available = {record.name: record for record in subject.net.operators if record.pieces > 1}
    if not available:
        return LeftOut(AFFINE)
    names = list(available)
    if choices.operators is None:
        chosen = [names[i] for i in spread_evenly(len(names), choices.layers).tolist()]
    else:
        chosen = list(choices.operators)
        if unknown := [name for name in chosen if name not in available]:
            raise BadInput(f"operators: {unknown} are not piecewise-affine operators here; there are {names}")
    numbers = spread_evenly(len(subject.train), choices.train_limit)
    codes = _encode(subject, subject.train[numbers], chosen)
    # An operator that gives all of them one code is at distance 0 from each: it would only dilute the mean.
    never = [name for name in chosen if name in codes.unswitched]
    titles = {name: title_of(available[name]) for name in chosen if name not in never}
    left_out = tuple(title_of(available[name]) for name in never)
    if not titles:
        return LeftOut(
            f"Nothing ever switches at {', '.join(left_out)} on the {len(numbers):,} training inputs that were"
            " searched, so none of them is nearer than another."
        )
    switching = Codes({name: codes[name] for name in titles}, codes.batch, codes.metadata)
    return Searched(numbers, switching, titles, len(available), left_out)


def neighbors_among(searched: Searched, subject: Subject, chosen: Sequence[int], choices: Choices) -> Neighborhoods:
    """Find the nearest training inputs in d_l(x, x') = share of the units of operator l with different codes."""
    # The partition distance of Balestriero and Baraniuk, "A Spline Theory of Deep Networks" (ICML 2018). Probes and
    # chosen inputs are encoded and searched in one go, the probes first.
    data, test = subject.data, subject.test
    count = min(choices.neighbors, len(searched.numbers))
    probes = spread_evenly(len(test), choices.probes)
    asked = _encode(subject, test[torch.cat([probes, torch.tensor(list(chosen), dtype=torch.int64)])], searched.titles)
    found = neighbors(subject.net, asked, searched.codes, count, list(searched.titles))
    by_layer = {title: found[name] for name, title in searched.titles.items()}
    by_layer |= {MEAN: found.mean} if len(by_layer) > 1 else {}
    labels, wanted = data.train.labels[searched.numbers], data.test.labels[probes]
    queries = tuple(
        _query(len(probes) + row, index, by_layer, searched.numbers, subject) for row, index in enumerate(chosen)
    )
    nearest: dict[str, Tensor] = {}
    if subject.labeled:
        nearest = {INPUT: _nearest_pixels(test[probes], subject.train[searched.numbers], count)}
        nearest |= {title: near.ids[: len(probes)] for title, near in by_layer.items()}
    shown = {near.index for query in queries for _, layer in query.layers for near in layer}
    return Neighborhoods(
        operators=tuple(searched.titles),
        available=searched.available,
        encoded=len(searched.numbers),
        count=count,
        probes=len(probes),
        shares=_shares(nearest, labels, wanted),
        chance=_chance(labels, wanted),
        together=int((found.mean.distances[: len(probes), 0] == 0).sum()),
        twins=_twins(found.mean, searched.numbers, probes, data),
        queries=queries,
        inputs={index: subject.picture_of(subject.train[index]) for index in sorted(shown)},
        left_out=searched.left_out,
    )


def _encode(subject: Subject, inputs: Tensor, operators: Sequence[str] | Mapping[str, str]) -> Codes:
    loader = DataLoader(TensorDataset(inputs), batch_size=subject.at_once)
    return subject.net.codes(loader, list(operators))


def _shares(nearest: Mapping[str, Tensor], labels: Tensor, wanted: Tensor) -> tuple[tuple[str, float], ...]:
    """How many of the nearest have the class of the query."""
    return tuple((title, float((labels[ids] == wanted[:, None]).double().mean())) for title, ids in nearest.items())


def _twins(mean: Neighbors, numbers: Tensor, probes: Tensor, data: DataSet) -> tuple[tuple[int, int], ...]:
    """Test and training inputs that are equal, or nearly so and with one region almost to themselves."""
    # Reversed, so that of equal training inputs the first one is named.
    training = zip(fingerprints(data.train.inputs[numbers]), numbers.tolist(), strict=True)
    equal = dict(reversed(list(training)))
    scale = typical_distance(data.train.inputs[numbers])
    limit = nearly_equal(data.train.inputs[numbers], scale)
    pairs = []
    for row, (probe, own) in enumerate(zip(probes.tolist(), fingerprints(data.test.inputs[probes]), strict=True)):
        # Zero is a shared region at every operator; where the farthest of the K found shares it too, there may be many.
        distances = mean.distances[row]
        if own in equal:
            pairs.append((probe, equal[own]))
        elif distances[0] == 0 < distances[-1]:
            # A region may be large: only inputs that are close in it may be copies.
            near = int(numbers[mean.ids[row, 0]])
            if float(apart(data.test.inputs[[probe]], data.train.inputs[[near]], scale)) <= limit:
                pairs.append((probe, near))
    return tuple(pairs)


def typical_distance(inputs: Tensor) -> Tensor:
    """What to divide a difference of inputs by, entry by entry, so that its norm is 1 for two drawn at random."""
    # E |x - x'|^2 = 2 (E |x|^2 - |E x|^2), twice the sum of the variances. The columns of a table have units of their
    # own, so that each is measured by its own spread.
    variances = inputs.flatten(1).var(0, correction=0).double()
    scale = (2 * (len(variances) * variances if inputs.dim() == 2 else variances.sum().expand_as(variances))).sqrt()
    # Where all inputs are equal, they are not apart.
    return torch.where(scale > 0, scale, 1.0)


def nearly_equal(inputs: Tensor, scale: Tensor) -> float:
    """Up to which share of the typical distance inputs are nearly equal, rather than near by chance."""
    # In d dimensions an input has others within r in a number that grows as r^d. How far the 5th and the 10th nearest
    # are says d, and so within which r so few of all pairs are to be expected: small where columns are few.
    # Copies, of which an input has fewer, change neither.
    among = inputs[spread_evenly(len(inputs), HELD // scale.numel())].double().flatten(1) / scale
    if len(among) < 20:
        return NEARLY
    distances = torch.cdist(among[spread_evenly(len(among), SAMPLED)], among).sort(1).values
    near, far = distances[:, [5, 10]].median(0).values.tolist()  # the first is an input itself
    if not 0 < near < far:
        return min(NEARLY, near)
    dimensions = math.log(2) / math.log(far / near)
    pairs_within_near = 5 * len(inputs) ** 2 / (2 * len(among))
    return min(NEARLY, near * (CHANCE / pairs_within_near) ** (1 / dimensions))


def apart(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """How far inputs (N, *shape) are from others, one by one, as a share of the typical distance."""
    return ((first.double() - second.double()).flatten(1) / scale).norm(dim=1)


def fingerprints(inputs: Tensor) -> list[bytes]:
    """What tells inputs (N, *shape) apart: equal for inputs that are equal number by number."""
    # Adding 0 makes -0 and 0 the same bytes.
    return [hashlib.sha256((one + 0.0).cpu().contiguous().numpy().tobytes()).digest() for one in inputs]


def _nearest_pixels(probes: Tensor, inputs: Tensor, count: int) -> Tensor:
    """The nearest inputs in Euclidean distance, in float64 for a few inputs at a time."""
    # A stable sort of all: of two equally near ones the first, as in the search by codes.
    flat = probes.double().flatten(1)
    parts = [torch.cdist(flat, part.double().flatten(1)).cpu() for part in inputs.split(BLOCK)]
    return torch.cat(parts, dim=1).argsort(dim=1, stable=True)[:, :count]


def _chance(labels: Tensor, wanted: Tensor) -> float:
    """How often an input drawn at random has the class of a query."""
    classes = int(max(labels.max(), wanted.max())) + 1
    frequencies = torch.bincount(labels, minlength=classes).double() / len(labels)
    return float(frequencies[wanted].mean())


def _query(row: int, index: int, found: Mapping[str, Neighbors], numbers: Tensor, subject: Subject) -> Neighborhood:
    names, label, train = subject.data.class_names, int(subject.data.test.labels[index]), subject.data.train
    layers = []
    for title, near in found.items():
        nearest = numbers[near.ids[row]]
        labels = subject.data.train.labels[nearest].tolist()
        rows = zip(nearest.tolist(), labels, near.distances[row].tolist(), strict=True)
        called = (
            Neighbor(number, subject.targets_in_words(train, number) or names[own], own == label, far)
            for number, own, far in rows
        )
        layers.append((title, tuple(called)))
    called = subject.targets_in_words(subject.data.test, index) or names[label]
    return Neighborhood(index, subject.picture_of(subject.test[index]), called, tuple(layers))
