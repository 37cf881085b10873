"""How far samples are from the boundaries of single units: in the input space, or where the unit's layer lives.

A unit of an activation changes its piece where its pre-activation z passes a knot. On the region of a sample z is
affine, so that boundary lies on a hyperplane, at the distance |z - knot| / |gradient of z|. Taken with respect to what
the unit's layer reads, the outputs of the operators with pieces before it, the gradient is the same for all samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._drawing import Spread, Tabular, spread_axes
from maxaffine._graph import Dependence, Graph, Knots, Step, as_rows, as_tuple, undisturbed
from maxaffine._maps import AffineMap
from maxaffine._partition.inputs import as_double
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPACES = ("input", "layer")
CHUNK = 2**24  # numbers of the slopes that are built at once: 128 MiB
FLAT = 1e-13  # a gradient this short, relative to the longest of its operator, is rounding: there is no boundary
SHOWN = 0.95  # share of the distances that the histograms resolve; those above are counted at the end
PANELS = 6


@dataclass(frozen=True, eq=False, repr=False)
class BoundaryDistances(Tabular):
    """Distances of samples to the boundaries of units; from :func:`boundary_distances`.

    Attributes:
        signed: (N, *units) by operator, positive on the upper side of the nearest knot; infinite where a unit has no
            boundary, because its pre-activation is constant.
        space: ``"input"`` or ``"layer"``.
        complete: False when Ctrl-C ended it early, with the samples measured so far.
    """

    signed: dict[str, Tensor]
    space: str
    complete: bool = True

    @property
    def distances(self) -> dict[str, Tensor]:
        """(N, *units) by operator, without their sign."""
        return {name: item.abs() for name, item in self.signed.items()}

    @property
    def nearest(self) -> Tensor:
        """(N,) to the nearest boundary of all these units, in the input space."""
        if self.space != "input":
            raise BadInput('space: layers are spaces of their own; measure with space="input"')
        return torch.stack([as_rows(item).amin(1) for item in self.distances.values()]).amin(0)

    @property
    def centering(self) -> dict[str, float]:
        """Var d / mean d^2 of the signed distances d by operator, averaged over channels: 1 where batch-norm puts them.

        Channels lie along the first axis of the units, as batch-norm has them. Moved along its normal, a channel's
        boundary makes the sum of d^2 over samples and positions least where the mean of d is 0, which the batch mean
        does (exactly so without padding, which shortens the normals at the edge). What is learned after it, the shift
        of batch-norm, moves the boundary away again. NaN where there is one number per channel.

        Raises:
            BadInput: For distances in the input space, where normals turn from sample to sample.
        """
        if self.space != "layer":
            raise BadInput('space: a boundary moves along its normal in the space of its layer; use space="layer"')
        found = {}
        for name, item in self.signed.items():
            channels = item.unsqueeze(-1).movedim(1, 0).flatten(1) if item.dim() > 1 else item[None]
            whole = channels.square().mean(1)
            share = channels.var(1, correction=0) / whole
            told = whole.isfinite() & (whole > 0) & (channels.shape[1] > 1)  # a single number has no spread
            found[name] = float(share[told].mean())
        return found

    def plot(
        self,
        ax: Axes | None = None,
        *,
        other: BoundaryDistances | None = None,
        labels: tuple[str, str] = ("these", "other"),
        size: float | None = None,
    ) -> Axes:
        """Draw the histogram of the distances for every operator (of more than six, six of them), of two networks.

        Args:
            ax: What to draw in; None makes a figure of pyplot.
            other: Those of another network, or of the same at another moment, operator by operator in order.
            labels: What the legend calls these and the other ones.
            size: Width of a new figure in inches; by default what its panels take.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            BadInput: When the other ones are of another space or of another number of operators.
            MaxAffineError: When matplotlib is absent.
        """
        both = [self] if other is None else [self, other]
        if {(item.space, len(item.signed)) for item in both} != {(self.space, len(self.signed))}:
            raise BadInput("other: it is of another space or another number of operators; choose them by operators=")
        rows = list(zip(*(item.distances.items() for item in both), strict=True))
        shown = np.linspace(0, len(rows) - 1, min(PANELS, len(rows))).round().astype(int)
        panels = [_panel(rows[place], labels) for place in shown]
        where = "in the input space" if self.space == "input" else "in the space of the layer"
        return spread_axes(ax, panels, "", f"distances of samples to the boundaries of units, {where}", size)

    def to_dict(self) -> dict[str, Any]:
        """Every signed distance by operator, as plain numbers, and the space."""
        return {"space": self.space, "signed": {name: item.tolist() for name, item in self.signed.items()}}

    def __len__(self) -> int:
        return len(next(iter(self.signed.values())))

    def _title(self) -> str:
        ended = "" if self.complete else " (interrupted)"
        return f"BoundaryDistances of {len(self)} samples{ended}, {self.space} space"

    def _table(self) -> list[tuple[str, ...]]:
        centering = self.centering if self.space == "layer" else {}
        last = ("centering",) if centering else ()
        rows: list[tuple[str, ...]] = [("operator", "units", "median", "nearest unit, mean", *last)]
        for name, item in self.distances.items():
            numbers = [float(item.median()), float(as_rows(item).amin(1).mean())]
            numbers += [centering[name]] if last else []
            rows.append((name, str(item[0].numel()), *(f"{number:.4g}" for number in numbers)))
        return rows


def _panel(row: Sequence[tuple[str, Tensor]], labels: Sequence[str]) -> Spread:
    """The histograms of one operator."""
    series = {label: item.flatten().cpu().numpy() for label, (_, item) in zip(labels, row, strict=False)}
    together = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    end = float(np.quantile(together, SHOWN)) if len(together) else 1.0
    names = list(dict.fromkeys(name for name, _ in row))
    return Spread(" / ".join(names), "distance", series, None, (0.0, end), "share of samples and units")


def boundary_distances(
    net: SplineNetwork,
    x: Any,
    *,
    space: str = "input",
    operators: Sequence[str] | None = None,
    progress: bool | None = None,
) -> BoundaryDistances:
    """Measure how far samples are from the boundary of every unit of the activations (ReLU and its like).

    |z - knot| / |gradient of z|, z the pre-activation, of the nearest knot

    ``space="input"`` takes the gradient with respect to the network's input: the distance to the hyperplane on which
    the boundary lies as long as x's region reaches so far. It is the distance to the boundary itself for the first
    activation, and for the nearest of all units (``nearest`` of what is returned) in any network without other
    operators with pieces. ``space="layer"`` takes it with respect to what the unit's layer reads, |<w, u> + b| / |w|:
    there a boundary is one hyperplane for all samples, and the batch mean of a batch-norm places it so that the sum of
    its squared distances to the samples is least. Distances of one layer to another, or of two networks, compare in the
    input space alone. Everything is computed in float64.

    Args:
        net: The network. Max-pooling and other operators that select have no boundary of this kind: ``region`` has
            theirs.
        x: Samples, as at capture (also in float64).
        space: ``"input"`` or ``"layer"``.
        operators: Names of the activations; all by default.
        progress: Whether to show a bar; by default when it takes over two seconds.

    Returns:
        The distances. After Ctrl-C, those of the samples measured so far.

    Raises:
        BadInput: For bad inputs, an unknown space or operator, or a network without activations.
        NotPiecewiseAffine: For a smooth network, which has no boundaries.

    Example:
        >>> import maxaffine as ma
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.tensor([[3.0, 4.0]])), model[0].bias.fill_(-5.0)
        >>> net = ma.capture(model, torch.zeros(1, 2))
        >>> ma.partition.boundary_distances(net, torch.tensor([[0.0, 0.0], [3.0, 4.0]])).signed["1"]
        tensor([[-1.],
                [ 4.]], dtype=torch.float64)

    Source: Balestriero and Baraniuk, "Batch Normalization Explained" (arXiv 2209.14778), theorem 1.
    """
    if space not in SPACES:
        raise BadInput(f"space: expected one of {SPACES}, got {space!r}")
    tensors = as_double(net, x, "x")
    net = net.double()
    return _measure(net, tensors, _activations(net, operators), space, progress)


def _measure(
    net: SplineNetwork, tensors: Sequence[Tensor], steps: Sequence[Step], space: str, progress: bool | None
) -> BoundaryDistances:
    """Measure the samples block by block; Ctrl-C ends it with those measured so far."""
    fixed: list[Tensor | None] = [None] * len(steps)
    if space == "layer":
        bar = progress_bar(progress, "normals", iterable=steps, unit="operator")
        fixed = [_layer_lengths(net.graph, step, tensors[0].device) for step in bar]
    parts: list[list[Tensor]] = []
    complete = True
    try:
        for inputs in _blocks(net, tensors, steps, space, progress):
            parts.append(_signed(net.graph, steps, inputs, fixed))
    except KeyboardInterrupt:
        if not parts:
            raise
        complete = False
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return BoundaryDistances(dict(zip((step.records[0].name for step in steps), columns, strict=True)), space, complete)


def _activations(net: SplineNetwork, operators: Sequence[str] | None) -> list[Step]:
    """The steps of the operators that compare each entry with knots."""
    found = {
        step.records[0].name: step
        for step in net.graph.steps
        if step.records and isinstance(step.operator.boundaries(), Knots)
    }
    if not found:
        raise BadInput("net: it has no activation that compares entries with numbers; partition.region has the others")
    names = list(found) if operators is None else list(operators)
    if unknown := [name for name in names if name not in found]:
        raise BadInput(f"operators: {unknown} are not among the activations {list(found)}")
    if not names:
        raise BadInput("operators: the list is empty; name at least one, or leave it out")
    return [found[name] for name in dict.fromkeys(names)]


def _blocks(
    net: SplineNetwork, tensors: Sequence[Tensor], steps: Sequence[Step], space: str, progress: bool | None
) -> Iterator[list[Tensor]]:
    """The samples in blocks that leave room for the slopes of a step."""
    count, values = tensors[0].shape[net.inputs.batch_dims[0]], net.graph.values
    units = max(prod(values[step.inputs[0]].units) for step in steps)
    features = sum(map(prod, net.inputs.units))
    room = units * features if space == "input" else net.graph.largest_value()
    pieces = list(slices(count, CHUNK // max(1, room)))
    for piece in progress_bar(progress, "boundary distances", iterable=pieces, unit="block"):
        yield [
            item.narrow(dim, piece.start, piece.stop - piece.start)
            for item, dim in zip(tensors, net.inputs.batch_dims, strict=True)
        ]


def _signed(
    graph: Graph, steps: Sequence[Step], inputs: Sequence[Tensor], fixed: Sequence[Tensor | None]
) -> list[Tensor]:
    """The signed distances (n, *units) of some samples, operator by operator."""
    numbers = [step.inputs[0] for step in steps]
    with undisturbed(inputs[0].device):
        values = graph.part(numbers).run(inputs)
    found = []
    for number, step, value, lengths in zip(numbers, steps, values, fixed, strict=True):
        z = graph.values[number].to_rows(value)
        lengths = _lengths(AffineMap(graph.part([number]), inputs)) if lengths is None else lengths
        boundaries: Any = step.operator.boundaries()
        beyond = torch.stack([z - knot for knot in boundaries.knots])
        nearest = beyond.gather(0, beyond.abs().argmin(0, keepdim=True))[0]
        still = lengths <= FLAT * lengths.max()
        signed = torch.where(still, torch.copysign(torch.full_like(z, math.inf), nearest), nearest / lengths)
        found.append(signed.reshape(len(z), *graph.values[number].units))
    return found


def _layer_lengths(graph: Graph, step: Step, device: torch.device) -> Tensor:
    """The lengths (1, units) of the normals of a step's boundaries, in the space of what its layer reads."""
    number = step.inputs[0]
    starts = _layer_inputs(graph, number)
    # The map is the same everywhere, so it is taken at zero.
    zeros = [torch.zeros(1, prod(graph.values[n].units), dtype=torch.float64, device=device) for n in starts]
    inputs = [graph.values[n].from_rows(row) for n, row in zip(starts, zeros, strict=True)]
    return _lengths(AffineMap(graph.part([number], starts), inputs))


def _layer_inputs(graph: Graph, number: int) -> list[int]:
    """What a value is an affine function of: inputs of the network, and outputs of operators with pieces."""
    made = {n: step for step in graph.steps for n in step.outputs if n is not None}
    found, stack = set(), [number]
    while stack:
        current = stack.pop()
        step = made.get(current)
        # A step that reads an index or a mask is another affine map wherever that changes.
        if step is None or any(record.pieces > 1 for record in step.records) or _reads_region(graph, step):
            found.add(current)
        else:
            stack.extend(n for n in step.inputs if graph.values[n].dependence is Dependence.AFFINE)
    return sorted(found)


def _reads_region(graph: Graph, step: Step) -> bool:
    return any(graph.values[n].dependence is Dependence.REGION for n in step.inputs)


def _lengths(affine_map: AffineMap) -> Tensor:
    """The lengths (N, units) of the rows of A."""
    size = affine_map.batch * prod(affine_map.units) * sum(map(prod, affine_map.in_shapes))
    if size <= CHUNK:  # built in the way that takes least
        whole = [item.reshape(affine_map.batch, prod(affine_map.units), -1) for item in as_tuple(affine_map.slopes)]
        return torch.cat(whole, 2).norm(dim=2)
    blocks = (torch.stack([item.flatten(2).norm(dim=2) for item in block]) for block in affine_map.rows())
    return torch.cat([block.norm(dim=0) for block in blocks], 1)
