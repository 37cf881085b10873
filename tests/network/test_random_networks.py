"""Properties that hold for every network: exactness, codes, and that inputs with equal codes share their map."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import maxaffine as ma
from tests import oracles
from tests.blocks import only
from tests.random_networks import RandomCase, random_cases


def maps(net: ma.SplineNetwork, x: Tensor) -> list[ma.AffineMap]:
    return [net.affine_map(x, output=place) for place in range(len(net.graph.outputs))]


def check_exact(net: ma.SplineNetwork, case: RandomCase, x: Tensor) -> None:
    assert net.verify(case.network, x).exact
    expected = oracles.affine_maps(case.network, (x,))
    for amap, ((slopes,), offsets) in zip(maps(net, x), expected, strict=True):
        assert_close(only(amap.slopes), slopes, rtol=1e-10, atol=1e-10)
        assert_close(amap.offsets, offsets, rtol=1e-9, atol=1e-9)
        assert_close(amap.offset_contributions().sum(), amap.offsets, rtol=1e-9, atol=1e-9)


def check_equal_codes_mean_equal_maps(net: ma.SplineNetwork, case: RandomCase, x: Tensor) -> None:
    """Around each point two clusters: some of their points share a region, some do not."""
    scales = torch.tensor([0.0, 1e-6, 1e-2, 0.3] * len(x), dtype=x.dtype).view(-1, *[1] * (x.dim() - 1))
    x = x.repeat_interleave(4, 0)
    x = x + scales * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    regions = net.codes(x).region_ids()
    values = oracles.outputs(case.network, (x,))
    for amap, value in zip(maps(net, x), values, strict=True):
        for region in regions.unique():
            first, *others = torch.nonzero(regions == region).flatten().tolist()
            for other in others:
                assert_close(only(amap.slopes)[first], only(amap.slopes)[other], rtol=1e-12, atol=1e-12)
                assert_close(amap.offsets[first], amap.offsets[other], rtol=1e-11, atol=1e-11)
                swapped = x.clone()
                swapped[first] = x[other]
                assert_close(amap(swapped)[first], value[other], rtol=1e-10, atol=1e-10)


def check_codes_are_pieces(net: ma.SplineNetwork, x: Tensor) -> None:
    codes = net.codes(x)
    for record in net.operators:
        if record.pieces > 1:
            numbers = codes[record.name].unpack()
            assert numbers.shape == (len(x), *record.units)
            assert int(numbers.max()) < record.pieces


def check_a_batch_is_its_samples(net: ma.SplineNetwork, x: Tensor) -> None:
    whole, codes = maps(net, x), net.codes(x)
    for sample in range(len(x)):
        alone = x[sample : sample + 1]
        assert net.codes(alone) == codes.rows(sample)
        for amap, own in zip(whole, maps(net, alone), strict=True):
            assert_close(only(amap.slopes)[sample : sample + 1], only(own.slopes), rtol=1e-12, atol=1e-12)
            assert_close(amap.offsets[sample : sample + 1], own.offsets, rtol=1e-12, atol=1e-12)


def check_the_convexity_certificate(net: ma.SplineNetwork, case: RandomCase, start: Tensor, end: Tensor) -> None:
    values = oracles.along(case.network, (start,), (end - start,), torch.tensor([0.0, 0.5, 1.0]))
    above_chord = values[1] - (values[0] + values[2]) / 2
    assert not net.convex or bool((above_chord <= 1e-9).all())


# Half a second goes into every capture: a failing program is printed as it is rather than shrunk for minutes.
@settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(random_cases(), st.integers(0, 1000))
def test_a_random_network(case: RandomCase, seed: int) -> None:
    net = ma.capture(case.network, case.inputs(1, seed))
    x = case.inputs(3, seed)
    check_exact(net, case, x)
    check_codes_are_pieces(net, x)
    check_equal_codes_mean_equal_maps(net, case, x)
    check_a_batch_is_its_samples(net, x)
    check_the_convexity_certificate(net, case, case.inputs(32, seed), case.inputs(32, seed + 1))
