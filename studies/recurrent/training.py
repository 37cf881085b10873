"""One run: an identity-initialized ReLU network, trained with or without noise, and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import maxaffine as ma

from .tasks import TASKS, Data, Task

SEEDS = range(5)
LEARNING_RATE, CLIPPED = 1e-3, 1.0
# How each network is trained: what is done with the noise, and its standard deviation.
TREATMENTS: Mapping[str, tuple[str, float]] = {
    "none": ("none", 0.0),
    "noise 0.1": ("noise", 0.1),
    "noise 0.3": ("noise", 0.3),
    "penalty 0.1": ("penalty", 0.1),
}
PENALIZED = 8  # sequences of a batch of which the penalty is computed
MEASURED, DRAWS, MEASURED_SIGMA = 64, 40, 0.1
COUNTED = 500  # test sequences whose regions are counted
PLACES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the way through a sequence


class IdentityNetwork(nn.Module):
    """A recurrent ReLU network that begins with the identity and without biases; its last state answers.

    Source: Q. V. Le, N. Jaitly, G. E. Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units"
    (arXiv 1504.00941, 2015).
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, outputs)
        nn.init.eye_(self.weights["weight_hh_l0"])
        nn.init.zeros_(self.weights["bias_hh_l0"])
        nn.init.zeros_(self.weights["bias_ih_l0"])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The recurrent layer's parameters."""
        return dict(self.rnn.named_parameters())

    def forward(self, x: Tensor) -> Tensor:
        """The outputs at the last step."""
        return self.head(self.rnn(x)[0][:, -1])


class SideBySide(nn.Module):
    """Several such networks as one, sample s N + n for network s: five walks over time cost little more than one."""

    def __init__(self, networks: Sequence[IdentityNetwork]) -> None:
        super().__init__()
        self.count = len(networks)

        def stacked(take: Callable[[IdentityNetwork], Tensor]) -> nn.Parameter:
            return nn.Parameter(torch.stack([take(network).detach() for network in networks]))

        self.inputs = stacked(lambda network: network.weights["weight_ih_l0"].T)
        self.recurrent = stacked(lambda network: network.weights["weight_hh_l0"].T)
        self.bias = stacked(lambda network: (network.weights["bias_ih_l0"] + network.weights["bias_hh_l0"])[None])
        self.head = stacked(lambda network: network.head.weight.T)
        self.shift = stacked(lambda network: network.head.bias[None])

    def forward(self, x: Tensor, h_0: Tensor) -> Tensor:
        """The outputs (S N, K) of inputs (S N, T, D), each network from its part of the initial states (S N, H)."""
        rows = x.transpose(0, 1).unflatten(1, (self.count, -1))  # (T, S, N, D)
        state = h_0.unflatten(0, (self.count, -1))
        for given in rows @ self.inputs + self.bias:
            state = torch.baddbmm(given, state, self.recurrent).relu()
        return torch.baddbmm(self.shift, state, self.head).flatten(0, 1)

    def alone(self, place: int) -> IdentityNetwork:
        """One of the networks, by itself."""
        network = IdentityNetwork(self.inputs.shape[1], self.recurrent.shape[1], self.head.shape[2])
        with torch.no_grad():
            network.weights["weight_ih_l0"].copy_(self.inputs[place].T)
            network.weights["weight_hh_l0"].copy_(self.recurrent[place].T)
            network.weights["bias_ih_l0"].copy_(self.bias[place, 0])
            network.head.weight.copy_(self.head[place].T)
            network.head.bias.copy_(self.shift[place, 0])
        return network.eval()


@dataclass(frozen=True)
class Run:
    """One task and treatment, all seeds side by side."""

    task: str
    treatment: str

    def settings(self, seed: int) -> dict[str, object]:
        """What the training of a seed is known by."""
        task = TASKS[self.task]
        more = {"hidden": task.hidden, "epochs": task.epochs, "batch": task.batch, "lr": LEARNING_RATE}
        return {"task": self.task, "treatment": self.treatment, "seed": seed, **more}


def runs() -> list[Run]:
    """All of them, cheap tasks first."""
    return [Run(task, treatment) for task in TASKS for treatment in TREATMENTS]


def outcomes(run: Run) -> list[dict[str, float]]:
    """Train, and measure the network of each seed."""
    task, (kind, sigma) = TASKS[run.task], TREATMENTS[run.treatment]
    data = task.data()
    networks = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        networks.append(IdentityNetwork(data.train[0].shape[2], task.hidden, task.outputs))
    begin = [_regions(network, data, "begin") if kind == "none" else {} for network in networks]
    together = SideBySide(networks)
    train(together, task, data, kind, sigma)
    return [begin[place] | _measured(together.alone(place), task, data) for place in range(len(SEEDS))]


def train(model: SideBySide, task: Task, data: Data, kind: str, sigma: float) -> None:
    """Train with RMSprop, each gradient clipped; batches come in the same order whatever is done about noise."""
    noise = ma.learning.InitialStateNoise(sigma, argument="h_0")
    optimizer = torch.optim.RMSprop(model.parameters(), lr=LEARNING_RATE)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    torch.manual_seed(0)  # of the noise
    with noise.attach(model) if kind == "noise" else nullcontext():
        for _ in range(task.epochs):
            orders = torch.stack([torch.randperm(len(data.train[0]), generator=one) for one in generators])
            for rows in orders.split(task.batch, 1):
                x, y = (item[rows.flatten()] for item in data.train)
                loss = task.loss(model(x, h_0=x.new_zeros(len(x), task.hidden)), y)
                if kind == "penalty":
                    some = data.train[0][rows[:, :PENALIZED].flatten()]
                    given = {"x": some, "h_0": some.new_zeros(len(some), task.hidden)}
                    loss = loss + noise.penalty(model, given, task.loss)
                optimizer.zero_grad()
                (model.count * loss).backward()  # the mean is over all networks: each has the gradient of its own
                _clip(model)
                optimizer.step()


def _clip(model: SideBySide) -> None:
    gradients = [item.grad for item in model.parameters() if item.grad is not None]
    norms = torch.stack([item.flatten(1).norm(dim=1) for item in gradients]).norm(dim=0)
    for item in gradients:
        item.mul_((CLIPPED / norms).clamp(max=1)[:, None, None])


def _measured(model: IdentityNetwork, task: Task, data: Data) -> dict[str, float]:
    """Losses and accuracies, what noise on the initial state adds to the loss, and the regions of test sequences."""
    found: dict[str, float] = {}
    for part, (x, y) in (("train", data.train), ("test", data.test)):
        with torch.no_grad():
            answers = torch.cat([model(rows) for rows in x.split(500)])
        found[f"{part}_loss"] = float(task.loss(answers, y))
        if task.outputs > 1:
            found[f"{part}_accuracy"] = float((answers.argmax(1) == y).double().mean())
    x, y = (item[:MEASURED] for item in data.test)
    effect = ma.learning.InitialStateNoise(MEASURED_SIGMA).effect(model, x, y, task.loss, draws=DRAWS)
    found |= {name: value for name, value in effect.to_dict().items() if name not in ("sigma", "draws", "loss")}
    return found | _regions(model, data, "end")


def _regions(model: IdentityNetwork, data: Data, when: str) -> dict[str, float]:
    """How many regions the test sequences occupy by the codes of the steps so far, at some steps."""
    with torch.no_grad():
        states, _ = model.rnn(data.test[0][:COUNTED])
    # A unit's code is whether it is above zero, as a captured network has it.
    steps = {str(step): (state > 0, 2) for step, state in enumerate(states.unbind(1))}
    levels = ma.codes.region_hierarchy(ma.Codes.from_tensors(steps)).levels
    places = [round(place * (len(levels) - 1)) for place in PLACES]
    counts = [float(levels[place].together.regions) for place in places]
    return {f"{when}_regions_{place:g}": count for place, count in zip(PLACES, counts, strict=True)}
