"""Local complexity: hand-made neighborhoods, lower bounds in order, the recording while training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma
from maxaffine._partition import ComplexityHistory, local_complexity


def test_first_layer_is_exact() -> None:
    """A hyperplane meets the cross-polytope exactly when it is nearer than the largest |<w, v>| of its vertices."""
    module = nn.Sequential(nn.Linear(5, 200), nn.ReLU()).double()
    layer = module[0]
    assert isinstance(layer, nn.Linear)
    x = torch.randn(6, 5, dtype=torch.float64)
    net = ma.capture(module, x)
    found = local_complexity(net, x, 0.4, directions=5, seed=3)
    random = torch.randn(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    vertices = 0.4 * torch.linalg.qr(random).Q.T
    reach = (layer.weight @ vertices.T).abs().amax(1)
    expected = (layer(x).abs() < reach).sum(1)
    assert torch.equal(found.total, expected) and expected.sum() > 0
    assert torch.equal(local_complexity(net, x, 0.4, directions=5, seed=3, method="lines").total, expected)


def test_vertices_bound_lines_and_lines_bound_all_units() -> None:
    module = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())
    net = ma.capture(module.double(), torch.zeros(1, 3, dtype=torch.float64))
    x = torch.randn(3, 3, dtype=torch.float64)
    vertices, lines = (local_complexity(net, x, 0.8, directions=3, method=m) for m in ("vertices", "lines"))
    assert (vertices.total <= lines.total).all()
    assert (vertices.total < lines.total).any()  # some unit leaves and comes back
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    axes = 0.8 * torch.linalg.qr(random).Q.T
    weights = np.random.default_rng(0).dirichlet(np.ones(6), 20_000)
    cloud = torch.as_tensor(weights) @ torch.cat([axes, -axes])
    for place, sample in enumerate(x):
        codes = net.codes(sample + torch.cat([cloud, axes, -axes]))
        changed = sum(int((c.unpack() != c.unpack()[:1]).any(0).sum()) for c in codes.values())
        assert int(vertices.total[place]) <= changed


def test_history_follows_a_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))
    x = torch.randn(30, 2)
    history = ComplexityHistory(model, {"data": x[:5], "far": x[5:9] + 50}, radius=0.3, every=2, directions=2)
    state, mode = torch.get_rng_state(), [module.training for module in model.modules()]
    history()
    assert torch.equal(state, torch.get_rng_state())
    assert mode == [module.training for module in model.modules()]
    for step in range(1, 5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)
        history(step)
    assert history.moments == [0.0, 2.0, 4.0]
    assert len(history.means("data")) == 3 and len(history.means("far", "2")) == 3
    assert history.means("data") != [history.means("data")[0]] * 3
    figure = history.plot(log=True).figure
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[1:4] == b"PNG"


def test_repr_says_how() -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 2))
    assert "by vertices" in repr(local_complexity(net, torch.ones(2, 2), 0.5, directions=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"radius": 0.0}, "radius"), ({"directions": 3}, "directions"), ({"method": "planes"}, "method")],
)
def test_bad_options(options: dict, message: str) -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 2))
    with pytest.raises(ma.BadInput, match=message):
        local_complexity(net, torch.ones(1, 2), **({"radius": 0.1, "directions": 2} | options))


def test_bad_networks_and_histories() -> None:
    affine = ma.capture(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ma.BadInput, match="no boundary"):
        local_complexity(affine, torch.ones(1, 2), 0.1, directions=1)
    with pytest.raises(ma.BadInput, match="samples"):
        ComplexityHistory(nn.ReLU(), {}, 0.1)
    with pytest.raises(ma.BadInput, match="every"):
        ComplexityHistory(nn.ReLU(), {"x": torch.ones(1, 2)}, 0.1, every=0)
    with pytest.raises(ma.BadInput, match="nothing was recorded"):
        ComplexityHistory(nn.ReLU(), {"x": torch.ones(1, 2)}, 0.1).plot()


@pytest.mark.parametrize("size", [1, 2, 24, 25, 30])
def test_small_inputs_need_no_directions(size: int) -> None:
    """All of them where there are fewer than 25; in all directions at right angles a box of ReLUs is seen whole."""
    net = ma.capture(nn.ReLU(), torch.zeros(1, size))
    found = local_complexity(net, torch.full((1, size), 1e-6), 0.1)
    assert found.total.tolist() == [size] or size > 25
    few = local_complexity(net, torch.ones(1, size), 0.1)
    assert few.total.tolist() == [0]
    assert torch.equal(
        found.total, local_complexity(net, torch.full((1, size), 1e-6), 0.1, directions=min(size, 25)).total
    )
