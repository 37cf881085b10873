"""Small networks of vectors and sequences written by hand for the zoo, and the drawing of their weights."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Net(nn.Module):
    """A module whose forward is a given function of the module and its inputs; ``parts`` become its attributes."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        # Bound on the instance so that torch.export sees the function's own signature, not *args.
        self.forward = types.MethodType(function, self)


def randomize(module: nn.Module) -> None:
    """Draw weights that keep activations alive through depth, biases that move the kinks, and batch-norm statistics."""
    for part in module.modules():
        if hasattr(part, "parametrizations") or isinstance(part, NonNegativeLinear):
            continue
        if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
            _randomize_norm(part)
        elif isinstance(part, nn.PReLU):
            nn.init.uniform_(part.weight, 0.05, 0.6)
        elif isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.3)
        elif isinstance(part, nn.RNNBase | nn.RNNCellBase):
            for parameter in part.parameters():
                nn.init.normal_(parameter, std=0.5)


def _randomize_norm(norm: Any) -> None:
    for statistic, low, high in ((norm.running_mean, -0.4, 0.4), (norm.running_var, 0.5, 1.5)):
        if statistic is not None:
            nn.init.uniform_(statistic, low, high)
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)


def mlp(activation: Callable[[], nn.Module], bias: bool = True) -> nn.Sequential:
    """6-8-8-3 with two activations."""
    return nn.Sequential(
        nn.Linear(6, 8, bias=bias), activation(), nn.Linear(8, 8, bias=bias), activation(), nn.Linear(8, 3, bias=bias)
    )


class ResidualMLP(nn.Module):
    """x + f(x), three times, with the relu after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(3))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.last(x)


class DenseMLP(nn.Module):
    """Every layer reads the concatenation of all earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6 + 4 * i, 4) for i in range(3))
        self.last = nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], dim=1)
        return self.last(x)


class Tied(nn.Module):
    """Two modules that hold one parameter, which a third use reads transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.b(self.a(x).relu()).relu(), self.a.weight.t())


class NonNegativeLinear(nn.Linear):
    """Linear layer whose weights are non-negative."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        nn.init.uniform_(self.weight, 0, 2 / inputs)


class InputConvex(nn.Module):
    """z' = relu(W z + U x + b) with W >= 0: every output is convex in x."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.along = nn.ModuleList([NonNegativeLinear(8, 8), NonNegativeLinear(8, 3)])
        self.across = nn.ModuleList([nn.Linear(6, 8), nn.Linear(6, 3)])

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.first(x))
        z = F.leaky_relu(self.along[0](z) + self.across[0](x), 0.1)
        return self.along[1](z) + self.across[1](x)


class Recurrent(nn.Module):
    """nn.RNN with relu, read out from every step or from the last."""

    def __init__(self, every_step: bool = False, batch_first: bool = True, **options: Any) -> None:
        super().__init__()
        self.every_step, self.batch_first = every_step, batch_first
        self.rnn = nn.RNN(3, 5, nonlinearity="relu", batch_first=batch_first, **options)
        self.head = nn.Linear(10 if self.rnn.bidirectional else 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x if self.batch_first else x.transpose(0, 1))
        out = out if self.batch_first else out.transpose(0, 1)
        return self.head(out if self.every_step else out[:, -1])


class CellLoop(nn.Module):
    """nn.RNNCell with relu unrolled by hand from a zero state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(3, 5, nonlinearity="relu")
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 5)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class HandRecurrent(nn.Module):
    """relu(W x_t + V h), leaky on odd steps; every state is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.around = nn.Linear(3, 5), nn.Linear(5, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0, :1]).expand(-1, 5), []
        for t in range(x.shape[1]):
            update = self.inward(x[:, t]) + self.around(state)
            state = F.leaky_relu(update, 0.2) if t % 2 else F.relu(update)
            states.append(state)
        return torch.stack(states, dim=1)
