"""Recurrent networks unrolled by hand from their weights, each state kept, gates held: what tests compare with.

Everything is a plain loop; derivatives are autograd's of the loop, in which held factors are constants. Nothing here
knows the library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Walk:
    """The states of one layer in one direction, in the order of time, and what they were made of."""

    states: list[Tensor] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)


def held_tanh(u: Tensor) -> Tensor:
    """The tangent hyperbolic by its ratio, held: tanh(u*)/u* times u."""
    return torch.where(u == 0, 1.0, torch.tanh(u) / u).detach() * u


def held_sigmoid(u: Tensor) -> Tensor:
    """A sigmoid that carries: its ratio about 1/2, held, and below -1 its tangent."""
    s = torch.sigmoid(u).detach()
    near = 0.5 + (torch.tanh(u / 2) / (2 * u)).detach() * u
    return torch.where(u >= -1, near, s + (s * (1 - s)).detach() * (u - u.detach()))


def cell(
    rnn: nn.RNNBase, suffix: str, x: Tensor, state: tuple[Tensor, ...], begins: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """One step: the new state, its carrier last, and the code of the first operator that makes it."""
    weight = {name: getattr(rnn, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    given = x @ weight["weight_ih"].T + weight["bias_ih"]
    known = state[0] @ weight["weight_hh"].T + weight["bias_hh"]
    if isinstance(rnn, nn.LSTM):
        i, f, g, o = (given + known).chunk(4, 1)
        c = torch.sigmoid(f).detach() * state[1] + torch.sigmoid(i).detach() * held_tanh(g)
        return (torch.sigmoid(o).detach() * held_tanh(c), c), i > 0
    if isinstance(rnn, nn.GRU):
        (r, z, n), (hr, hz, hn) = given.chunk(3, 1), known.chunk(3, 1)
        z = torch.sigmoid(z + hz).detach()
        # Of a product with a constant, as the first step's is, the other factor carries.
        reset = held_sigmoid(r + hr) if begins else torch.sigmoid(r + hr).detach()
        new = held_tanh(n + reset * hn)
        return ((1 - z) * new + z * state[0],), r + hr > 0
    h = (given + known).relu()
    return (h,), h > 0


def unroll(rnn: nn.RNNBase, x: Tensor, initial: Any = None) -> tuple[Tensor, list[Walk]]:
    """The outputs (N, T, directions x hidden), and the walk of every layer and direction."""
    walks: list[Walk] = []
    directions = 2 if rnn.bidirectional else 1
    for layer in range(rnn.num_layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            zeros = x.new_zeros(len(x), rnn.hidden_size)
            state = (zeros, zeros) if initial is None else tuple(item[:, place] for item in initial)
            walk, hidden = Walk(), [zeros] * x.shape[1]
            steps = range(x.shape[1])[:: -1 if direction else 1]
            for t in steps:
                suffix = f"l{layer}" + "_reverse" * direction
                state, code = cell(rnn, suffix, x[:, t], state, initial is None and t == steps[0])
                hidden[t] = state[0]
                walk.states.append(state[1] if isinstance(rnn, nn.LSTM) else state[0])
                walk.codes.append(code)
            walk.states, walk.codes = walk.states[:: -1 if direction else 1], walk.codes[:: -1 if direction else 1]
            walks.append(walk)
            outputs.append(torch.stack(hidden, 1))
        x = torch.cat(outputs, 2)
    return x, walks


def map_norms(outputs: Tensor, states: list[Tensor]) -> Tensor:
    """|d output_c / d state_t| at each sample, (N, K, T): samples do not mix, so sums over them keep them apart."""
    rows = []
    for unit in range(outputs.shape[1]):
        found = torch.autograd.grad(
            outputs[:, unit].sum(), states, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows.append(torch.stack([item.norm(dim=1) for item in found], 1))
    return torch.stack(rows, 1)


def gains(final: Tensor, states: list[Tensor]) -> Tensor:
    """The largest singular value of d final / d state_t, (N, T)."""
    rows = [
        torch.autograd.grad(final[:, unit].sum(), states, retain_graph=True, allow_unused=True, materialize_grads=True)
        for unit in range(final.shape[1])
    ]
    maps = [torch.stack([row[t] for row in rows], 1) for t in range(len(states))]
    return torch.stack([torch.linalg.matrix_norm(item, ord=2) for item in maps], 1)
