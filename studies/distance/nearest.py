"""Nearest neighbors in many distances at once, with the searched images passed by once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from studies.distance.views import Seen, distances

BATCH = 1000


@dataclass
class Nearest:
    """The nearest images found so far.

    Attributes:
        count: How many to keep per query.
        distance: (queries, count or fewer) float64, ascending.
        index: The numbers of the searched images.
    """

    count: int
    distance: Tensor = field(default_factory=lambda: torch.empty(0))
    index: Tensor = field(default_factory=lambda: torch.empty(0))

    def offer(self, distance: Tensor, first: int) -> None:
        """Take the images first, first + 1, ... into account."""
        index = torch.arange(first, first + distance.shape[1]).expand(len(distance), -1)
        # Codes tie often; a term far below any difference of two distances puts the earlier image first.
        distance = distance.double() + 1e-13 * index
        if self.distance.numel():
            distance, index = torch.cat([self.distance, distance], 1), torch.cat([self.index, index], 1)
        best = distance.topk(min(self.count, distance.shape[1]), dim=1, largest=False, sorted=True)
        self.distance, self.index = best.values, index.gather(1, best.indices)


def search(
    look: Callable[[Tensor], Seen],
    queries: Tensor,
    searched: Tensor,
    marks: Sequence[int],
    count: int = 10,
    between: Callable[[Seen, Seen], Iterator[tuple[str, Tensor]]] = distances,
) -> dict[int, dict[str, tuple[Tensor, Tensor]]]:
    """The nearest of the first so many searched images, in every distance."""
    seen = look(queries)
    found: dict[str, Nearest] = {}
    answers = {}
    for start in tqdm(range(0, max(marks), BATCH), desc="search", delay=2, disable=None):
        part = look(searched[start : min(start + BATCH, max(marks))])
        for name, distance in between(seen, part):
            found.setdefault(name, Nearest(count)).offer(distance, start)
        if start + BATCH in marks:
            answers[start + BATCH] = {name: (near.distance, near.index) for name, near in found.items()}
    return answers


def accuracy(labels: Tensor, index: Tensor, wanted: Tensor, neighbors: int) -> float:
    """Accuracy of the vote of the nearest images; among classes with as many votes the nearer wins."""
    voters = labels[index[:, :neighbors]]
    weights = 1 + 1e-3 * torch.arange(neighbors, 0, -1) / neighbors
    votes = torch.zeros(len(index), int(labels.max()) + 1).scatter_add_(1, voters, weights.expand_as(voters).float())
    return float((votes.argmax(1) == wanted).double().mean())
