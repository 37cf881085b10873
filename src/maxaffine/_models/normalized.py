"""A network after the normalization of its inputs, which most image networks are trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import BadInput


class Normalized(nn.Module):
    """A network that takes what its data holds: model((x - mean) / std), channel by channel.

    The normalization is affine, so the whole has an exact spline form, whose templates and offsets speak of the data as
    it is, e.g. of pixels in [0, 1].

    Args:
        model: The network, from inputs (N, C, ...).
        mean: One number, or one for each of the C channels (of the D columns of a table).
        std: The same; all above 0.

    Raises:
        BadInput: If the numbers are not finite, or one of ``std`` is not above 0.

    >>> Normalized(nn.Identity(), [0.5], [0.25])(torch.tensor([[0.5, 1.0]]))
    tensor([[0., 2.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        like = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.zeros(()))
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.tensor(values, dtype=like.dtype, device=like.device)
            allowed = numbers.isfinite() & ((numbers > 0) | (name == "mean"))
            if numbers.ndim != 1 or not len(numbers) or not allowed.all():
                limits = "finite numbers above 0" if name == "std" else "finite numbers"
                raise BadInput(f"{name}: {list(values)} are not {limits}; give one, or one per channel")
            self.register_buffer(name, numbers)
        self.model = model
        self.training = model.training  # an exported model has no train()

    def forward(self, x: Tensor) -> Tensor:
        """What the network gives at the normalized inputs (N, C, ...)."""
        shape = (-1, *[1] * (x.ndim - 2))
        return self.model((x - self.mean.reshape(shape)) / self.std.reshape(shape))
