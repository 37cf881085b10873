"""ONNX's operators as functions of PyTorch's: one table, by the name of the operator.

Two kinds of values flow through a graph: tensors, and *numbers*, arrays of Python's own numbers (NumPy's dtype object).
What a graph computes from the shapes of its values, such as the target of a Reshape, is numbers: so it stays symbolic
when the graph is traced for any number of samples, where a tensor of shapes would fix that number, or hide it.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError

Value = Any  # a Tensor, an array of numbers, or None for an input that is left out


@dataclass(frozen=True)
class Call:
    """One node of a graph, without its inputs."""

    kind: str  # the operator, e.g. Conv
    name: str
    version: int  # of ONNX's operators, by which attributes and defaults differ
    attributes: dict[str, Any]
    outputs: int = 1  # how many the node has

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def refusal(self, reason: str, cure: str = "export the model without it") -> ModelError:
        """The error that says why this node cannot be read."""
        named = f"node {self.name!r} ({self.kind}, opset {self.version})"
        return ModelError(f"{named}: {reason}; {cure}")


def is_numbers(value: Value) -> bool:
    """Whether a value is numbers rather than a tensor."""
    return isinstance(value, np.ndarray)


def as_numbers(values: Any) -> np.ndarray:
    """An array of Python's numbers, whatever holds them."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        values = values.tolist()
    array = np.empty(np.shape(values), dtype=object)
    array[...] = values
    return array


def as_tensor(value: Value, like: Tensor | None) -> Value:
    """Numbers as a tensor: floating-point ones as `like` has them, so that a network in double precision stays so."""
    if not is_numbers(value):
        return value
    tensor = torch.tensor(value.tolist(), device=None if like is None else like.device)
    if like is not None and (tensor.is_floating_point() or like.is_floating_point()) and tensor.dtype != torch.bool:
        return tensor.to(like.dtype if like.is_floating_point() else torch.get_default_dtype())
    return tensor


# Inputs that are numbers, whatever the others are: arguments rather than operands.
ARGUMENTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Reshape", "Expand", "Squeeze", "Unsqueeze", "Split", "Tile", "Upsample", "Trilu"), (1,)),
    **{"Slice": (1, 2, 3, 4), "Pad": (1, 2, 3), "Resize": (1, 2, 3), "Clip": (1, 2), "Dropout": (1, 2)},
    **{"ConstantOfShape": (0,), "Range": (0, 1, 2), "Pow": (1,), **dict.fromkeys(("RNN", "GRU", "LSTM"), (4,))},
}
# How many outputs are given, where it is not one.
RESULTS = {"Dropout": 2, "RNN": 2, "GRU": 2, "LSTM": 3, "Split": 1024}


def argument_slots(kind: str) -> tuple[int, ...]:
    """The inputs of an operator that are numbers in any case."""
    return ARGUMENTS.get(kind, (1,) if kind.startswith("Reduce") else ())


def run(call: Call, values: Sequence[Value]) -> Value:
    """What a node gives for its inputs: a value, or a tuple of values."""
    like = next((v for v in values if isinstance(v, Tensor) and v.is_floating_point()), None)
    like = next((v for v in values if isinstance(v, Tensor)), None) if like is None else like
    places = argument_slots(call.kind)
    given = []
    for place, value in enumerate(values):
        if place in places and isinstance(value, Tensor) and not (call.kind == "Pow" and value.numel() > 1):
            raise call.refusal(
                f"its input number {place} is computed from tensors, so its shapes or limits are not fixed",
                "export the model so that they are constants or follow from shapes",
            )
        # An operator of numbers alone works on them as they are.
        operand = place not in places and (like is not None or call.kind not in AWARE)
        given.append(as_tensor(value, like) if operand else value)
    if any(isinstance(value, Tensor) and value.dtype == torch.float64 for value in given):
        # Operands have one type in a file; a network in double precision has rows of zeros and the like from it.
        given = [
            value.double() if isinstance(value, Tensor) and value.dtype == torch.float32 else value for value in given
        ]
    return OPERATORS[call.kind](call, *given)


# --- operators on tensors and on numbers ------------------------------------------------------------------------------


def _single(function: Callable[..., Tensor], alone: Callable[[Any], Any]) -> Callable[[Call, Value], Value]:
    """Of a tensor, or of each of some numbers: Python's, among them the symbolic sizes of a traced graph."""
    return lambda call, x: as_numbers(np.frompyfunc(alone, 1, 1)(x)) if is_numbers(x) else function(x)


def _pair(function: Callable[..., Tensor], alone: Callable[[Any, Any], Any]) -> Callable[[Call, Value, Value], Value]:
    """The same of two operands, which broadcast."""

    def apply(call: Call, a: Value, b: Value) -> Value:
        if is_numbers(a):
            return as_numbers(np.frompyfunc(alone, 2, 1)(a, b))
        if call.version < 7 and call.get("broadcast") and "axis" in call.attributes:
            b = b.reshape(*b.shape, *[1] * (a.ndim - call.get("axis") % a.ndim - b.ndim))
        return function(a, b)

    return apply


def _several(function: Callable[..., Tensor], alone: Callable[[Any, Any], Any]) -> Callable[..., Value]:
    """The same of any number of operands, one after the other."""

    def apply(call: Call, *values: Value) -> Value:
        if is_numbers(values[0]):
            return as_numbers(functools.reduce(np.frompyfunc(alone, 2, 1), values))
        return functools.reduce(function, values)

    return apply


def _quotient(a: Any, b: Any) -> Any:
    """ONNX divides whole numbers towards zero; sizes are not negative."""
    return a / b if isinstance(a, float) or isinstance(b, float) else a // b


def _divide(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _where(call: Call, condition: Value, a: Value, b: Value) -> Value:
    if is_numbers(condition):
        return as_numbers(np.frompyfunc(lambda c, x, y: x if c else y, 3, 1)(condition, a, b))
    return torch.where(condition.bool(), a, b)


# --- activations ------------------------------------------------------------------------------------------------------


def _prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    # PyTorch's has one slope per channel; ONNX's broadcasts, and old ones give channels without the axes after them.
    if slope.numel() == 1 or (x.ndim > 1 and slope.numel() == x.shape[1] == slope.shape[-min(x.ndim - 1, slope.ndim)]):
        return F.prelu(x, slope.flatten())
    return x.clamp(min=0) + slope * x.clamp(max=0)


def _clip(call: Call, x: Tensor, low: Value = None, high: Value = None) -> Tensor:
    low = call.get("min") if low is None else low.item()
    high = call.get("max") if high is None else high.item()
    return x if low is None and high is None else x.clamp(low, high)


def _softmax(call: Call, x: Tensor) -> Tensor:
    function = F.softmax if call.kind == "Softmax" else F.log_softmax
    if call.version >= 13:
        return function(x, dim=call.get("axis", -1))
    # Before, all axes from this one on were one.
    axis = call.get("axis", 1) % x.ndim
    return function(x, dim=axis) if axis == x.ndim - 1 else function(x.flatten(axis), dim=-1).reshape(x.shape)


def _dropout(call: Call, x: Tensor, ratio: Value = None, training: Value = None) -> Value:
    if training is not None and training.item() and not (ratio is not None and ratio.item() == 0):
        raise call.refusal("it drops values, as in training", "export the model after model.eval()")
    return (x, torch.ones_like(x, dtype=torch.bool)) if call.outputs > 1 else x


# --- affine -----------------------------------------------------------------------------------------------------------


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    a = a.t() if call.get("transA") else a
    if alpha == 1 and (c is None or (beta == 1 and c.ndim == 1 and c.numel() > 1)):
        return F.linear(a, b if call.get("transB") else b.t(), c)
    product = a @ (b.t() if call.get("transB") else b)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


def _sizes(call: Call, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and dilations, one for each axis."""
    ones = [1] * len(kernel)
    return list(kernel), list(call.get("strides") or ones), list(call.get("dilations") or ones)


def _pads(call: Call, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> list[tuple[int, int]]:
    """What is padded before and after each axis."""
    auto = call.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        given = call.get("pads") or [0] * (2 * len(kernel))
        return list(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    if auto == "VALID":
        return [(0, 0)] * len(kernel)
    pads = []
    for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        few, more = total // 2, total - total // 2
        pads.append((few, more) if auto == "SAME_UPPER" else (more, few))
    return pads


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    flat = [size for pair in reversed(pads) for size in pair]  # PyTorch's order begins with the last axis
    return F.pad(x, flat, value=value) if any(flat) else x


def _even(pads: Sequence[tuple[int, int]]) -> list[int] | None:
    """The padding, where it is the same on both sides of every axis."""
    return [low for low, _ in pads] if all(low == high for low, high in pads) else None


def _of_dimension(call: Call, axes: int, *functions: Any) -> Any:
    if not 1 <= axes <= 3:
        raise call.refusal(f"it works on {axes} axes, and PyTorch on one to three", "reshape its input")
    return functions[axes - 1]


def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel, strides, dilations = _sizes(call, weight.shape[2:])
    pads = _pads(call, x, kernel, strides, dilations)
    padding = _even(pads)
    x = x if padding is not None else _padded(x, pads)
    function = _of_dimension(call, len(kernel), F.conv1d, F.conv2d, F.conv3d)
    return function(x, weight, bias, strides, padding or [0] * len(kernel), dilations, call.get("group", 1))


def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel, strides, dilations = _sizes(call, weight.shape[2:])
    extra = list(call.get("output_padding") or [0] * len(kernel))
    wanted = call.get("output_shape") or (
        [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
        if call.get("auto_pad", "NOTSET").startswith("SAME")
        else None
    )
    if wanted is None:
        cut = _pads(call, x, kernel, strides, dilations)
    else:
        # The shape is given, and what must go on both sides of an axis follows from it.
        cut = []
        for size, axis in zip(wanted[-len(kernel) :], range(len(kernel)), strict=True):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = strides[axis] * (x.shape[2 + axis] - 1) + extra[axis] + reach - size
            few, more = total // 2, total - total // 2
            cut.append((few, more) if call.get("auto_pad") == "SAME_UPPER" else (more, few))
    padding = _even(cut)
    native = padding is not None and min(padding) >= 0
    function = _of_dimension(call, len(kernel), F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    none = [0] * len(kernel)
    y = function(x, weight, bias, strides, padding if native else none, extra, call.get("group", 1), dilations)
    return y if native else _padded(y, [(-low, -high) for low, high in cut])


def _batch_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if call.get("training_mode") or call.get("spatial", 1) == 0:
        raise call.refusal("it takes statistics of the batch, or one for each place", "export it after model.eval()")
    return F.batch_norm(x, mean, variance, scale, bias, eps=call.get("epsilon", 1e-5))


# --- pooling ----------------------------------------------------------------------------------------------------------


def _max_pool(call: Call, x: Tensor) -> Tensor:
    kernel, strides, dilations = _sizes(call, call.get("kernel_shape"))
    pads = _pads(call, x, kernel, strides, dilations)
    padding = _even(pads)
    native = padding is not None and all(2 * pad <= width for pad, width in zip(padding, kernel, strict=True))
    x = x if native else _padded(x, pads, float("-inf"))
    function = _of_dimension(call, len(kernel), F.max_pool1d, F.max_pool2d, F.max_pool3d)
    given = padding if native else [0] * len(kernel)
    return function(x, kernel, strides, given, dilations, ceil_mode=bool(call.get("ceil_mode")))


def _average_pool(call: Call, x: Tensor) -> Tensor:
    kernel, strides, dilations = _sizes(call, call.get("kernel_shape"))
    if max(dilations) > 1:
        raise call.refusal("it averages with a dilation", "write it as a convolution")
    pads, counted = _pads(call, x, kernel, strides, dilations), bool(call.get("count_include_pad"))
    padding, ceil = _even(pads), bool(call.get("ceil_mode"))
    function = _of_dimension(call, len(kernel), F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
    if padding is not None and all(2 * pad <= width for pad, width in zip(padding, kernel, strict=True)):
        return function(x, kernel, strides, padding, ceil, counted)
    means = function(_padded(x, pads), kernel, strides, 0, ceil)
    if counted:
        return means
    # The mean of ones is the share of the window that is not padding.
    return means / function(_padded(torch.ones_like(x[:1, :1]), pads), kernel, strides, 0, ceil)


# --- normalization ----------------------------------------------------------------------------------------------------


def _layer_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape, eps = x.shape[call.get("axis", -1) :], call.get("epsilon", 1e-5)
    if call.kind == "RMSNormalization":
        return F.rms_norm(x, shape, scale.expand(shape), eps)
    return F.layer_norm(x, shape, scale.expand(shape), None if bias is None else bias.expand(shape), eps)


def _instance_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=call.get("epsilon", 1e-5))


def _group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = call.get("num_groups")
    if call.version < 21:  # one scale for each group
        each = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return F.group_norm(x, groups, scale, bias, call.get("epsilon", 1e-5))


def _lrn(call: Call, x: Tensor) -> Tensor:
    numbers = call.get("size"), call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    # Of an even window ONNX has the longer half after the channel, and PyTorch before it.
    return F.local_response_norm(x, *numbers) if numbers[0] % 2 else F.local_response_norm(x.flip(1), *numbers).flip(1)


# --- reductions -------------------------------------------------------------------------------------------------------


def _prod(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keep)
    return x


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceProd": _prod,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": torch.logsumexp,
}


def _reduce(call: Call, x: Value, axes: Value = None) -> Value:
    axes = call.get("axes") if axes is None else axes.tolist()
    keep = bool(call.get("keepdims", 1))
    if is_numbers(x):
        known = {"ReduceProd": operator.mul, "ReduceSum": operator.add, "ReduceMax": max, "ReduceMin": min}
        if call.kind not in known:
            raise call.refusal("it reduces sizes in an uncommon way")
        total = functools.reduce(known[call.kind], x.flatten().tolist())
        return as_numbers([total] if keep else total)
    if not axes and call.get("noop_with_empty_axes"):
        return x
    return _REDUCTIONS[call.kind](x, axes or tuple(range(x.ndim)), keep)


def _arg(call: Call, x: Tensor) -> Tensor:
    if call.get("select_last_index"):
        raise call.refusal("of ties it takes the last one")
    function = torch.argmax if call.kind == "ArgMax" else torch.argmin
    return function(x, call.get("axis", 0), bool(call.get("keepdims", 1)))


# --- shapes -----------------------------------------------------------------------------------------------------------


def _cast(call: Call, x: Value, like: Value = None) -> Value:
    target = like.dtype if isinstance(like, Tensor) else call.get("to")
    if is_numbers(x):
        kind = bool if target == torch.bool else float if target.is_floating_point else int
        # A symbolic size is a whole number already.
        return as_numbers(
            np.frompyfunc(lambda n: n if kind is int and not isinstance(n, float | bool) else kind(n), 1, 1)(x)
        )
    # A network in double precision stays so where the file goes back to single precision.
    return x if x.dtype == torch.float64 and target == torch.float32 else x.to(target)


def _reshape(call: Call, x: Value, shape: Value = None) -> Value:
    target = list(call.get("shape") if shape is None else shape)
    if not call.get("allowzero"):
        target = [x.shape[place] if isinstance(size, int) and size == 0 else size for place, size in enumerate(target)]
    return x.reshape(target)


def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 0:
        return x.reshape(1, -1)
    rows = x.flatten(0, axis - 1)
    return rows.flatten(1) if rows.ndim > 1 else rows.unsqueeze(1)


def _transpose(call: Call, x: Value) -> Value:
    order = call.get("perm") or list(reversed(range(x.ndim)))
    return x.transpose(order) if is_numbers(x) else x.permute(order)


def _squeeze(call: Call, x: Value, axes: Value = None) -> Value:
    given = call.get("axes") if axes is None else axes.tolist()
    if given is None:
        given = [axis for axis, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    return x.squeeze(tuple(given)) if given else x


def _unsqueeze(call: Call, x: Value, axes: Value = None) -> Value:
    given = call.get("axes") if axes is None else axes.flatten().tolist()
    for axis in sorted(axis % (x.ndim + len(given)) for axis in given):
        x = np.expand_dims(x, axis) if is_numbers(x) else x.unsqueeze(axis)
    return x


def _common(sizes: Sequence[Any]) -> Any:
    """The size that the others are stretched to: one that is not 1."""
    return next((size for size in sizes if not isinstance(size, int) or size != 1), 1)


def _concat(call: Call, *values: Value) -> Value:
    axis = call.get("axis", 1)
    if is_numbers(values[0]):
        return np.concatenate(values, axis)
    axis = axis % values[0].ndim
    parts = []
    for value in values:
        # A constant row, such as a class token, that a file of one sample has once is there for each of several.
        sizes = [_common(column) for column in zip(*(other.shape for other in values), strict=True)]
        sizes[axis] = value.shape[axis]
        parts.append(value if all(map(operator.is_, sizes, value.shape)) else value.expand(sizes))
    return torch.cat(parts, axis)


def _split(call: Call, x: Value, split: Value = None) -> Value:
    axis = call.get("axis", 0)
    parts = call.get("split") if split is None else split.tolist()
    if parts is None:
        each = -(-x.shape[axis] // call.outputs)
        parts = [each] * (call.outputs - 1) + [x.shape[axis] - each * (call.outputs - 1)]
    if is_numbers(x):
        return tuple(np.split(x, np.cumsum(parts)[:-1].astype(int), axis))
    return torch.split(x, parts, axis)


def _slice(
    call: Call, x: Value, starts: Value = None, ends: Value = None, axes: Value = None, steps: Value = None
) -> Value:
    starts, ends, axes, steps = (
        call.get(name) if value is None else value.tolist()
        for name, value in (("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))
    )
    for start, end, axis, step in zip(
        starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True
    ):
        cut: list[Any] = [slice(None)] * x.ndim
        cut[axis] = slice(start, end, step)
        if step > 0 or is_numbers(x):
            x = x[tuple(cut)]
        else:
            places = list(range(x.shape[axis])[cut[axis]])
            x = x.index_select(axis, torch.tensor(places, dtype=torch.long, device=x.device))
    return x


def _gather(call: Call, x: Value, places: Value) -> Value:
    axis = call.get("axis", 0)
    if is_numbers(places) and places.ndim == 0:
        return as_numbers(x[int(places)]) if is_numbers(x) else x.select(axis, int(places))
    if is_numbers(x):
        return np.take(x, places.astype(int), axis)
    axis = axis % x.ndim
    places = places.to(x.device, torch.long)
    places = torch.where(places < 0, places + x.shape[axis], places)
    taken = x.index_select(axis, places.flatten())
    return taken.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _expand(call: Call, x: Value, shape: Value) -> Value:
    target = shape.tolist()
    if is_numbers(x):
        if len(target) < 2 and all(isinstance(size, int) for size in target):
            return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target)))
        x = as_tensor(x, None)
    own = [1] * (len(target) - x.ndim) + list(x.shape)
    target = [1] * (len(own) - len(target)) + target
    # A size of 1 on either side gives way to the other's.
    return x.expand([n if isinstance(size, int) and size == 1 else size for size, n in zip(own, target, strict=True)])


def _constant_of_shape(call: Call, shape: Value) -> Value:
    value, sizes = call.get("value", 0.0), shape.tolist()
    if len(sizes) < 2 and not isinstance(value, float) and all(isinstance(size, int) for size in sizes):
        return as_numbers([value] * sizes[0] if sizes else value)
    return torch.full(sizes, value, dtype=call.get("dtype", torch.float32))


def _pad(call: Call, x: Tensor, pads: Value = None, value: Value = None, axes: Value = None) -> Tensor:
    given = list(call.get("pads") or call.get("paddings")) if pads is None else pads.tolist()
    fill = call.get("value", 0.0) if value is None else value.item()
    names = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    pairs = dict(zip(names, zip(given[: len(given) // 2], given[len(given) // 2 :], strict=True), strict=True))
    every = [pairs.get(axis, (0, 0)) for axis in range(x.ndim)]
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}[
        call.get("mode", "constant")
    ]
    if mode == "constant":
        return _padded(x, every, float(fill))
    while every and every[0] == (0, 0):  # PyTorch's other modes take no leading axes
        every = every[1:]
    return F.pad(x, [size for pair in reversed(every) for size in pair], mode=mode) if every else x


def _depth_space(call: Call, x: Tensor) -> Tensor:
    block = call.get("blocksize")
    if call.kind == "DepthToSpace":
        if call.get("mode", "DCR") == "CRD":
            return F.pixel_shuffle(x, block)
        y = x.unflatten(1, (block, block, -1)).permute(0, 3, 4, 1, 5, 2)
        return y.flatten(4, 5).flatten(2, 3)
    if call.get("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(x, block)
    y = x.unflatten(3, (-1, block)).unflatten(2, (-1, block)).permute(0, 3, 5, 1, 2, 4)
    return y.flatten(1, 3)


# --- resizing: linear along each axis, whatever the mode --------------------------------------------------------------


def _upsample(call: Call, x: Tensor, scales: Value = None) -> Tensor:
    given = call.get("scales") if scales is None else scales.tolist()
    return _resized(call, x, list(range(x.ndim)), given, None, "asymmetric", "floor")


def _resize(call: Call, x: Tensor, roi: Value = None, scales: Value = None, sizes: Value = None) -> Tensor:
    if call.version < 11:
        return _resized(call, x, list(range(x.ndim)), roi.tolist(), None, "asymmetric", "floor")
    known = ("antialias", "exclude_outside", "keep_aspect_ratio_policy")
    if any(call.get(name) not in (None, 0, "stretch") for name in known):
        raise call.refusal(f"it has one of the options {', '.join(known)}", "export it with F.interpolate's defaults")
    axes = [axis % x.ndim for axis in call.get("axes") or range(x.ndim)]
    given = None if sizes is None or not sizes.size else sizes.tolist()
    ratios = None if given is not None else scales.tolist()
    how = call.get("coordinate_transformation_mode", "half_pixel"), call.get("nearest_mode", "round_prefer_floor")
    return _resized(call, x, axes, ratios, given, *how)


def _resized(call: Call, x: Tensor, axes: list[int], scales: Any, sizes: Any, coordinates: str, nearest: str) -> Tensor:
    for place, axis in enumerate(axes):
        scale, before = (None if scales is None else float(scales[place])), x.shape[axis]
        # Sizes name that of the samples too, as many as the file is written for.
        if scale == 1 or (scale is None and (axis == 0 or before == sizes[place])):
            continue
        after = int(before * scale) if scale is not None else int(sizes[place])
        matrix = _resampling(call, int(before), after, scale or after / before, coordinates, nearest)
        if call.get("mode", "nearest") == "nearest":
            x = x.index_select(axis, torch.from_numpy(matrix.argmax(1)).to(x.device))
        else:
            x = (x.movedim(axis, -1) @ torch.from_numpy(matrix.T).to(x)).movedim(-1, axis)
    return x


def _resampling(call: Call, before: int, after: int, scale: float, coordinates: str, nearest: str) -> np.ndarray:
    """How an axis of `after` points depends on one of `before`, (after, before)."""
    grid = np.arange(after, dtype=np.float64)
    half = (grid + 0.5) / scale - 0.5
    mode = call.get("mode", "nearest")
    places = {
        "asymmetric": grid / scale,
        "half_pixel": half,
        "pytorch_half_pixel": half if after > 1 else np.zeros(after),
        "align_corners": grid * (before - 1) / max(after - 1, 1),
        "half_pixel_symmetric": before / 2 * (1 - after / (scale * before)) + half,
    }.get(coordinates)
    if places is None or mode not in ("nearest", "linear", "bilinear", "cubic"):
        raise call.refusal(f"it resizes in the way {mode}, {coordinates}", "export it with F.interpolate's defaults")
    matrix = np.zeros((after, before))
    if mode == "nearest":
        rounding = {"floor": np.floor, "ceil": np.ceil, "round_prefer_ceil": lambda p: np.floor(p + 0.5)}
        chosen = rounding.get(nearest, lambda p: np.ceil(p - 0.5))(places)
        taps = [(chosen, np.ones(after))]
    elif mode == "cubic":
        a = call.get("cubic_coeff_a", -0.75)
        low = np.floor(places)
        taps = [(low + step, _cubic(np.abs(places - low - step), a)) for step in (-1, 0, 1, 2)]
    else:
        low = np.floor(places.clip(0, before - 1))
        share = places.clip(0, before - 1) - low
        taps = [(low, 1 - share), (low + 1, share)]
    for places_, weights in taps:
        np.add.at(matrix, (np.arange(after), places_.clip(0, before - 1).astype(int)), weights)
    return matrix


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


# --- recurrent: one step for each point of time -----------------------------------------------------------------------


def _recurrent(call: Call, x: Tensor, weight: Tensor, recurrence: Tensor, *others: Value) -> Value:
    bias, lengths, hidden, memory, peephole = (*others, *[None] * 5)[:5]
    directions, size = recurrence.shape[0], recurrence.shape[-1]
    usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[call.kind]
    chosen = [name.capitalize() for name in call.get("activations") or usual * directions]
    allowed = [["Tanh"] * directions, ["Relu"] * directions] if call.kind == "RNN" else [usual * directions]
    if lengths is not None and not (is_numbers(lengths) and all(length == x.shape[0] for length in lengths)):
        raise call.refusal("it has sequences of several lengths", "export it for sequences of one length")
    if chosen not in allowed or call.get("clip") or call.get("layout") or peephole is not None:
        raise call.refusal(
            "it has other activations, limits, layout or peepholes than PyTorch's", "export nn.LSTM's own"
        )
    way = call.get("direction", "forward")
    outputs, hiddens, memories = [], [], []
    for number in range(directions):
        backward = way == "reverse" or number == 1
        steps = x.flip(0) if backward else x
        start = x.new_zeros(1, size).expand(x.shape[1], size)
        state = start if hidden is None else hidden[number].expand(x.shape[1], size)
        cell = start if memory is None else memory[number].expand(x.shape[1], size)
        both = x.new_zeros(2 * weight.shape[1]) if bias is None else bias[number]
        rows = []
        for step in steps.unbind(0):
            # The recurrent biases come after those of the input.
            given = F.linear(step, weight[number], both[: weight.shape[1]])
            known = F.linear(state, recurrence[number], both[weight.shape[1] :])
            if call.kind == "RNN":
                state = (torch.tanh if chosen[0] == "Tanh" else F.relu)(given + known)
            elif call.kind == "GRU":
                state = _gru(call, given, known, state, recurrence[number], both[weight.shape[1] :])
            else:
                inside, outside, forget, new = (given + known).chunk(4, -1)
                cell = forget.sigmoid() * cell + inside.sigmoid() * new.tanh()
                state = outside.sigmoid() * cell.tanh()
            rows.append(state)
        hiddens.append(state)
        memories.append(cell)
        outputs.append(torch.stack(rows[::-1] if backward else rows))
    results = (torch.stack(outputs, 1), torch.stack(hiddens), torch.stack(memories))
    return results if call.kind == "LSTM" else results[:2]


def _gru(call: Call, given: Tensor, known: Tensor, state: Tensor, recurrence: Tensor, bias: Tensor) -> Tensor:
    size = state.shape[-1]
    update, reset = (given + known)[:, : 2 * size].sigmoid().chunk(2, -1)
    if call.get("linear_before_reset"):
        new = (given[:, 2 * size :] + reset * known[:, 2 * size :]).tanh()
    else:
        new = (given[:, 2 * size :] + F.linear(reset * state, recurrence[2 * size :], bias[2 * size :])).tanh()
    return (1 - update) * new + update * state


# --- the table --------------------------------------------------------------------------------------------------------

# Those that take numbers as operands too: of Python's numbers, among them symbolic sizes, and of tensors.
_ON_NUMBERS: dict[str, Callable[..., Value]] = {
    **{"Neg": _single(torch.neg, operator.neg), "Not": _single(torch.logical_not, operator.not_)},
    **{"Floor": _single(torch.floor, math.floor), "Ceil": _single(torch.ceil, math.ceil)},
    **{"Sqrt": _single(torch.sqrt, math.sqrt), "Sum": _several(torch.add, operator.add)},
    **{"Max": _several(torch.maximum, max), "Min": _several(torch.minimum, min)},
    **{"Add": _pair(torch.add, operator.add), "Sub": _pair(torch.sub, operator.sub)},
    **{"Mul": _pair(torch.mul, operator.mul), "Div": _pair(_divide, _quotient)},
    **{"Equal": _pair(torch.eq, operator.eq), "Less": _pair(torch.lt, operator.lt)},
    **{"LessOrEqual": _pair(torch.le, operator.le), "Greater": _pair(torch.gt, operator.gt)},
    "GreaterOrEqual": _pair(torch.ge, operator.ge),
    "And": _pair(torch.logical_and, lambda a, b: bool(a and b)),
    "Or": _pair(torch.logical_or, lambda a, b: bool(a or b)),
    "Mod": lambda call, a, b: _pair(torch.fmod if call.get("fmod") else torch.remainder, operator.mod)(call, a, b),
    "Shape": lambda call, x: as_numbers(list(x.shape)[call.get("start", 0) : call.get("end")]),
    "Size": lambda call, x: as_numbers(math.prod(x.shape)),
    **dict.fromkeys(("Identity", "StopGradient"), lambda call, x: x),
    "Range": lambda call, *ends: as_numbers(np.arange(*(end.item() for end in ends))),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **{"Where": _where, "Cast": _cast, "CastLike": _cast, "Reshape": _reshape, "Transpose": _transpose},
    **{"Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Concat": _concat, "Split": _split, "Slice": _slice},
    **{"Gather": _gather, "Expand": _expand, "ConstantOfShape": _constant_of_shape},
}
AWARE = frozenset(_ON_NUMBERS)
# One function of one tensor, and nothing else to it.
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    **{"Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Exp": torch.exp, "Log": torch.log},
    **{"Erf": torch.erf, "Abs": torch.abs, "Sign": torch.sign, "Round": torch.round, "Reciprocal": torch.reciprocal},
    **{"Sin": torch.sin, "Cos": torch.cos, "HardSwish": F.hardswish, "Softplus": F.softplus},
    **{"Softsign": F.softsign, "Mish": F.mish},
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
}
OPERATORS: Mapping[str, Callable[..., Value]] = MappingProxyType(
    {
        **_ON_NUMBERS,
        **{kind: (lambda call, x, function=function: function(x)) for kind, function in _PLAIN.items()},
        "Mean": lambda call, *values: functools.reduce(torch.add, values) / len(values),
        "Pow": lambda call, x, exponent: (
            x ** (exponent.item() if is_numbers(exponent) and exponent.size == 1 else as_tensor(exponent, x))
        ),
        "LeakyRelu": lambda call, x: F.leaky_relu(x, call.get("alpha", 0.01)),
        "HardSigmoid": lambda call, x: (call.get("alpha", 0.2) * x + call.get("beta", 0.5)).clamp(0, 1),
        "ThresholdedRelu": lambda call, x: F.threshold(x, call.get("alpha", 1.0), 0.0),
        "Elu": lambda call, x: F.elu(x, call.get("alpha", 1.0)),
        "Celu": lambda call, x: F.celu(x, call.get("alpha", 1.0)),
        # The defaults, which old files round.
        "Selu": lambda call, x: call.get("gamma", 1.0507010221481323) * F.elu(x, call.get("alpha", 1.6732631921768188)),
        "Swish": lambda call, x: F.silu(x) if (alpha := call.get("alpha", 1.0)) == 1 else x * torch.sigmoid(alpha * x),
        "Gelu": lambda call, x: F.gelu(x, approximate=call.get("approximate", "none")),
        "MatMul": lambda call, a, b: torch.matmul(a, b),
        "Einsum": lambda call, *values: torch.einsum(call.get("equation"), *values),
        "Tile": lambda call, x, repeats: x.repeat(repeats.tolist()),
        "Trilu": lambda call, x, diagonal=None: (torch.triu if call.get("upper", 1) else torch.tril)(
            x, 0 if diagonal is None else int(diagonal.item())
        ),
        **{"PRelu": _prelu, "Clip": _clip, "Softmax": _softmax, "LogSoftmax": _softmax, "Dropout": _dropout},
        **{"Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool},
        **{"AveragePool": _average_pool, "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm},
        **{"LayerNormalization": _layer_norm, "RMSNormalization": _layer_norm, "GroupNormalization": _group_norm},
        **{"LRN": _lrn, "ArgMax": _arg, "ArgMin": _arg, "Flatten": _flatten, "Pad": _pad, "Upsample": _upsample},
        **{"DepthToSpace": _depth_space, "SpaceToDepth": _depth_space, "Resize": _resize},
        **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
    }
)
