"""State: whether one input gives one output, call after call."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maxaffine._capture.export import untouched
from maxaffine._network import FAILURES, PARTS, changed_attributes, copy_module, run_on_copies, same
from maxaffine.errors import CaptureError

ABSENT = object()
CALLS = 8  # of a module that keeps something of its calls
ROUND = 1_153_152_000  # to which numbers that count are moved on: a multiple of 1 to 16, 100, 1000 and 1024
SEED = 0x5EED
CURE = (
    " Cure: make what it keeps an input and an output, set it anew at the start of forward, or leave it out in"
    " evaluation mode"
)


@dataclass(frozen=True)
class Subject:
    """A module that is run again and again from the state it was captured in.

    Attributes:
        model: The module, which stays in that state.
        copies: Whether copies of it are run; else itself, put back afterwards.
        names: Names of its inputs, where it takes them by name.
    """

    model: nn.Module
    copies: bool
    names: tuple[str, ...]

    @contextlib.contextmanager
    def fresh(self) -> Iterator[nn.Module]:
        """The module in its first state."""
        with untouched(self.model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield copy_module(self.model) if self.copies else self.model

    def run(self, module: nn.Module, tensors: tuple[Tensor, ...]) -> list[Any] | Exception:
        """What one call gives, from the same random numbers every time; a call that fails gives the error."""
        random.seed(SEED)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        try:
            leaves = run_on_copies(module, tensors, self.names)
        except FAILURES as error:
            return error
        # What it returns may be state, and change at the next call.
        return [item.detach().clone() if isinstance(item, Tensor) else copy.copy(item) for item in leaves]

    def runs(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether the module runs on these inputs."""
        return not isinstance(self.first(tensors), Exception)

    def first(self, tensors: tuple[Tensor, ...]) -> list[Any] | Exception:
        """What the first call gives."""
        with self.fresh() as module:
            return self.run(module, tensors)


@dataclass(frozen=True)
class Trial:
    """What a module gives when it is called several times.

    Attributes:
        outputs: Of each call; a call that fails gives the error.
        changed: The attributes that have changed since before the first.
    """

    outputs: tuple[Any, ...]
    changed: list[str]


def check_runs(subject: Subject, sample: tuple[Tensor, ...]) -> None:
    """Refuse a module that fails where its trace did not: a matrix that turns out singular.

    Args:
        subject: The module.
        sample: Inputs.

    Raises:
        CaptureError: When it does.
    """
    _require(subject.first(sample))


def _require(output: list[Any] | Exception) -> None:
    if isinstance(output, Exception):
        cause = (str(output).strip().splitlines() or [""])[0]
        raise CaptureError(
            f"model: it failed on the example ({type(output).__name__}: {cause}). Cure: check that model(example) runs"
        ) from output


def check_state(subject: Subject, sample: tuple[Tensor, ...]) -> None:
    """Refuse a module whose output depends on what it keeps of earlier calls.

    It is called on a sample A, on another one B, and twice on A again, and from its first state on B alone: each must
    give the same every time. The second input finds an output that is kept and returned whatever comes. A module in
    which these calls change something is called more often, with numbers that count moved far ahead, for what is done
    every seventh or every hundredth time, or from the thousandth on.

    Args:
        subject: The module.
        sample: Inputs.

    Raises:
        CaptureError: When it does, or when the module fails on the sample.
    """
    other = tuple(_other(item) for item in sample)
    calls = (sample, other, sample, sample)
    first = _trial(subject, calls)
    _require(first.outputs[0])
    alone = _trial(subject, (other,))
    pairs = [(first.outputs[0], later) for later in first.outputs[2:]]
    if isinstance(alone.outputs[0], list):  # else the other input is not one that the module takes
        pairs.append((alone.outputs[0], first.outputs[1]))
    if all(_equal(*pair) for pair in pairs):
        if first.changed and not _stays(subject, sample, first):
            raise CaptureError(_message(first.changed))
        return
    if sample[0].device.type != "cpu" and not first.changed and all(_close(*pair) for pair in pairs):
        return  # an accelerator adds in another order every time
    names = [name for name in first.changed if _equal(_trial(subject, calls, name).outputs[2], first.outputs[0])]
    raise CaptureError(_message(names or first.changed))


def _message(names: list[str]) -> str:
    if names:
        what = f"what it keeps of earlier calls in {', '.join(map(repr, names[:4]))}"
    else:
        what = "something outside of its attributes (the time, a global variable, an iterator?)"
    return f"model: its output depends on {what}, so one input does not give one output.{CURE}"


def _other(item: Tensor) -> Tensor:
    """Another input of the same kind; of whole numbers only the order of the samples may be another."""
    if not item.is_floating_point():
        return item.flip(0)
    places = torch.arange(item.numel(), device=item.device, dtype=torch.float64)
    return item.flip(0) * 0.75 + (places.sin() / 4).reshape(item.shape).to(item.dtype)


def _trial(subject: Subject, calls: tuple[tuple[Tensor, ...], ...], reset: str = "") -> Trial:
    """Call the module from its first state; one attribute may be set back before each call."""
    outputs: list[Any] = []
    with subject.fresh() as module:
        before = copy_module(module)
        for inputs in calls:
            if reset:
                _write(module, reset, _read(copy_module(before), reset))
            outputs.append(subject.run(module, inputs))
        return Trial(tuple(outputs), changed_attributes(before, module))


def _stays(subject: Subject, sample: tuple[Tensor, ...], first: Trial) -> bool:
    """Whether further calls, and calls far ahead, give what the first gave."""
    expected = first.outputs[0]
    with subject.fresh() as module:
        before = copy_module(module)
        if not all(_equal(subject.run(module, sample), expected) for _ in range(CALLS)):
            return False
        for name in first.changed:
            start, now = _read(before, name), _read(module, name)
            if type(start) is not type(now) or isinstance(now, bool) or not isinstance(now, int | float):
                continue
            step = (now - start) // CALLS if isinstance(now, int) else (now - start) / CALLS
            _write(module, name, (ROUND - 2) * step)
            ahead = [subject.run(module, sample) for _ in range(4)]
            # A call that fails had a number that does not count calls.
            if not all(_equal(item, expected) for item in ahead if isinstance(item, list)):
                return False
    return True


def _slot(model: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where an attribute is kept."""
    path, _, own = name.rpartition(".")
    held = vars(model.get_submodule(path))
    return next((held[part] for part in PARTS if own in held.get(part, ())), held), own


def _read(model: nn.Module, name: str) -> Any:
    """An attribute by its dotted name; ABSENT where there is none."""
    held, own = _slot(model, name)
    return held.get(own, ABSENT)


def _write(model: nn.Module, name: str, value: Any) -> None:
    held, own = _slot(model, name)
    if value is ABSENT:
        held.pop(own, None)
    else:
        held[own] = value


def _equal(found: Any, expected: Any) -> bool:
    """Whether two calls gave the same, bit by bit; calls that failed count as different."""
    return isinstance(found, list) and isinstance(expected, list) and same(found, expected)


def _close(found: Any, expected: Any) -> bool:
    """Whether they gave the same but for rounding."""
    if not isinstance(found, list) or not isinstance(expected, list) or len(found) != len(expected):
        return False
    return all(map(_round_off, found, expected))


def _round_off(found: Any, expected: Any) -> bool:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        return same(found, expected)
    if not isinstance(expected, Tensor) or found.shape != expected.shape:
        return False
    size = expected.abs().max().nan_to_num(0.0, 0.0, 0.0).item() if expected.numel() else 0.0
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * size
    return torch.allclose(found, expected, rtol=0.0, atol=tolerance, equal_nan=True)
