"""The registry: which rule turns which traced operator into an operator of the graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from maxaffine._capture.batch import BatchRule, probed
from maxaffine._capture.call import Call
from maxaffine._graph import Operator

Builder = Callable[[Call], Operator]


@dataclass(frozen=True)
class Rule:
    """How one traced operator enters the graph."""

    build: Builder  # makes the operator of a call, or refuses it
    batch: BatchRule  # proves that the operator keeps samples apart, and says where its output keeps them
    sizes: bool = (
        False  # whether sizes of the batch may be among the arguments: changes of shape take them, sums do not
    )


@dataclass(frozen=True)
class SmoothRule(Rule):
    """How a traced smooth operator enters the graph with its gate held."""

    gating: float = 0.5  # how much of a gate its value is, where a product of two values has to choose its carrier


_RULES: dict[Callable, Rule] = {}
_SMOOTH: dict[Callable, SmoothRule] = {}


def overloads(names: str) -> list[Callable]:
    """PyTorch's operators by their names, ``add.Tensor relu``: the default overload where none is named."""
    paths = [name.partition(".") for name in names.split()]
    return [getattr(getattr(torch.ops.aten, operator), overload or "default") for operator, _, overload in paths]


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
        _RULES.update(dict.fromkeys(targets, Rule(build, batch, sizes)))
        return build

    return register


def smooth_rule(
    *targets: Callable, batch: BatchRule = probed, gating: float = 0.5
) -> Callable[[Callable[[Call], Operator | None]], Callable[[Call], Operator | None]]:
    """Register the decorated function as what smooth operators are with their gates held at the input."""
    # The function returns an operator that is affine in one argument, or by its tangent (Gated, GatedMap, Tangent);
    # None where the ordinary rule applies. A softmax, a sigmoid or a reciprocal is a gate (gating=1), what a norm gives
    # is none (0): of two factors that depend on the input the one with less carries the product, and equal ones ask.

    def register(build: Callable[[Call], Operator | None]) -> Callable[[Call], Operator | None]:
        _SMOOTH.update(dict.fromkeys(targets, SmoothRule(cast(Builder, build), batch, gating=gating)))
        return build

    return register


def find_smooth(target: Callable) -> SmoothRule | None:
    """What a traced smooth operator is with its gate held, if it is known."""
    return _SMOOTH.get(target)


def find(target: Callable) -> Rule | None:
    """The rule of a traced operator, if there is one."""
    return _RULES.get(target)


def all_rules() -> dict[Callable, Rule]:
    """A copy of the registry."""
    return dict(_RULES)
