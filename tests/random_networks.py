"""Random networks for property-based tests: straight-line programs of layers over a pool of earlier values.

A program may read any earlier value again (skips, concatenations, several branches), call an earlier layer again, and
switch between images, sequences and vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.networks import randomize

Shape = tuple[int, ...]  # of one sample: (features,), (channels, height, width), or (steps, features)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "prelu": nn.PReLU,
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(-0.7, 0.9),
    "softshrink": lambda: nn.Softshrink(0.1),
    "hardshrink": lambda: nn.Hardshrink(0.2),
}
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "negative_part": lambda x: -F.relu(-x),
    "clamp": lambda x: x.clamp(-0.5, 0.8),
    "scaled": lambda x: 1.5 * x - 0.25,
    "gated": lambda x: torch.where(x > 0.1, x, 0.3 * x),
    "reversed": lambda x: x.flip(-1),
    "running_maximum": lambda x: x.cummax(-1).values,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "difference": lambda x, y: x - 0.5 * y,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "concatenation": lambda x, y: torch.cat([x, y], 1),
}
IMAGE_LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "convolution": lambda c, k: nn.Conv2d(c, k, 3, padding=1),
    "strided": lambda c, k: nn.Conv2d(c, k, 3, 2, 1, bias=False),
    "depthwise": lambda c, k: nn.Conv2d(c, c, 3, padding=1, groups=c),
    "transposed": lambda c, k: nn.ConvTranspose2d(c, k, 2, 2),
    "batch_norm": lambda c, k: nn.BatchNorm2d(c),
    "max_pool": lambda c, k: nn.MaxPool2d(2, 1, 1),
    "strided_max_pool": lambda c, k: nn.MaxPool2d(2, ceil_mode=True),
    "average_pool": lambda c, k: nn.AvgPool2d(2, 1),
    "adaptive_pool": lambda c, k: nn.AdaptiveMaxPool2d(2),
    "nearest": lambda c, k: nn.Upsample(size=(4, 5)),
    "bilinear": lambda c, k: nn.Upsample(size=(3, 4), mode="bilinear"),
    "reflection": lambda c, k: nn.ReflectionPad2d((1, 0, 0, 1)),
}
LARGEST = 200


@dataclass(frozen=True)
class Instruction:
    """value = operation(values at these places); ``layer`` is its number among the network's layers, if it is one."""

    name: str
    places: tuple[int, ...]
    function: Callable[..., Tensor] | None = field(default=None, repr=False)
    layer: int | None = None


class RandomNetwork(nn.Module):
    """Runs a program; returns its last value, or a tuple of several."""

    def __init__(self, program: list[Instruction], layers: list[nn.Module], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.program, self.outputs = program, outputs

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = [x]
        for step in self.program:
            arguments = [values[place] for place in step.places]
            function = self.layers[step.layer] if step.layer is not None else step.function
            assert function is not None
            result = function(*arguments)
            values.append(result[0] if isinstance(result, tuple) else result)
        found = [values[place] for place in self.outputs]
        return tuple(found) if len(found) > 1 else found[0]

    def extra_repr(self) -> str:
        return "\n".join([*(f"{place}: {step}" for place, step in enumerate(self.program, 1)), f"-> {self.outputs}"])


@dataclass(frozen=True)
class RandomCase:
    """A random network in float64 and the shape of one of its samples."""

    network: RandomNetwork
    shape: Shape

    def inputs(self, batch: int, seed: int) -> Tensor:
        """Normal inputs; the global random state is left alone."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64)


class _Builder:
    """Draws one instruction after another; every shape is found by running the step on two samples."""

    def __init__(self, draw: st.DrawFn, shape: Shape) -> None:
        self.draw = draw
        self.values = [torch.zeros(2, *shape)]
        self.program: list[Instruction] = []
        self.layers: list[nn.Module] = []

    def pick(self, *allowed: int) -> int:
        """An earlier value whose number of axes (with the batch) is allowed; late ones first when shrinking."""
        places = [p for p, value in enumerate(self.values) if value.dim() in (allowed or (2, 3, 4))]
        return self.draw(st.sampled_from(places[::-1])) if places else -1

    def add(self, name: str, places: tuple[int, ...], function: Callable[..., Tensor]) -> None:
        self._append(Instruction(name, places, function), function)

    def add_layer(self, name: str, place: int, layer: nn.Module) -> None:
        self.layers.append(layer.eval())
        self._append(Instruction(name, (place,), layer=len(self.layers) - 1), layer)

    def _append(self, step: Instruction, function: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            value = function(*(self.values[place] for place in step.places))
        value = value[0] if isinstance(value, tuple) else value
        if 0 < value[0].numel() <= LARGEST:
            self.values.append(value)
            self.program.append(step)

    def activation(self) -> None:
        name = self.draw(st.sampled_from(sorted(ACTIVATIONS)))
        self.add_layer(name, self.pick(), ACTIVATIONS[name]())

    def unary(self) -> None:
        name = self.draw(st.sampled_from(sorted(UNARY)))
        self.add(name, (self.pick(),), UNARY[name])

    def binary(self) -> None:
        first = self.pick()
        shape = self.values[first].shape
        alike = [place for place, value in enumerate(self.values) if value.shape == shape]
        second = self.draw(st.sampled_from(alike))
        name = self.draw(st.sampled_from(sorted(BINARY)))
        self.add(name, (first, second), BINARY[name])

    def linear(self) -> None:
        place = self.pick(2, 3)
        if place >= 0:
            width = self.draw(st.integers(2, 6))
            bias = self.draw(st.booleans())
            self.add_layer("linear", place, nn.Linear(self.values[place].shape[-1], width, bias))

    def residual(self) -> None:
        place = self.pick(2, 3)
        if place >= 0:
            width = self.values[place].shape[-1]
            self.add_layer("block", place, nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)))
            self.add("skip", (place, len(self.values) - 1), torch.add)

    def again(self) -> None:
        """Call an earlier layer once more, on a value of the shape it was made for."""
        calls = [step for step in self.program if step.layer is not None]
        if calls:
            step = self.draw(st.sampled_from(calls))
            shape = self.values[step.places[0]].shape
            place = self.draw(st.sampled_from([p for p, value in enumerate(self.values) if value.shape == shape]))
            assert step.layer is not None
            self._append(Instruction(step.name, (place,), layer=step.layer), self.layers[step.layer])

    def image(self) -> None:
        place = self.pick(4)
        if place >= 0:
            name = self.draw(st.sampled_from(sorted(IMAGE_LAYERS)))
            _, channels, height, width = self.values[place].shape
            if min(height, width) >= 2:
                self.add_layer(name, place, IMAGE_LAYERS[name](channels, self.draw(st.integers(1, 3))))

    def recurrence(self) -> None:
        place = self.pick(3)
        if place >= 0:
            both = self.draw(st.booleans())
            layer = nn.RNN(self.values[place].shape[-1], 3, nonlinearity="relu", batch_first=True, bidirectional=both)
            self.add_layer("rnn", place, layer)

    def reshape(self) -> None:
        place = self.pick()
        kinds: dict[int, list[tuple[str, Callable[[Tensor], Tensor]]]] = {
            2: [
                ("as_sequence", lambda x: x.unflatten(1, (-1, 1)).repeat(1, 1, 2)),
                ("window_maxima", lambda x: x.unfold(1, min(2, x.shape[1]), 1).amax(2)),
            ],
            3: [
                ("last_step", lambda x: x[:, -1]),
                ("turned", lambda x: x.transpose(1, 2)),
                ("flattened", lambda x: x.flatten(1)),
                ("largest", lambda x: x.amax(1)),
                ("as_image", lambda x: x[:, None]),
            ],
            4: [
                ("flattened", lambda x: x.flatten(1)),
                ("mean", lambda x: x.mean((2, 3))),
                ("rows", lambda x: x.flatten(1, 2)),
                ("largest", lambda x: x.amax((2, 3))),
                ("sorted", lambda x: x.sort(3).values),
            ],
        }
        name, function = self.draw(st.sampled_from(kinds[self.values[place].dim()]))
        self.add(name, (place,), function)


KINDS = ("activation", "unary", "binary", "linear", "residual", "again", "image", "recurrence", "reshape")


@st.composite
def random_cases(draw: st.DrawFn, steps: int = 10) -> RandomCase:
    """A random network of up to ``steps`` instructions, its weights drawn from a random seed."""
    shape = draw(st.sampled_from([(5,), (2, 5, 4), (3, 4)]))
    seed = draw(st.integers(0, 2**16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builder = _Builder(draw, shape)
        for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=steps)):
            getattr(builder, kind)()
        last = len(builder.values) - 1
        outputs = (last, draw(st.integers(0, last))) if draw(st.booleans()) else (last,)
        network = RandomNetwork(builder.program, builder.layers, outputs)
        randomize(network)
    return RandomCase(network.double().eval(), shape)
