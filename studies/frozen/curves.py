"""Deletion and insertion: how soon an answer goes or comes as parts are taken or given, the most important first."""

from __future__ import annotations

import torch
from torch import Tensor

from .networks import Subject

POINTS = 17
BATCH = 128


def areas(subject: Subject, outputs: Tensor, said: Tensor, absent: Tensor, ties: Tensor) -> tuple[Tensor, Tensor]:
    """The areas under the probability of each input's answer, against the share of parts taken or given, (N,) each.

    Args:
        subject: The network and its inputs.
        outputs: The answers, (N,).
        said: What is said of each part, (N, P).
        absent: What stands for an absent part, (N, *in).
        ties: An order of the parts, (N, P), for those of which the same is said.
    """
    ranks = _ranks(said, ties)
    counts = torch.linspace(0, said.shape[1], POINTS).round()
    deleted, inserted = [], []
    for count in counts:
        chosen = subject.spread(ranks < count)
        deleted.append(_probabilities(subject, torch.where(chosen, absent, subject.x), outputs))
        inserted.append(_probabilities(subject, torch.where(chosen, subject.x, absent), outputs))
    shares = counts / said.shape[1]
    return torch.trapezoid(torch.stack(deleted, 1), shares), torch.trapezoid(torch.stack(inserted, 1), shares)


def _ranks(said: Tensor, ties: Tensor) -> Tensor:
    """The place of each part, (N, P), 0 for that with the largest number."""
    order = torch.argsort(ties, 1)
    order = order.gather(1, torch.argsort(said.gather(1, order), dim=1, descending=True, stable=True))
    return torch.argsort(order, 1)


def _probabilities(subject: Subject, x: Tensor, outputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits = torch.cat([subject.model(part) for part in x.split(BATCH)])
    return logits.softmax(1).gather(1, outputs[:, None])[:, 0]
