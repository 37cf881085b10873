"""The least that slopes of chosen outputs must cost: the input-gradient products of every layer, and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Call:
    """One use of a linear or convolution layer, with the shapes of one sample."""

    layer: nn.Linear | nn.Conv2d
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def layer_calls(model: nn.Module, inputs: Tensor) -> list[Call]:
    """The linear and convolution layers in the order of one forward pass."""
    calls: list[Call] = []

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            calls.append(Call(layer, tuple(arguments[0].shape[1:]), tuple(output.shape[1:])))

    hooks = [part.register_forward_hook(record) for part in model.modules()]
    with torch.no_grad():
        model(inputs[:1])
    for hook in hooks:
        hook.remove()
    return calls


def input_gradients(
    model: nn.Module, inputs: Tensor, outputs: int, at_once: bool = False, channels_last: bool = False
) -> Callable[[], None]:
    """The input-gradient products alone, for every sample and the first outputs of the last layer.

    Args:
        model: Network of linear and convolution layers, the last of which gives the outputs.
        inputs: Batch (N, *in).
        outputs: Number of outputs.
        at_once: Hand all N x outputs rows to each layer in one call; else pass the layers once per output with N rows,
            as a loop over the classes does.
        channels_last: Lay out weights and gradients in that format.

    Returns:
        A call that computes the products and forgets them.
    """
    calls = layer_calls(model, inputs)
    rows = len(inputs) * outputs if at_once else len(inputs)
    numbers = torch.randn(rows * max(math.prod(shape) for c in calls for shape in (c.input_shape, c.output_shape)))
    steps = [_product(call, rows, numbers, channels_last) for call in reversed(calls[:-1])]
    last = calls[-1].layer.weight[:outputs]
    steps.insert(0, lambda: numbers[: rows * len(last)].view(rows, -1) @ last)

    def run() -> None:
        with torch.no_grad():
            for _ in range(1 if at_once else outputs):
                for step in steps:
                    step()

    return run


def _product(call: Call, rows: int, numbers: Tensor, channels_last: bool) -> Callable[[], Tensor]:
    layer = call.layer
    if isinstance(layer, nn.Linear):
        cotangents = numbers[: rows * layer.out_features].view(rows, -1)
        return lambda: cotangents @ layer.weight

    def laid_out(shape: tuple[int, ...]) -> Tensor:
        some = numbers[: rows * math.prod(shape)]
        if not channels_last:
            return some.view(rows, *shape)
        return some.view(rows, *shape[1:], shape[0]).permute(0, 3, 1, 2)

    layout = torch.channels_last if channels_last else torch.contiguous_format
    weight = layer.weight.contiguous(memory_format=layout)
    # The gradient reads the shape of the layer's input, never its numbers.
    cotangents, placeholder = laid_out(call.output_shape), laid_out(call.input_shape)
    geometry = (layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups, (True, False, False))
    return lambda: torch.ops.aten.convolution_backward(cotangents, placeholder, weight, None, *geometry)[0]


def work(model: nn.Module, inputs: Tensor, outputs: int) -> dict[str, float]:
    """What the floor must compute, in GFLOP, and move at least, in GB."""
    run, counter = input_gradients(model, inputs, outputs), FlopCounterMode(display=False)
    with counter:
        run()
    calls = layer_calls(model, inputs)
    rows = len(inputs) * outputs
    moved = sum(rows * (math.prod(c.input_shape) + math.prod(c.output_shape)) + c.layer.weight.numel() for c in calls)
    return {"gflop": counter.get_total_flops() / 1e9, "gbyte": moved * FLOAT_BYTES / 1e9}


def peaks() -> dict[str, float]:
    """What one thread of this machine computes in a large convolution and moves in a large copy, per second."""
    return {"gflop": _peak_gflops(), "gbyte": _peak_gbytes()}


def _fastest(run: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _peak_gflops(channels: int = 256, side: int = 56) -> float:
    # A convolution, because it is at least as fast as a matrix product with the libraries that torch ships.
    image, weight = torch.randn(1, channels, side, side), torch.randn(channels, channels, 3, 3)
    return 2 * 9 * (channels * side) ** 2 / 1e9 / _fastest(lambda: torch.conv2d(image, weight, padding=1))


def _peak_gbytes(numbers: int = 2**26) -> float:
    source, target = torch.zeros(numbers), torch.zeros(numbers)
    return 2 * numbers * FLOAT_BYTES / 1e9 / _fastest(lambda: target.copy_(source))
