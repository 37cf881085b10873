"""Every network of the zoo through the whole library: exact against the untouched module, or refused with a reason."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._pytree import tree_flatten, tree_leaves

import maxaffine as ma
from tests import oracles
from tests.blocks import blocks
from tests.zoo import REFUSED, ZOO, Case, Refused
from tests.zoo.captured import captured

BATCH = 3
# Convex, but not by the certificate's rules: it does not see that x + w (c - x) is (1 - w) x + w c.
CONVEX_UNPROVED = {"addcmul_lerp", "constant_grid"}
# Continuous although one of their operators jumps: the jump is multiplied by zero, or both sides agree there.
JUMPS_CANCEL = {
    "gate_by_comparison",
    "gate_by_cast_comparison",
    "where_on_comparison",
    "masked_fill",
    "product_with_own_sign",
    "gather_by_own_argmax",
}

every_case = pytest.mark.parametrize("case", ZOO, ids=str)
every_refused = pytest.mark.parametrize("row", REFUSED, ids=str)


@cache
def maps(case: Case) -> tuple[ma.AffineMap, ...]:
    """The affine map of every output at three points."""
    return tuple(captured(case).affine_map(case.inputs(BATCH), output=place) for place in range(case.outputs))


@cache
def truth(case: Case) -> list[Tensor]:
    with torch.no_grad():
        return oracles.outputs(case.build(), [x.clone() for x in case.inputs(BATCH)])


@every_case
def test_returns_what_the_module_returns(case: Case) -> None:
    inputs = case.inputs(BATCH)
    leaves, spec = tree_flatten(captured(case)(inputs))
    assert spec == tree_flatten(case.build()(*[x.clone() for x in inputs]))[1]
    for own, expected in zip(leaves, truth(case), strict=True):
        assert own.dtype == expected.dtype
        assert_close(own, expected, rtol=1e-13, atol=1e-13)


@every_case
def test_slopes_are_the_jacobian_and_offsets_the_rest(case: Case) -> None:
    for amap, (slopes, offsets) in zip(maps(case), oracles.affine_maps(case.build(), case.inputs(BATCH)), strict=True):
        # PyTorch holds the slope 1/6 of hardsigmoid in single precision, in its derivative only.
        tolerance = 1e-7 if case.name == "mlp_hardsigmoid" else 1e-11
        for own, expected in zip(blocks(amap.slopes), slopes, strict=True):
            assert_close(own, expected, rtol=tolerance, atol=tolerance)
        assert_close(amap.offsets, offsets, rtol=tolerance, atol=tolerance)


@every_case
def test_slopes_and_offsets_give_the_value(case: Case) -> None:
    inputs = case.inputs(BATCH)
    for amap, value in zip(maps(case), truth(case), strict=True):
        assert_close(oracles.apply_jacobian(blocks(amap.slopes), inputs) + amap.offsets, value, rtol=1e-11, atol=1e-11)
        assert_close(amap(inputs), value, rtol=1e-11, atol=1e-11)


@every_case
def test_offset_contributions_add_up(case: Case) -> None:
    names = {record.name for record in captured(case).operators}
    for amap in maps(case):
        parts = amap.offset_contributions()
        assert set(parts) <= names
        assert all(part.shape == amap.offsets.shape for part in parts.values())
        assert_close(parts.sum(), amap.offsets, rtol=1e-11, atol=1e-11)


@every_case
def test_mv_and_rmv_are_transposes(case: Case) -> None:
    for amap, value in zip(maps(case), truth(case), strict=True):
        direction, weights = case.inputs(BATCH, seed=7), torch.randn(value.shape, dtype=value.dtype)
        pushed, pulled = amap.mv(direction), blocks(amap.rmv(weights))
        assert_close(pushed, oracles.apply_jacobian(blocks(amap.slopes), direction), rtol=1e-11, atol=1e-11)
        inner = sum(((a * b).flatten(1).sum(1) for a, b in zip(pulled, direction, strict=True)), torch.zeros(()))
        assert_close((pushed * weights).reshape(BATCH, -1).sum(1), inner, rtol=1e-10, atol=1e-10)


@every_case
def test_equal_codes_mean_the_same_map(case: Case) -> None:
    net, inputs = captured(case), case.inputs(BATCH)
    here = net.codes(inputs)
    for step in (1e-9, 1e-3, 0.1):
        moved = tuple(x + step * d for x, d in zip(inputs, case.inputs(BATCH, seed=9), strict=True))
        same = here.same_region(net.codes(moved))
        assert bool(same.all()) or step > 1e-9
        values = oracles.outputs(case.build(), [x.clone() for x in moved])
        for amap, value in zip(maps(case), values, strict=True):
            assert_close(amap(moved)[same], value[same], rtol=1e-11, atol=1e-11)


@every_case
def test_codes_are_pieces(case: Case) -> None:
    net = captured(case)
    codes = net.codes(case.inputs(BATCH))
    records = {record.name: record for record in net.operators if record.pieces > 1}
    assert list(codes) == list(records)
    assert bool(records) or case.affine
    for name, record in records.items():
        numbers = codes[name].unpack()
        assert numbers.shape == (BATCH, *record.units)
        assert codes[name].pieces == record.pieces
        assert int(numbers.max()) < record.pieces


@every_case
def test_samples_have_maps_of_their_own(case: Case) -> None:
    net, inputs = captured(case), case.inputs(BATCH)
    for place, amap in enumerate(maps(case)):
        for sample in range(BATCH):
            alone = net.affine_map(oracles.sample(inputs, sample), output=place)
            for whole, one in zip(blocks(amap.slopes), blocks(alone.slopes), strict=True):
                assert_close(whole[sample : sample + 1], one, rtol=1e-12, atol=1e-12)
            assert_close(amap.offsets[sample : sample + 1], alone.offsets, rtol=1e-12, atol=1e-12)


@every_case
def test_verifies_and_leaves_the_module_alone(case: Case) -> None:
    module = case.build()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    net = ma.capture(module, case.inputs(1)) if case.name == "resnet" else captured(case)
    report = net.verify(module, case.inputs(BATCH, seed=2))
    assert report.exact and report.samples == BATCH
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@every_case
def test_claims_of_the_records_hold(case: Case) -> None:
    net = captured(case)
    continuous = all(record.continuous for record in net.operators)
    assert net.convex == (case.convex and case.name not in CONVEX_UNPROVED)
    assert continuous == (case.continuous and case.name not in JUMPS_CANCEL)
    assert (max((record.pieces for record in net.operators), default=1) == 1) == case.affine
    assert any("max_pool" in record.kind for record in net.operators) == case.max_pool
    if case.biasless:
        assert all(float(amap.offsets.abs().max()) == 0 for amap in maps(case))


@every_case
def test_softened_at_beta_one_it_is_the_module_with_any_weights(case: Case) -> None:
    net, inputs = captured(case), case.inputs(BATCH)
    if case.affine:
        with pytest.raises(ma.BadInput, match="no piecewise-affine operator"):
            ma.curvature.soften(net, 1.0)
        return
    soft, other = ma.curvature.soften(net, 1.0), case.build(seed=1)
    soft.load_state_dict(other.state_dict())
    with torch.no_grad():
        for own, expected in zip(tree_leaves(soft(*inputs)), oracles.outputs(other, inputs), strict=True):
            assert_close(own, expected, rtol=1e-13, atol=1e-13)
    try:
        near = ma.curvature.soften(net, 1 - 1e-12)
    except ma.NotPiecewiseAffine as refusal:
        hard = [record for record in net.operators if record.name == refusal.operator]
        assert not hard[0].convex or case.name == "max_unpool"
        return
    for own, expected in zip(tree_leaves(near(*inputs)), truth(case), strict=True):
        assert_close(own, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", ZOO[::5], ids=str)
def test_is_exact_in_single_precision(case: Case) -> None:
    module, inputs = case.build(torch.float32), case.inputs(BATCH, torch.float32)
    report = captured(case, torch.float32).verify(module, inputs)
    assert report.exact and report.dtype == torch.float32


@every_refused
def test_refused_with_operator_place_reason_and_cure(row: Refused) -> None:
    module = row.build()
    with pytest.raises(row.error) as caught:
        ma.capture(module, row.inputs(BATCH))
    message = str(caught.value)
    assert re.search(row.words, message, re.IGNORECASE)
    assert "cure" in message.lower()
    if isinstance(caught.value, ma.NotPiecewiseAffine):
        refusal = caught.value
        assert refusal.operator and refusal.reason and refusal.cure
        assert refusal.module_path in dict(module.named_modules())
        assert all(text in message for text in (refusal.operator, refusal.reason, refusal.cure, refusal.module_path))
