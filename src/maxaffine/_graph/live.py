"""An operator whose constants are given when it runs, so that a module can train, move and save them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph.contract import Operator
from maxaffine._graph.frozen import Affine, Slot
from maxaffine._graph.mapping import KEPT, mapped, tensors_in


def lifted(operator: Operator, taken: int) -> tuple[Callable, list[Any]]:
    """The operator as it was traced, taking its constants after its inputs, and what they are: tensors and devices."""
    plain, constants = operator.plain(), []
    if not isinstance(plain, Affine) or next(tensors_in(plain.target), None) is not None:
        found = list(tensors_in(plain))
        return Rebuilt(plain, taken), found

    def slot(item: Any) -> Any:
        if not isinstance(item, Tensor | torch.device):
            return KEPT
        constants.append(item)
        return Slot(taken + len(constants) - 1)

    args, kwargs = mapped(plain.args, slot), mapped(plain.kwargs, slot)
    return replace(plain, args=args, kwargs=kwargs), constants


@dataclass(frozen=True)
class Rebuilt:
    """An operator that is made again around its constants at every call."""

    operator: Operator
    taken: int  # how many inputs it has; its constants follow them

    def given(self, constants: tuple[Tensor, ...]) -> Operator:
        """The operator with these constants."""
        left = iter(constants)
        return (
            self.operator
            if not constants
            else mapped(self.operator, lambda item: next(left) if isinstance(item, Tensor) else KEPT)
        )

    def __call__(self, *inputs: Any) -> Any:
        """Run it."""
        return self.given(inputs[self.taken :])(*inputs[: self.taken])
