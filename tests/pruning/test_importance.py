"""The importance in torch-pruning's own pruners, against networks that were pruned by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from maxaffine._pruning.importance import importance
from maxaffine.errors import BadInput
from maxaffine.models import build
from maxaffine.pruning import SplineImportance
from tests.pruning.planted import cnn, mlp


def by_hand(weights: Tensor, offsets: Tensor, rho: float, count: int) -> list[int]:
    """The units that are left when the closest pair is broken up again and again, with plain loops."""
    left = list(range(len(weights)))

    def apart(a: int, b: int) -> float:
        w, v = weights[a], weights[b]
        cosine = float(w @ v / w.norm() / v.norm())
        gap = offsets[a] / w.norm() - math.copysign(1, cosine) * offsets[b] / v.norm()
        return 1 - abs(cosine) + rho * abs(float(gap))

    for _ in range(count):
        _, a, b = min((apart(a, b), a, b) for a in left for b in left if a != b)
        rest = [c for c in left if c not in (a, b)]
        nearest = [min((apart(x, c) for c in rest), default=math.inf) for x in (a, b)]
        left.remove(a if nearest[0] < nearest[1] else b)
    return left


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_an_mlp_is_pruned_as_by_hand(ratio: float) -> None:
    torch.manual_seed(1)
    model: Any = build("mlp", (5,), 3, seed=0, widths=(16,)).double()
    first, last = model[1], model[3]
    weights, offsets = first.weight.detach().clone(), first.bias.detach().clone()
    left = by_hand(weights, offsets, 0.05, round(16 * ratio))
    outgoing = last.weight.detach().clone()
    example = torch.zeros(2, 5, dtype=torch.float64)
    tp.BasePruner(model, example, SplineImportance(), pruning_ratio=ratio, ignored_layers=[last]).step()
    assert torch.equal(first.weight, weights[left]) and torch.equal(first.bias, offsets[left])
    assert torch.equal(last.weight, outgoing[:, left])


def test_of_like_units_one_stays() -> None:
    """The double of unit 3 and the opposite of unit 0 go first, however many go; batch-norm is folded in."""
    model = mlp()
    found = importance(model[0].weight.detach(), model[0].bias.detach())
    assert {int(unit) for unit in found.argsort()[:2]} <= {0, 3, 4, 5} and float(found.sort().values[1]) < 1e-9
    assert float(found[3]) > 1e-3 or float(found[4]) > 1e-3
    net = cnn()
    graph = tp.DependencyGraph().build_dependency(net, (torch.zeros(1, 1, 6, 6, dtype=torch.float64),), verbose=False)
    scores = SplineImportance()(graph.get_pruning_group(net[0], tp.prune_conv_out_channels, list(range(5))))
    assert scores is not None and scores[2] == 0  # no weights, after batch-norm
    assert min(float(scores[0]), float(scores[3])) < 1e-9 < max(float(scores[0]), float(scores[3]))


def test_groups_of_a_skip_connection_count_by_their_mean() -> None:
    model: Any = build("resnet", (1, 8, 8), 3, seed=0, width=6, blocks=(1, 1)).double().eval()
    example = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    graph = tp.DependencyGraph().build_dependency(model, (example,), verbose=False)
    group = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, list(range(6)))
    scores, parts = SplineImportance()(group), []
    for layer, norm in ((model[0], model[1]), (model[3][0].body[3], model[3][0].body[4])):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        offsets = norm.bias - scale * norm.running_mean
        parts.append(importance((layer.weight.flatten(1) * scale[:, None]).detach(), offsets.detach()))
    assert scores is not None
    torch.testing.assert_close(scores, torch.stack(parts).mean(0))
    tp.BasePruner(model, example, SplineImportance(0.5), global_pruning=True, pruning_ratio=0.5).step()
    assert model(torch.zeros(2, 1, 8, 8, dtype=torch.float64)).shape[0] == 2 and model[0].out_channels < 6


def test_of_some_units_the_scores_are_those_among_all() -> None:
    model = mlp()
    graph = tp.DependencyGraph().build_dependency(model, (torch.zeros(1, 3, dtype=torch.float64),), verbose=False)
    every, some = (
        SplineImportance()(graph.get_pruning_group(model[0], tp.prune_linear_out_channels, units))
        for units in (list(range(8)), [6, 2])
    )
    assert every is not None and some is not None and torch.equal(some, every[[6, 2]])


def test_it_is_one_of_torch_prunings_importances() -> None:
    assert isinstance(SplineImportance(), tp.importance.Importance)
    assert repr(SplineImportance(0.5)) == "SplineImportance(rho=0.5)"


@pytest.mark.parametrize("rho", [-1.0, math.inf, math.nan])
def test_bad_rho(rho: Any) -> None:
    with pytest.raises(BadInput, match="rho"):
        SplineImportance(rho)


def test_batch_norm_is_folded_into_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.ConvTranspose2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3)).eval()
    with torch.no_grad():
        model[1].running_mean.uniform_(-1, 1)
        model[1].bias.uniform_(-1, 1)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, 2, 5, 5))
    group = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, list(range(4)))
    scale = model[1].weight / (model[1].running_var + model[1].eps).sqrt()
    rows = (model[0].weight.transpose(0, 1).flatten(1) * scale[:, None]).detach()
    offsets = ((model[0].bias - model[1].running_mean) * scale + model[1].bias).detach()
    torch.testing.assert_close(SplineImportance()(group), importance(rows, offsets))
