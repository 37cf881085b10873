"""Inputs, units and outputs without a shape of their own: one number per sample, so that tensors of them are (N,)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma

partition = ma.partition


class ScalarOutput(nn.Module):
    """One number for each input, off a unit without a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x)[:, 0].relu()


class ScalarInputs(nn.Module):
    """Two numbers in, each through a unit of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 4).double(), nn.Linear(4, 3).double()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.second(self.first(torch.stack([x.relu(), (y - 0.25).abs()], 1)).relu())


def _drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def _one(x: list[Tensor], place: int) -> tuple[Tensor, ...] | Tensor:
    return tuple(item[place : place + 1] for item in x) if len(x) > 1 else x[0][place : place + 1]


@pytest.mark.parametrize(
    ("model", "shapes"), [(ScalarOutput, [(4, 2)]), (ScalarInputs, [(4,), (4,)])], ids=lambda item: str(item)
)
def test_every_question_is_answered(model: type[nn.Module], shapes: list[tuple[int, ...]]) -> None:
    module, given = model(), _drawn(*shapes)
    x = tuple(given) if len(given) > 1 else given[0]
    net = ma.capture(module, x, task="values" if len(given) > 1 else "value")
    assert net.verify(module, x).exact
    line = partition.line(net, _one(given, 0), _one(given, 1))
    assert line.verify(module).exact
    attributions = partition.integrated_gradients(net, _one(given, 1), _one(given, 0))
    difference = module(*(item[1:2] for item in given)) - module(*(item[:1] for item in given))
    torch.testing.assert_close(attributions.difference[None], difference.detach())
    assert partition.plane(net, extent=2.0).verify(module).exact
    assert partition.region(net, _one(given, 0)).halfspaces.normals.shape[1] == 2
    # A grid finds every region that it meets: no more can be there than are enumerated.
    axis = torch.linspace(-2, 2, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    codes = net.codes(grid if len(given) == 1 else tuple(grid.T))
    assert 1 < len(codes.region_ids().unique(dim=0)) <= len(partition.regions(net, bounds=(-2.0, 2.0)))
    assert net.templates(x).inner.shape[0] == 4


def test_a_scalar_input_has_templates_and_segments() -> None:
    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(1, 4).double(), nn.Linear(4, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x[:, None]).relu())

    module, x = Scalar(), torch.tensor([-3.0, 3.0, 0.5], dtype=torch.float64)
    net = ma.capture(module, x)
    found = net.templates(x)
    torch.testing.assert_close(found.inner + found.offsets, module(x).detach())
    kinks = (-module.first.bias / module.first.weight[:, 0]).detach()
    inside = int(((kinks > -3) & (kinks < 3)).sum())
    assert int(partition.crossed_regions(net, x[:1], x[1:2]).breakpoints) == inside
