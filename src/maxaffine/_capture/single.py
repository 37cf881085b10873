"""A single sample: the one number of samples that the tracer does not tell from others."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from maxaffine._capture.export import Traced, untouched
from maxaffine._network import FAILURES, run_on_copies
from maxaffine.errors import CaptureError

DIFFERENT = (
    "model: it gives a single sample another output than several traced at once, so it has no graph that holds for any"
    " number of samples: a branch on x.shape[0], or Python's own random numbers? Cure: let every number of samples, and"
    " every call, take the same way"
)

OTHER = 0x5EED  # random numbers that are not those of the trace


def check_single(model: nn.Module, traced: Traced, sample: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """Compare the traced graph with the module on a single sample.

    The tracer records a guard for any question about the number of samples but one: it takes for granted that there
    are at least two, so a branch for one sample is not in the graph.

    Args:
        model: The user's module, left as it is.
        traced: Its traced graph.
        sample: One sample of every input.
        names: Names of the inputs, where the module takes them by name.

    Raises:
        CaptureError: When the two differ. A module that fails on a single sample is not compared.
    """
    with untouched(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        random.seed(OTHER)
        np.random.seed(OTHER)
        try:
            expected = run_on_copies(model, sample, names)
        except FAILURES:  # it takes no single sample, e.g. for a squeeze() that dropped the axis of the samples
            return
        found = run_traced(traced, sample)
        if not agree(found, expected):
            torch.manual_seed(OTHER)
            # Random operators come after the outputs that are wanted, or the graph would have been refused.
            if agree(run_traced(traced, sample), found):
                raise CaptureError(DIFFERENT)


def run_traced(traced: Traced, sample: tuple[Tensor, ...]) -> list[Any]:
    """The outputs of a traced graph."""
    given = {**traced.constants, **dict(zip(traced.inputs, sample, strict=True))}
    interpreter = Interpreter(traced.module, garbage_collect_values=False)
    interpreter.run(*(given[node.name] for node in traced.nodes if node.op == "placeholder"))
    return [interpreter.env[item] if isinstance(item, Node) else item for item in traced.outputs]


def agree(found: list[Any], expected: list[Any]) -> bool:
    """Whether outputs hold the same numbers but for rounding."""
    return len(found) == len(expected) and all(map(_close, found, expected))


def _close(found: Any, expected: Any) -> bool:
    """Whether they hold the same numbers but for rounding, wherever a squeeze() may have left out the batch."""
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return bool(found == expected)
    if found.numel() != expected.numel():
        return False
    if not found.is_floating_point() or not found.numel():
        return True
    size = expected.abs().max().nan_to_num(0.0, 0.0, 0.0).item()
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * size
    return torch.allclose(found.flatten(), expected.flatten(), rtol=0.0, atol=tolerance, equal_nan=True)
