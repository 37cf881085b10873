"""The mean of A[x] along a line, without a backward pass through the whole network for every piece.

What is asked of a value depends only on the pieces of the operators after it. So where the network passes through a
single value, the line has fewer pieces for what follows than for what came before; each part of the network is pulled
back once for each piece of its own. And what comes before the first operator with pieces is one map all along, so the
mean is taken before it, and goes through it once.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import BatchAxis, Dependence, Graph, Linearization, fuse
from maxaffine._partition.lines.partition import LinePartition
from maxaffine._partition.lines.track import Track
from maxaffine._progress import progress_bar

BLOCK_BYTES = 16 * 2**20  # of the largest cotangent that is held at once
ROWS = 8  # outputs that are asked for together, however large the network
SMALL = 2**18  # entries of a matrix that multiplies faster than the operators that it stands for


@dataclass(frozen=True)
class Part:
    """A part of a graph, from its inputs or a single value on up to a single value."""

    graph: Graph
    operators: int  # how many operators with pieces come before it
    matrix: Tensor | None = None  # (out, in) of a small part that is the same map everywhere

    def axis(self, number: int) -> BatchAxis:
        """Where a value keeps its samples."""
        return self.graph.values[number].batch or BatchAxis()

    def some(self, tensors: list[Tensor], kept: Tensor) -> list[Tensor]:
        """Some samples of its inputs."""
        pairs = ((self.graph.values[n], x) for n, x in zip(self.graph.inputs, tensors, strict=True))
        return [value.from_rows(value.to_rows(x)[kept]) for value, x in pairs]

    def pull(self, local: Linearization, asked: Tensor) -> dict[int, Tensor]:
        """What its inputs are asked for, (R, N, *units) each, by what its output is, (R, N, *units)."""
        (number,) = self.graph.outputs
        if self.matrix is not None:
            (entry,) = self.graph.inputs
            rows = asked.flatten(2) @ self.matrix
            return {entry: rows.view(*asked.shape[:2], *self.graph.values[entry].units)}
        pulled = local.pull([self.axis(number).from_front(asked, local.outputs[0].shape, lead=1)])
        return {n: self.axis(n).to_front(pulled[n], lead=1) for n in self.graph.inputs if n in pulled}

    def with_matrix(self, inputs: list[Tensor], rows: int) -> "Part":
        """The part with its matrix, from one sample of its inputs, where that is small and pays for so many rows."""
        values, ends = self.graph.values, (*self.graph.inputs, *self.graph.outputs)
        sizes = [prod(values[n].units) for n in ends]
        steps = self.graph.steps
        moving = {values[n].dependence for step in steps for n in step.inputs}
        fixed = moving <= {Dependence.AFFINE, Dependence.CONSTANT} and not any(step.piecewise for step in steps)
        if not fixed or len(ends) != 2 or not 0 < prod(sizes) <= SMALL or rows < 2 * sizes[1]:
            return self
        asked = torch.eye(sizes[1], dtype=torch.float64, device=inputs[0].device).view(-1, 1, *values[ends[1]].units)
        (found,) = self.pull(Linearization(self.graph, inputs), asked).values()
        return replace(self, matrix=found.flatten(1))


def parts_of(graph: Graph, whole: bool) -> tuple[Part | None, list[Part]]:
    """What comes before the first operator with pieces, and what follows: in parts, unless it must be whole."""
    pieces = [step.piecewise for step in graph.steps]
    first = pieces.index(True) if True in pieces else len(pieces)
    ahead: list[tuple[int, int]] = []  # the place of a step, and the single value that all steps from it on read
    later: list[tuple[int, int]] = []
    for place, number in [] if whole else _passages(graph):
        if place <= first:
            ahead = [(place, number)]
        elif pieces[place - 1] != pieces[place]:
            later.append((place, number))  # a part begins where operators with pieces begin or end
    starts = [(0, list(graph.inputs)), *((place, [number]) for place, number in ahead + later)]
    ends = [number for _, number in ahead + later] + [graph.outputs[0]]
    found = [
        Part(fuse(graph.part([end], inputs if place else None)), sum(pieces[:place]))
        for (place, inputs), end in zip(starts, ends, strict=True)
    ]
    return (found[0], found[1:]) if ahead else (None, found)


def _passages(graph: Graph) -> list[tuple[int, int]]:
    """Steps before which a single value is known that moves and is read from there on, and its number."""
    last_use = {number: place for place, step in enumerate(graph.steps) for number in step.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.steps))
    live, found = set(graph.inputs), []
    for place, step in enumerate(graph.steps[:-1]):
        live |= {n for n in step.outputs if n is not None and graph.values[n].dependence is not Dependence.CONSTANT}
        live = {number for number in live if last_use.get(number, -1) > place}
        if len(live) == 1 and graph.values[number := next(iter(live))].dependence is Dependence.AFFINE:
            found.append((place + 1, number))
    return found


def mean_slopes(line: LinePartition, progress: bool | None) -> list[Tensor]:
    """The mean of A along the line, (*out, *in) per floating-point input."""
    graph, target = line.target.graph, line.target
    before, parts = parts_of(graph, whole=not Track(graph).continuous)
    count = prod(graph.values[target.number].units)
    wanted = torch.arange(count) if target.outputs is None else target.outputs % max(1, count)
    entry = max(part.graph.largest_value() for part in parts) * 8
    values = list(target.segment.points(line.middles[:1]))
    values = values if before is None else before.graph.run(values)
    for place, part in enumerate(parts):
        parts[place] = part.with_matrix(values, line.pieces * len(wanted))
        values = part.graph.run(values)
    found: list[list[Tensor]] = []
    with torch.no_grad(), progress_bar(progress, "gradients", total=line.pieces * len(wanted), unit="row") as bar:
        for some in slices(len(wanted), max(ROWS, BLOCK_BYTES // entry)):
            rows = torch.zeros(len(wanted[some]), count, dtype=torch.float64, device=line.breakpoints.device)
            rows[torch.arange(len(rows)), wanted[some].to(rows.device)] = 1
            rows = rows.view(len(rows), *graph.values[target.number].units)
            total: dict[int, Tensor] = {}
            for block in slices(line.pieces, max(1, BLOCK_BYTES // (entry * max(1, len(rows))))):
                for number, item in _block(line, before, parts, block, rows).items():
                    total[number] = total[number] + item if number in total else item
                bar.update(len(rows) * (block.stop - block.start))
            if before is not None:
                local = Linearization(before.graph, target.segment.points(line.middles[:1]))
                asked = total[before.graph.outputs[0]].unsqueeze(1)
                total = {n: item[:, 0] for n, item in before.pull(local, asked).items()}
            found.append(_by_input(line, total, len(rows)))
    found.append(_by_input(line, {}, 0))  # so that no rows are rows, too
    items = [torch.cat(parts) for parts in zip(*found, strict=True)]
    return [item.view(*target.out_shape, *item.shape[1:]) for item in items]


def _by_input(line: LinePartition, total: dict[int, Tensor], rows: int) -> list[Tensor]:
    """Rows for each floating-point input of the network, zeros where nothing depends on it."""
    pairs = zip(line.target.graph.inputs, line.target.segment.inputs, strict=True)
    still = ((n, a.squeeze(dim)) for n, (a, _, dim) in pairs if a.is_floating_point())
    return [total[n] if n in total else a.new_zeros(rows, *a.shape) for n, a in still]


def _block(
    line: LinePartition, before: Part | None, parts: list[Part], block: slice, rows: Tensor
) -> dict[int, Tensor]:
    """Over neighboring pieces, the sum of length times what rows of the output ask of the first part's inputs."""
    lengths, last = line.lengths[block], line.crossings.last_operators(line.pieces)[block][1:]
    values = list(line.target.segment.points(line.middles[block]))
    values = values if before is None else before.graph.run(values)
    # For each part the number of its own piece in which a piece lies, those that stand for its own, and its maps there.
    owner, kept, maps = [], [torch.arange(len(lengths), device=lengths.device)], []
    for part in parts:
        # A piece of the line begins one of the part where an operator in it, or after it, changes.
        owner.append(torch.cat([last.new_zeros(1), (last >= part.operators).cumsum(0)]))
        kept.append(_longest(lengths, owner[-1]))
        values = part.some(values, torch.searchsorted(kept[-2], kept[-1]))
        maps.append(Linearization(part.graph, values))
        values = maps[-1].outputs
    asked = rows.unsqueeze(1).expand(-1, len(kept[-1]), *rows.shape[1:])
    fronts: dict[int, Tensor] = {}
    for place in reversed(range(len(parts))):
        fronts = parts[place].pull(maps[place], asked)
        if place:
            (asked,) = fronts.values()
        if place and parts[place].operators != parts[place - 1].operators:
            asked = asked[:, owner[place][kept[place]]]
    weights = lengths.new_zeros(len(kept[1])).index_add_(0, owner[0], lengths)
    return {n: (weights @ item.unsqueeze(2).flatten(2)).view(len(rows), *item.shape[2:]) for n, item in fronts.items()}


def _longest(lengths: Tensor, owner: Tensor) -> Tensor:
    """The longest piece of every group of neighbors: its codes are the surest, and it is so in any larger group too."""
    longest = lengths.new_zeros(int(owner[-1]) + 1).scatter_reduce(0, owner, lengths, "amax")
    found = torch.nonzero(lengths == longest[owner])[:, 0]
    first = torch.ones_like(found, dtype=torch.bool)
    first[1:] = owner[found[1:]] != owner[found[:-1]]
    return found[first]
