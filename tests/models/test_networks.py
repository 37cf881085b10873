import pytest
import torch
from torch import nn

from maxaffine._models import FACTORIES, build
from maxaffine.errors import BadInput

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
SMOOTH = ("vit", "convnext")


def slopes_of_a_mixture(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The input gradient of one fixed mixture of the logits."""
    point = x.clone().requires_grad_()
    logits = network(point[None])[0]
    (gradient,) = torch.autograd.grad(logits @ torch.linspace(-1, 2, len(logits), dtype=x.dtype), point)
    return gradient


def assert_affine_near(network: nn.Module, x: torch.Tensor) -> None:
    """Between two points of one region the slopes are the same; a smooth network's differ as much as the points."""
    nearby = x + 1e-9 * torch.randn_like(x)
    slopes = slopes_of_a_mixture(network, x)
    torch.testing.assert_close(slopes, slopes_of_a_mixture(network, nearby), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [name for name in FACTORIES if name not in SMOOTH])
def test_networks_give_logits_and_are_affine_near_a_point(name, shape):
    network = build(name, shape, 10, seed=0).eval().double()
    assert network(torch.rand(3, *shape).double()).shape == (3, 10)
    assert_affine_near(network, torch.rand(shape, dtype=torch.float64))


def test_the_affine_check_sees_a_smooth_network():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh()).double()
    with pytest.raises(AssertionError):
        assert_affine_near(network, torch.rand(1, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize("name", ["mlp", "input-convex"])
def test_any_input_shape(name):
    assert build(name, (5,), 3)(torch.zeros(2, 5)).shape == (2, 3)


def test_rnn_reads_sequences_and_image_rows():
    network = build("relu_rnn", (7, 5), 3, seed=0, hidden=6, layers=2)
    assert network(torch.zeros(2, 7, 5)).shape == (2, 3)
    images = torch.rand(2, 3, 4, 5)
    color = build("relu_rnn", (3, 4, 5), 3, seed=0)
    rows = torch.stack([torch.cat([images[:, c, row] for c in range(3)], 1) for row in range(4)], 1)
    assert torch.equal(color(images), color(rows))


def test_parameter_counts_of_the_published_networks():
    def count(network: nn.Module) -> int:
        return sum(weight.numel() for weight in network.parameters())

    assert count(build("resnet18", (3, 32, 32), 10)) == 11_173_962
    assert count(build("mobilenet", (3, 224, 224), 1000)) == 3_504_872


@pytest.mark.parametrize(("side", "last"), [(224, 7), (64, 4), (32, 4), (28, 7), (16, 4), (8, 4), (4, 4), (1, 1)])
def test_mobilenet_keeps_a_last_map_of_at_least_four(side, last):
    layers = list(build("mobilenet", (1, side, side), 2).eval().children())
    before = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d))
    assert nn.Sequential(*layers[:before])(torch.zeros(1, 1, side, side)).shape[2:] == (last, last)


def test_input_convex_logits_are_convex_whatever_training_did():
    network = build("input-convex", (6,), 4, seed=0, widths=(20, 20)).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight += torch.randn_like(weight)
    x, y = torch.randn(2, 500, 6, dtype=torch.float64)
    share = torch.rand(500, 1, dtype=torch.float64)
    chord = share * network(x) + (1 - share) * network(y)
    assert bool((network(share * x + (1 - share) * y) <= chord + 1e-12 * chord.abs()).all())


def test_the_convexity_check_sees_a_network_that_is_not_convex():
    network = build("mlp", (6,), 4, seed=0, widths=(20, 20)).double()
    x, y = torch.randn(2, 500, 6, dtype=torch.float64)
    assert bool((network((x + y) / 2) > (network(x) + network(y)) / 2 + 1e-9).any())


def test_a_seed_fixes_the_weights_and_leaves_the_generator():
    before = torch.get_rng_state()
    first, again, other = (build("cnn", (1, 8, 8), 10, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    build("mlp", (2,), 2)
    assert not torch.equal(before, torch.get_rng_state())


def test_recurrent_slopes_start_as_the_identity():
    network = build("relu-rnn", (4, 4), 2, hidden=5)
    assert torch.equal(network.get_parameter("rnn.weight_hh_l0"), torch.eye(5))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "message"),
    [
        ("resent", (1, 8, 8), 10, {}, "did you mean 'resnet'"),
        ("cnn", (64,), 10, {}, "input_shape"),
        ("cnn", (1, 3, 8), 10, {}, "at least 4"),
        ("resnet", (8, 8), 10, {}, "input_shape"),
        ("relu-rnn", (8,), 10, {}, "input_shape"),
        ("mlp", (8,), 0, {}, "classes: 0"),
        ("mlp", (8,), 2, {"depth": 3}, "depth: mlp takes no such option; its options are widths"),
        ("resnet18", (1, 8, 8), 2, {"width": 3}, "its options are none"),
        ("vit", (1, 3, 8), 10, {}, "at least 4"),
        ("vit", (1, 8, 10), 10, {}, "patch: 4 does not divide 8 x 10 pixels"),
        ("vit", (1, 8, 8), 10, {"heads": 3}, "heads: 3 does not divide"),
        ("convnext", (8, 8), 10, {}, "input_shape"),
        ("convnext", (1, 8, 3), 10, {}, "at least 4"),
    ],
)
def test_impossible_networks_are_refused(name, shape, classes, options, message):
    with pytest.raises(BadInput, match=message):
        build(name, shape, classes, **options)


def test_every_network_has_its_name():
    assert set(FACTORIES) == {"mlp", "cnn", "resnet", "resnet18", "mobilenet", "input-convex", "relu-rnn", *SMOOTH}
