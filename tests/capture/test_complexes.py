"""Complex values between real ones: exact where all of it is affine, refused where a modulus or a product is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._capture import check_rule
from tests import oracles
from tests.contracts.case import beside
from tests.zoo.networks import Net

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
fft = torch.fft


def net(function: Callable[..., Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net(function, a=nn.Linear(6, 6), w=torch.randn(4, 2), c=torch.randn(4), s=torch.randn(6))


def pairs(m: Any, x: Tensor) -> Tensor:
    """There and back, with a constant factor between."""
    x = m.a(x).relu()
    real = fft.irfft(fft.rfft(x) * m.c, n=6)
    learned = fft.irfft(fft.rfft(x) * torch.view_as_complex(m.w) + torch.view_as_complex(m.w), n=6)
    whole = fft.ifft(fft.fft(x) / m.s).real
    plane = fft.ifft2(fft.fft2(x.view(-1, 2, 3)) * (1 + 2j)).imag
    return beside(real, learned, whole, plane)


def parts(m: Any, x: Tensor) -> Tensor:
    """Real parts, imaginary parts and their pieces."""
    z = fft.fft(m.a(x))
    moved = fft.fftshift(z, dim=1).roll(1, 1).flip(1)
    first, second = torch.stack([z, z.conj()], 1).unbind(1)
    window = torch.ones(4, dtype=x.dtype)
    frames = torch.view_as_real(torch.stft(x, 4, 2, 4, window=window, center=False, return_complex=True))
    return beside(z.real.relu(), z.imag, moved.real, (first - 1j * second).imag, frames.abs(), fft.hfft(z, n=6))


def mixed(m: Any, x: Tensor) -> Tensor:
    """Complex numbers made by hand: a product with a complex matrix, a mask that depends on the region."""
    matrix = torch.complex(m.a.weight, m.a.weight.T)
    z = torch.complex(x, m.a(x)) @ matrix
    return beside((z * (x > 0)).real, (torch.where(x > 0, z, -z) + x).imag, (x * 1j).imag)


def neural_operator(m: Any, x: Tensor) -> Tensor:
    """A layer of a Fourier neural operator: some frequencies of each channel mixed, the others set to zero."""
    z = fft.rfft(m.a(x).view(-1, 2, 3), n=6)
    weight = torch.view_as_complex(m.w.view(2, 2, 1, 2).repeat(1, 1, 2, 1))
    mixed = torch.zeros(x.shape[0], 2, 4, dtype=z.dtype)
    mixed[:, :, :2] = torch.einsum("bix,iox->box", z[:, :, :2], weight)
    return (fft.irfft(mixed, n=3) + x.view(-1, 2, 3)).relu().flatten(1)


def doubled(m: Any, x: Tensor) -> Tensor:
    """Each value used twice, twelve times over: it is computed once."""
    z = fft.fft(x)
    for _ in range(12):
        z = 0.5j * z + 0.5 * z
    return z.real


@pytest.mark.parametrize("function", [pairs, parts, mixed, neural_operator, doubled], ids=lambda item: item.__name__)
def test_exact(function: Callable[[Any, Tensor], Tensor]) -> None:
    """Against the untouched module in both precisions: values, Jacobian, transpose; codes define the pieces."""
    check_rule(net(function), torch.zeros(2, 6))


def test_a_low_pass_filter_is_its_matrix() -> None:
    """The slopes are the product of the two matrices of cosines and sines, written down."""
    module = Net(lambda m, x: fft.irfft(fft.rfft(x) * torch.tensor([1.0, 1.0, 0.0, 0.0]), n=6)).double()
    places = torch.arange(6, dtype=torch.float64)
    angles = 2 * torch.pi * (places[:, None] - places) / 6
    expected = (1 + 2 * angles.cos()) / 6
    assert_close(ma.capture(module, X).affine_map(X).slopes, expected.expand(3, 6, 6), rtol=0.0, atol=1e-15)


def test_a_network_in_single_precision_is_followed_in_double() -> None:
    module = net(pairs)
    found = ma.partition.line(ma.capture(module, X.float()), X[:1].float(), X[1:2].float())
    assert found.verify(module).exact and found.pieces > 1
    (slopes,), _ = oracles.affine_maps(net(pairs).double(), (X,))[0]
    direction = oracles.apply_jacobian([slopes[:1]], [X[1:2] - X[:1]])
    assert_close(found.slopes[0], direction[0], rtol=1e-5, atol=1e-5)


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], type[ma.MaxAffineError], str]] = {
    "modulus": (lambda m, x: fft.fft(x).abs(), ma.NotPiecewiseAffine, "modulus.*cure: add the absolute values"),
    "phase": (lambda m, x: fft.fft(x).angle(), ma.NotPiecewiseAffine, "other than by sums.*cure: .*view_as_real"),
    "power": (lambda m, x: fft.fft(x).pow(2).real, ma.NotPiecewiseAffine, "other than by sums"),
    "spectrum": (lambda m, x: (fft.fft(x) * fft.fft(x).conj()).real, ma.NotPiecewiseAffine, "multiplies two values"),
    "quotient": (lambda m, x: (m.s / fft.fft(x)).real, ma.NotPiecewiseAffine, "divides by a complex value"),
    # Three samples, and seven, come back to where they were.
    **{
        f"over_the_batch_by_{shift}": (
            lambda m, x, shift=shift: fft.fft(x).roll(shift, 0).real,
            ma.NotPiecewiseAffine,
            "mixes the samples",
        )
        for shift in (1, 3, 6, 21)
    },
    # By the name of what brings the samples together, not of what comes after it.
    "transform_of_the_batch": (lambda m, x: fft.fft2(x).real.relu(), ma.NotPiecewiseAffine, r"^aten\._fft_c2c.* mixes"),
    "part_of_a_transform": (lambda m, x: fft.rfft(x).flip(0).imag, ma.NotPiecewiseAffine, r"^aten\.flip.* mixes the"),
    "there_and_back": (lambda m, x: fft.ifft(fft.fft(x).sum(0)).real, ma.NotPiecewiseAffine, r"^aten\.sum.* mixes"),
    "returned": (lambda m, x: fft.fft(x), ma.CaptureError, r"returns complex numbers.*Cure: .*view_as_real\(z\)"),
    "places_of_the_input": (
        lambda m, x: fft.fft(x).gather(1, (x > 0).long()).real,
        ma.NotPiecewiseAffine,
        "other than by sums",
    ),
    "truth_value": (lambda m, x: fft.fft(x).bool(), ma.NotPiecewiseAffine, "other than by sums"),
    "batch_size": (lambda m, x: (fft.fft(x) * x.shape[0]).real, ma.NotPiecewiseAffine, "number of samples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, error, words = REFUSED[name]
    with pytest.raises(error, match=f"(?s){words}"):
        ma.capture(net(function).double(), X)


def test_stopping_before_a_modulus() -> None:
    """A spectrum cannot be the end either, its two parts can."""
    module = net(lambda m, x: torch.view_as_real(fft.rfft(m.a(x))).pow(2).sum(-1)).double()
    stopped = ma.capture(module, X, until="view_as_real")
    assert_close(stopped(X), torch.view_as_real(fft.rfft(module.get_submodule("a")(X))))
    with pytest.raises(ma.CaptureError, match="returns complex numbers"):
        ma.capture(module, X, until="fft_r2c")
