"""Generators against autograd on the untouched module, analytic images, and draws."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    Uniform,
)

import maxaffine as ma
from maxaffine import generators

BOX = Uniform(-torch.ones(2).double(), torch.ones(2).double())


def _decoder(latents: int, numbers: int, seed: int = 0, width: int = 16) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (nn.Linear(latents, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2))
    model = nn.Sequential(*layers, nn.Linear(width, numbers)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.6)
    return model


def _pictures(seed: int = 0) -> nn.Sequential:
    """Transposed convolutions and batch-norm, to pictures (2, 8, 8) before the tanh."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 2, 4, stride=2, padding=1),
        nn.Tanh(),
    ).double()
    model(torch.randn(64, 6, 1, 1).double())  # statistics
    return model.eval()


class Roof(nn.Module):
    """(z1, z2) to (z1, z2, |z2|): two planes that meet at a right angle."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z, z[:, 1:].abs()], 1)


class Folded(nn.Module):
    """(z1, z2) to (z1, |z2|): every sample but those of the fold has two latents."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z[:, :1], z[:, 1:].abs()], 1)


def _capture(model: nn.Module, *latent: int, **options) -> ma.SplineNetwork:
    return ma.capture(model, torch.randn(2, *latent).double(), **options)


def _jacobians(model: Callable, z: Tensor) -> Tensor:
    """By reverse mode, one sample at a time, (N, D, S)."""
    found = [torch.autograd.functional.jacobian(lambda own: model(own[None])[0].flatten(), own) for own in z]
    return torch.stack([jacobian.reshape(jacobian.shape[0], -1) for jacobian in found])


def test_spectrum_volume_and_cosines_are_those_of_the_jacobian() -> None:
    model, z = _decoder(4, 30), torch.randn(7, 4).double()
    net, jacobians = _capture(model, 4), _jacobians(model, z)
    expected = torch.stack([torch.linalg.svdvals(jacobian) for jacobian in jacobians])
    assert torch.allclose(generators.spectrum(net, z), expected, rtol=1e-10)
    assert torch.allclose(generators.spectrum(net, z, 2), expected[:, :2], rtol=1e-10)
    gram = jacobians.transpose(1, 2) @ jacobians
    assert torch.allclose(generators.log_volume(net, z), gram.logdet() / 2, rtol=1e-9)
    norms = gram.diagonal(dim1=1, dim2=2).sqrt()
    cosines = gram / norms[:, :, None] / norms[:, None, :]
    assert torch.allclose(generators.column_cosines(net, z), cosines, atol=1e-12)


def test_a_head_left_out_is_an_exact_factor() -> None:
    model, z = _pictures(), torch.randn(5, 6, 1, 1).double()
    net = ma.capture(model, z, output="pre_activation")
    expected = torch.linalg.svdvals(_jacobians(model, z))
    for head in (True, torch.tanh, nn.Tanh()):
        assert torch.allclose(generators.spectrum(net, z, head=head), expected, rtol=1e-9)
    assert torch.allclose(generators.log_volume(net, z, head=True), expected.log().sum(1), rtol=1e-9)
    assert not torch.allclose(generators.spectrum(net, z), expected, rtol=1e-2)
    with pytest.raises(ma.BadInput, match="head: it is not applied to each number"):
        generators.spectrum(net, z, head=lambda x: x.softmax(1))


@pytest.mark.parametrize("head", [None, torch.tanh])
def test_few_of_many_values_come_from_products_alone(head: Callable | None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(60, 50), nn.ReLU(), nn.Linear(50, 70)).double()
    z = torch.randn(3, 60).double()
    net, whole = _capture(model, 60), nn.Sequential(model, nn.Tanh()) if head else model
    expected = torch.linalg.svdvals(_jacobians(whole, z))[:, :3]
    monkeypatch.setattr(ma.AffineMap, "slopes", property(lambda self: pytest.fail("A was built")))
    assert torch.allclose(generators.spectrum(net, z, 3, head=head), expected, rtol=1e-9)


def test_a_smooth_generator_needs_its_tangent() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 9)).double()
    z = torch.randn(4, 3).double()
    net = _capture(model, 3, smooth="tangent")
    assert torch.allclose(generators.spectrum(net, z), torch.linalg.svdvals(_jacobians(model, z)), rtol=1e-9)
    with pytest.raises(ma.BadInput, match='smooth="tangent"'):
        generators.log_volume(_capture(model, 3, smooth="frozen"), z)
    bent = nn.Sequential(nn.Linear(2, 3), nn.Tanh()).double()
    with pytest.raises(ma.NotPiecewiseAffine, match="manifolds need them"):
        generators.manifold(_capture(bent, 2, smooth="tangent"))


def test_local_dimension_is_the_rank_and_says_its_tolerance() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 3), nn.LeakyReLU(), nn.Linear(3, 20)).double()
    z = torch.randn(6, 5).double()
    found = generators.local_dimension(_capture(model, 5), z)
    assert found.dimensions.tolist() == [3] * 6
    assert bool((found.spectrum[:, 2] > found.tolerances).all() and (found.spectrum[:, 3] < found.tolerances).all())
    assert generators.local_dimension(_capture(model, 5), z, tolerance=0.999).dimensions.tolist() == [1] * 6
    assert generators.log_volume(_capture(model, 5), z).tolist() == [-np.inf] * 6
    assert found.plot().get_yscale() == "log" and found.to_dict()["dimensions"] == [3] * 6


def test_roof_has_the_area_fold_and_entropy_of_two_planes() -> None:
    found = generators.manifold(_capture(Roof(), 2), 1.0)
    assert found.plane.regions == 2
    assert abs(found.area - 4 * 2**0.5) < 1e-12
    assert torch.allclose(found.angles, torch.tensor([torch.pi / 2]).double(), atol=1e-12)
    assert abs(found.entropy.value - np.log(4 * 2**0.5)) < 1e-12 and found.imbalance < 1e-12
    means = found.expectation(found.plane.centers)
    assert torch.allclose(means, torch.zeros(2).double(), atol=1e-12)


def test_manifold_agrees_with_draws_and_its_angles_with_projections() -> None:
    model = _decoder(2, 3)
    net = _capture(model, 2)
    found = generators.manifold(net, 2.0)
    z = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(5)).double() * 4 - 2
    volumes = generators.log_volume(net, z)
    for exact, draws in ((found.area, 16 * volumes.exp()), (found.entropy.value, volumes + np.log(16))):
        assert abs(exact - float(draws.mean())) < 5 * float(draws.std()) / len(z) ** 0.5
    pairs = found.plane.adjacency
    slopes = torch.stack([_jacobians(model, found.plane.centers[cells]) for cells in pairs.T])
    projections = slopes @ torch.linalg.pinv(slopes)
    sines = torch.linalg.matrix_norm(projections[0] - projections[1], 2)
    assert torch.allclose(found.angles.sin(), sines, atol=1e-9)
    # Where a unit flips, the slopes differ by rank one, so the other principal angle is zero.
    assert bool((torch.linalg.svdvals(slopes[0] - slopes[1])[:, 1] < 1e-9).all())


def _shares(found: generators.Manifold, z: Tensor) -> Tensor:
    cells = found.plane.locate(z)
    return torch.bincount(cells[cells >= 0], minlength=found.plane.regions).double() / len(z)


@pytest.mark.parametrize("method", ["resampling", "rejection"])
def test_uniform_samples_have_the_mass_of_every_region(method: str) -> None:
    net = _capture(_decoder(2, 3, width=8), 2)
    found = generators.manifold(net, 1.0)
    exact = found.areas / found.area
    candidates = None if method == "rejection" else 80_000
    drawn = generators.sample(net, BOX, 4000, seed=1, method=method, candidates=candidates)
    before, after = (float((_shares(found, z) - exact).abs().sum() / 2) for z in (BOX.sample((4000,)), drawn.z))
    assert before > 0.15 and after < 0.5 * before
    assert torch.allclose(drawn.x, net(drawn.z), rtol=1e-12)
    if method == "rejection":
        assert len(torch.unique(drawn.z, dim=0)) == 4000


def test_sampling_is_reproducible_and_leaves_the_random_state() -> None:
    net = _capture(_decoder(2, 3), 2)
    state = torch.random.get_rng_state()
    one, other = (generators.sample(net, BOX, 50, seed=seed) for seed in (7, 7))
    assert torch.equal(one.z, other.z) and torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(one.z, generators.sample(net, BOX, 50, seed=8).z)
    assert torch.allclose(torch.cat([x for _, x in one.batches(7)]), one.x, rtol=1e-12)
    assert np.array_equal(one.to_numpy()[0], one.z.numpy())


def test_effective_size_is_that_of_the_weights() -> None:
    net = _capture(Folded(), 2)
    prior = Normal(torch.zeros(2).double(), 1.0)
    found = generators.sample(net, prior, 500, candidates=20_000, mass=0.5, seed=0)
    # All of the volume is 1, so weights are 1 / p on the half of the plane's mass with |z|^2 < 2 log 2.
    assert float(found.z.square().sum(1).max()) < 2 * np.log(2) * 1.1
    radius = found.z.square().sum(1)
    assert abs(float(radius.mean()) - np.log(2)) < 0.12  # uniform on a disc of that squared radius: half of it
    # E w = pi 2 log 2 and E w^2 = integral of 2 pi exp(r^2 / 2) over the disc = 4 pi^2 (2 - 1)
    assert abs(found.effective_sample_size / 20_000 - (2 * np.pi * np.log(2)) ** 2 / (4 * np.pi**2)) < 0.02


def test_polarity_leans_as_its_sign_says() -> None:
    net = _capture(_decoder(2, 3), 2)
    means = []
    for rho in (-1.0, 0.0, 1.0):
        drawn = generators.sample(net, BOX, 300, rho=rho, candidates=5000)
        means.append(float(generators.log_volume(net, drawn.z).mean()))
    assert means[0] < means[1] - 0.1 and means[1] < means[2] - 0.1
    first = generators.sample(net, BOX, 200, rho=1.0, k=1)
    assert torch.allclose(first.log_weights, generators.spectrum(net, first.z, 1)[:, 0].log())


def test_small_effective_samples_are_said() -> None:
    net = _capture(_decoder(2, 3), 2)
    with pytest.warns(UserWarning, match="effective sample size .* of 200 candidates, for 100 samples"):
        generators.sample(net, BOX, 100, rho=8.0, candidates=200)
    with pytest.warns(UserWarning, match="of 100 samples have passed after 150 candidates"):
        assert len(generators.sample(net, BOX, 100, rho=8.0, method="rejection", candidates=150).z) < 100


def test_density_sums_over_all_preimages() -> None:
    net = _capture(Folded(), 2)
    x = torch.tensor([[0.5, 0.25], [0.1, -0.3], [5.0, 0.2]]).double()
    found = generators.density(net, x, BOX, bounds=(-1, 1))
    assert found.counts.tolist() == [2, 0, 0] and found.exhaustive and not found.injective
    assert abs(float(found.log_density[0]) - np.log(2 / 4)) < 1e-9
    assert found.log_density[1:].tolist() == [-np.inf, -np.inf]
    assert torch.allclose(found.preimages[0].abs(), x[0].expand(2, -1), atol=1e-9)
    near = generators.density(net, x[:1], BOX, start=torch.tensor([[0.4, 0.1]]).double())
    assert near.counts.tolist() == [1] and not near.exhaustive
    assert abs(float(near.log_density[0]) - np.log(1 / 4)) < 1e-9


@pytest.mark.parametrize("latents", [1, 2, 3])
def test_density_of_an_injective_generator(latents: int) -> None:
    model = _decoder(latents, 6, seed=2, width=6)
    net, prior = _capture(model, latents), Uniform(-torch.ones(latents).double(), torch.ones(latents).double())
    z = prior.sample((5,))
    found = generators.density(net, model(z).detach(), prior, bounds=(-1, 1))
    jacobians = _jacobians(model, z)
    gram = (jacobians.transpose(1, 2) @ jacobians).logdet() / 2
    unique = found.counts == 1
    assert int(unique.sum()) >= 4
    assert torch.allclose(found.log_density[unique], (prior.log_prob(z).sum(1) - gram)[unique], atol=1e-8)
    assert all(any(torch.allclose(own, z[i], atol=1e-7) for own in found.preimages[i]) for i in range(5))


def test_entropy_of_a_linear_generator_and_of_a_prior_without_formula() -> None:
    model = nn.Linear(3, 5).double()
    net, prior = _capture(model, 3), Independent(Normal(torch.zeros(3).double(), 1.0), 1)
    volume = float((model.weight.T @ model.weight).logdet().detach()) / 2
    exact = float(prior.entropy()) + volume
    assert abs(generators.entropy(net, prior, 10).value - exact) < 1e-9
    assert generators.entropy(net, prior, 10).error < 1e-9 and "upper bound" in repr(generators.entropy(net, prior, 10))
    twice = Independent(Normal(torch.zeros(2, 3).double(), 1.0), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(2).double()), twice)  # the same normal, without a formula
    found = generators.entropy(net, mixture, 4000)
    assert abs(found.value - exact) < 5 * found.error and found.error > 0


def test_dropout_takes_dimensions_as_struck_rows_do() -> None:
    square = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(), nn.Linear(3, 3)).double()
    with torch.no_grad():
        for matrix in (parameter for parameter in square.parameters() if parameter.dim() == 2):
            matrix.copy_(torch.eye(3))
    net, z = _capture(square, 3), torch.randn(4, 3).double()
    found = generators.dimension_by_dropout(net, z, "1", rate=0.25, masks=400)
    assert abs(found.mean - 3 * 0.75) < 0.15 and found.dimensions.shape == (400, 4)
    binomial = torch.tensor([0.25**3, 3 * 0.75 * 0.25**2, 3 * 0.75**2 * 0.25, 0.75**3]).double()
    assert float((found.shares - binomial).abs().max()) < 0.08
    assert bool((generators.dimension_by_dropout(net, z, ["0", "1"], rate=0.0, masks=2).dimensions == 3).all())
    wide = _capture(_decoder(3, 12, width=64), 3)
    assert generators.dimension_by_dropout(wide, z, ["1", "3"], masks=8).mean == 3.0


def test_elbow_is_where_the_error_levels_off() -> None:
    errors = {size: max(2.0**-size, 2.0**-5) * (1 + 0.05 * (-1) ** size) for size in range(1, 10)}
    found = generators.elbow(errors)
    assert found.dimension == 5 and found.plot().get_yscale() == "log"
    early = generators.elbow({size: 0.9**size + 3.0**-size for size in range(1, 9)}).dimension
    assert early is not None and early < 5
    with pytest.raises(ma.BadInput, match="errors: expected at least four"):
        generators.elbow({1: 1.0, 2: 0.5})


class Silent(Distribution):
    """A prior that draws, and knows no density."""

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return torch.rand(*sample_shape, 2).double()


def _silent() -> Silent:
    return Silent(event_shape=torch.Size((2,)), validate_args=False)


CONSTANT = nn.Sequential(nn.Linear(2, 2), nn.Hardtanh(-1, 1), nn.Threshold(5.0, 0.0)).double()

BAD = [
    ("net: expected a SplineNetwork", lambda net: generators.spectrum(nn.Linear(2, 2), torch.zeros(1, 2))),
    ("k: there are 2 singular values", lambda net: generators.spectrum(net, torch.zeros(1, 2).double(), 3)),
    ("tolerance: 2", lambda net: generators.local_dimension(net, torch.zeros(1, 2).double(), 2.0)),
    ("head: capture left nothing out", lambda net: generators.spectrum(net, torch.zeros(1, 2).double(), head=True)),
    ("prior: its draws have the shape", lambda net: generators.sample(net, Normal(torch.zeros(3), 1.0), 5)),
    ("prior: expected a torch.distributions", lambda net: generators.sample(net, torch.randn, 5)),
    ("prior: Silent has no density", lambda net: generators.sample(net, _silent(), 5, mass=1.0)),
    ("n: expected a number of at least 1", lambda net: generators.sample(net, BOX, 0)),
    ("method: expected one of", lambda net: generators.sample(net, BOX, 5, method="magic")),
    ("k: uniform sampling takes all 2", lambda net: generators.sample(net, BOX, 5, k=1)),
    ("mass: 0", lambda net: generators.sample(net, BOX, 5, mass=0.0)),
    (
        "bounds: give the box",
        lambda net: generators.density(net, torch.zeros(1, 3), BOX, bounds=1, start=torch.zeros(1)),
    ),
    ("x: samples of 2 numbers", lambda net: generators.density(net, torch.zeros(1, 2), BOX, bounds=(-1, 1))),
    ("volume is 0 at every", lambda net: generators.sample(_capture(CONSTANT, 2), BOX, 5)),
    ("weights at rho=-1 are infinite", lambda net: generators.sample(_capture(CONSTANT, 2), BOX, 5, rho=-1.0)),
    ("has no volume of 3", lambda net: generators.log_volume(_capture(nn.Linear(3, 2).double(), 3), torch.zeros(1, 3))),
    ("net: 3 latents, not 2", lambda net: generators.manifold(_capture(nn.Linear(3, 4).double(), 3))),
    ("rate: 1", lambda net: generators.dimension_by_dropout(net, torch.zeros(1, 2).double(), "1", rate=1.0)),
    ("prior: Bernoulli draws whole", lambda net: generators.entropy(net, Bernoulli(0.5 * torch.ones(2)), 100)),
    ("prior: Dirichlet has a density", lambda net: generators.entropy(net, Dirichlet(torch.ones(2).double()), 100)),
    ("rho: nan", lambda net: generators.sample(net, BOX, 5, rho=float("nan"))),
    ("n: expected a number of at least 2", lambda net: generators.entropy(net, BOX, 1)),
    ("z: the batch is empty", lambda net: generators.spectrum(net, torch.zeros(0, 2).double())),
    ("z: dtype", lambda net: generators.log_volume(net, torch.zeros(1, 2))),
    ("x: expected a batch", lambda net: generators.density(net, torch.zeros(0, 3).double(), BOX, bounds=(-1, 1))),
    ("start: expected 1 latents", lambda net: generators.density(net, torch.zeros(1, 3), BOX, start=torch.zeros(2, 2))),
    ("masks: expected", lambda net: generators.dimension_by_dropout(net, torch.zeros(1, 2).double(), "1", masks=0)),
    ("in running order", lambda net: generators.dimension_by_dropout(net, torch.zeros(1, 2).double(), ["3", "1"])),
    ("does not depend", lambda net: generators.spectrum(net, torch.zeros(1, 2).double(), head=torch.zeros_like)),
    ("values: 1 for", lambda net: generators.manifold(net).expectation(torch.zeros(1))),
]


@pytest.mark.parametrize(("message", "call"), BAD, ids=[message for message, _ in BAD])
def test_bad_input_is_named(message: str, call: Callable) -> None:
    with pytest.raises(ma.BadInput, match=message):
        call(_capture(_decoder(2, 3), 2))


def test_polarity_asks_for_no_density() -> None:
    assert len(generators.sample(_capture(_decoder(2, 3), 2), _silent(), 5, rho=1.0).z) == 5


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 64), nn.Unflatten(1, (1, 8, 8))).double()
    net = _capture(model, 2)
    ax = generators.manifold(net, 2.0).plot()
    assert "log volume" in ax.get_title() and len(ax.child_axes) == 1
    assert generators.sample(net, BOX, 12).plot() is not None
    assert len(generators.manifold(_capture(Roof(), 2)).surface().collections) == 1
    with pytest.raises(ma.BadInput, match="surface: samples of 64 numbers"):
        generators.manifold(net).surface()


class Collapsed(nn.Module):
    """Of rank 2 where z1 > 0, and of rank 1, up to rounding, elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 1).double(), nn.Linear(1, 3).double()

    def forward(self, z: Tensor) -> Tensor:
        return self.second(self.first(z)) + z[:, :1].relu() * torch.tensor([1.0, 2.0, 3.0]).double()


def test_polarity_knows_a_zero_that_rounding_hides() -> None:
    torch.manual_seed(0)
    net = _capture(Collapsed(), 2)
    drawn = generators.sample(net, BOX, 300, rho=0.02)
    assert bool((drawn.z[:, 0] > 0).all())
    with pytest.raises(ma.BadInput, match="k: of the first 2 singular values one is 0"):
        generators.sample(net, BOX, 300, rho=-0.5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_draws_that_round_onto_the_rim_weigh_as_drawn(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8)).to(kind)
    net = ma.capture(model, torch.zeros(2, 2, dtype=kind))
    drawn = generators.sample(net, Uniform(-torch.ones(2), torch.ones(2)), 200, candidates=20_000)
    assert np.isfinite(drawn.effective_sample_size) and len(drawn.z.unique(dim=0)) > 150


def test_samples_in_float32_have_their_density() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 20))
    z = torch.rand(20, 2) * 2 - 1
    net = ma.capture(model, z)
    found = generators.density(net, net(z), BOX, bounds=(-1, 1))
    assert bool((found.counts >= 1).all())


def test_preimages_of_a_bijection_are_found_from_anywhere() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(4, 4), nn.LeakyReLU(0.1), nn.Linear(4, 4), nn.LeakyReLU(0.1), nn.Linear(4, 4)
    ).double()
    net, z = _capture(model, 4), torch.randn(60, 4).double()
    prior = Normal(torch.zeros(4).double(), 1.0)
    found = generators.density(net, net(z), prior, start=torch.zeros_like(z))
    reached = found.counts == 1
    assert int(reached.sum()) >= 50 and bool(found.log_density[~reached].isnan().all())
    expected = prior.log_prob(z).sum(1) - generators.log_volume(net, z)
    assert torch.allclose(found.log_density[reached], expected[reached], atol=1e-7)


def test_a_continuum_of_preimages_has_infinite_density() -> None:
    flat = nn.Linear(2, 3).double()
    with torch.no_grad():
        flat.weight.zero_()
    high = Uniform(torch.ones(2).double(), 2 * torch.ones(2).double())
    x = flat(torch.ones(1, 2).double()).detach()
    assert generators.density(_capture(flat, 2), x, high, bounds=(1, 2)).log_density.tolist() == [np.inf]
    assert generators.density(_capture(flat, 2), x + 1, high, bounds=(1, 2)).log_density.tolist() == [-np.inf]


def test_small_samples_are_told_apart() -> None:
    line = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[1e-9], [2e-9]]))
    found = generators.density(
        _capture(line, 1), torch.tensor([[2e-9, -1e-9]]).double(), Uniform(-torch.ones(1).double(), 1.0), bounds=(-1, 1)
    )
    assert found.counts.tolist() == [0]


def test_latents_outside_of_the_prior_add_nothing() -> None:
    net = _capture(nn.Linear(1, 2).double(), 1)
    found = generators.density(
        net, net(torch.tensor([[2.0]]).double()), Uniform(-torch.ones(1).double(), 1.0), bounds=(-3, 3)
    )
    assert found.counts.tolist() == [1] and found.log_density.tolist() == [-np.inf]


def test_repeated_and_zero_values_by_products() -> None:
    values = torch.linspace(3, 0.1, 40).double()
    values[:2] = 5
    model = nn.Linear(40, 40, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(values.diag())
    z = torch.zeros(1, 40).double()
    assert torch.allclose(generators.spectrum(_capture(model, 40), z, 2), values[None, :2])
    with torch.no_grad():
        model.weight.zero_()
    assert generators.spectrum(_capture(model, 40), z, 2).tolist() == [[0.0, 0.0]]


def test_collapsed_pieces_have_no_angle_and_no_share() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for matrix in (parameter for parameter in model.parameters() if parameter.dim() == 2):
            matrix[:2].copy_(torch.eye(2))
    found = generators.manifold(_capture(model, 2), 1.0)
    assert found.plane.regions == 4 and abs(found.area - 1) < 1e-12
    assert bool(found.angles.isnan().all())
    assert float(found.expectation(found.log_volumes)) == 0.0
    assert found.entropy.value == -np.inf


def test_straight_errors_have_no_elbow() -> None:
    for errors in ({1: 8.0, 2: 4.0, 3: 2.0, 4: 1.0}, dict.fromkeys(range(1, 6), 1.0), {i: 2.0**i for i in range(1, 6)}):
        assert generators.elbow(errors).dimension is None


@pytest.mark.parametrize("latents", [2, 5])
def test_density_needs_neither_prior_nor_box(latents: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(latents, 8), nn.LeakyReLU(0.5), nn.Linear(8, 12)).double()
    net, z = _capture(model, latents), torch.randn(6, latents).double()
    found = generators.density(net, net(z))
    expected = Normal(torch.zeros(latents).double(), 1.0).log_prob(z).sum(1) - generators.log_volume(net, z)
    assert found.exhaustive == (latents == 2) and found.counts.tolist() == [1] * 6
    assert torch.allclose(found.log_density, expected, atol=1e-8)
    standard = Independent(Normal(torch.zeros(latents).double(), 1.0), 1)
    assert generators.entropy(net, n=100).value == pytest.approx(generators.entropy(net, standard, 100).value)


def test_the_box_of_a_prior_is_its_support() -> None:
    net = _capture(Folded(), 2)
    x = torch.tensor([[0.5, 0.25]]).double()
    assert generators.density(net, x, BOX).counts.tolist() == [2]
    with pytest.raises(ma.BadInput, match="bounds: the prior does not say"):
        generators.density(net, x, _silent())


def test_boundaries_are_drawn_when_asked_for() -> None:
    found = generators.manifold(_capture(Roof(), 2), 1.0)
    assert len(found.plot(linewidth=0.5).collections) == len(found.plot().collections) + 1
