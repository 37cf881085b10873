"""The soft forms of a maximum: its pieces weighed by a softmax, or their log-sum-exp."""

import torch
from torch import Tensor
from torch.nn import functional as F

from maxaffine._graph import Maximum

FORMS = ("expected", "energy", "mixed")
Number = float | Tensor


def soft_maximum(maximum: Maximum, eta: Number, form: str, mix: Number) -> Tensor:
    """A maximum, without its sign, at eta = beta / (1 - beta); the log-sum-exp at 1 + eta = 1 / (1 - beta)."""
    # Numbers of 16 bits cannot hold eta near beta = 1.
    pieces = maximum.pieces
    wide = pieces.float() if pieces.element_size() < 4 else pieces
    functions = (_expected_pair, _energy_pair) if maximum.pair else (_expected, _energy)
    if not maximum.pair:
        eta, mix = (item[..., None] if isinstance(item, Tensor) and item.dim() else item for item in (eta, mix))
    if form != "mixed":
        found = functions[FORMS.index(form)](wide, eta)
    else:
        expected, energy = (function(wide, eta) for function in functions)
        found = torch.lerp(energy, expected, mix)
    return (found if maximum.pair else found.squeeze(-1)).to(pieces.dtype)


def _expected_pair(gap: Tensor, eta: Number) -> Tensor:
    # Of the pieces 0 and u the second has the weight sigmoid(eta u).
    return gap * torch.sigmoid(eta * gap)


def _energy_pair(gap: Tensor, eta: Number) -> Tensor:
    # softplus(g u) / g. Above 40, exp(-40) is less than rounding, and nothing overflows. PyTorch's own takes a number.
    if isinstance(eta, Tensor):
        return -F.logsigmoid(-(1 + eta) * gap) / (1 + eta)
    return F.softplus(gap, 1 + eta, threshold=40)


def _expected(pieces: Tensor, eta: Number) -> Tensor:
    below, present, most = _below(pieces)
    scores = (eta * below).masked_fill(~present, -torch.inf)
    return most + (scores.softmax(-1) * below).sum(-1, keepdim=True)


def _energy(pieces: Tensor, eta: Number) -> Tensor:
    below, present, most = _below(pieces)
    scores = ((1 + eta) * below).masked_fill(~present, -torch.inf)
    return most + scores.logsumexp(-1, keepdim=True) / (1 + eta)


def _below(pieces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far each piece lies below the largest (0 where it is missing), which are present, and the largest."""
    # Differences cannot overflow however large eta is. The largest is held: all the forms move with what is added to
    # every piece alike, so that its gradient through the differences is whole.
    present = pieces > -torch.inf
    most = pieces.detach().amax(-1, keepdim=True)
    return torch.where(present, pieces - most, 0.0), present, most
