"""The three networks of the face detector MTCNN, before their softmax: PReLU and max-pooling, exact on a face."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.photographs import FACE, network_input, photograph, square
from examples.real_networks.published import UpTo, mtcnn
from tests.weights.checks import RTOL, bump, gradients, inner, needs, relative, rounding

pytestmark = needs("facenet_pytorch", "skimage")
# name, side of its input, the module before the softmax, the softmax
NETWORKS = [
    ("PNet", 12, "conv4_1", "softmax4_1"),
    ("RNet", 24, "dense5_1", "softmax5_1"),
    ("ONet", 48, "dense6_1", "softmax6_1"),
]


class Case(NamedTuple):
    module: nn.Module
    x: Tensor
    last: str
    softmax: str


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda row: row[0])
def case(request: pytest.FixtureRequest) -> Case:
    name, side, last, softmax = request.param
    face = network_input(square(photograph("astronaut"), FACE, side), middle=127.5)
    elsewhere = network_input(square(photograph("astronaut"), (300, 300, 120), side), middle=127.5)
    return Case(mtcnn(name).double(), torch.cat([face, elsewhere]), last, softmax)


@pytest.fixture(scope="module")
def net(case: Case) -> ma.SplineNetwork:
    return ma.capture(case.module, case.x, until=case.last)


def test_the_whole_module_is_refused_by_name(case: Case) -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match=f"(?s)softmax.*'{case.softmax}'.*until="):
        ma.capture(case.module, case.x)


def test_the_face_is_found(case: Case) -> None:
    with torch.no_grad():
        face, elsewhere = case.module(case.x)[-1][:, 1].flatten()
    assert face > 0.9 and elsewhere < 0.1


def test_a_softmax_behind_the_network_gives_the_module(case: Case, net: ma.SplineNetwork) -> None:
    with torch.no_grad():
        assert relative(net(case.x).softmax(1), case.module(case.x)[-1]) < RTOL


def test_slopes_and_offsets(case: Case, net: ma.SplineNetwork) -> None:
    amap = net.affine_map(case.x, outputs=[0, 1])
    part = UpTo(case.module, case.last)
    with torch.no_grad():
        truth = part(case.x).flatten(1)
    assert relative(only(amap.slopes), gradients(part, case.x, [0, 1])) < RTOL
    assert relative(inner(only(amap.slopes), case.x) + amap.offsets, truth) < RTOL
    assert relative(amap.offset_contributions().sum(), amap.offsets) < RTOL


def test_all_outputs_at_once(case: Case) -> None:
    """Only the last output ends in a softmax; the boxes and landmarks are as they are."""
    net = ma.capture(case.module, case.x, output="pre_activation")
    assert net.verify(case.module, case.x, rtol=RTOL).exact
    assert len(net(case.x)) == len(case.module(case.x))


def test_verify(case: Case, net: ma.SplineNetwork) -> None:
    assert net.verify(UpTo(case.module, case.last), case.x, rtol=RTOL).exact


def test_verify_sees_one_changed_slope(case: Case, net: ma.SplineNetwork) -> None:
    changed = copy.deepcopy(case.module)
    bump(changed.get_submodule("prelu3").weight, (), 1e-7)
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        net.verify(UpTo(changed, case.last), case.x, rtol=RTOL)


def test_single_precision(case: Case) -> None:
    module32, x = copy.deepcopy(case.module).float(), case.x.float()
    net = ma.capture(module32, x, until=case.last)
    assert net.verify(UpTo(module32, case.last), x).exact
    bound = rounding(torch.float32, len(net.operators))
    slopes = only(net.affine_map(x, outputs=[0, 1]).slopes)
    assert relative(slopes, gradients(UpTo(module32, case.last), x, [0, 1])) < bound
