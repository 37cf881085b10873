"""The registry: which rule turns which traced operator into an operator of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

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


@dataclass(frozen=True)
class SmoothRule(Rule):
    """How a traced smooth operator enters the graph with its gate held.

    Attributes:
        gating: How much of a gate its value is, from 0 to 1, where a product of two values has to choose its carrier.
    """

    gating: float = 0.5


_RULES: dict[Callable, Rule] = {}
_SMOOTH: dict[Callable, SmoothRule] = {}


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


def smooth_rule(
    *targets: Callable, batch: BatchRule = probed, gating: float = 0.5
) -> Callable[[Callable[[Call], Operator | None]], Callable[[Call], Operator | None]]:
    """Register the decorated function as what smooth operators are with their gates held at the input.

    The function receives a :class:`Call` and returns an operator that is affine in one argument, or by its
    tangent (`Gated`, `GatedMap`, `Tangent`); None where the ordinary rule applies.

    Args:
        targets: The traced operators.
        batch: As of :func:`rule`.
        gating: How much of a gate its value is: 1 for a softmax, a sigmoid, a reciprocal; 0 for what a norm gives. Of
            two factors that depend on the input the one with less carries the product, and equal ones ask.

    Returns:
        A decorator that registers and returns the function.
    """

    def register(build: Callable[[Call], Operator | None]) -> Callable[[Call], Operator | None]:
        for target in targets:
            _SMOOTH[target] = SmoothRule(cast(Builder, build), batch, gating=gating)
        return build

    return register


def find_smooth(target: Callable) -> SmoothRule | None:
    """What a traced smooth operator is with its gate held, if it is known."""
    return _SMOOTH.get(target)


def find(target: Callable) -> Rule | None:
    """The rule of a traced operator, if there is one."""
    return _RULES.get(target)


def registered() -> dict[Callable, Rule]:
    """A copy of the registry."""
    return dict(_RULES)
