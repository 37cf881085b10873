"""Which entry a unit selects: at a tie the lowest piece, which is not always the place that PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import maxaffine as ma
from tests.zoo.networks import Net

N = 9
Row = Sequence[float]


def in_order(row: Row, falling: bool = False) -> list[int]:
    return sorted(range(len(row)), key=lambda place: -row[place] if falling else row[place])


def ranked(row: Row, rank: int) -> list[int]:
    return [row.index(sorted(row)[rank])]


def running(row: Row, best: Callable[[Row], float]) -> list[int]:
    return [row.index(best(row[: end + 1])) for end in range(len(row))]


CASES: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[Row], list[int]]]] = {
    "sort": (lambda m, x: x.sort(1).values, in_order),
    "sort_falling": (lambda m, x: x.sort(1, descending=True).values, lambda row: in_order(row, True)),
    "topk": (lambda m, x: x.topk(4, 1).values, lambda row: in_order(row, True)[:4]),
    "topk_smallest": (lambda m, x: x.topk(4, 1, largest=False).values, lambda row: in_order(row)[:4]),
    "kthvalue": (lambda m, x: x.kthvalue(3, 1).values, lambda row: ranked(row, 2)),
    "median": (lambda m, x: x.median(1).values, lambda row: ranked(row, N // 2)),
    "nanmedian": (lambda m, x: x.nanmedian(1, keepdim=True).values, lambda row: ranked(row, N // 2)),
    "cummax": (lambda m, x: x.cummax(1).values, lambda row: running(row, max)),
    "cummin": (lambda m, x: x.cummin(1).values, lambda row: running(row, min)),
    "max": (lambda m, x: x.max(1).values, lambda row: ranked(row, N - 1)),
    "amin": (lambda m, x: x.amin(1), lambda row: ranked(row, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_lowest_piece_wins_a_tie(name: str) -> None:
    """Small integers, all of them equal in one row, and a row that lies just beside a tie on either side."""
    function, expected = CASES[name]
    x = torch.randint(3, (40, N), generator=torch.Generator().manual_seed(0)).double()
    x[0] = 0
    x[1] = torch.arange(N) // 2
    x[2], x[3] = x[1], x[1]
    x[2, 3], x[3, 3] = x[1, 3] + 1e-9, x[1, 3] - 1e-9
    net = ma.capture(Net(function), x[:1])
    (codes,) = net.codes(x).values()
    assert codes.unpack().reshape(len(x), -1).tolist() == [expected(row) for row in x.tolist()]
    amap = net.affine_map(x)
    assert torch.equal(amap(x), function(None, x)) and not amap.offsets.any()


def test_infinite_entries_keep_their_places() -> None:
    x = torch.tensor([[-torch.inf, 1.0, -torch.inf, torch.inf, 2.0]])
    net = ma.capture(Net(lambda m, x: (x + m.c).cummax(1).values, c=x[0]), torch.zeros(1, 5))
    (codes,) = net.codes(torch.zeros(1, 5)).values()
    assert codes.unpack().tolist() == [[0, 1, 1, 3, 3]]
