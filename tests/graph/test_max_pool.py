"""Codes of max-pooling: the winner's place in its window, found again by loops over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from math import ceil, floor, prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._graph import MaxPool
from tests.blocks import only
from tests.zoo.networks import Net

Window = list[tuple[int, int]]  # along one axis: the coordinates inside the input, each with its place in the window

FIXED = {
    "plain": nn.MaxPool2d(2),
    "wide": nn.MaxPool2d((2, 3), (1, 2)),
    "overlapping": nn.MaxPool2d(3, 2, 1),
    "ceiling": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "ceiling_unpadded": nn.MaxPool2d(2, ceil_mode=True),
    "dilated": nn.MaxPool2d(2, 1, dilation=(2, 3)),
    "dilated_padded": nn.MaxPool2d((2, 3), (2, 1), 1, dilation=2),
    "everything": nn.MaxPool2d((5, 7)),
    "large": nn.MaxPool2d((5, 7), 1, (2, 3)),
}
LINES = {"line": nn.MaxPool1d(3, 2, 1, dilation=2), "line_ceiling": nn.MaxPool1d(2, ceil_mode=True)}
VOLUMES = {"volume": nn.MaxPool3d((2, 1, 3), (1, 2, 2), (1, 0, 1)), "volume_dilated": nn.MaxPool3d(2, 1, dilation=2)}
ADAPTIVE = {
    "thirds": nn.AdaptiveMaxPool2d(3),
    "uneven": nn.AdaptiveMaxPool2d((2, 4)),
    "kept": nn.AdaptiveMaxPool2d((None, 1)),
}
MANY = {"more_pieces_than_a_byte": nn.MaxPool2d((17, 16)), "dilated_too": nn.MaxPool2d((9, 29), 1, dilation=(2, 1))}
GROUPS = ((FIXED, (2, 5, 7)), (LINES, (2, 9)), (VOLUMES, (2, 4, 3, 5)), (ADAPTIVE, (2, 5, 7)), (MANY, (2, 19, 32)))


def per_axis(value: Any, axes: int) -> Sequence[int]:
    return (value,) * axes if isinstance(value, int) else tuple(value or ())


def fixed_windows(pool: nn.Module, sizes: Sequence[int]) -> list[list[Window]]:
    """Per axis the windows, from the documentation of torch.nn.MaxPool2d."""
    kernel, stride, padding, dilation = (
        per_axis(getattr(pool, name), len(sizes)) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    rounded = ceil if pool.ceil_mode else floor
    found = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        count = int(rounded((n + 2 * p - d * (k - 1) - 1) / s)) + 1
        count -= (count - 1) * s >= n + p  # a window that starts in the right padding is left out
        starts = [place * s - p for place in range(count)]
        found.append([[(start + d * i, i) for i in range(k) if 0 <= start + d * i < n] for start in starts])
    return found


def adaptive_windows(pool: nn.Module, sizes: Sequence[int]) -> list[list[Window]]:
    """Per axis the windows floor(i n / m) to ceil((i + 1) n / m)."""
    targets = [m or n for m, n in zip(per_axis(pool.output_size, len(sizes)), sizes, strict=True)]
    found = []
    for n, m in zip(sizes, targets, strict=True):
        spans = [range(floor(i * n / m), ceil((i + 1) * n / m)) for i in range(m)]
        found.append([[(coordinate, place) for place, coordinate in enumerate(span)] for span in spans])
    return found


def winners(plane: Tensor, windows: list[list[Window]], widths: Sequence[int]) -> Tensor:
    """The place, row by row, of the first largest entry of every window of one plane."""
    codes = []
    for window in product(*windows):
        best, winner = float("-inf"), -1
        for spot in product(*window):
            value = float(plane[tuple(coordinate for coordinate, _ in spot)])
            if value > best:
                number = 0
                for (_, place), width in zip(spot, widths, strict=True):
                    number = number * width + place
                best, winner = value, number
        codes.append(winner)
    return torch.tensor(codes).reshape([len(axis) for axis in windows])


@cache
def captured(group: int) -> tuple[ma.SplineNetwork, Tensor]:
    """All poolings of a group side by side, on small integers so that there are ties."""
    pools, shape = GROUPS[group]
    module = Net(lambda m, x: [pool(x) for pool in m.pools], pools=nn.ModuleList(pools.values()))
    x = torch.randint(-2, 3, (3, *shape), generator=torch.Generator().manual_seed(0)).double()
    return ma.capture(module, x), x


EVERY = [(group, name) for group, (pools, _) in enumerate(GROUPS) for name in pools]


@pytest.mark.parametrize(("group", "name"), EVERY, ids=[name for _, name in EVERY])
def test_codes_are_places_in_the_window(group: int, name: str) -> None:
    net, x = captured(group)
    pools, (_, *sizes) = GROUPS[group]
    place, pool = list(pools).index(name), pools[name]
    if name in ADAPTIVE:
        windows = adaptive_windows(pool, sizes)
        widths: Sequence[int] = [max(len(window) for window in axis) for axis in windows]
    else:
        windows, widths = fixed_windows(pool, sizes), per_axis(pool.kernel_size, len(sizes))
    record = next(r for r in net.operators if r.module_path == f"pools.{place}" and "pool" in r.kind)
    codes = net.codes(x)[record.name].unpack()
    for sample, channel in product(range(3), range(2)):
        expected = winners(x[sample, channel], windows, widths)
        assert torch.equal(codes[sample, channel].reshape(expected.shape).long(), expected)
    assert record.pieces == prod(widths)


@pytest.mark.parametrize(("group", "name"), EVERY, ids=[name for _, name in EVERY])
def test_each_output_is_one_entry_of_the_input(group: int, name: str) -> None:
    net, x = captured(group)
    place = list(GROUPS[group][0]).index(name)
    amap = net.affine_map(x, output=place)
    rows = only(amap.slopes).reshape(3, -1, x[0].numel())
    assert bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(2) == 1).all())
    assert not amap.offsets.any()
    assert_close((rows @ x.reshape(3, -1, 1)).flatten(1), GROUPS[group][0][name](x).flatten(1))


@pytest.mark.parametrize("name", [*FIXED, *ADAPTIVE])
def test_many_channels_are_pooled_side_by_side_to_the_same_bits(name: str) -> None:
    """Ties, both zeros and infinities included; what leaves the operator lies in memory as the module's own would."""
    pool = (FIXED | ADAPTIVE)[name]
    choices = torch.tensor([-torch.inf, -1.0, -0.0, 0.0, 1.0, torch.inf])
    x = choices[torch.randint(len(choices), (3, 9, 7, 8), generator=torch.Generator().manual_seed(0))]
    (operator,) = (step.operator for step in ma.capture(pool, torch.ones_like(x)).graph.steps)
    assert isinstance(operator, MaxPool)
    seen = []

    def traced(*inputs: Tensor) -> Any:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        return operator.traced(*inputs)

    spied = replace(operator, traced=traced)
    for found, expected in zip(spied(x), operator.traced(x), strict=True):
        assert found.numpy().tobytes() == expected.numpy().tobytes() and found.is_contiguous()
    few = x[:, :2].contiguous(), x.double(), x.mT
    for other in few:
        for found, expected in zip(spied(other), operator.traced(other), strict=True):
            assert torch.equal(found, expected)
    assert seen == [True] + [False] * len(few)
