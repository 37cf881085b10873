"""Functions that PyTorch traces for one number of samples only, and that are written in another way meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._capture import check_rule
from tests import oracles
from tests.zoo.networks import Net

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
along = torch.take_along_dim


def net(function: Callable[..., Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net(function, a=nn.Linear(6, 6), w=torch.randn(1, 4, 6), places=torch.tensor([[4, 0, 0]])).double()


# What entries are read, and the same by gather, as a sort, or as a largest entry.
READ: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor]]] = {
    "sorted": (lambda m, x: along(m.a(x), m.a(x).argsort(1), 1), lambda m, x: m.a(x).sort(1).values),
    "from_the_end": (lambda m, x: along(x, m.a(x).argsort(-1), dim=-1), lambda m, x: x.gather(1, m.a(x).argsort(1))),
    "of_a_tensor": (lambda m, x: x.take_along_dim(x.topk(2, 1).indices, 1), lambda m, x: x.topk(2, 1).values),
    "largest": (lambda m, x: along(m.a(x), m.a(x).argmax(1, keepdim=True), 1), lambda m, x: m.a(x).amax(1, True)),
    "constant_places": (lambda m, x: along(m.a(x), m.places, 1), lambda m, x: m.a(x)[:, [4, 0, 0]]),
    "read_by_all_rows": (
        lambda m, x: along(x.view(-1, 2, 3), m.a(x)[:, None, :3].argsort(2), 2),
        lambda m, x: x.view(-1, 2, 3).gather(2, m.a(x)[:, None, :3].argsort(2).expand(-1, 2, 3)),
    ),
    "from_a_table": (
        lambda m, x: along(m.w, x[:, None].argsort(2), 2) + x[:, None],
        lambda m, x: m.w.expand(x.shape[0], 4, 6).gather(2, x[:, None].argsort(2).expand(-1, 4, 6)) + x[:, None],
    ),
}


@pytest.mark.parametrize("name", READ)
def test_exact(name: str) -> None:
    written, same = READ[name]
    check_rule(net(written), torch.zeros(2, 6))
    module, network = net(same), ma.capture(net(written), X)
    assert not network.mapped
    torch.testing.assert_close(network(X), module(X), rtol=0.0, atol=1e-14)
    slopes = oracles.jacobian(module, (X,))[0][0]
    torch.testing.assert_close(network.affine_map(X).slopes, slopes, rtol=0.0, atol=1e-13)


REFUSED = {
    "over_the_samples": lambda m, x: along(x, x.argsort(0), 0),
    "over_all": lambda m, x: along(x, x.flatten().argsort()),
    "one_sample_for_all": lambda m, x: along(x, torch.zeros(1, 6, dtype=torch.long), 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_samples_that_meet_are_refused(name: str) -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match="(mixes|treats) the samples of a batch"):
        ma.capture(net(REFUSED[name]), X)


def test_a_mistake_of_the_module_stays_its_own() -> None:
    with pytest.raises(ma.CaptureError, match="failed on the example"):
        ma.capture(net(lambda m, x: along(x, m.places[0], 1)), X)


def test_the_line_that_fixes_the_number_is_the_users() -> None:
    with pytest.raises(ma.CaptureError, match=r"one batch size only \(at .*test_rewritten.py:\d+: "):
        ma.capture(net(lambda m, x: along(x.view(2, -1), x.view(2, -1).argsort(1), 1)), X[:2])
