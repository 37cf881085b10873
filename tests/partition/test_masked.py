"""Masks of infinity, in front of a maximum and in the output: as masks far beyond everything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._templates import bias_free

INF, FAR = float("inf"), 1e3


class Scores(nn.Module):
    """Three scores of two coordinates, one of them masked."""

    def __init__(self, mask: float) -> None:
        super().__init__()
        self.first, self.last, self.mask = nn.Linear(2, 8), nn.Linear(8, 3), mask

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return self.last(self.first(x).relu()).masked_fill(torch.tensor([False, True, False]), self.mask)


class Largest(Scores):
    """Two maxima of four of eight entries, two of which are masked: over a group, and two by two."""

    def forward(self, x: Tensor) -> Tensor:
        """Maxima."""
        h = self.first(x).masked_fill(torch.arange(8) % 3 == 1, self.mask)
        return torch.cat([h[:, :4].amax(1, keepdim=True), torch.maximum(h[:, 4:6], h[:, 6:]).amax(1, keepdim=True)], 1)


class Pooled(Scores):
    """A max-pooling of a masked signal, a ReLU of a masked one, and a layer that follows both."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        h = self.first(x)
        masked = h.masked_fill(torch.arange(8) % 2 == 1, -abs(self.mask))
        pooled = nn.functional.max_pool1d(masked[:, None], 2)[:, 0]
        return self.last(torch.cat([pooled, masked.relu()[:, ::2]], 1))


def _networks(kind: Callable[[float], nn.Module], mask: float) -> tuple[nn.Module, ma.SplineNetwork, Tensor]:
    torch.manual_seed(3)
    module = kind(mask).double().eval()
    x = 3 * torch.randn(4, 2, dtype=torch.float64)
    return module, ma.capture(module, x, task="classes"), x


@pytest.mark.parametrize("kind", [Scores, Largest, Pooled])
@pytest.mark.parametrize("sign", [-1, 1])
def test_planes_are_those_of_a_mask_far_away(kind: Callable[[float], nn.Module], sign: int) -> None:
    (module, net, x), (_, far, _) = (_networks(kind, sign * size) for size in (INF, FAR))
    plane, expected = (ma.partition.plane(item, extent=6.0, progress=False) for item in (net, far))
    assert plane.regions == expected.regions and plane.verify(module).exact
    assert kind is Largest or plane.regions > 8
    boundary, known = plane.decision_boundary(), expected.decision_boundary()
    assert len(boundary) == len(known) and abs(boundary.length - known.length) < 1e-9
    divided = plane.divided_by_class()
    assert divided.regions == expected.divided_by_class().regions and divided.verify(module).exact
    centers = torch.cat([tensor for batch in divided.batches(divided.centers) for tensor in batch])
    assert torch.equal(divided.classes, module(centers).argmax(1))
    assert plane.level_set(0.1, 0).length == pytest.approx(expected.level_set(0.1, 0).length, abs=1e-9)
    assert kind is Largest or sign > 0 or len(plane.level_set(0.1, 1)) == len(expected.level_set(0.1, 1))


@pytest.mark.parametrize("kind", [Scores, Largest, Pooled])
@pytest.mark.parametrize("sign", [-1, 1])
def test_lines_and_regions_are_those_of_a_mask_far_away(kind: Callable[[float], nn.Module], sign: int) -> None:
    (module, net, x), (_, far, _) = (_networks(kind, sign * size) for size in (INF, FAR))
    line, expected = (ma.partition.line(item, x[:1], x[1:2]) for item in (net, far))
    torch.testing.assert_close(line.breakpoints, expected.breakpoints)
    assert torch.equal(line.decisions().classes, expected.decisions().classes)
    torch.testing.assert_close(line.decisions().t, expected.decisions().t)
    assert line.verify(module).exact
    torch.testing.assert_close(line.level_set(0.1), expected.level_set(0.1))
    assert len(ma.partition.regions(net, bounds=(-3, 3))) == len(ma.partition.regions(far, bounds=(-3, 3)))
    here, there = (ma.partition.region(item, x[:1]) for item in (net, far))
    # A mask of a thousand is reached somewhere.
    assert min(here.distance, 100) == pytest.approx(min(there.distance, 100))
    distances = [min(100, item.decision[0] if item.decision else INF) for item in (here, there)]
    assert distances[0] == pytest.approx(distances[1])


def test_templates_know_what_is_masked() -> None:
    module, net, x = _networks(Scores, -INF)
    found = net.templates(x)
    assert (found.offsets[:, 1] == -INF).all() and (found.inner[:, 1] == 0).all()
    assert found.residuals.abs().max() < 1e-12 and found.bound.max() < 1e-9
    torch.testing.assert_close(found.inner + found.offsets, module(x).detach())
    torch.testing.assert_close(found.contributions.sum(), found.offsets)
    report = bias_free(net, x)
    assert not report.here and report.largest == INF


@pytest.mark.parametrize("kind", [Scores, Largest])
def test_a_mask_measures_nothing(kind: Callable[[float], nn.Module]) -> None:
    """Scores of a millionth of a millionth have the same boundaries."""
    found = []
    for scale in (1.0, 1e-12):
        module, _, x = _networks(kind, -INF)
        layer = module.get_submodule("last" if kind is Scores else "first")
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(scale)
        plane = ma.partition.plane(ma.capture(module, x, task="classes"), extent=6.0, progress=False)
        assert plane.verify(module).exact
        found.append((plane.regions, plane.decision_boundary().length))
    assert found[0] == (found[1][0], pytest.approx(found[1][1], rel=1e-6)) and found[0][1] > 1


def test_what_is_infinite_at_some_points_only_is_refused() -> None:
    class Overflows(Scores):
        def forward(self, x: Tensor) -> Tensor:
            return (self.first(x) * 1e200 * 1e200).relu()

    module = Overflows(0.0).double()
    net = ma.capture(module, torch.full((2, 2), 1e-150, dtype=torch.float64))
    with pytest.raises(ma.PartitionError, match="(?s)infinite at some points.*float64 or smaller"):
        ma.partition.plane(net, extent=(-1, 1, -1, 1), progress=False)
