"""AffineMap: the one affine map that a network is at each input of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from maxaffine.errors import BadInput, ShapeMismatch
from maxaffine.graph import BatchAxis, Dependence, Graph, Linearization
from maxaffine.maps.offsets import OffsetContributions

CHUNK_BYTES = 16 * 2**20


class AffineMap:
    """f(x) = A[x] x + b[x] at each x of a batch.

    ``slopes`` A (N, *out, *in) and ``offsets`` b (N, *out) are computed on first use; ``mv``, ``rmv`` and calling the
    map never build A. Within x's region of the partition the map is the network itself (Mad Max, Balestriero
    and Baraniuk 2018, eq. 7 and section 3.1).

    Args:
        graph: The frozen graph with one output.
        inputs: One tensor per graph input, as the network takes them.
        outputs: Flat numbers of the units of one sample's output to keep; all by default.
        chunk_bytes: About how large one intermediate tensor may be; the batch and the rows of A are cut to fit.

    Raises:
        BadInput: When the output does not depend on the input, or ``outputs`` names a unit that does not exist.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Tensor],
        outputs: Sequence[int] | Tensor | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._graph = graph.folded()
        self._inputs = tuple(inputs)
        self._chunk_bytes = chunk_bytes
        self._batch = _axis(graph, graph.inputs[0])
        self._number = graph.outputs[0]
        value = graph.values[self._number]
        if value.batch is None:
            raise BadInput("until: this output does not depend on the input; name one that does")
        self.units = value.units
        self._rows = None if outputs is None else _checked_outputs(outputs, prod(value.units)).to(inputs[0].device)
        self._floating = [n for n in graph.inputs if graph.values[n].dependence is Dependence.AFFINE]

    @property
    def batch(self) -> int:
        """Number of inputs N."""
        return self._batch.to_front(self._inputs[0]).shape[0]

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one sample's output: the units, or (number of chosen outputs,)."""
        return self.units if self._rows is None else (len(self._rows),)

    @property
    def in_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample of every floating-point input."""
        return tuple(self._graph.values[number].units for number in self._floating)

    @cached_property
    def value(self) -> Tensor:
        """The network's own output f(x), (N, *out)."""
        return self._chosen(torch.cat([self._to_front(block.outputs[0]) for block in self._blocks]))

    @cached_property
    def offsets(self) -> Tensor:
        """b[x], (N, *out): the operators' offsets pushed through what follows them."""
        zeros = [torch.zeros_like(item) if item.is_floating_point() else item for item in self._inputs]
        return self._push(zeros, offset=True)

    @cached_property
    def slopes(self) -> Tensor | tuple[Tensor, ...]:
        """A[x], (N, *out, *in); one tensor per floating-point input where there are several."""
        count = prod(self.out_shape)
        wanted = torch.arange(count) if self._rows is None else self._rows
        step = self._row_block(count)
        like = self._blocks[0].outputs[0]
        whole = [like.new_empty((self.batch, count, *shape)) for shape in self.in_shapes]
        first = 0
        for block in self._blocks:
            for start in range(0, count, step):
                for item, part in zip(whole, self._row_part(block, wanted[start : start + step]), strict=True):
                    item[first : first + len(part), start : start + step] = part
            first += len(self._to_front(block.outputs[0]))
        shaped = tuple(item.reshape(self.batch, *self.out_shape, *item.shape[2:]) for item in whole)
        return shaped[0] if len(shaped) == 1 else shaped

    def rows(self) -> Iterator[tuple[Tensor, ...]]:
        """The rows of A in blocks that fit in memory: per floating-point input a tensor (N, rows, *in)."""
        wanted = torch.arange(prod(self.units)) if self._rows is None else self._rows
        step = self._row_block(len(wanted))
        for start in range(0, len(wanted), step):
            parts = [self._row_part(block, wanted[start : start + step]) for block in self._blocks]
            yield tuple(torch.cat(items) for items in zip(*parts, strict=True))

    def mv(self, v: Tensor | Sequence[Tensor]) -> Tensor:
        """A v, without A.

        Args:
            v: One direction per input of the batch, shaped as the network's input(s).

        Returns:
            (N, *out).

        Raises:
            ShapeMismatch: When ``v`` has another shape than the inputs.
        """
        return self._push(self._like_inputs(v, "v"), offset=False)

    def __call__(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """A x + b at other points, the map held fixed.

        Args:
            x: One point per input of the batch, shaped as the network's input(s).

        Returns:
            (N, *out): the network's output wherever the point lies in the same region.

        Raises:
            ShapeMismatch: When ``x`` has another shape than the inputs.
        """
        return self._push(self._like_inputs(x, "x"), offset=True)

    def rmv(self, u: Tensor) -> Tensor | tuple[Tensor, ...]:
        """A^T u, without A.

        Args:
            u: (N, *out), one weight per output.

        Returns:
            (N, *in); one tensor per floating-point input where there are several.

        Raises:
            ShapeMismatch: When ``u`` is not of shape (N, *out).
        """
        if u.shape != (self.batch, *self.out_shape):
            raise ShapeMismatch(f"u: shape {tuple(u.shape)}, expected {(self.batch, *self.out_shape)}")
        full = self._scattered(u.to(self._inputs[0]).flatten(1) if self.out_shape else u.unsqueeze(1))
        parts, start = [], 0
        for block in self._blocks:
            count = self._to_front(block.outputs[0]).shape[0]
            parts.append(self._pull(block, full[None, start : start + count]))
            start += count
        joined = tuple(torch.cat([item[:, 0] for item in items]) for items in zip(*parts, strict=True))
        return joined[0] if len(joined) == 1 else joined

    def offset_contributions(self) -> OffsetContributions:
        """The exact split of b over the operators that have an offset (a bias, a batch-norm shift, a clipped piece).

        Returns:
            A mapping from operator name to its contribution (N, *out), in running order; its ``sum()`` is b.
        """
        wanted = torch.arange(prod(self.units)) if self._rows is None else self._rows
        step = self._row_block(len(wanted))
        pieces: dict[str, list[Tensor]] = {}
        for block in self._blocks:
            found: dict[str, list[Tensor]] = {}
            for start in range(0, len(wanted), step):
                cotangent = self._unit_rows(block, wanted[start : start + step])
                for name, part in block.contributions([cotangent]).items():
                    found.setdefault(name, []).append(part)
            for name, parts in found.items():
                pieces.setdefault(name, []).append(torch.cat(parts).T.reshape(-1, *self.out_shape))
        return OffsetContributions({n: torch.cat(p) for n, p in pieces.items()}, torch.zeros_like(self.value))

    @cached_property
    def _blocks(self) -> list[Linearization]:
        per_sample = self._graph.largest_value() * self._inputs[0].element_size()
        rows = min(prod(self.out_shape), 16)
        step = max(1, self._chunk_bytes // (per_sample * max(rows, 1)))
        axes = [_axis(self._graph, number) for number in self._graph.inputs]
        pieces = [item.split(step, axis.dim) for item, axis in zip(self._inputs, axes, strict=True)]
        return [Linearization(self._graph, part) for part in zip(*pieces, strict=True)]

    def _row_block(self, count: int) -> int:
        widest = max(self._to_front(block.outputs[0]).shape[0] for block in self._blocks)
        per_row = self._graph.largest_value() * self._inputs[0].element_size() * widest
        return max(1, min(count, self._chunk_bytes // max(per_row, 1)))

    def _row_part(self, block: Linearization, wanted: Tensor) -> list[Tensor]:
        cotangent = self._unit_rows(block, wanted)
        pulled = block.pull([cotangent])
        return self._gathered(block, pulled, len(wanted))

    def _unit_rows(self, block: Linearization, wanted: Tensor) -> Tensor:
        """One-hot cotangents (rows, *output value): row r picks unit wanted[r] of every sample."""
        like = block.outputs[0]
        count = self._to_front(like).shape[0]
        front = torch.zeros(len(wanted), prod(self.units), dtype=like.dtype, device=like.device)
        front[torch.arange(len(wanted)), wanted] = 1
        front = front.unsqueeze(1).expand(-1, count, -1).reshape(len(wanted), count, *self.units)
        return self._axis_of_output.from_front(front, like.shape, lead=1)

    def _pull(self, block: Linearization, front: Tensor) -> list[Tensor]:
        like = block.outputs[0]
        shaped = front.reshape(*front.shape[:2], *self.units)
        pulled = block.pull([self._axis_of_output.from_front(shaped, like.shape, lead=1)])
        return self._gathered(block, pulled, front.shape[0])

    def _gathered(self, block: Linearization, pulled: dict[int, Tensor], rows: int) -> list[Tensor]:
        """Input cotangents as (N, rows, *in); zero where no path leads to an input."""
        count = self._to_front(block.outputs[0]).shape[0]
        found = []
        for number in self._floating:
            if number in pulled:
                found.append(_axis(self._graph, number).to_front(pulled[number], lead=1).transpose(0, 1))
            else:
                found.append(block.outputs[0].new_zeros(count, rows, *self._graph.values[number].units))
        return found

    def _push(self, points: Sequence[Tensor], offset: bool) -> Tensor:
        axes = [_axis(self._graph, number) for number in self._graph.inputs]
        counts = [self._to_front(block.outputs[0]).shape[0] for block in self._blocks]
        pieces = [item.split(counts, axis.dim) for item, axis in zip(points, axes, strict=True)]
        pairs = zip(self._blocks, zip(*pieces, strict=True), strict=True)
        return self._chosen(torch.cat([self._to_front(block.push(part, offset)[0]) for block, part in pairs]))

    def _like_inputs(self, given: Tensor | Sequence[Tensor], name: str) -> list[Tensor]:
        items = [given] if isinstance(given, Tensor) else list(given)
        if len(items) == len(self._floating) < len(self._inputs):
            supply = iter(items)
            items = [next(supply) if item.is_floating_point() else item for item in self._inputs]
        if [item.shape for item in items] != [item.shape for item in self._inputs]:
            shapes = [tuple(item.shape) for item in items]
            raise ShapeMismatch(f"{name}: shapes {shapes}, expected {[tuple(i.shape) for i in self._inputs]}")
        return [item.to(like) for item, like in zip(items, self._inputs, strict=True)]

    @property
    def _axis_of_output(self) -> BatchAxis:
        return _axis(self._graph, self._number)

    def _to_front(self, output: Tensor) -> Tensor:
        return self._axis_of_output.to_front(output)

    def _chosen(self, front: Tensor) -> Tensor:
        return front if self._rows is None else front.flatten(1).index_select(1, self._rows)

    def _scattered(self, flat: Tensor) -> Tensor:
        if self._rows is None:
            return flat
        full = flat.new_zeros(flat.shape[0], prod(self.units))
        return full.index_add_(1, self._rows, flat)

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(shape)) for shape in self.in_shapes)
        return f"AffineMap(batch={self.batch}, in={shapes}, out={self.out_shape}, {self._inputs[0].dtype})"


def _axis(graph: Graph, number: int) -> BatchAxis:
    return graph.values[number].batch or BatchAxis()


def _checked_outputs(outputs: Sequence[int] | Tensor, count: int) -> Tensor:
    chosen = torch.as_tensor(outputs)
    if chosen.dim() != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool or not len(chosen):
        raise BadInput(f"outputs: expected a non-empty list of unit numbers, got {outputs!r}")
    chosen = chosen.long()
    if int(chosen.min()) < 0 or int(chosen.max()) >= count:
        raise BadInput(f"outputs: unit numbers must lie in 0..{count - 1}, got {chosen.tolist()}")
    return chosen
