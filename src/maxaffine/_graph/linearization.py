"""The affine map that a graph is at given inputs: tangents forward, cotangents backward, and its offsets."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor

from maxaffine._graph.contract import LocalMap, Tensors
from maxaffine._graph.graph import BatchAxis, Dependence, Graph, Step

CONSTANT = "constant"  # an output that no slope leads to is all offset, and no operator's


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Compute as captured: without autocast, which rounds, and inference mode, in which derivatives are lost."""
    # Modes cost more than small products, so that work in many parts is done within one and the same.
    if not (torch.is_inference_mode_enabled() or torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)):
        yield
        return
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _recordable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where it was made in inference mode and cannot take part in a derivative."""
    return tensor.clone() if tensor.is_inference() else tensor


class Linearization:
    """f(x) = A[x] x + b[x], matrix-free, of a graph or a part of it at one batch of inputs."""

    # Running the graph once leaves, for each operator, the affine map that it is at this batch (its codes, not its
    # activations). Composing those maps forwards gives A v and b; backwards, A^T u (Mad Max, Balestriero and Baraniuk
    # 2018, section 3: the composition of max-affine spline operators).

    def __init__(self, graph: Graph, inputs: Sequence[Tensor]) -> None:
        self.graph = graph
        self.locals: list[tuple[Step, LocalMap]] = []
        self._device = inputs[0].device
        with undisturbed(self._device):
            inputs = [_recordable(item) for item in inputs]
            values = dict(zip(graph.inputs, inputs, strict=True))
            carried = graph.carriers()
            for step, arguments, value, current in graph.walk(inputs):
                values = current
                if step.active and not carried.isdisjoint(step.outputs):
                    self.locals.append((step, step.operator.local(arguments, value)))
            self.outputs = [values[number] for number in graph.outputs]

    def push(self, tangents: Sequence[Tensor], offset: bool) -> list[Tensor]:
        """A v, or A v + b with ``offset``: one tensor per output, in the layout of the values themselves."""
        # An output that no slope leads to is all offset.
        still = (lambda like: like) if offset else torch.zeros_like
        with undisturbed(self._device):
            values = self._push(tangents, offset)
            pairs = zip(self.graph.outputs, self.outputs, strict=True)
            return [values[number] if number in values else still(like) for number, like in pairs]

    def _push(self, tangents: Sequence[Tensor], offset: bool) -> dict[int, Tensor]:
        """A v, or A v + b, at every value that a slope leads to, by its number."""
        # With offsets the values pushed are those of the network itself, each operator's offset added where it arises;
        # without, those of its linear part.
        values = dict(zip(self.graph.inputs, tangents, strict=True))
        for step, local in self.locals:
            outgoing = local.mv([values[number] for number in _active(step)])
            first = outgoing[0]
            for item in local.offsets() if offset else ():
                first = first if item is None or first is None else first + item
            for number, item in zip(step.outputs, (first, *outgoing[1:]), strict=False):
                if number is not None and item is not None:
                    values[number] = item
        return values

    def pull(self, cotangents: Sequence[Tensor | None]) -> dict[int, Tensor]:
        """A^T u: cotangents (R, *output) to (R, *input), by the number of the graph input."""
        with undisturbed(self._device):
            values = self._start(cotangents)
            for _ in self._backward(values):
                pass
        return values

    def contributions(self, cotangents: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """<u, what follows the operator times its own offset>, (R, N) for every operator that has an offset."""
        parts: dict[str, Tensor] = {}
        with undisturbed(self._device):
            for number, like, item in zip(self.graph.outputs, self.outputs, cotangents, strict=True):
                value = self.graph.values[number]
                if item is not None and value.dependence is not Dependence.AFFINE:
                    parts[CONSTANT] = _inner(item, like, value.batch or BatchAxis())
            # What the cotangents ask of an operator's value, they ask of its offset: b = sum_l (J_l)^T b_l.
            for step, local, incoming in self._backward(self._start(cotangents)):
                batch = self.graph.values[step.result].batch or BatchAxis()
                for record, offset in reversed(list(zip(step.records, local.offsets(), strict=False))):
                    if offset is not None and incoming[0] is not None:
                        parts[record.name] = _inner(incoming[0], offset, batch)
        return dict(reversed(parts.items()))

    def terms(self, tangents: Sequence[Tensor], cotangents: Sequence[Tensor | None], offset: bool) -> Tensor:
        """In whose rounding <u, A v>, or <u, A v + b>, may be off for one row u: the largest |u_l v_l|_2, (N,)."""
        # Over all values l on the way, where v_l is what the tangents give there and u_l what the cotangents ask of it.
        # A step rounds its value by a share of eps, which moves the result by as much of <u_l, v_l>, term by term;
        # roundings that know nothing of each other add up in squares. Terms that cancel later count in full.
        with undisturbed(self._device):
            ahead = self._push(tangents, offset)
            values = self._start(cotangents)
            sizes = []
            for step, _, incoming in self._backward(values):
                sizes += [self._term(*pair, ahead) for pair in zip(step.outputs, incoming, strict=True)]
            sizes += [self._term(*pair, ahead) for pair in values.items()]  # what reached the inputs
        return torch.stack(sizes).amax(0)

    def shares(self, tangents: Sequence[Tensor], rows: Iterable[Sequence[Tensor | None]], number: int) -> Tensor:
        """u_l * v_l at a value l, (R, *value): what each entry adds to <u, A x + b> by all ways that lead on."""
        # Rows are pulled one after the other, for the memory.
        with undisturbed(self._device):
            value = self._push(tangents, offset=True)[number]
            return torch.cat([self._cotangent_at(number, row, value) * value for row in rows])

    def cotangents_at(self, numbers: Iterable[int], cotangents: Sequence[Tensor | None]) -> dict[int, Tensor]:
        """What cotangents of the outputs ask of some values, (R, *value) by number; none of which they ask nothing."""
        found: dict[int, Tensor] = {}
        with undisturbed(self._device):
            values = self._start(cotangents)
            left = set(numbers)
            for step, _, incoming in self._backward(values):
                # Copies: what is asked of a step is overwritten on the way on.
                pairs = zip(step.outputs, incoming, strict=True)
                found.update((number, item.clone()) for number, item in pairs if number in left and item is not None)
                left.difference_update(step.outputs)
                if not left:
                    return found
        return found | {number: values[number] for number in left & values.keys()}

    def _cotangent_at(self, number: int, cotangents: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """The same of one value, zero where nothing is asked of it."""
        found = self.cotangents_at([number], cotangents).get(number)
        return torch.zeros_like(like).unsqueeze(0) if found is None else found

    def _term(self, number: int | None, cotangent: Tensor | None, ahead: dict[int, Tensor]) -> Tensor:
        """The size of u_l v_l for each sample, (N,)."""
        if number is None or cotangent is None or number not in ahead or not ahead[number].is_floating_point():
            number = self.graph.outputs[0]
            front = (self.graph.values[number].batch or BatchAxis()).to_front(self.outputs[0])
            return torch.zeros(len(front), dtype=torch.float64, device=front.device)
        u, v = cotangent.double(), ahead[number].double()
        # a constant of infinity, given to a maximum that it lost, weighs nothing
        product = (self.graph.values[number].batch or BatchAxis()).to_front(torch.where(u == 0, 0, u * v), lead=1)
        return product[0].reshape(product.shape[1], -1).norm(dim=1)

    def _start(self, cotangents: Sequence[Tensor | None]) -> dict[int, Tensor]:
        """Cotangents of the outputs by number: a value that is returned twice is asked twice."""
        values: dict[int, Tensor] = {}
        for number, item in zip(self.graph.outputs, cotangents, strict=True):
            if item is not None:
                item = _recordable(item)
                values[number] = values[number] + item if number in values else item
        return values

    def _backward(self, values: dict[int, Tensor]) -> Iterator[tuple[Step, LocalMap, Tensors]]:
        """Each operator, from the last, with what is asked of its outputs; what reaches inputs is left in values."""
        # When a step's turn comes, all that use its outputs have had theirs, so what they ask of it is complete.
        owned: set[int] = set()  # numbers of cotangents that no one else holds
        for step, local in reversed(self.locals):
            incoming = tuple(None if number is None else values.pop(number, None) for number in step.outputs)
            if all(item is None for item in incoming):
                continue
            yield step, local, incoming
            sole = owned.issuperset(number for number in step.outputs if number is not None)
            outgoing = local.rmv_owned(incoming) if sole else local.rmv(incoming)
            for number, item in zip(_active(step), outgoing, strict=True):
                if item is None:
                    continue
                # A sum is a tensor of its own, and so is what a fresh map returns; else it may be held elsewhere too.
                summed = number in values
                values[number] = values[number] + item if summed else item
                if summed or local.fresh:
                    owned.add(number)
                else:
                    owned.discard(number)


def _active(step: Step) -> tuple[int, ...]:
    return tuple(step.inputs[position] for position in step.active)


def _inner(rows: Tensor, offset: Tensor, batch: BatchAxis) -> Tensor:
    """Per row and sample, the sum of rows (R, *value) times an offset that broadcasts against the value."""
    # Where one offset serves several entries their cotangents are added first, which takes no memory for the product.
    shape = [1] * (rows.dim() - 1 - offset.dim()) + list(offset.shape)
    shared = [axis + 1 for axis, size in enumerate(shape) if size == 1 and axis != batch.dim]
    rows = rows.sum(shared, keepdim=True) if shared else rows
    weighted = rows * offset.to(rows.dtype)
    if offset.isinf().any():  # a constant of minus infinity, given to a maximum that it lost
        weighted = torch.where(rows == 0, 0, weighted)
    front = batch.to_front(weighted, lead=1)
    return front.reshape(*front.shape[:2], prod(front.shape[2:])).sum(-1)
