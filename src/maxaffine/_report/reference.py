"""The user's untouched module, run in full and read at the place where a captured network stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from maxaffine.errors import BadInput

FINAL = ("softmax", "log_softmax", "sigmoid", "tanh", "log_sigmoid", "logsigmoid")


class Reference(nn.Module):
    """What ``capture(model, example, until=until, output=output)`` must equal, computed by the module itself."""

    def __init__(self, model: nn.Module, until: str | None = None, output: str = "as_is") -> None:
        super().__init__()
        self.model = model
        self.until = until
        self.output = output
        modules = [name for name, _ in model.named_modules() if name]
        if until is not None and until not in modules:
            raise BadInput(
                f"until: {until!r} is not a module of the model, so what it gives cannot be compared with the model's "
                f"own values; name one of its {len(modules)} modules, the last of which are {modules[-5:]}"
            )

    def forward(self, *inputs: Tensor) -> Any:
        """The module's own value at the place asked for."""
        if self.until is not None:
            return self._value_after(self.until, inputs)
        if self.output == "pre_activation":
            return self._before_final(inputs)
        return self.model(*inputs)

    def _value_after(self, until: str, inputs: Sequence[Tensor]) -> Any:
        seen: list[Any] = []

        def keep(module: nn.Module, arguments: tuple, output: Any) -> None:
            # A later operator may change the value in place.
            seen.append(tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output))

        handle = self.model.get_submodule(until).register_forward_hook(keep)
        try:
            self.model(*inputs)
        finally:
            handle.remove()
        if not seen:
            raise BadInput(f"until: the module {until!r} is not called by the model; name one that is")
        return seen[-1]

    def _before_final(self, inputs: Sequence[Tensor]) -> Any:
        # Capture stops before the last operator that it finds in a graph; here, where there is none, the operator is
        # known by the value that it returned.
        with _FinalCalls() as calls:
            output = self.model(*inputs)
        return tree_map(calls.argument_of, output)


class _FinalCalls(TorchFunctionMode):
    """Remembers what went into every softmax, sigmoid and tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Callable, types: Any, args: Sequence = (), kwargs: dict | None = None) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        # An operator of an exported program is called e.g. softmax.int.
        if getattr(func, "__name__", "").split(".")[0] in FINAL:
            self.calls.append((result, args[0] if args else named["input"]))
        return result

    def argument_of(self, output: Any) -> Any:
        for result, argument in self.calls:
            if result is output:
                return argument
        raise BadInput(
            "output: 'pre_activation' needs a model that returns what its softmax, log-softmax, sigmoid or tanh gives; "
            "leave it out, or name the last module before it with until"
        )
