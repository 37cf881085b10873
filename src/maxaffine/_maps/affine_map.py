"""AffineMap: the one affine map that a network is at each input of a batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._drawing import Panel, panel_axes
from maxaffine._graph import BatchAxis, Dependence, Graph, Linearization, all_finite, as_tuple, refuse_overflow
from maxaffine.errors import BadInput, MaxAffineError, ShapeMismatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

CHUNK_BYTES = 4 * 2**20
# The blocks of the batch leave room for this many rows, so that what is done per sample is shared by them.
ROWS_PER_SAMPLE = 4
# A held gate stays while all rows pass, and is made of values as large: in blocks where it weighs this much, peaks are
# half of PyTorch's own and times alike (benchmarks, "Slopes of smooth networks").
GATE_WEIGHT = 1.5
STEP_BYTES = 2**14  # with less for each step a block is all overhead, as of a recurrent network's many small gates
RESULT_CHUNKS = 16


class AffineMap:
    """f(x) = A[x] x + b[x] at each x of a batch.

    ``slopes`` A (N, *out, *in) and ``offsets`` b (N, *out) are computed on first use; ``amap @ v``, ``amap.T @ u`` and
    calling the map never build A. Within x's region of the partition the map is the network itself (Mad Max,
    Balestriero and Baraniuk 2018, eq. 7 and section 3.1).

    Args:
        graph: The frozen graph with one output; fused pairs make it faster (`fuse`).
        inputs: One tensor per graph input, as the network takes them.
        outputs: Flat numbers of the units of one sample's output to keep; all by default.
        chunk_bytes: About how large one intermediate tensor may be, with the gates that are held beside it; the batch
            and the rows of A are cut to fit.
        names: Names of the inputs, where points may be given as a dict.

    Raises:
        BadInput: When the output does not depend on the input, or ``outputs`` names a unit that does not exist.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Tensor],
        outputs: Sequence[int] | Tensor | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        names: Sequence[str] = (),
    ) -> None:
        self._graph = graph
        self._names = tuple(names)
        self._together = False
        self._inputs = tuple(inputs)
        self._chunk_bytes = chunk_bytes
        self._batch = axis_of(graph, graph.inputs[0])
        self._number = graph.outputs[0]
        value = graph.values[self._number]
        if value.batch is None:
            raise BadInput("until: this output does not depend on the input; name one that does")
        self.units = value.units
        self._rows = None if outputs is None else _check_outputs(outputs, prod(value.units)).to(inputs[0].device)
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
        return self._chosen(torch.cat([block.value for block in self._blocks()]))

    @cached_property
    def offsets(self) -> Tensor:
        """b[x], (N, *out): the operators' offsets pushed through what follows them."""
        return self._push(_origin(self._inputs), offset=True)

    @cached_property
    def slopes(self) -> Tensor | tuple[Tensor, ...]:
        """A[x], (N, *out, *in); one tensor per floating-point input where there are several."""
        like = self._inputs[0]
        size = self.batch * prod(self.out_shape) * sum(map(prod, self.in_shapes)) * like.element_size()
        shapes = [(self.batch, *self.out_shape, *shape) for shape in self.in_shapes]
        if size > (memory(like.device) or size):
            raise _too_large(shapes, size, like.device)
        try:
            return self._build()
        except (MemoryError, RuntimeError) as error:
            if not _is_shortage(error):
                raise
            raise _too_large(shapes, size, like.device) from error

    def prepare(self) -> None:
        """Build slopes and offsets in one pass over the blocks of the batch, which otherwise are made for each."""
        self._together = True
        _ = self.slopes

    def rows(self) -> Iterator[tuple[Tensor, ...]]:
        """The rows of A in blocks that fit in memory: per floating-point input a tensor (N, rows, *in)."""
        per_row = self.batch * sum(prod(shape) for shape in self.in_shapes) * self._inputs[0].element_size()
        for part in self._wanted.split(max(1, RESULT_CHUNKS * self._chunk_bytes // max(per_row, 1))):
            yield self._rows_of(part)

    def mv(self, v: Any) -> Tensor:
        """A v, without A.

        Args:
            v: One direction per input of the batch, given as the network's input(s).

        Returns:
            (N, *out).

        Raises:
            BadInput: When ``v`` is not a tensor per input.
            ShapeMismatch: When ``v`` has another shape than the inputs.
        """
        return self._push(self._like_inputs(v, "v"), offset=False)

    def __call__(self, x: Any) -> Tensor:
        """A x + b at other points, the map held fixed.

        Args:
            x: One point per input of the batch, given as the network's input(s).

        Returns:
            (N, *out): the network's output wherever the point lies in the same region.

        Raises:
            BadInput: When ``x`` is not a tensor per input.
            ShapeMismatch: When ``x`` has another shape than the inputs.
        """
        return self._push(self._like_inputs(x, "x"), offset=True)

    def rmv(self, u: Any) -> Tensor | tuple[Tensor, ...]:
        """A^T u, without A.

        Args:
            u: (N, *out), one weight per output.

        Returns:
            (N, *in); one tensor per floating-point input where there are several.

        Raises:
            BadInput: When ``u`` is not a tensor.
            ShapeMismatch: When ``u`` is not of shape (N, *out).
        """
        if not isinstance(u, Tensor):
            raise BadInput(f"u: expected a torch.Tensor, got {type(u).__name__}; use torch.as_tensor")
        if u.shape != (self.batch, *self.out_shape):
            raise ShapeMismatch(f"u: shape {tuple(u.shape)}, expected {(self.batch, *self.out_shape)}")
        # Outputs that are not kept weigh nothing.
        full = self._scatter(u.to(self.value).reshape(self.batch, -1))
        pairs = zip(self._blocks(), full.split(self._samples_at_once), strict=True)
        parts = [block.pull(part[None]) for block, part in pairs]
        joined = tuple(torch.cat([item[:, 0] for item in items]) for items in zip(*parts, strict=True))
        return joined[0] if len(joined) == 1 else joined

    def __matmul__(self, v: Any) -> Tensor:
        """A v, as :meth:`mv`."""
        return self.mv(v)

    @property
    def T(self) -> Transposed:
        """The transposed map: ``amap.T @ u`` is A^T u, as :meth:`rmv`."""
        return Transposed(self)

    def to_scipy(self, sample: int = 0) -> Any:
        r"""A[x] at one sample as a linear operator of SciPy, for ``svds``, ``lsqr`` and the like; A is never built.

        All floating-point inputs, flattened one after another, are its vector, and the outputs, flattened, its result.

        Args:
            sample: Number of the sample.

        Returns:
            A :class:`scipy.sparse.linalg.LinearOperator` of shape (numbers in one output, numbers in one input). It
            takes and gives float64, computed in the network's dtype.

        Raises:
            BadInput: When there is no such sample.
            MaxAffineError: When SciPy is absent.

        >>> import torch, maxaffine as ma
        >>> from scipy.sparse.linalg import svds
        >>> layer = torch.nn.Linear(6, 4).double()
        >>> amap = ma.capture(layer, torch.zeros(1, 6).double()).affine_map(torch.zeros(1, 6).double())
        >>> largest = svds(amap.to_scipy(), k=1, return_singular_vectors=False)
        >>> bool(abs(largest[0] - torch.linalg.matrix_norm(layer.weight, 2).item()) < 1e-9)
        True
        """
        sample = self._sample(sample)
        try:
            from scipy.sparse.linalg import LinearOperator
        except ImportError as error:
            raise MaxAffineError("to_scipy needs scipy, which is absent; pip install 'maxaffine[partition]'") from error
        axes = [axis_of(self._graph, number) for number in self._graph.inputs]
        pairs = zip(self._inputs, axes, strict=True)
        inputs = [item.narrow(axis.dim, sample, 1) for item, axis in pairs]
        # A map of this sample alone, so that a product costs one sample's pass and not the batch's.
        alone = AffineMap(self._graph, inputs, self._rows, self._chunk_bytes, self._names)
        like = [(axis, item) for axis, item in zip(axes, inputs, strict=True) if item.is_floating_point()]
        sizes = [item.numel() for _, item in like]

        def matvec(v: np.ndarray) -> np.ndarray:
            parts = torch.as_tensor(v).reshape(-1).split(sizes)
            fronts = [part.reshape(1, *shape) for part, shape in zip(parts, alone.in_shapes, strict=True)]
            given = [axis.from_front(f, item.shape) for f, (axis, item) in zip(fronts, like, strict=True)]
            return alone.mv(given).reshape(-1).double().numpy(force=True)

        def rmatvec(u: np.ndarray) -> np.ndarray:
            found = as_tuple(alone.rmv(torch.as_tensor(u).reshape(1, *alone.out_shape)))
            return torch.cat([part.reshape(-1).double() for part in found]).numpy(force=True)

        shape = (prod(alone.out_shape), sum(sizes))
        operator: Any = LinearOperator  # whose constructor chooses a class by what it is given
        return operator(shape, matvec=matvec, rmatvec=rmatvec, dtype=np.float64)

    def plot(
        self,
        sample: int = 0,
        units: Sequence[int] | None = None,
        input: int = 0,
        ax: Axes | None = None,
        *,
        share: float = 0.995,
        cmap: str | Colormap | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw one input beside rows of A[x], as signed maps: what outputs are matched against. A is never built.

        Args:
            sample: Number of the sample.
            units: Places of the outputs among those kept; the first three by default.
            input: Which floating-point input, where there are several.
            ax: What to draw in; None makes a figure of pyplot.
            share: Share of all values that lie within its colors, so that a few steep ones do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red, for pictures.
            size: Width of a new figure in inches; by default what its panels take.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            BadInput: When there is no such sample, output or input, or the input has no plain picture.
            MaxAffineError: When matplotlib is absent.
        """
        sample, count = self._sample(sample), prod(self.out_shape)
        places = range(min(3, count)) if units is None else _check_outputs(units, count).tolist()
        if not 0 <= input < len(self._floating):
            raise BadInput(f"input: {input} is not one of the {len(self._floating)} floating-point inputs")
        number = self._floating[input]
        x = axis_of(self._graph, number).to_front(self._inputs[self._graph.inputs.index(number)])[sample]
        row = [Panel(x.double().numpy(force=True), f"input x\n(sample {sample})", "input")]
        for place in places:
            # One row of A at one sample is one pull, A^T e.
            one_hot = torch.zeros(self.batch, count)
            one_hot[sample, place] = 1
            slopes = as_tuple(self.rmv(one_hot.reshape(self.batch, *self.out_shape)))[input][sample]
            row.append(Panel(slopes.double().numpy(force=True), f"output {place}"))
        return panel_axes(ax, [row], share, cmap=cmap, size=size)

    def _sample(self, sample: int) -> int:
        """A sample counted from either end, as one from the beginning."""
        if not -self.batch <= sample < self.batch:
            raise BadInput(f"sample: {sample} is not one of the {self.batch} samples; the first is 0")
        return sample % self.batch

    def offset_contributions(self) -> OffsetContributions:
        """The exact split of b over the operators that have an offset (a bias, a batch-norm shift, a clipped piece).

        Returns:
            A mapping from operator name to its contribution (N, *out), in running order; its ``sum()`` is b.
        """
        pieces: dict[str, list[Tensor]] = {}
        for block in self._blocks() if len(self._wanted) else ():
            found: dict[str, list[Tensor]] = {}
            for part in self._wanted.split(self._rows_at_once(len(self._wanted))):
                for name, rows in block.contributions(part).items():
                    found.setdefault(name, []).append(rows)
            for name, rows in found.items():
                pieces.setdefault(name, []).append(torch.cat(rows).T.reshape(-1, *self.out_shape))
        return OffsetContributions({n: torch.cat(p) for n, p in pieces.items()}, torch.zeros_like(self.value))

    def _build(self) -> Tensor | tuple[Tensor, ...]:
        """All of A: row by row, or column by column where there are far fewer inputs than outputs."""
        # A row costs a pull and a column a push, each about one pass over the network.
        if len(self._floating) == 1 and len(self._wanted) > 2 * prod(self.in_shapes[0]):
            return self._columns()
        whole = self._rows_of(self._wanted)
        shaped = tuple(item.reshape(self.batch, *self.out_shape, *item.shape[2:]) for item in whole)
        return shaped[0] if len(shaped) == 1 else shaped

    @property
    def _wanted(self) -> Tensor:
        return torch.arange(prod(self.units)) if self._rows is None else self._rows

    @cached_property
    def _samples_at_once(self) -> int:
        """As many samples as leave room for some rows, in blocks of equal size."""
        rows = ROWS_PER_SAMPLE * self._per_row
        room = max(self._chunk_bytes, STEP_BYTES * len(self._graph.steps))
        return _even(self.batch, min(self._chunk_bytes / rows, room / (rows + self._gates)))

    def _rows_at_once(self, count: int) -> int:
        """As many rows as fit beside the samples, in blocks of equal size."""
        samples, gates = self._samples_at_once, self._samples_at_once * self._gates
        # Where the gates leave little, rows may take as much as they do: passing fewer would cost time and save little.
        room = min(self._chunk_bytes, max(self._chunk_bytes - gates, gates / GATE_WEIGHT))
        return _even(count, room / (samples * self._per_row))

    @cached_property
    def _per_row(self) -> int:
        """Bytes of the largest value of one sample."""
        return self._graph.largest_value() * self._inputs[0].element_size()

    @cached_property
    def _gates(self) -> float:
        """Bytes that count for what one sample's local maps hold."""
        return GATE_WEIGHT * self._graph.gates() * self._inputs[0].element_size()

    def _blocks(self) -> Iterator[_Block]:
        """The batch block by block; a single block is kept, several are made anew on each pass."""
        if self._samples_at_once >= self.batch:
            yield self._only
            return
        for number, part in enumerate(self._split(self._inputs)):
            yield self._block(part, number * self._samples_at_once)

    @cached_property
    def _only(self) -> _Block:
        return self._block(self._inputs, 0)

    def _block(self, inputs: Sequence[Tensor], first: int) -> _Block:
        """The block that begins with sample ``first``; where an operator overflows there is none."""
        block = _Block(self._graph, inputs)
        if not all_finite(block.value):
            refuse_overflow(self._graph, inputs, first)
        return block

    def _split(self, items: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        axes = [axis_of(self._graph, number) for number in self._graph.inputs]
        step = self._samples_at_once
        return zip(*(item.split(step, axis.dim) for item, axis in zip(items, axes, strict=True)), strict=True)

    def _rows_of(self, wanted: Tensor) -> tuple[Tensor, ...]:
        """The wanted rows of A: per floating-point input a tensor (N, rows, *in)."""
        if not len(wanted):
            return tuple(self.value.new_zeros(self.batch, 0, *shape) for shape in self.in_shapes)
        step, whole, offsets = self._rows_at_once(len(wanted)), (), []
        for block, samples in zip(self._blocks(), slices(self.batch, self._samples_at_once), strict=True):
            for part in slices(len(wanted), step):
                rows = tuple(block.rows(wanted[part]))
                if block.batch == self.batch and step >= len(wanted):
                    return rows
                # Filled block by block: joined at the end, all blocks and the whole would be in memory together.
                whole = whole or tuple(item.new_empty(self.batch, len(wanted), *item.shape[2:]) for item in rows)
                for item, own in zip(whole, rows, strict=True):
                    item[samples, part] = own
            if self._together:
                offsets.append(block.push(_origin(block.inputs), offset=True))
        if offsets:
            vars(self)["offsets"] = self._chosen(torch.cat(offsets))
        return whole

    def _columns(self) -> Tensor:
        """A column by column, by A e_d: less work than row by row where there are fewer inputs than outputs."""
        number, shape = self._floating[0], self.in_shapes[0]
        place, axis = self._graph.inputs.index(number), axis_of(self._graph, number)
        points, columns = list(self._inputs), [self.value.new_zeros(self.batch, *self.out_shape, 0)]
        for unit in torch.eye(prod(shape), dtype=points[place].dtype, device=points[place].device):
            front = unit.repeat(self.batch, 1).reshape(self.batch, *shape)
            points[place] = axis.from_front(front, self._inputs[place].shape)
            columns.append(self._push(points, offset=False).unsqueeze(-1))
        return torch.cat(columns, -1).reshape(self.batch, *self.out_shape, *shape)

    def _push(self, points: Sequence[Tensor], offset: bool) -> Tensor:
        pairs = zip(self._blocks(), self._split(points), strict=True)
        return self._chosen(torch.cat([block.push(part, offset) for block, part in pairs]))

    def _like_inputs(self, given: Any, name: str) -> list[Tensor]:
        if isinstance(given, dict) and set(given) == set(self._names):
            given = [given[key] for key in self._names]
        items = [given] if isinstance(given, Tensor) else list(given) if isinstance(given, list | tuple) else []
        if not items or not all(isinstance(item, Tensor) for item in items):
            keys = f" or a dict with the keys {list(self._names)}" if self._names else ""
            raise BadInput(f"{name}: expected a tensor for each input{keys}, got {type(given).__name__}")
        if len(items) == len(self._floating) < len(self._inputs):
            supply = iter(items)
            items = [next(supply) if item.is_floating_point() else item for item in self._inputs]
        if [item.shape for item in items] != [item.shape for item in self._inputs]:
            shapes = [tuple(item.shape) for item in items]
            raise ShapeMismatch(f"{name}: shapes {shapes}, expected {[tuple(i.shape) for i in self._inputs]}")
        return [item.to(like) for item, like in zip(items, self._inputs, strict=True)]

    def _chosen(self, front: Tensor) -> Tensor:
        return front if self._rows is None else front.reshape(len(front), -1).index_select(1, self._rows)

    def _scatter(self, flat: Tensor) -> Tensor:
        if self._rows is None:
            return flat
        full = flat.new_zeros(flat.shape[0], prod(self.units))
        return full.index_add_(1, self._rows, flat)

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(shape)) for shape in self.in_shapes)
        return f"AffineMap(batch={self.batch}, in={shapes}, out={self.out_shape}, {self._inputs[0].dtype})"


class OffsetContributions(dict[str, Tensor]):
    """b[x] = sum over operators l of (what follows l at x) b_l, by operator name.

    Adding up all contributions gives the offsets b[x] exactly, up to rounding (Mad Max, Balestriero and Baraniuk
    2018, section 3.1).

    Args:
        parts: Operator name to its contribution (N, *out).
        zero: A zero of shape (N, *out), the sum where no operator has an offset.
    """

    def __init__(self, parts: dict[str, Tensor], zero: Tensor) -> None:
        super().__init__(parts)
        self._zero = zero

    def sum(self) -> Tensor:
        """The offsets b[x], (N, *out)."""
        # Not added in place: a part is of another type where the output is true or false.
        return sum(self.values(), start=self._zero.clone())

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name}: mean |b| {part.abs().mean():.4g}" for name, part in self.items())
        return f"OffsetContributions({len(self)} operators)\n{rows}"


class Transposed:
    """The transposed matrix A^T of an affine map, never built: ``amap.T @ u``; ``amap.T.T`` is the map itself."""

    def __init__(self, amap: AffineMap) -> None:
        self.T = amap

    def __matmul__(self, u: Any) -> Tensor | tuple[Tensor, ...]:
        """A^T u, as :meth:`AffineMap.rmv`."""
        return self.T.rmv(u)

    def __repr__(self) -> str:
        return f"{self.T!r}.T"


def _check_outputs(outputs: Sequence[int] | Tensor, count: int) -> Tensor:
    try:
        chosen = torch.as_tensor(outputs)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.empty(0)
    if chosen.dim() != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool or not len(chosen):
        raise BadInput(f"outputs: expected a non-empty list of unit numbers, got {outputs!r}")
    chosen = chosen.long()
    if int(chosen.min()) < 0 or int(chosen.max()) >= count:
        raise BadInput(f"outputs: unit numbers must lie in 0..{count - 1}, got {chosen.tolist()}")
    return chosen


def _even(count: int, most: float) -> int:
    """The size of equal blocks, none above the most (but one), in which a number is cut."""
    return ceil(count / ceil(count / max(1, min(count, int(most))))) if count else 1


def memory(device: torch.device) -> int | None:
    """Bytes that the device has in all, where it says so."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if device.type == "cpu" else None
    except (AttributeError, ValueError, OSError):  # not everywhere
        return None


def _too_large(shapes: list[tuple[int, ...]], size: int, device: torch.device) -> BadInput:
    """The error that slopes do not fit."""
    named = " and ".join(map(str, shapes))
    return BadInput(
        f"slopes: A of shape {named} takes {size} bytes ({size / 2**30:,.1f} GiB), more than there is on {device}; take"
        " its rows in blocks from rows(), keep some outputs with outputs=, or ask for A v and A^T u alone with mv()"
        " and rmv()"
    )


def _is_shortage(error: BaseException) -> bool:
    """Whether an error is one of too little memory, which torch raises under several names."""
    names = ("can't allocate memory", "out of memory", "not enough memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(name in str(error) for name in names)


def axis_of(graph: Graph, number: int) -> BatchAxis:
    """Where a value keeps its samples."""
    return graph.values[number].batch or BatchAxis()


def _origin(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Zero, from where what arrives at the output is what the operators have added on the way: b."""
    return [torch.zeros_like(item) if item.is_floating_point() else item for item in inputs]


class _Block:
    """The affine map of a graph with one output at some inputs."""

    def __init__(self, graph: Graph, inputs: Sequence[Tensor]) -> None:
        self.inputs = inputs
        self._graph = graph
        self._local = Linearization(graph, inputs)
        self._axis = axis_of(graph, graph.outputs[0])
        self._units = graph.values[graph.outputs[0]].units

    @property
    def value(self) -> Tensor:
        """The output (N, *units)."""
        return self._axis.to_front(self._local.outputs[0])

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.value.shape[0]

    def push(self, points: Sequence[Tensor], offset: bool) -> Tensor:
        """A v, or A v + b, (N, *units)."""
        return self._axis.to_front(self._local.push(points, offset)[0])

    def pull(self, front: Tensor) -> list[Tensor]:
        """A^T u for rows of weights (rows, N, all units): per floating-point input a tensor (N, rows, *in)."""
        pulled = self._local.pull([self._cotangent(front)])
        found = []
        for number in self._graph.inputs:
            value = self._graph.values[number]
            if number in pulled:
                found.append(axis_of(self._graph, number).to_front(pulled[number], lead=1).transpose(0, 1))
            elif value.dependence is Dependence.AFFINE:
                found.append(self.value.new_zeros(self.batch, len(front), *value.units))
        return found

    def rows(self, wanted: Tensor) -> list[Tensor]:
        """The rows of A for the wanted units, as :meth:`pull` gives them."""
        return self.pull(self._one_hot(wanted))

    def contributions(self, wanted: Tensor) -> dict[str, Tensor]:
        """What each operator's offset adds to the wanted units, (rows, N)."""
        return self._local.contributions([self._cotangent(self._one_hot(wanted))])

    def _one_hot(self, wanted: Tensor) -> Tensor:
        front = self.value.new_zeros(len(wanted), 1, prod(self._units))
        front[torch.arange(len(wanted)), 0, wanted] = 1
        return front.expand(-1, self.batch, -1)

    def _cotangent(self, front: Tensor) -> Tensor:
        shaped = front.reshape(*front.shape[:2], *self._units)
        return self._axis.from_front(shaped, self._local.outputs[0].shape, lead=1)
