"""Single samples: whether the samples of a batch have together what each has alone, and where outputs keep them."""

import random
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from maxaffine._capture.batch import prime, splits
from maxaffine._capture.call import leaves
from maxaffine._capture.export import ONE_SIZE, ONE_SIZE_CURE, Traced, untouched, user_frame
from maxaffine._graph import BatchAxis
from maxaffine._network import FAILURES, InputSpec, run_on_copies
from maxaffine.errors import CaptureError, first_line

MIXED = f"model: {{count}} samples together have other outputs than each of them alone, and {ONE_SIZE}. {ONE_SIZE_CURE}"
NO_SINGLE = f"model: {ONE_SIZE}, and no sample can be looked at alone, for it does not run ({{error}}). {ONE_SIZE_CURE}"
ONE_ONLY = f"model: {ONE_SIZE}, and it runs for no other number of samples, to compare with. {ONE_SIZE_CURE}"
OTHER = (
    "model: it runs for the {own} samples of the example, but not for {count} of them ({error}){where}, so samples"
    " cannot be told apart. Cure: write shapes with x.shape[0] or -1 in place of the number, and check that batch_dim="
    " is the axis of the samples"
)
DIFFERENT = (
    "model: it gives a single sample another output than several traced at once, so it has no graph that holds for any"
    " number of samples: a branch on x.shape[0], or Python's own random numbers? Cure: let every number of samples, and"
    " every call, take the same way"
)
NESTED = (
    "model: its nn.TransformerEncoder packs what a padding mask leaves over into nested tensors when no gradient is"
    " asked for, so that padding gives zeros there, and other numbers otherwise. Cure: build it with"
    " enable_nested_tensor=False (or set encoder.use_nested_tensor = False)"
)
ANOTHER = 0x5EED  # random numbers that are not those of the trace
FEW = (3, 2)
MOST = 64  # numbers in the graph up to which the largest batch is beyond them
MOST_NUMBERS = 2**22  # in the largest batch


def output_axes(
    model: nn.Module, alone: Traced | None, spec: InputSpec, example: tuple[Tensor, ...], where: str
) -> tuple[tuple[BatchAxis, int] | None, ...]:
    """Where each output keeps its samples, and its number of axes; None for an output that is the same for all."""
    # A module whose code fixes the number of samples shows nothing of any other: it is run on the example and on
    # batches of other sizes, and each sample must have there what the graph of one sample (or, where there is none, the
    # module) gives it alone. An axis counts if it fits every time.
    names = spec.names if spec.keyword else ()
    axes: tuple[tuple[BatchAxis, int] | None, ...] | None = None
    with untouched(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for batch in _batches(alone, spec, example):
            count = batch[0].shape[spec.batch_dims[0]]
            try:
                together = run_on_copies(model, batch, names)
            except FAILURES:
                continue
            parts = (item.split(1, axis) for item, axis in zip(batch, spec.batch_dims, strict=True))
            singles = _singles(model, alone, zip(*parts, strict=True), names, where)
            found = [_axes_of(whole, own) for whole, own in zip(together, zip(*singles, strict=True), strict=True)]
            shared = found if axes is None else [[a for a in own if a == b] for own, b in zip(found, axes, strict=True)]
            if not all(shared):
                raise CaptureError(MIXED.format(where=where, count=count) + _order_of_axes(model, spec))
            axes = tuple(own[0] for own in shared)
    if axes is None:
        raise CaptureError(ONE_ONLY.format(where=where))
    return axes


def _order_of_axes(model: nn.Module, spec: InputSpec) -> str:
    """A word on recurrent layers that take time before samples, as they do by default, where samples come first."""
    layers = [path for path, part in model.named_modules() if isinstance(part, nn.RNNBase) and not part.batch_first]
    if not layers or spec.batch_dims[0] != 0:
        return ""
    return f". Note that {layers[0]!r} takes time before samples: give it batch_first=True, or capture with batch_dim=1"


def _singles(
    model: nn.Module, alone: Traced | None, samples: Iterable[tuple[Tensor, ...]], names: tuple[str, ...], where: str
) -> list[list[Any]]:
    """The outputs of each sample alone."""
    if alone is not None:
        return [run_traced(alone, one) for one in samples]
    try:
        return [run_on_copies(model, one, names) for one in samples]
    except FAILURES as error:
        raise CaptureError(NO_SINGLE.format(where=where, error=first_line(error))) from error


def check_other_sizes(
    model: nn.Module, spec: InputSpec, example: tuple[Tensor, ...], few: tuple[Tensor, ...], failure: CaptureError
) -> None:
    """Say of a module that no few samples could trace that it takes the example's number only, if it does."""
    names = spec.names if spec.keyword else ()
    own, count = (items[0].shape[spec.batch_dims[0]] for items in (example, few))
    with untouched(model), torch.no_grad():
        try:
            run_on_copies(model, example, names)
        except FAILURES:
            return
        try:
            run_on_copies(model, few, names)
        except FAILURES as error:
            line = user_frame(error)
            where = f" at {line}" if line else ""
            raise CaptureError(OTHER.format(own=own, count=count, error=first_line(error), where=where)) from failure


def _batches(alone: Traced | None, spec: InputSpec, example: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Batches of distinct samples, of a few, of more than any small number in the graph; then the example itself."""
    # What the code does for a number of samples that is written in it, a larger number shows.
    nodes = alone.nodes if alone else ()
    written = [abs(i) for node in nodes for i in leaves([node.args]) if type(i) is int and abs(i) < MOST]
    room = MOST_NUMBERS // max(1, max(prod(units) for units in spec.units))
    many = prime(max([5, *(number + 1 for number in written)]))
    for count in (*FEW, many if many <= room else 5):
        yield tuple(_distinct(item, axis, count) for item, axis in zip(example, spec.batch_dims, strict=True))
    if example[0].shape[spec.batch_dims[0]] > 1:
        yield tuple(example)


def _distinct(example: Tensor, axis: int, count: int) -> Tensor:
    """Samples that differ from each other, near those of the example; integers are taken from it."""
    taken = example.index_select(axis, torch.arange(count, device=example.device) % example.shape[axis])
    if not taken.is_floating_point():
        return taken
    steps = torch.arange(taken.numel(), dtype=torch.float64, device=taken.device).sin().view(taken.shape)
    return taken + (0.1 * (1 + taken.abs().max()) * steps).to(taken.dtype)


def _axes_of(together: Any, singles: Sequence[Any]) -> list[tuple[BatchAxis, int] | None]:
    """Where an output may keep its samples, so that each has what it has alone."""
    if all(_match(together, one) for one in singles) and _shape(together) == _shape(singles[0]):
        return [None]
    if not isinstance(together, Tensor) or not isinstance(singles[0], Tensor):
        return []
    axes = splits(together.shape, len(singles))
    return [(axis, together.dim()) for axis in axes if all(map(_match, axis.to_front(together), singles))]


def _shape(item: Any) -> Any:
    return item.shape if isinstance(item, Tensor) else type(item)


def check_single(model: nn.Module, traced: Traced, sample: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """Refuse a module whose traced graph gives a single sample another output than itself."""
    # The tracer records a guard for any question about the number of samples but one: it takes for granted that there
    # are at least two, so a branch for one sample is not in the graph.
    with untouched(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        random.seed(ANOTHER)
        np.random.seed(ANOTHER)
        try:
            expected = run_on_copies(model, sample, names)
        except FAILURES:  # it takes no single sample, e.g. for a squeeze() that dropped the axis of the samples
            return
        found = run_traced(traced, sample)
        if not agree(found, expected):
            torch.manual_seed(ANOTHER)
            # Random operators come after the outputs that are wanted, or the graph would have been refused.
            if agree(run_traced(traced, sample), found):
                nested = any(getattr(part, "use_nested_tensor", False) for part in model.modules())
                raise CaptureError(NESTED if nested else DIFFERENT)


def run_traced(traced: Traced, inputs: Sequence[Any], kind: type[Interpreter] = Interpreter) -> list[Any]:
    """The outputs of a traced graph."""
    given = {**traced.constants, **dict(zip(traced.inputs, inputs, strict=True))}
    interpreter = kind(traced.module, garbage_collect_values=False)
    placeholders = (given[node.name] for node in traced.nodes if node.op == "placeholder")
    interpreter.run(*placeholders, enable_io_processing=False)
    return [interpreter.env[item] if isinstance(item, Node) else item for item in traced.outputs]


def agree(found: list[Any], expected: list[Any]) -> bool:
    """Whether outputs hold the same numbers but for rounding."""
    return len(found) == len(expected) and all(map(_match, found, expected))


def _match(found: Any, expected: Any) -> bool:
    """Whether they hold the same numbers but for rounding, wherever a squeeze() may have left out the batch."""
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return bool(found == expected)
    if found.numel() != expected.numel():
        return False
    # Rounding may move a number across a kink, and with it a comparison, a place or a count.
    return not found.is_floating_point() or close(found, expected)


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors of as many numbers hold the same but for rounding."""
    if not found.numel():
        return True
    size = expected.abs().max().nan_to_num(0.0, 0.0, 0.0).item()
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * size
    return torch.allclose(found.flatten(), expected.flatten(), rtol=0.0, atol=tolerance, equal_nan=True)
