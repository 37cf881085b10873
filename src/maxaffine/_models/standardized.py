"""Reference networks for data in units of its own, as the columns of a table: standardized inside of the network."""

import torch
from torch import Tensor, nn

from .networks import Normalized, build
from .training import LabeledData

# A table has few columns: two layers of so many units learn it, and their regions can still be counted.
TABLE_WIDTHS = (64, 64)


class Standardized(Normalized):
    """A network that gives values in their own units: target_std * model((x - mean) / std) + target_mean."""

    # Both ends are affine, so that templates and offsets speak of the table's own units.
    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self, model: nn.Module, inputs: tuple[list[float], list[float]], targets: tuple[list[float], list[float]]
    ) -> None:
        super().__init__(model, *inputs)
        for name, numbers in zip(("target_mean", "target_std"), targets, strict=True):
            self.register_buffer(name, torch.tensor(numbers, dtype=self.mean.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Give the values (N, K) in their own units."""
        return super().forward(x) * self.target_std + self.target_mean


def standardized(name: str, part: LabeledData, outputs: int, seed: int | None = None) -> nn.Module:
    """A reference network that takes inputs, and gives targets, as `part` has them, with their spread inside of it."""
    options = {"widths": TABLE_WIDTHS} if name.replace("_", "-") == "mlp" and part.inputs.ndim == 2 else {}
    model = build(name, part.inputs.shape[1:], outputs, seed=seed, **options)
    inputs = spread(part.inputs) if part.inputs.ndim == 2 else ([0.0], [1.0])  # pixels have one scale already
    targets: Tensor | None = getattr(part, "targets", None)
    if targets is None:
        return Normalized(model, *inputs)
    return Standardized(model, inputs, spread(targets))


def spread(columns: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column (N, D); 1 for one that is constant."""
    numbers = columns.double()
    std = numbers.std(0, correction=0)
    # By its ends: the deviation of equal numbers need not round to 0.
    std[numbers.amax(0) == numbers.amin(0)] = 1.0
    return numbers.mean(0).tolist(), std.tolist()
