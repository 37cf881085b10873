"""Modules whose code fixes the number of samples: one sample is traced and mapped, and compared with the batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from tests import oracles
from tests.blocks import only
from tests.zoo.networks import Net

MEET = "samples together have other outputs than each of them alone, and PyTorch traces it for one batch size only"
X, Y = torch.linspace(-2, 2, 60, dtype=torch.float64).sin().view(2, 5, 6)
IMAGES = torch.linspace(-1, 1, 3 * 64, dtype=torch.float64).cos().view(3, 1, 8, 8)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().double().eval()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


def cnn() -> nn.Module:
    layers = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.AvgPool2d(3, padding=1))
    return nn.Sequential(*layers)


def filled(m: Any, x: Tensor) -> Tensor:
    out = torch.zeros(x.shape[0], 4, dtype=x.dtype)
    for i in range(int(x.shape[0])):
        out[i] = m.f(x[i])
    return out


def difference(m: Any, x: Tensor, y: Tensor) -> Tensor:
    first, second = m.f(torch.cat([x, y])).chunk(2)
    return (first - second).abs()


def halves(m: Any, x: Tensor) -> Tensor:
    first, second = m.f(torch.cat([x, x.flip(-1)])).split(len(x))
    return (first + second) / 2


def mixed_shapes(m: Any, x: Tensor) -> dict[str, Any]:
    rows = x.view(len(x), -1)
    return {"sum": m.f(rows).sum(1), "columns": m.f(rows).t(), "twice": torch.cat([rows, 2 * rows])}


# Name: forward of the module m, and its inputs; f is a network on rows, g one on images.
FORWARDS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "len in a view": (lambda m, x: m.h(m.g(x).view(len(x), -1)), (IMAGES,)),
    "int of a size": (lambda m, x: m.g(x).reshape(int(x.shape[0]), -1).amax(1), (IMAGES,)),
    "loop over rows": (lambda m, x: torch.stack([m.f(row) for row in x]), (X,)),
    "loop over slices": (lambda m, x: torch.cat([m.f(x[i : i + 1]) for i in range(x.shape[0])]), (X,)),
    "rows written one by one": (filled, (X,)),
    "unbound": (lambda m, x: torch.stack([F.relu(row - row.mean()) for row in x.unbind()]), (X,)),
    "two inputs in one batch": (difference, (X, Y)),
    "a picture and its mirror image": (halves, (X,)),
    "stacked pairs": (lambda m, x, y: m.f(torch.stack((x, y), 1).flatten(0, 1)).view(len(x), 2, -1).amax(1), (X, Y)),
    "differences": (lambda m, x: torch.gradient(x.relu(), dim=1)[0], (X,)),
    "several outputs": (mixed_shapes, (X,)),
    "codes of a sample": (lambda m, x: x.view(len(x), 6) * (x.argmax(1, keepdim=True) > 2), (X,)),
    "constants beside": (lambda m, x: torch.cat([x.view(len(x), -1), m.c.expand(len(x), -1), x > 0], 1), (X,)),
}


@cache
def module_of(name: str) -> nn.Module:
    parts = {"f": seeded(mlp), "g": seeded(cnn), "h": seeded(lambda: nn.Linear(3, 4)), "c": torch.arange(3)}
    return Net(FORWARDS[name][0], **parts).eval()


@pytest.mark.parametrize("name", FORWARDS)
def test_a_module_that_fixes_its_batch_is_exact_all_the_same(name: str) -> None:
    module, inputs = module_of(name), FORWARDS[name][1]
    x = inputs[0] if len(inputs) == 1 else inputs
    net = ma.capture(module, x)
    assert net.mapped and "one sample was traced alone, and is mapped over the batch" in repr(net)
    for count in (1, 2, 3):
        few = [item[:count] for item in inputs]
        own = tree_leaves(net(few if len(few) > 1 else few[0]))
        for found, expected in zip(own, oracles.outputs(module, few), strict=True):
            assert torch.allclose(found, expected, atol=1e-12) and found.shape == expected.shape
    assert net.verify(module, x).exact


def test_everything_after_capture_works_on_it() -> None:
    module = module_of("rows written one by one")
    net = ma.capture(module, X)
    slopes = oracles.jacobian(module, (X,))[0][0]
    assert torch.allclose(only(net.affine_map(X).slopes), slopes, atol=1e-12)
    assert torch.equal(net.codes(X)["f.1"].unpack(), module.get_submodule("f.0")(X) > 0)
    assert net.templates(X).residuals.abs().max() < 1e-12
    cut = ma.partition.line(net, X[:1], X[1:2])
    middles = X[:1] + cut.middles[:, None] * (X[1:2] - X[:1])
    assert torch.allclose((cut.starts + cut.ends) / 2, module(middles), atol=1e-9)
    assert net.double().verify(module, X).exact and net.part(until="f.1").mapped
    assert ma.partition.plane(net, origin=X[:1], basis=X[1:3], extent=1.0).verify().exact


def test_a_network_that_needs_no_mapping_has_none() -> None:
    net = ma.capture(seeded(mlp), X)
    assert not net.mapped and "mapped" not in repr(net)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: x.view(len(x), -1) - x.mean(0),
        lambda m, x: x.view(len(x), -1).roll(30, 0),
        lambda m, x: x.view(len(x), -1).cumsum(0),
        lambda m, x: torch.stack(sorted(x.unbind(), key=id))[0],
        lambda m, x: x.view(len(x), -1) / len(x),
    ],
    ids=["mean of the batch", "shift", "running sum", "first sample", "divided"],
)
def test_samples_that_meet_are_refused(forward: Callable[..., Tensor]) -> None:
    with pytest.raises(ma.CaptureError, match=MEET + r" \(at .*test_mapped.py:\d+: .*Cure: .*treat each sample alone"):
        ma.capture(Net(forward), X)


def test_a_module_for_one_number_of_samples_is_told_so() -> None:
    with pytest.raises(ma.CaptureError, match="runs for the 5 samples of the example, but not for 2 of them"):
        ma.capture(Net(lambda m, x: (x.view(5, -1) @ x.new_ones(6, 2)).relu()), X)


def test_equal_samples_in_the_example_hide_nothing() -> None:
    with pytest.raises(ma.CaptureError, match=MEET):
        ma.capture(Net(lambda m, x: x.view(len(x), -1) - x.flip(0)), torch.zeros(4, 6, dtype=torch.float64))


ALONG_THE_SAMPLES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "spectrum": lambda m, x: torch.fft.fft(x, dim=0).real,
    "real spectrum": lambda m, x: torch.fft.rfft(x, dim=0).imag,
    "every second": lambda m, x: x[::2],
    "quantile": lambda m, x: x.quantile(0.5, dim=0),
    "parts": lambda m, x: x.tensor_split(2)[0],
    "pseudo-inverse": lambda m, x: torch.linalg.pinv(x).T,
}


@pytest.mark.parametrize("name", ALONG_THE_SAMPLES)
def test_what_works_along_the_samples_is_told_so(name: str) -> None:
    """Where the tracer gives up on the number of samples, the reason is what the samples do to each other."""
    with pytest.raises(ma.CaptureError, match=f"{MEET}.*Cure: .*treat each sample alone"):
        ma.capture(Net(ALONG_THE_SAMPLES[name]), X)


@pytest.mark.parametrize("function", [torch.gradient, lambda x, dim: [torch.fft.irfft(x + 0j, dim=dim)]])
def test_no_single_sample_is_told_so(function: Callable[..., Any]) -> None:
    with pytest.raises(ma.CaptureError, match="no sample can be looked at alone, for it does not run.*Cure: .*alone"):
        ma.capture(Net(lambda m, x: function(x, dim=0)[0]), X)


def test_an_operator_that_cannot_be_mapped() -> None:
    """Samples that are apart are not said to meet; the cure works."""
    other = torch.arange(3, dtype=torch.float64)
    with pytest.raises(
        ma.CaptureError, match=r"only \(at .*test_mapped.py:\d+.*cannot run the graph of one .*x.shape\[0\]"
    ):
        ma.capture(Net(lambda m, x: torch.cross(x.view(len(x), 2, 3), other.expand(len(x), 2, 3), dim=2)), X)
    module = Net(lambda m, x: torch.cross(x.view(-1, 2, 3), other.expand(x.shape[0], 2, 3), dim=2))
    assert ma.capture(module, X).verify(module, X).exact
