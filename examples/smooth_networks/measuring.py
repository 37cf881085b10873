"""What is measured on every smooth network: how exact its map is, and how far from the Jacobian."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only

Model = TypeVar("Model", bound=nn.Module)
HEAD = (
    *("network", "how good", "parameters", "float64", "float32"),
    *("cos(A, J)", "\\|A − J\\| / \\|J\\|", "A v misses Δf by", "J v misses Δf by"),
)
STEP = 1e-3  # of the moves v, relative to the input


@dataclass(frozen=True)
class Row:
    """What was measured on one network.

    Attributes:
        name: The network.
        parameters: How many numbers it was trained in.
        quality: How good it is at its task, in words.
        residuals: |A x + b - f| / |f| in double and in single precision.
        cosine: Of A and J, over all outputs and inputs.
        apart: |A - J| / |J|.
        missed: How far A v and J v are from the change of the outputs along a small step v, relative to it.
    """

    name: str
    parameters: int
    quality: str
    residuals: tuple[float, float]
    cosine: float
    apart: float
    missed: tuple[float, float]

    @property
    def cells(self) -> list[str]:
        """The row of the page's table, whose columns are HEAD."""
        exact = [f"{value:.0e}" for value in self.residuals]
        far = [f"{self.cosine:.2f}", f"{self.apart:.0%}", *(f"{value:.1%}" for value in self.missed)]
        return [self.name, self.quality, f"{self.parameters:,}", *exact, *far]


def kept(make: Callable[[], Model], learn: Callable[[Model], None], file: Path, seed: int = 0) -> Model:
    """The trained network: from its file, or trained now and put there.

    Args:
        make: Builds the network.
        learn: Trains it in place.
        file: Its weights, ``.safetensors``.
        seed: Of its first weights.

    Returns:
        The network in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        if not file.exists():
            learn(model)
            file.parent.mkdir(parents=True, exist_ok=True)
            ma.models.save_weights(model, file)
    model.load_state_dict(safetensors.torch.load_file(file))
    return model.eval()


def measure(name: str, model: nn.Module, x: Tensor, quality: str) -> Row:
    """Hold the gates at some inputs and compare the map with the network, and with its Jacobian.

    Args:
        name: The network.
        model: It, in single precision; not changed.
        x: Inputs (N, *in), in single precision.
        quality: How good it is, in words.

    Returns:
        What was found.
    """
    double = copy.deepcopy(model).double()
    residuals = []
    for network, inputs in ((double, x.double()), (model, x)):
        frozen = ma.capture(network, inputs, smooth="frozen")
        residuals.append(frozen.verify(network, inputs).residuals["affine"])
    x = x.double()
    held, tangent = (ma.capture(double, x, smooth=smooth).affine_map(x) for smooth in ("frozen", "tangent"))
    slopes, jacobian = only(held.slopes), only(tangent.slopes)
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    v = STEP * v * x.norm() / v.norm()
    with torch.no_grad():
        change = double(x + v) - double(x)
    missed = [float((amap.mv(v) - change).norm() / change.norm()) for amap in (held, tangent)]
    cosine = float((slopes * jacobian).sum() / (slopes.norm() * jacobian.norm()))
    apart = float((slopes - jacobian).norm() / jacobian.norm())
    count = sum(parameter.numel() for parameter in model.parameters())
    return Row(name, count, quality, (residuals[0], residuals[1]), cosine, apart, (missed[0], missed[1]))
