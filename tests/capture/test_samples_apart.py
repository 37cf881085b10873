"""Samples stay apart: no shift, edge or mask by the place in a batch hides behind the number of samples tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import maxaffine as ma
from maxaffine._graph import Affine
from tests.zoo.networks import Net

Function = Callable[[Tensor], Tensor]
X = torch.linspace(-1, 1, 66, dtype=torch.float64).sin().view(11, 6)


def written(x: Tensor, from_: int) -> Tensor:
    y = x.clone()
    y[from_:] = 0
    return y


# Three samples show nothing of these: a shift by a multiple of three, an edge further on than three.
BY_PLACE: dict[str, Function] = {
    "roll by 3": lambda x: x.roll(3, 0),
    "roll by 6": lambda x: x.roll(6, 0),
    "roll by 21": lambda x: x.roll(21, 0),
    "roll of all entries": lambda x: x.roll(18),
    "roll along two axes": lambda x: x.roll((3, 1), (0, 1)),
    "roll by an eighth": lambda x: x.roll(x.shape[0] // 8, 0),
    "roll by a half less one": lambda x: x.roll(x.shape[0] // 2 - 1, 0),
    "triu": lambda x: x.triu(-3),
    "tril": lambda x: x.transpose(0, 1).tril(3).transpose(0, 1),
    "pad and cut": lambda x: F.pad(x, (0, 0, 3, -3)),
    "pad circularly": lambda x: F.pad(x[None], (3, -3, 3, -3))[0],
}
# The same along the axes of one sample, whatever the numbers.
APART: dict[str, Function] = {
    "roll": lambda x: x.roll(3, 1),
    "roll by the whole batch": lambda x: x.roll(x.shape[0], 0),
    "triu": lambda x: x.view(-1, 2, 3).triu(-3),
    "pad and cut": lambda x: F.pad(x, (3, -3)),
    "unfold": lambda x: x.unfold(1, 4, 1),
    "moved and folded": lambda x: x.view(-1, 3, 2).permute(2, 0, 1).flip(0)[:, :, 1:].repeat(2, 1, 4),
}


@pytest.mark.parametrize("name", BY_PLACE)
def test_what_goes_by_the_place_in_the_batch_is_refused(name: str) -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match="samples of a batch.*no sample has an affine map of its own"):
        ma.capture(Net(lambda m, x: BY_PLACE[name](x)), X)


@pytest.mark.parametrize("name", APART)
def test_what_moves_entries_within_a_sample_is_exact(name: str) -> None:
    module = Net(lambda m, x: APART[name](x))
    net = ma.capture(module, X[:2])
    for count in (1, 2, 3, 7, 11):
        assert torch.equal(net(X[:count]), module(X[:count]))


def claimed(shift: Function) -> tuple[ma.SplineNetwork, Net]:
    """A network that was let through without a proof."""
    net = ma.capture(Net(lambda m, x: x.roll(1, 1)), X)
    module = Net(lambda m, x: shift(x))
    graph = net.graph
    (step,) = (item for item in graph.steps if item.records)
    assert isinstance(step.operator, Affine)
    operator = replace(step.operator, target=lambda *args: shift(args[0]))
    steps = tuple(replace(item, operator=operator) if item is step else item for item in graph.steps)
    return net._with(replace(graph, steps=steps), net.inputs, net.output_spec, net.tasks), module


@pytest.mark.parametrize("name", ["roll by 3", "triu"])
def test_verify_compares_single_samples_with_the_batch(name: str) -> None:
    net, module = claimed(BY_PLACE[name])
    report = net.verify(module, X, raises=False)
    assert report.apart > 0.1 and report.output == 0 and not report.exact
    with pytest.raises(ma.ExactnessError, match="apart"):
        net.verify(module, X)


def test_verify_counts_what_the_network_has_alone() -> None:
    """The module is right; the network drops a sample that is alone."""
    net, _ = claimed(lambda x: x if len(x) > 1 else 0 * x)
    assert net.verify(Net(lambda m, x: x.clone()), X, raises=False).apart > 0.1


def test_a_module_that_takes_no_single_sample_is_verified_all_the_same() -> None:
    def body(m: object, x: Tensor) -> Tensor:
        if len(x) < 2:
            raise ValueError("at least two")
        return 2 * x

    net = ma.capture(Net(lambda m, x: 2 * x), X)
    assert net.verify(Net(body), X).exact


def test_a_squeeze_that_drops_the_batch_of_a_single_sample_drops_no_number() -> None:
    module = Net(lambda m, x: x.sum(1, keepdim=True).squeeze() * 2)
    net = ma.capture(Net(lambda m, x: x.sum(1) * 2), X)
    assert net.verify(module, X).exact
