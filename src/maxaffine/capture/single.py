"""A single sample: the one number of samples that the tracer does not tell from others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from maxaffine.capture.export import Traced, untouched
from maxaffine.errors import CaptureError
from maxaffine.network import run_on_copies

DIFFERENT = (
    "model: it treats a single sample in another way than several, e.g. by an `if` on x.shape[0], so the samples of a"
    " batch have no function in common. Cure: let every number of samples take the same way"
)


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
        CaptureError: When the two differ. A module that fails on a single sample is not compared, nor one that draws
            random numbers.
    """
    if any(_random(node) for node in traced.nodes):
        return
    with untouched(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        try:
            expected = run_on_copies(model, sample, names)
        except Exception:  # whatever the module raises
            return
        found = _run(traced, sample)
    if len(found) != len(expected) or not all(map(_same, found, expected)):
        raise CaptureError(DIFFERENT)


def _random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _run(traced: Traced, sample: tuple[Tensor, ...]) -> list[Tensor]:
    given = {**traced.constants, **dict(zip(traced.inputs, sample, strict=True))}
    interpreter = Interpreter(traced.module, garbage_collect_values=False)
    interpreter.run(*(given[node.name] for node in traced.nodes if node.op == "placeholder"))
    return [interpreter.env[item] if isinstance(item, Node) else item for item in traced.outputs]


def _same(found: Any, expected: Any) -> bool:
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
