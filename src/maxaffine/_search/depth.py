"""The nearest inputs at every depth of a network."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from maxaffine._capture import SplineNetwork
from maxaffine._codes import Codes
from maxaffine._drawing import Tabular
from maxaffine._network import timed_recurrences
from maxaffine._search.checks import note_left_out, positive
from maxaffine._search.index import CodeIndex
from maxaffine._search.nearest import Neighbors
from maxaffine.errors import BadInput

# Inputs encoded at once: enough to keep the processor busy, and few enough for the activations of large networks.
BATCH = 256
_SHOWN = 5


class DepthNeighbors(Tabular, dict[str, Neighbors]):
    """The nearest searched inputs of some queries, in the distance of each operator, by its name in running order."""

    def __init__(self, by_operator: Mapping[str, Neighbors], mean: Neighbors, left_out: tuple[str, ...]) -> None:
        super().__init__(by_operator)
        self.mean = mean  # the nearest in the mean of these distances
        self.left_out = left_out  # never switch on the searched inputs: none of these is nearer than another there

    def __missing__(self, name: str) -> Neighbors:
        """Say which operators there are."""
        never = "".join(f"; {note}" for note in note_left_out(self.left_out))
        raise KeyError(f"no operator {name!r}; searched were {list(self)}{never}")

    def _title(self) -> str:
        queries, k = self.mean.ids.shape
        title = f"DepthNeighbors: {queries} queries, the {k} nearest at {len(self)} operators"
        return "\n".join([title, *note_left_out(self.left_out)])

    def _table(self) -> list[tuple[str, ...]]:
        rows = [("query", "operator", "id (distance), nearest first")]
        for query in range(min(_SHOWN, len(self.mean.ids))):
            for name, found in [*self.items(), *([("mean", self.mean)] if len(self) != 1 else [])]:
                near = zip(found.ids[query].tolist(), found.distances[query].tolist(), strict=True)
                rows.append((str(query), name, ", ".join(f"{i} ({d:.3f})" for i, d in list(near)[:_SHOWN])))
        return rows


def neighbors(
    net: SplineNetwork,
    queries: Any,
    searched: Any,
    k: int = 5,
    operators: Sequence[str] | None = None,
    *,
    time: int | None = None,
    axis: int = 0,
    threads: int = 1,
    progress: bool | None = None,
) -> DepthNeighbors:
    """Find which inputs a network treats most alike, at each of its piecewise-affine operators.

    argmin_i d_l(q, x_i)  with  d_l(x, x') = 1 - #{k : q_l(x)_k = q_l(x')_k} / K_l, for every operator l, and their mean

    Args:
        net: The captured network.
        queries: Inputs as the network takes them, a loader of batches, or their `Codes`.
        searched: The inputs to search, e.g. the training set; likewise. For many queries at different times build a
            `CodeIndex` once.
        k: Nearest inputs per query, at most the number of searched inputs.
        operators: Names of the operators to compare at; all by default.
        time: Of sequences: compare what recurrent layers do at this step alone (negative from the end), each layer
            and direction by its operators there.
        axis: The axis of time among the axes of one input, for ``time``.
        threads: Threads that search.
        progress: Whether to show progress bars; by default on a terminal when it takes over two seconds.

    Returns:
        For each operator, and for the mean over them, the positions of the k nearest searched inputs and their
        distances, exact, ties by the earlier input. An operator that never switches on the searched inputs is left out
        of both and named; where none does, there is the mean alone, in which all of them are equally near.

    Raises:
        BadInput: If the network has no piecewise-affine operator, one is unknown or missing in given codes, or k is too
            large; there is no such time step, or no recurrent layer; and as `SplineNetwork.codes` does.

    Example:
        >>> import torch
        >>> from maxaffine import capture
        >>> net = capture(torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.ReLU()), torch.zeros(2, 1))
        >>> x = torch.tensor([[-4.0], [-1.0], [1.0], [4.0]])
        >>> neighbors(net, x[:1] - 1, x, k=1)["1"].ids
        tensor([[0]])

    Source: the nearest neighbors in partition distance of Balestriero and Baraniuk, "A Spline Theory of Deep Networks"
    (ICML 2018).
    """
    if time is not None:
        if operators is not None:
            raise BadInput("operators: time= chooses those of one step; leave one of the two out")
        operators = operators_at(net, time, axis)
    names = [record.name for record in net.operators if record.pieces > 1] if operators is None else list(operators)
    if not names:
        raise BadInput("operators: none to compare at; the network has no piecewise-affine operator, or none was named")
    positive("k", k)
    coded = codes_of(net, queries, names, "queries", progress)
    index = CodeIndex(codes_of(net, searched, names, "searched", progress))
    kept = [name for name in names if name not in index.unswitched]
    by_operator = {name: index.search(coded, k, {name: 1.0}, threads=threads, progress=progress) for name in kept}
    # The mean over one operator is that operator's distance itself.
    mean = by_operator[kept[0]] if len(kept) == 1 else index.search(coded, k, threads=threads, progress=progress)
    return DepthNeighbors(by_operator, mean, index.unswitched)


def operators_at(net: SplineNetwork, time: int, axis: int = 0) -> list[str]:
    """The operators with codes that make the states of recurrent layers at one step of the input's time."""
    layers = [one for one in timed_recurrences(net, axis) if one.timed]
    if not layers:
        raise BadInput(
            "time: no recurrent layer with a state for every step of this axis was found; name operators="
            " instead, or the axis of time with axis="
        )
    count = len(layers[0].states)
    if not -count <= time < count:
        raise BadInput(f"time: {time} is not one of the {count} steps; the first is 0")
    return list(dict.fromkeys(name for one in layers for name in one.operators[time]))


def codes_of(net: SplineNetwork, inputs: Any, names: Sequence[str], argument: str, progress: bool | None) -> Codes:
    """Encode inputs in batches, or take the codes that they are; of these operators alone."""
    if isinstance(inputs, Codes):
        if missing := [name for name in names if name not in inputs]:
            raise BadInput(f"{argument}: codes without the operators {missing}; they have {list(inputs)}")
        return Codes({name: inputs[name] for name in names}, inputs.batch, inputs.metadata)
    if isinstance(inputs, Tensor) and net.inputs.batch_dims[0] == 0 and len(inputs) > BATCH:
        inputs = DataLoader(TensorDataset(inputs), batch_size=BATCH)
    return net.codes(inputs, names, progress)
