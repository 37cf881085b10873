"""The soft code of one operator: its beta, fixed or trained, and the operator's value with it."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._curvature.forms import Number, soft_maximum
from maxaffine._graph import OperatorRecord, Rebuilt, Splines, tensors_in

# Beyond, exp(raw) is beta / (1 - beta) for beta within 1e-13 of 0 or 1: no training tells them apart.
MOST = 30.0


class SoftCode(nn.Module):
    """One piecewise-affine operator of a softened network.

    Attributes:
        record: What the network says of the operator.
        form: ``"expected"``, ``"energy"`` or ``"mixed"``.
        beta: In [0, 1]: a number, or a tensor of one (where it is trained) or of one per channel.
        mix: The share of the expected form in the mixed one, likewise.
    """

    channels: Tensor | None  # beta of each channel, where it is fixed
    raw: nn.Parameter
    raw_mix: nn.Parameter

    def __init__(
        self, record: OperatorRecord, live: Rebuilt, form: str, beta: Number, mix: float, shared: Shared | None
    ) -> None:
        super().__init__()
        self.record, self.form, self._live = record, form, live
        self._fixed = 0.0 if isinstance(beta, Tensor) else beta
        self._mix = mix
        channels = beta.detach().clone() if isinstance(beta, Tensor) and shared is None else None
        self.register_buffer("channels", channels, persistent=False)
        if shared is not None:
            self.raw = shared.raw
            if shared.raw_mix is not None:
                self.raw_mix = shared.raw_mix

    @property
    def constants(self) -> list[Tensor]:
        """The tensors that the operator holds, in the order in which they are given."""
        return list(tensors_in(self._live.operator))

    @property
    def identity(self) -> bool:
        """Whether beta is fixed at 1, so that the operator is itself."""
        return not isinstance(self.beta, Tensor) and self.beta == 1

    @property
    def trained(self) -> bool:
        """Whether beta is a parameter."""
        return "raw" in self._parameters

    @property
    def beta(self) -> Number:
        """The number, or the tensor."""
        if self.trained:
            return torch.sigmoid(self.raw.detach())
        return self._fixed if self.channels is None else self.channels

    @property
    def mix(self) -> Number:
        """The share of the expected form."""
        return torch.sigmoid(self.raw_mix.detach()) if "raw_mix" in self._parameters else self._mix

    def forward(self, *inputs: Any) -> Tensor:
        """The operator's inputs, then its constants, to its soft value."""
        taken = self._live.taken
        operator = self._live.given(inputs[taken:])
        splines = operator.splines(inputs[:taken])
        if self.trained:
            mix = torch.sigmoid(self._spread(self.raw_mix)) if "raw_mix" in self._parameters else self._mix
            return self._value(splines, self._spread(self.raw).clamp(-MOST, MOST).exp(), mix)
        if self.channels is None:
            return self._value(splines, self._fixed / (1 - self._fixed), self._mix)
        beta = self._spread(self.channels)
        # At beta = 1 the operator itself; what stands in its place there must be finite, for the gradient.
        hard = beta >= 1
        soft = self._value(splines, torch.where(hard, 0.0, beta) / torch.where(hard, 1.0, 1 - beta), self._mix)
        value = operator(*inputs[:taken])
        return torch.where(hard, value[0] if isinstance(value, tuple | list) else value, soft)

    def _value(self, splines: Splines, eta: Number, mix: Number) -> Tensor:
        total: Any = splines.base
        for maximum in splines.maxima:
            value = soft_maximum(maximum, eta, self.form, mix)
            if isinstance(maximum.sign, Tensor):
                total = total + maximum.sign * value
            elif isinstance(total, Tensor) or total:
                total = total + value if maximum.sign > 0 else total - value
            else:  # nothing is affine in it
                total = value if maximum.sign > 0 else -value
        return total

    def _spread(self, channels: Tensor) -> Tensor:
        """One number, or one per channel, as it broadcasts against the operator's values (N, channels, ...)."""
        wide = channels.float() if channels.element_size() < 4 else channels
        return wide.reshape(-1, *[1] * (len(self.record.units) - 1)) if wide.dim() else wide

    def extra_repr(self) -> str:
        """What nn.Module prints."""
        return f"{self.record.name}, {self.form}, beta={self.described()}"

    def described(self) -> str:
        """Beta in a few characters."""
        beta = self.beta
        if not isinstance(beta, Tensor) or beta.numel() == 1:
            return f"{float(beta):.4g}" + (" (trained)" if self.trained else "")
        ends = f"{float(beta.min()):.4g} to {float(beta.max()):.4g}"
        return f"{ends} ({len(beta)} channels{', trained' if self.trained else ''})"


class Shared:
    """What is trained, by one operator or by several together: beta = sigmoid(raw), so that it stays inside (0, 1)."""

    def __init__(self, beta: Tensor, mix: float | None) -> None:
        # Then beta / (1 - beta) = exp(raw) and 1 / (1 - beta) = 1 + exp(raw), however near to 1 it comes.
        self.raw = nn.Parameter(torch.logit(beta))
        self.raw_mix = None if mix is None else nn.Parameter(torch.full_like(beta, log(mix / (1 - mix))))
