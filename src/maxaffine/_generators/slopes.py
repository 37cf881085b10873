"""The slopes of a generator at latent points, one latent after the other along the last axis, in blocks.

g(z) = A z + b on a region of the latent space, with A of shape (D, S). Everything in this room is a function of A.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._maps import AffineMap
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

Head = Callable[[Tensor], Tensor] | bool | None
# What the slopes of one block, and the values of its samples on the way, may take.
BLOCK_BYTES = 64 * 2**20
ROWS_PER_SAMPLE = 4  # as an affine map reckons


@dataclass(frozen=True)
class Generator:
    """A captured network as g: latent z (S numbers) to sample x (D numbers), with an elementwise head after it."""

    net: SplineNetwork
    output: int | str | None
    head: Callable[[Tensor], Tensor] | None

    @property
    def latents(self) -> int:
        """S."""
        return prod(self.net.inputs.units[0])

    @property
    def numbers(self) -> int:
        """D, in one sample."""
        return prod(self.units)

    @property
    def units(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.net.graph.values[self.net.target(None, self.output)].units

    def affine_map(self, z: Tensor) -> AffineMap:
        """The map before the head, as one block."""
        return self.net.affine_map(z, output=self.output, chunk_bytes=2 * BLOCK_BYTES)

    def __call__(self, z: Tensor) -> Tensor:
        """The samples (N, *units), with the head."""
        parts = [self.affine_map(z[part]).value for part in slices(len(z), self.at_once(1))]
        found = torch.cat(parts)
        return found if self.head is None else self.head(found)

    def slopes(self, z: Tensor, progress: bool | None, does: str) -> Iterator[Tensor]:
        """The Jacobians (n, D, S) of consecutive latents, with the head as a diagonal factor, in blocks."""
        z = self.checked(z)
        with progress_bar(progress, does, total=len(z), unit="sample") as bar:
            for part in slices(len(z), self.at_once(self.latents)):
                amap = self.affine_map(z[part])
                slopes = amap.slopes
                if not isinstance(slopes, Tensor):
                    raise BadInput("net: a generator has one floating-point input; capture one with the others fixed")
                slopes = slopes.reshape(amap.batch, -1, self.latents)
                if self.head is not None:
                    slopes = slopes * derivative(self.head, amap.value).to(slopes).reshape(amap.batch, -1, 1)
                yield slopes
                bar.update(amap.batch)

    def checked(self, z: Any, name: str = "z") -> Tensor:
        """Latents that the network takes; errors call them by the name of the argument."""
        try:
            return self.net.inputs.tensors(z)[0]
        except BadInput as error:
            raise type(error)(f"{name}: {str(error).split(': ', 1)[1]}") from error

    def at_once(self, columns: int) -> int:
        """How many samples fit in a block when each has so many columns of slopes."""
        graph = self.net.graph
        per_sample = max(ROWS_PER_SAMPLE * graph.largest_value(), self.numbers * columns)
        return max(1, BLOCK_BYTES // (per_sample * self.net.inputs.dtypes[0].itemsize))


def generator(net: Any, output: int | str | None = None, head: Head = None) -> Generator:
    """A network as a generator; refuses what is none. `head` is True for the activation that capture left out."""
    if not isinstance(net, SplineNetwork):
        raise BadInput(f"net: expected a SplineNetwork, got {type(net).__name__}; capture the module: ma.capture(...)")
    if len(net.inputs.dtypes) != 1 or net.inputs.batch_dims != (0,):
        raise BadInput(
            f"net: a generator takes one tensor of latents, samples first, and this takes {net.inputs.names};"
            " capture a wrapper whose forward(z) fixes the others"
        )
    if net.gated:
        raise BadInput(
            f"net: the gate of {net.held[0].name!r} is held, so that A is not the Jacobian and its singular values are"
            ' no volume; capture with smooth="tangent"'
        )
    if head is True:
        ending = net.endings[net.output_place(output)] if net.endings else None
        if ending is None:
            raise BadInput("head: capture left nothing out after this output; give the function, e.g. torch.tanh")
        head = ending
    found = Generator(net, output, head or None)
    if found.head is not None and not callable(found.head):
        raise BadInput(f"head: expected a function such as torch.tanh, got {type(head).__name__}")
    return found


def require_number(name: str, number: Any, least: int) -> None:
    """Refuse what is not a whole number of at least so much."""
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise BadInput(f"{name}: expected a number of at least {least}, got {number!r}")


def in_float64(g: Generator) -> Generator:
    """The same in double precision."""
    return replace(g, net=g.net.double())


def derivative(head: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """The derivative of an elementwise function at each number; refuses one that mixes numbers."""
    # Of an elementwise function every product of the Jacobian with v is T v with the same diagonal T; one that mixes
    # numbers, as softmax does, would need another T for another v.
    tilted = torch.linspace(1, 2, value.numel(), dtype=value.dtype, device=value.device).reshape(value.shape).cos()
    value = value.float() if value.dtype.itemsize < 4 else value
    tilted = tilted.to(value)
    with torch.enable_grad():
        point = value.detach().requires_grad_()
        out = head(point * 1)  # a head may write into what it is given
        if out.shape != value.shape:
            raise BadInput(f"head: it turns {tuple(value.shape)} into {tuple(out.shape)}; give an elementwise function")
        if not out.requires_grad:
            raise BadInput("head: its output does not depend on what it is given; give a function such as torch.tanh")
        diagonal, product = (
            torch.autograd.grad(out, point, weights, retain_graph=True)[0]
            for weights in (torch.ones_like(value), tilted)
        )
    scale = diagonal.abs().max() if diagonal.numel() else diagonal.sum()
    if not torch.allclose(product, diagonal * tilted, rtol=1e-3, atol=float(scale) * 1e-4):
        raise BadInput("head: it is not applied to each number by itself, so it is no diagonal factor; leave it out")
    return diagonal
