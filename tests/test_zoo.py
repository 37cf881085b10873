"""The zoo's own claims, checked on plain PyTorch, so that a wrong row cannot excuse a wrong capture."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests import oracles
from tests.zoo import REFUSED, ZOO, Case, Refused

TRAINING = {row.name for row in REFUSED if row.train}
# Refused for another reason than curvature: every piece of these is affine, or they are not functions of one sample.
FLAT_BUT_REFUSED = {"floor", "noise", "boolean_mask", "fractional_max_pool", "functional_dropout_left_on"} | TRAINING

every_case = pytest.mark.parametrize("case", ZOO, ids=str)
every_refused = pytest.mark.parametrize("row", REFUSED, ids=str)


@cache
def maps(case: Case) -> list[tuple[list[Tensor], Tensor]]:
    """The slopes and offsets of a case at three points, which several tests need and autograd takes long for."""
    return oracles.affine_maps(case.build(), case.inputs(3))


def test_names_are_unique() -> None:
    names = [row.name for row in (*ZOO, *REFUSED)]
    assert len(set(names)) == len(names)


@every_case
def test_runs_in_both_precisions_and_repeats(case: Case) -> None:
    double, single = case.build(torch.float64), case.build(torch.float32)
    assert not any(part.training for part in double.modules())
    first = oracles.outputs(double, case.inputs(3))
    again = oracles.outputs(case.build(torch.float64), case.inputs(3))
    rough = oracles.outputs(single, case.inputs(3, torch.float32))
    assert len(first) == case.outputs
    for exact, repeated, rounded in zip(first, again, rough, strict=True):
        assert exact.shape[0] == 3 and exact.dtype == torch.float64 and rounded.dtype == torch.float32
        assert torch.equal(exact, repeated)
        if case.continuous:
            assert_close(rounded.double(), exact, rtol=1e-3, atol=1e-4)


@every_case
def test_samples_are_independent(case: Case) -> None:
    module, inputs = case.build(), case.inputs(4)
    together = oracles.outputs(module, inputs)
    for i in range(4):
        for whole, alone in zip(together, oracles.outputs(module, oracles.sample(inputs, i)), strict=True):
            assert_close(whole[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@every_case
def test_is_affine_around_generic_points(case: Case) -> None:
    directions = case.inputs(3, seed=100)
    scale = 1 + max(float(block.abs().max()) for slopes, _ in maps(case) for block in slopes)
    curvature = oracles.curvature(case.build(), case.inputs(3), directions)
    # Second differences of an affine piece are rounding: 1e-16 / t^2 = 1e-8. One sample in three may sit on a kink.
    assert float(curvature.median()) < 1e-6 * scale


@every_case
def test_autograd_agrees_with_central_differences(case: Case) -> None:
    numeric = oracles.central_differences(case.build(), case.inputs(3))
    for (slopes, _), columns in zip(maps(case), numeric, strict=True):
        for exact, difference in zip(slopes, columns, strict=True):
            assert_close(exact, difference, rtol=1e-6, atol=1e-6)


@every_case
def test_has_more_than_one_piece_unless_affine(case: Case) -> None:
    pieces = torch.cat([p.reshape(3, -1) for slopes, offsets in maps(case) for p in (*slopes, offsets)], dim=1)
    assert torch.allclose(pieces[0], pieces[1:], rtol=1e-9, atol=1e-12) == case.affine


@every_case
def test_every_sample_sees_a_living_network(case: Case) -> None:
    slopes = torch.cat([block.flatten(1) for blocks, _ in maps(case) for block in blocks], dim=1)
    assert float(slopes.abs().amax(1).min()) > 1e-3


@every_case
def test_convexity_is_labeled(case: Case) -> None:
    module = case.build()
    start, end = case.inputs(128), case.inputs(128, seed=50)
    values = oracles.along(
        module, start, [b - a for a, b in zip(start, end, strict=True)], torch.tensor([0.0, 0.5, 1.0])
    )
    above_chord = values[1] - (values[0] + values[2]) / 2
    assert bool((above_chord <= 1e-9).all()) == case.convex


@every_case
def test_jumps_are_labeled(case: Case) -> None:
    module = case.build()
    start, end = case.inputs(3), case.inputs(3, seed=100)
    jump = max(oracles.largest_jump(module, oracles.sample(start, i), oracles.sample(end, i)) for i in range(3))
    assert (jump > 1e-4) == (not case.continuous)


@every_case
def test_offsets_are_labeled(case: Case) -> None:
    offsets = torch.cat([offsets.flatten() for _, offsets in maps(case)])
    assert bool((offsets.abs() < 1e-10).all()) == case.biasless


@every_case
def test_max_pooling_is_labeled(case: Case) -> None:
    if any("MaxPool" in type(part).__name__ for part in case.build().modules()):
        assert case.max_pool


@every_refused
def test_refused_networks_run_and_name_their_reason(row: Refused) -> None:
    module, inputs = row.build(), row.inputs(4)
    assert oracles.outputs(module, inputs)
    assert re.compile(row.words, re.IGNORECASE).pattern
    assert any(part.training for part in module.modules()) == row.train


def curved_or_mixing(module: nn.Module, row: Refused) -> bool:
    """Whether an oracle sees curvature, or a sample that sees its neighbors."""
    inputs, directions = row.inputs(4), row.inputs(4, seed=100)
    if row.name.startswith("batch_") or row.name in {"dependent_convolution", "branch_on_value", "loop_on_value"}:
        together = oracles.outputs(module, inputs)[0]
        alone = torch.cat([oracles.outputs(module, oracles.sample(inputs, i))[0] for i in (2, 3)])
        return together.shape[0] != 4 or not torch.allclose(together[2:], alone, rtol=1e-9)
    return float(oracles.curvature(module, inputs, directions, step=1e-3).max()) > 1e-5


@pytest.mark.parametrize("row", [r for r in REFUSED if r.name not in FLAT_BUT_REFUSED], ids=str)
def test_the_oracles_can_fail(row: Refused) -> None:
    assert curved_or_mixing(row.build(), row)


def test_the_jacobian_oracle_on_a_known_map() -> None:
    linear = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    (((slopes,), offsets),) = oracles.affine_maps(linear, (x,))
    assert_close(slopes, linear.weight.detach().expand(4, 2, 3))
    assert_close(offsets, linear.bias.detach().expand(4, 2))


def test_building_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ZOO[0].build()
    ZOO[0].inputs()
    assert torch.equal(before, torch.get_rng_state())
