"""A linear probe: the classifier of given features that a penalized logistic regression finds."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROUNDS = 200  # of L-BFGS, far more than a penalized problem takes


def fit_probe(features: Tensor, labels: Tensor, classes: int, penalty: float) -> nn.Linear:
    """Minimize the mean cross-entropy plus penalty/2 |W|^2, in float64, W for features of mean 0 and size 1."""
    rows = features.double()
    mean = rows.mean(0)
    # One scale for all: brought to one size each, what a soft unit has where the hard one is dead (1e-25) would count
    # as much as any other.
    scale = (rows - mean).square().mean().sqrt()
    scale = scale if scale > 0 else torch.ones_like(scale)
    rows = (rows - mean) / scale
    weight = torch.zeros(classes, rows.shape[1], dtype=rows.dtype, device=rows.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=rows.dtype, device=rows.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ROUNDS, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(rows @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    # The same function of the features as they are.
    with torch.no_grad():
        probe = nn.Linear(rows.shape[1], classes, device="meta", dtype=features.dtype)  # where nothing is drawn
        probe.weight = nn.Parameter((weight / scale).to(features.dtype))
        probe.bias = nn.Parameter((bias - (weight / scale) @ mean).to(features.dtype))
    return probe
