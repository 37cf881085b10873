"""A row of the operator table: one way to use a class of torch.nn or a function of its functional module."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from tests.zoo.networks import Net, randomize

BATCH = 3
# Some samples close to the origin, some far from it, so that every piece of a clipped function is visited.
SCALES = (1.0, 3.0, 0.3)


@dataclass(frozen=True)
class Input:
    """One input of a row, without its axis of samples.

    Attributes:
        shape: Shape of one sample.
        high: Exclusive upper end of random integers; 0 for normal numbers.
    """

    shape: tuple[int, ...]
    high: int = 0

    def draw(self, batch: int, seed: int) -> Tensor:
        """A batch of inputs, samples first."""
        generator = torch.Generator().manual_seed(seed)
        if self.high:
            return torch.randint(self.high, (batch, *self.shape), generator=generator)
        scale = torch.tensor(SCALES, dtype=torch.float64).repeat(-(-batch // len(SCALES)))[:batch]
        normal = torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64)
        return normal * scale.view(-1, *[1] * len(self.shape))


def integers(high: int, *shape: int) -> Input:
    """An input of integers below ``high``."""
    return Input(shape, high)


Shape = tuple[int, ...]
VECTOR: Shape = (6,)
SERIES: Shape = (2, 9)
IMAGE: Shape = (2, 5, 6)
VOLUME: Shape = (2, 3, 2, 3)
SMALL: Shape = (2, 3, 3)
STEPS: Shape = (3, 4)
ONE_SIZE = "torch.export takes its batch for a fixed size"


@dataclass(frozen=True)
class Row:
    """One operator with its options, and what capture must answer.

    Attributes:
        operator: What the user writes, e.g. ``nn.Conv2d``.
        variant: The options that change the operator.
        factory: Builds the module.
        inputs: Its inputs.
        exact: Whether capture must give the exact form; else it must refuse.
        train: Whether the module is in training mode.
        batch_dim: The axis of the samples in every input.
        output_dims: The axis of the samples in every floating-point output; all 0 when empty.
        though_affine: Why it is refused although an affine form exists; empty where none does.
    """

    operator: str
    variant: str
    factory: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    exact: bool = True
    train: bool = False
    batch_dim: int = 0
    output_dims: tuple[int, ...] = ()
    though_affine: str = ""

    def __str__(self) -> str:
        return f"{self.operator}({self.variant})" if self.variant else self.operator

    def build(self) -> nn.Module:
        """The module in float64, with weights drawn from a fixed seed."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # Deprecated classes are rows too.
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            module = self.factory().double()
            if any(isinstance(part, nn.modules.lazy.LazyModuleMixin) for part in module.modules()):
                module(*self.example())
            randomize(module)
        return module.train(self.train)

    def draw(self, seed: int = 0, batch: int = BATCH) -> tuple[Tensor, ...]:
        """Inputs with the samples first."""
        return tuple(item.draw(batch, seed * 10 + place) for place, item in enumerate(self.inputs))

    def placed(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The same inputs with the samples where the module expects them."""
        return tuple(item.movedim(0, self.batch_dim) for item in inputs)

    def example(self, seed: int = 0, batch: int = BATCH) -> tuple[Tensor, ...]:
        """Inputs as the module takes them."""
        return self.placed(self.draw(seed, batch))


class SamplesFirst(nn.Module):
    """The untouched module of a row as the oracles want it: samples first, floats in, a list of floats out."""

    def __init__(self, row: Row, module: nn.Module) -> None:
        super().__init__()
        self.row = row
        self.module = module
        self.dtypes = [item.dtype for item in row.draw(batch=1)]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        # Copies, because a module may write into its input.
        typed = tuple(item.to(dtype, copy=True) for item, dtype in zip(inputs, self.dtypes, strict=True))
        values = [item for item in tree_leaves(self.module(*self.row.placed(typed))) if item.is_floating_point()]
        axes = self.row.output_dims or (0,) * len(values)
        return [value.movedim(axis, 0) for value, axis in zip(values, axes, strict=True)]


def layer(
    name: str,
    inputs: Shape | Input | tuple[Shape | Input, ...],
    *args: Any,
    variant: str | None = None,
    train: bool = False,
    batch_dim: int = 0,
    output_dims: tuple[int, ...] = (),
    **options: Any,
) -> Row:
    """A row for a class of torch.nn built with these arguments."""
    text = ", ".join([*_named(_given(name, args, options)), *(["training"] if train else [])])

    def factory() -> nn.Module:
        return getattr(nn, name)(*args, **options)

    shown = text if variant is None else variant
    return Row(f"nn.{name}", shown, factory, _listed(inputs), True, train, batch_dim, output_dims)


def module(name: str, inputs: Any, variant: str, factory: Callable[[], nn.Module], **fields: Any) -> Row:
    """A row for a class of torch.nn inside a module written for it."""
    return Row(f"nn.{name}", variant, factory, _listed(inputs), **fields)


def function(
    name: str,
    inputs: Any,
    body: Callable[..., Any] | None = None,
    variant: str | None = None,
    parts: dict[str, Shape | Callable[[], Any]] | None = None,
    batch_dim: int = 0,
    output_dims: tuple[int, ...] = (),
    **options: Any,
) -> Row:
    """A row for a function of torch.nn.functional, alone or as ``body(m, *inputs)`` calls it with constants ``m.*``."""
    text = ", ".join(_named(options)) if variant is None else variant

    def plain(m: Any, x: Tensor) -> Any:
        return getattr(F, name)(x, **options)

    def factory() -> nn.Module:
        drawn = {key: item() if callable(item) else torch.randn(item) for key, item in (parts or {}).items()}
        return Net(body or plain, **drawn)

    return Row(f"F.{name}", text, factory, _listed(inputs), batch_dim=batch_dim, output_dims=output_dims)


def tensor_function(name: str, *args: Any, **options: Any) -> Row:
    """A row for a function of torch, as :func:`function` makes one."""
    return replace(function(name, *args, **options), operator=f"torch.{name}")


def refused(*rows: Row, though_affine: str = "") -> tuple[Row, ...]:
    """The same rows, to be refused."""
    return tuple(replace(row, exact=False, though_affine=though_affine) for row in rows)


def _listed(inputs: Any) -> tuple[Input, ...]:
    items = (inputs,) if isinstance(inputs, Input) or isinstance(inputs[0], int) else inputs
    return tuple(item if isinstance(item, Input) else Input(item) for item in items)


def _given(name: str, args: tuple, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a class by their names; an older PyTorch may lack the class."""
    owner = nn.RNNBase if name in ("RNN", "LSTM", "GRU") else getattr(nn, name, None)
    names = [item for item in inspect.signature(owner).parameters if item != "mode"] if owner else []
    return dict(zip(names, args, strict=False)) | options


def _named(options: dict[str, Any]) -> list[str]:
    return [f"{key}={item!r}" for key, item in options.items()]
