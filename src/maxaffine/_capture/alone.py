"""Whether the samples of a batch have together what each of them has alone, and where a module's outputs keep them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._capture.batch import prime
from maxaffine._capture.call import leaves
from maxaffine._capture.export import ONE_SIZE, ONE_SIZE_CURE, Traced, untouched, user_frame
from maxaffine._capture.single import agree, run_traced
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
FEW = (3, 2)
MOST = 64  # numbers in the graph up to which the largest batch is beyond them
MOST_NUMBERS = 2**22  # in the largest batch


def output_axes(
    model: nn.Module, alone: Traced | None, spec: InputSpec, example: tuple[Tensor, ...], where: str
) -> tuple[tuple[BatchAxis, int] | None, ...]:
    """Compare a module with the graph of one of its samples, on the example and on batches of other numbers of samples.

    Args:
        model: The user's module, left as it is.
        alone: The traced graph of one sample; None where there is none, so that the module itself takes its place.
        spec: What the module takes.
        example: The inputs given at capture.
        where: Where the number of samples is fixed, for the message.

    Returns:
        Where each output keeps its samples, and its number of axes; None for an output that is the same for all.

    Raises:
        CaptureError: When they differ, or the module runs for no number of samples but one, or for no single one.
    """
    names = spec.names if spec.keyword else ()
    axes: tuple[tuple[BatchAxis, int] | None, ...] | None = None
    with untouched(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for batch in _batches(alone, spec, example):
            count = batch[0].shape[spec.batch_dims[0]]
            try:
                together = run_on_copies(model, batch, names)
            except FAILURES:
                continue
            singles = _singles(model, alone, samples_of(batch, spec.batch_dims), names, where)
            found = [_axes_of(whole, own) for whole, own in zip(together, zip(*singles, strict=True), strict=True)]
            shared = found if axes is None else [[a for a in own if a == b] for own, b in zip(found, axes, strict=True)]
            if not all(shared):
                raise CaptureError(MIXED.format(where=where, count=count))
            axes = tuple(own[0] for own in shared)
    if axes is None:
        raise CaptureError(ONE_ONLY.format(where=where))
    return axes


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
    """Say of a module that could not be traced with a few samples that it takes the example's number only, if it does.

    Args:
        model: The user's module, left as it is.
        spec: What it takes.
        example: The inputs given at capture.
        few: The samples that it could not be traced with.
        failure: Why not.

    Raises:
        CaptureError: When the module runs on the example and not on those.
    """
    names = spec.names if spec.keyword else ()
    own, count = (items[0].shape[spec.batch_dims[0]] for items in (example, few))
    with untouched(model), torch.no_grad():
        try:
            run_on_copies(model, tuple(item.detach() for item in example), names)
        except FAILURES:
            return
        try:
            run_on_copies(model, few, names)
        except FAILURES as error:
            line = user_frame(error)
            where = f" at {line}" if line else ""
            raise CaptureError(OTHER.format(own=own, count=count, error=first_line(error), where=where)) from failure


def samples_of(batch: Sequence[Tensor], dims: Sequence[int]) -> Iterator[tuple[Tensor, ...]]:
    """Each sample of a batch, as a batch of one."""
    return zip(*(item.split(1, axis) for item, axis in zip(batch, dims, strict=True)), strict=True)


def _batches(alone: Traced | None, spec: InputSpec, example: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Batches of distinct samples, of a few, of more than any small number in the graph; then the example itself."""
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
    if all(agree([together], [one]) for one in singles) and _shape(together) == _shape(singles[0]):
        return [None]
    if not isinstance(together, Tensor) or not isinstance(singles[0], Tensor):
        return []
    count = len(singles)
    found: list[tuple[BatchAxis, int] | None] = []
    for dim, size in enumerate(together.shape):
        rest = size // count if size % count == 0 else 0
        for outer in (number for number in range(1, rest + 1) if rest % number == 0):
            axis = BatchAxis(dim, outer, rest // outer)
            front = axis.to_front(together)
            if front[0].numel() == singles[0].numel() and all(map(_close_to, front, singles)):
                found.append((axis, together.dim()))
    return found


def _close_to(own: Tensor, single: Tensor) -> bool:
    return agree([own], [single])


def _shape(item: Any) -> Any:
    return item.shape if isinstance(item, Tensor) else type(item)
