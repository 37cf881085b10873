"""A float32 network computed in float64 is the module converted to float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from maxaffine._graph import ChannelAffine, in_float64
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured

# A sample of every family; those that compute constants from their parameters compute them in float32, at capture.
CASES = ZOO[::9] + tuple(case for case in ZOO if case.name in ("batch_norm_1d", "residual", "prelu", "filled"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_double_is_the_converted_module(case: Case) -> None:
    module, inputs = case.build(torch.float32), case.inputs(3, torch.float32)
    net = captured(case, torch.float32)
    wide = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    double = net.double()
    expected = tree_leaves(copy.deepcopy(module).double()(*wide))
    found = tree_leaves(double(wide))
    for ours, theirs in zip(found, expected, strict=True):
        if theirs.is_floating_point():
            assert ours.dtype == torch.float64
            assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)
    assert [record.name for record in double.operators] == [record.name for record in net.operators]
    for place, value in enumerate(found):
        if value.is_floating_point() and not case.affine:
            amap = double.affine_map(wide, output=place)
            assert_close(amap(wide), amap.value, rtol=1e-11, atol=1e-11)


def test_batch_norm_keeps_no_rounding() -> None:
    module = torch.nn.BatchNorm1d(3).eval()
    assert module.running_mean is not None and module.running_var is not None
    with torch.no_grad():
        module.running_mean.copy_(torch.tensor([1e3, 0.1, -7.0]))
        module.weight.copy_(torch.tensor([1 / 3, 1e-3, 2.0]))
    graph = in_float64(ma.capture(module, torch.zeros(2, 3)).graph)
    (operator,) = [step.operator for step in graph.steps if isinstance(step.operator, ChannelAffine)]
    module.double()
    assert module.running_mean is not None and module.running_var is not None
    scale = module.weight / (module.running_var + module.eps).sqrt()
    assert_close(operator.scale, scale.detach(), rtol=1e-14, atol=0)
    assert_close(operator.shift, (-module.running_mean * scale).detach(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["residual", "dense", "nested", "batch_norm_1d", "inplace"])
def test_parameters_are_widened_exactly(name: str) -> None:
    (case,) = [case for case in ZOO if case.name == name]
    module, inputs = case.build(torch.float32), case.inputs(3, torch.float32)
    net = ma.capture(module, inputs).double()
    wide = tuple(x.double() for x in inputs)
    assert_close(net(wide), module.double()(*wide).detach(), rtol=1e-13, atol=1e-13)


def test_a_float64_network_is_itself() -> None:
    net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2, dtype=torch.float64))
    assert net.double() is net
