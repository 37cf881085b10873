"""The registry: which rule turns which traced operator into an operator of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maxaffine._capture.batch import BatchRule, probed
from maxaffine._capture.call import Call
from maxaffine._graph import Operator

Builder = Callable[[Call], Operator]


@dataclass(frozen=True)
class Rule:
    """How one traced operator enters the graph.

    Attributes:
        build: Makes the operator of a call, or refuses it.
        batch: Proves that the operator keeps samples apart, and says where its output keeps them.
        sizes: Whether the operator may take sizes (of the batch) as arguments: changes of shape may, sums may not.
    """

    build: Builder
    batch: BatchRule
    sizes: bool = False


_RULES: dict[Callable, Rule] = {}


def rule(*targets: Callable, batch: BatchRule = probed, sizes: bool = False) -> Callable[[Builder], Builder]:
    """Register the decorated function as the rule of traced operators: how to teach ``capture`` an operator.

    The function receives a :class:`Call` and returns an :class:`Operator`, or refuses with ``call.refuse``.

    Args:
        targets: The traced operators, e.g. ``torch.ops.aten.relu.default`` or one of your own library.
        batch: Which axis of the output carries the samples: ``probed`` (any affine operator: found out by marking
            one sample with NaN), ``pointwise``, ``leading``, or ``along(name)`` (works along the axes that the
            argument lists).
        sizes: Whether sizes may be arguments.

    Returns:
        A decorator that registers and returns the function.

    Raises:
        ValueError: When a target is not callable.

    Example:
        >>> import torch, maxaffine as ma
        >>> @ma.operators.rule(torch.ops.aten.trunc.default, batch=ma.operators.batch.pointwise)  # doctest: +SKIP
        ... def trunc(call):
        ...     call.refuse("it has infinitely many pieces", "leave it out")
    """
    for target in targets:
        if not callable(target):
            raise ValueError(f"targets: {target!r} is not an operator; give e.g. torch.ops.aten.relu.default")

    def register(build: Builder) -> Builder:
        for target in targets:
            _RULES[target] = Rule(build, batch, sizes)
        return build

    return register


def find(target: Callable) -> Rule | None:
    """The rule of a traced operator, if there is one."""
    return _RULES.get(target)


def registered() -> dict[Callable, Rule]:
    """A copy of the registry."""
    return dict(_RULES)
