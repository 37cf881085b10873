"""State: whether one input gives one output, call after call."""

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maxaffine._capture.alone import close
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
    """A module that is run again and again from the state it was captured in."""

    model: nn.Module
    copies: bool  # whether copies of it are run; else itself, put back afterwards
    names: tuple[str, ...]  # of its inputs, where it takes them by name

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


def check_runs(subject: Subject, sample: tuple[Tensor, ...]) -> None:
    """Refuse a module that fails where its trace did not: a matrix that turns out singular."""
    _require(subject.first(sample))


def _require(output: list[Any] | Exception) -> None:
    if isinstance(output, Exception):
        cause = (str(output).strip().splitlines() or [""])[0]
        raise CaptureError(
            f"model: it failed on the example ({type(output).__name__}: {cause}). Cure: check that model(example) runs"
        ) from output


def check_state(subject: Subject, sample: tuple[Tensor, ...]) -> None:
    """Refuse a module whose output depends on what it keeps of earlier calls."""
    # It is called on a sample A, on another one B, and twice on A again, and from its first state on B alone: each must
    # give the same every time. The second input finds an output that is kept and returned whatever comes.
    other = tuple(_other(item) for item in sample)
    calls = (sample, other, sample, sample)
    (first, between, *later), changed = _trial(subject, calls)
    _require(first)
    pairs = [(first, again) for again in later]
    alone = subject.first(other)
    if isinstance(alone, list):  # else the other input is not one that the module takes
        pairs.append((alone, between))
    if all(_equal(*pair) for pair in pairs):
        if changed and not _stays(subject, sample, first, changed):
            raise CaptureError(_message(changed))
        return
    if sample[0].device.type != "cpu" and not changed and all(_close(*pair) for pair in pairs):
        return  # an accelerator adds in another order every time
    # At fault is what makes the third call right again if it is set back before each call.
    names = [name for name in changed if _equal(_trial(subject, calls, name)[0][2], first)]
    raise CaptureError(_message(names or changed))


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
    # Not a multiple of the first, nor its samples in another order alone: what is kept of it must show.
    places = torch.arange(item.numel(), device=item.device, dtype=torch.float64)
    return item.flip(0) * 0.75 + (places.sin() / 4).reshape(item.shape).to(item.dtype)


def _trial(subject: Subject, calls: Sequence[tuple[Tensor, ...]], reset: str = "") -> tuple[list[Any], list[str]]:
    """What calls from the first state give, an attribute set back before each; and which attributes have changed."""
    outputs: list[Any] = []
    with subject.fresh() as module:
        before = copy_module(module)
        for inputs in calls:
            if reset:
                _write(module, reset, _read(copy_module(before), reset))
            outputs.append(subject.run(module, inputs))
        return outputs, changed_attributes(before, module)


def _stays(subject: Subject, sample: tuple[Tensor, ...], expected: Any, changed: list[str]) -> bool:
    """Whether further calls, and calls far ahead, give what the first gave."""
    with subject.fresh() as module:
        before = copy_module(module)
        if not all(_equal(subject.run(module, sample), expected) for _ in range(CALLS)):
            return False
        # What is done every seventh or every hundredth time, or from the thousandth on, shows where numbers that count
        # calls are moved far ahead, to just before a multiple of many.
        for name in changed:
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
    lists = isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected)
    return lists and all(map(_round_off, found, expected))


def _round_off(found: Any, expected: Any) -> bool:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        return same(found, expected)
    return isinstance(expected, Tensor) and found.shape == expected.shape and close(found, expected)
