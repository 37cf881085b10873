"""Why a module could not be traced: it is run once more, untraced, and what it calls is looked at.

PyTorch's own message says what its tracer was about when it gave up: often the number of samples, or a number that it
does not know, in the middle of an operator that the user knows by another name. What was called says more.
"""

import importlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from maxaffine._capture.apart import substitute
from maxaffine._capture.rules.refused import REASONS
from maxaffine._network import FAILURES, foreign

BEFORE_LOSS = "capture the part before it: until='<operator>', or the network without its loss"
FIXED = "PyTorch traces {} for one number of samples only"

# Functions that PyTorch cannot trace with any number of samples, or not at all, where they meet the network's input.
FUNCTIONS: dict[str, tuple[str, str]] = {
    **{name: REASONS[name] for name in ("cdist", "pdist", "_pack_padded_sequence", "fractional_max_pool3d")},
    # Not seen inside of the other: what a function calls in its turn is not looked at.
    "fractional_max_pool3d_with_indices": REASONS["fractional_max_pool3d"],
    "conv_tbc": (FIXED.format("conv_tbc"), "use nn.Conv1d on x.permute(1, 2, 0)"),
    "native_channel_shuffle": (FIXED.format("native_channel_shuffle"), "use F.channel_shuffle"),
    "linalg_lstsq": (
        "torch.linalg.lstsq gives as many residuals as the rank that it finds, so it is not one fixed graph",
        "for a constant matrix write torch.linalg.pinv(matrix) @ y, which is linear",
    ),
    **{
        name: (
            f"torch.{name} multiplies the samples of a batch with each other",
            "capture the part before it (until=...)",
        )
        for name in ("cov", "corrcoef")
    },
    "gaussian_nll_loss": ("gaussian_nll_loss asks for the signs of its variances, and squares its input", BEFORE_LOSS),
    "ctc_loss": ("ctc_loss reads the lengths of its targets, and takes logarithms of sums of its input", BEFORE_LOSS),
}
MODULES: dict[type[nn.Module], tuple[str, str]] = {
    nn.CrossMapLRN2d: ("CrossMapLRN2d divides by a power of the input", REASONS["layer_norm"][1]),
    nn.AdaptiveLogSoftmaxWithLoss: (
        "AdaptiveLogSoftmaxWithLoss picks samples by their labels, and takes logarithms of softmaxes",
        BEFORE_LOSS,
    ),
}
TORCH_SCRIPT = ("TorchScript cannot be traced", "capture the nn.Module that it was made from")
DIFFERENTIATES = (
    "it differentiates inside its forward (torch.func.jvp, vjp, grad, jacrev or jacfwd, or forward_ad), which PyTorch"
    " cannot trace here",
    "write the derivative with tensor operations, or capture the part that is differentiated: its Jacobian is"
    " net.affine_map(x).slopes",
)
OWN_NUMBERS = (
    "its control flow or a shape depends on numbers in a tensor that it holds{}, not on the input, but PyTorch traces"
    " both alike",
    "keep the number as a Python number, int or bool, made once in __init__ (self.size = int(size))",
)

# What turns numbers in a tensor into Python's numbers, or into a shape.
QUESTIONS = frozenset(
    "__bool__ __int__ __float__ __index__ item tolist is_nonzero equal allclose nonzero masked_select unique".split()
)

IN_PLACE = re.compile(r"(?!requires_grad_).*[^_]_|__setitem__|__i(?!n)[a-z]+__")
TORCH = str(Path(torch.__file__).parent)
TRACING = (TORCH, str(Path(__file__).parent.parent))  # we stand between PyTorch and the user where we rewrite a call
LIBRARIES = ("/torch/", "/site-packages/", "/dist-packages/")


@dataclass
class Observed(TorchFunctionMode):
    """What a module calls, and which of it depends on its inputs."""

    called: list[str] = field(default_factory=list)  # functions of the table above that met the input
    asked: list[tuple[bool, str]] = field(default_factory=list)  # whether a question met the input, and who asked
    differentiates: bool = False  # whether anything ran under a transformation that differentiates
    # By address, and held, so that no address is used twice.
    _reached: dict[int, Tensor] = field(default_factory=dict)
    _copies: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def start(self, inputs: Sequence[Tensor], held: Sequence[Tensor]) -> None:
        """The tensors that count as the input, and further ones that may be written to."""
        self._reached.update((id(item), item) for item in inputs)
        self._copies.update((id(item), item) for item in (*inputs, *held))

    @no_type_check
    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = [item for item in tree_leaves((args, kwargs or {})) if isinstance(item, Tensor)]
        met = any(id(item) in self._reached for item in given)
        name = getattr(func, "__name__", "")
        if met and name in FUNCTIONS:
            self.called.append(name)
        if name in QUESTIONS:
            self.asked.append((met, _line()))
        self.differentiates |= _differentiating()
        changed = given[:1] if IN_PLACE.fullmatch(name) else []
        if changed and id(changed[0]) not in self._copies:
            raise RuntimeError("it writes into a tensor that is not a copy")
        result = func(*args, **(kwargs or {}))
        # What is computed from the input is the input's, and what is computed at all is no tensor of the user's.
        made = [item for item in (*tree_leaves(result), *changed) if isinstance(item, Tensor)]
        self.start(made if met else [], made)
        return result


def _differentiating() -> bool:
    stack = get_interpreter_stack() or []
    return forward_ad._current_level >= 0 or any(i.key() in (TransformType.Grad, TransformType.Jvp) for i in stack)


@no_type_check  # whoever wraps functions to check types would stand between PyTorch and the line of the user's
def _line() -> str:
    """The innermost line that is of no installed library, and not of this file."""
    frame = sys._getframe(1)
    while frame is not None and (
        any(part in frame.f_code.co_filename for part in LIBRARIES) or frame.f_code.co_filename == __file__
    ):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def cause(model: nn.Module, args: tuple, kwargs: dict[str, Any], error: Exception) -> tuple[str, str] | None:
    """The cause of a failed trace and its cure; None where PyTorch's own message says more than what is called."""
    if any(isinstance(part, torch.jit.ScriptModule) for part in model.modules()):
        return TORCH_SCRIPT
    # It is run once more, on copies of its inputs, parameters and buffers: what writes elsewhere is stopped.
    copies = [item.detach().clone() for item in (*args, *kwargs.values())]
    named = dict(zip(kwargs, copies[len(args) :], strict=True))
    held = {name: item.detach().clone() for name, item in (*model.named_parameters(), *model.named_buffers())}
    seen = Observed()
    seen.start(copies, list(held.values()))
    try:
        with torch.no_grad(), seen, foreign():
            functional_call(model, held, tuple(copies[: len(args)]), named)
    except FAILURES:  # the module's own, which the tracer's message is about too
        return None
    return next(_causes(model, seen, error), None)


def _causes(model: nn.Module, seen: Observed, error: Exception) -> Iterator[tuple[str, str]]:
    yield from (MODULES[type(part)] for part in model.modules() if type(part) in MODULES)
    yield from (FUNCTIONS[name] for name in seen.called)
    if seen.differentiates:
        yield DIFFERENTIATES
    if seen.asked and not any(met for met, _ in seen.asked) and "ata-dependent" in f"{error}":
        reason, cure = OWN_NUMBERS
        yield reason.format(f" (asked at {seen.asked[-1][1]})" if seen.asked[-1][1] else ""), cure


@contextmanager
def fixing_lines() -> Iterator[list[str]]:
    """Note the lines of the user's code that turn an open size into a number while a module is traced, in order."""
    lines: list[str] = []
    shapes: Any = importlib.import_module("torch.fx.experimental.symbolic_shapes").ShapeEnv  # with sympy, half a second
    replaced: Any = getattr(shapes, "_set_replacement", None)  # PyTorch's own, so it may go away

    def note(self: Any, symbol: Any, target: Any, *rest: Any) -> Any:
        if getattr(target, "is_number", False):
            lines.extend(_own_lines())
        return replaced(self, symbol, target, *rest)

    with nullcontext() if replaced is None else substitute(shapes, _set_replacement=note):
        yield lines


def _own_lines() -> list[str]:
    """The line of the user's that called PyTorch, which is asking now; none outside a forward."""
    inner = dropwhile(lambda frame: not frame.filename.startswith(TORCH), reversed(traceback.extract_stack()))
    outside = list(dropwhile(lambda frame: frame.filename.startswith(TRACING), inner))
    if not any(frame.name == "forward" for frame in outside):
        return []
    return [f"{outside[0].filename}:{outside[0].lineno}: {outside[0].line}"]
