"""What a network takes and gives: several inputs and outputs, layouts, dtypes, batch axes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from tests.blocks import only
from tests.network.captured import capture, vectors
from tests.zoo.networks import Net, mlp


class Two(NamedTuple):
    values: Tensor
    sizes: Tensor


X = vectors(2)[:, :2]
# Every call that asks about one of several outputs, as something to compare.
NAMED: dict[str, Callable[[ma.SplineNetwork, Any], Any]] = {
    "affine_map": lambda net, output: net.affine_map(X, output=output).slopes,
    "shares": lambda net, output: net.shares(X, "b", output=output),
    "task": lambda net, output: net.task(output).value,
    "templates": lambda net, output: net.templates(X, output=output).inner,
    "memorization": lambda net, output: (
        ma.templates.memorization(net, (X, torch.tensor([0, 1])), (X, torch.tensor([0, 1])), output=output).train.own
    ),
    "bias_free": lambda net, output: str(ma.templates.bias_free(net, X, output=output)),
    "line": lambda net, output: ma.partition.line(net, X[:1], X[1:], output=output).ends,
    "integrated_gradients": lambda net, output: (
        ma.partition.integrated_gradients(net, X[:1], output=output).attributions
    ),
    "plane": lambda net, output: ma.partition.plane(net, extent=1.0, output=output).values,
    "region": lambda net, output: ma.partition.region(net, X[:1], output=output).ball[1],
    "regions": lambda net, output: ma.partition.regions(net, (-0.1, 0.1), output=output).volumes,
}


@cache
def plain() -> tuple[nn.Module, ma.SplineNetwork]:
    module = mlp(nn.ReLU).double().eval()
    return module, ma.capture(module, vectors(1))


def test_what_is_not_a_tensor_is_bound() -> None:
    module, x = Net(lambda m, x, flag: x.abs() if flag else x), vectors(2)
    for example in ((x, True), x):
        with pytest.raises(ma.MaxAffineError, match=r"class Bound\(torch.nn.Sequential\)"):
            ma.capture(module, example)

    class Bound(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return self[0](input, True)

    assert_close(ma.capture(Bound(module), x)(x), x.abs())


class TestOutputs:
    @pytest.mark.parametrize("kind", [tuple, list, Two._make, lambda pair: dict(zip("ba", pair, strict=True))])
    def test_nested_as_the_module_returns_them(self, kind: Any) -> None:
        module = Net(lambda m, x: kind((m.f(x), x.abs())), f=mlp(nn.ReLU)).double()
        net, x = capture(module, vectors(1)), vectors(3)
        found, expected = net(x), module(x)
        assert type(found) is type(expected)
        if isinstance(expected, dict):
            assert list(found) == list(expected)
            found, expected = list(found.values()), list(expected.values())
        for own, other in zip(found, expected, strict=True):
            assert_close(own, other.detach())

    def test_one_must_be_chosen(self) -> None:
        net = capture(Net(lambda m, x: (x, 2 * x.abs())), vectors(1))
        x = vectors(3)
        assert_close(net.affine_map(x, output=1).value, 2 * x.abs())
        with pytest.raises(ma.BadInput, match="output: the network has 2 outputs; choose one of"):
            net.affine_map(x)
        for wrong in (2, -1):
            with pytest.raises(ma.BadInput, match=f"output: the network has 2 outputs; got {wrong}"):
                net.affine_map(x, output=wrong)

    @pytest.mark.parametrize("call", NAMED.values(), ids=NAMED)
    def test_one_is_chosen_by_its_name_in_every_call(self, call: Callable[[ma.SplineNetwork, Any], Any]) -> None:
        torch.manual_seed(0)
        module = Net(lambda m, x: {"size": m.a(x).abs(), "logits": m.b(x).abs()}, a=nn.Linear(2, 2), b=nn.Linear(2, 3))
        net = ma.capture(module.double(), X)
        named, numbered = call(net, "logits"), call(net, 1)
        assert type(named) is type(numbered) and np.array_equal(named, numbered)
        for wrong in ("logit", "", "1", 2):
            with pytest.raises(ma.BadInput, match=r"output: the network has 2 outputs \(size, logits\); got"):
                call(net, wrong)

    @pytest.mark.parametrize("name", ["logits", "aux.sizes"])
    def test_one_is_chosen_by_its_name(self, name: str) -> None:
        module = Net(lambda m, x: {"logits": m.f(x), "aux": Two(x, x.abs())}, f=mlp(nn.ReLU)).double()
        x = vectors(3)
        net = ma.capture(module, x, output=name)
        expected = module(x)["logits"] if name == "logits" else module(x)["aux"].sizes
        assert_close(net.affine_map(x).value, expected.detach())
        assert net.verify(module, x).exact
        with pytest.raises(ma.BadInput, match="expected 'as_is' or .* 'logits', 'aux.values', 'aux.sizes', got 'loss'"):
            ma.capture(module, x, output="loss")
        with pytest.raises(ma.BadInput, match=r"3 outputs \(logits, aux.values, aux.sizes\); choose one of 0..2"):
            ma.capture(module, x).affine_map(x)
        # Another output under the same name is found out.
        other = Net(lambda m, x: {"logits": 2 * m.f(x), "aux": Two(2 * x, 2 * x)}, f=module.f).double()
        assert not net.verify(other, x, raises=False).exact

    def test_the_same_tensor_twice(self) -> None:
        module = Net(lambda m, x: (y := m.f(x), [y, x]), f=mlp(nn.ReLU)).double()
        net, x = capture(module, vectors(1)), vectors(3)
        assert net.verify(module, x).exact
        one, (two, back) = net(x)
        assert torch.equal(one, two) and torch.equal(back, x)
        assert_close(only(net.affine_map(x, output=2).slopes), torch.eye(6).double().expand(3, 6, 6))


class TestInputs:
    def test_any_number_of_samples(self) -> None:
        module = mlp(nn.ReLU).double()
        net = capture(module, vectors(1))
        for batch in (1, 2, 7):
            assert net.verify(module, vectors(batch)).samples == batch

    def test_memory_layout_does_not_matter(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
        plain = torch.randn(3, 3, 8, 8)
        net = capture(module, plain)
        expected = net.affine_map(plain)
        strided = torch.randn(6, 8, 3, 8).permute(0, 2, 1, 3)[::2]
        strided.copy_(plain)
        for x in (plain.to(memory_format=torch.channels_last), strided, plain[:1].expand(3, -1, -1, -1)):
            assert net.verify(module, x).exact
            if x.shape[0] == 3 and torch.equal(x, plain):
                assert_close(only(net.affine_map(x).slopes), only(expected.slopes), rtol=1e-4, atol=1e-5)
        in_another = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        assert ma.capture(in_another, plain).verify(in_another, plain).exact

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_what_the_module_computes(self, dtype: torch.dtype) -> None:
        module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        x = torch.randn(2, 1, 6, 6).to(dtype)
        net = capture(module, x)
        assert net(x).dtype == dtype and torch.equal(net(x), module(x))
        report = net.verify(module, x)
        assert report.exact and report.bound <= 1 / 16
        assert net.affine_map(x).offsets.dtype == dtype

    def test_integers_beside_floats(self) -> None:
        module = Net(lambda m, places, x: (m.table(places) + x).relu(), table=nn.Embedding(4, 3)).eval()
        places, x = torch.tensor([3, 0, 1]), torch.randn(3, 3)
        net = ma.capture(module, (places, x))
        assert net.verify(module, (places, x)).exact
        assert only(net.affine_map((places, x)).slopes).shape == (3, 3, 3)
        assert net.codes((places, x)) != net.codes((places.flip(0), x - 1))

    def test_a_mask_holds_samples_of_its_own(self) -> None:
        module = Net(lambda m, x, keep: m.f(x) * keep, f=mlp(nn.ReLU)).double()
        net, x = capture(module, vectors(1), torch.ones(1, 3, dtype=torch.bool)), vectors(3)
        keep = torch.eye(3, dtype=torch.bool)
        assert net.verify(module, (x, keep)).exact
        assert not only(net.affine_map((x, keep)).slopes)[0, 1:].any()

    def test_by_position_by_name_and_as_a_list(self) -> None:
        module = Net(lambda m, x, *, scale: m.f(x) + scale.abs(), f=mlp(nn.ReLU)).double().eval()
        x, scale = vectors(2), torch.randn(2, 3, dtype=torch.float64)
        net = ma.capture(module, {"scale": scale, "x": x})
        assert_close(net({"x": x, "scale": scale}), module(x, scale=scale).detach())
        assert net.verify(module, {"x": x, "scale": scale}).exact
        listed = Net(lambda m, x, y: (x - y).abs()).double()
        assert torch.equal(ma.capture(listed, [x, x + 1])((x, x)), torch.zeros_like(x))

    def test_time_first(self) -> None:
        module = nn.RNN(3, 4, nonlinearity="relu").double()
        sequences = torch.randn(5, 2, 3, dtype=torch.float64)
        net = ma.capture(module, sequences, batch_dim=1)
        x = torch.randn(5, 7, 3, dtype=torch.float64)
        assert net.verify(module, x).samples == 7
        amap = net.affine_map(x, output=0)
        assert amap.in_shapes == ((5, 3),) and amap.units == (5, 4)
        assert_close(amap.value, module(x)[0].transpose(0, 1).detach())
        assert_close(net(x)[1], module(x)[1].detach())
        relus = [codes for name, codes in net.codes(x).items() if "relu" in name]
        assert len(relus) == 5 and relus[0].units[-1] == 4
        # What happens at a later step has no influence on an earlier one.
        slopes = only(amap.slopes)
        assert not slopes[:, 0, :, 1:].any() and slopes[:, 4, :, 0].any()

    def test_batch_axes_of_several_inputs(self) -> None:
        module = Net(lambda m, x, y: x.transpose(0, 1).sum(1) + y.relu()).double()
        x, y = torch.randn(4, 2, 3).double(), torch.randn(2, 3).double()
        net = ma.capture(module, (x, y), batch_dim=(1, 0))
        assert net.verify(module, (torch.randn(4, 5, 3).double(), torch.randn(5, 3).double())).samples == 5


class TestRefusals:
    """Every entry point of the network names the argument, the cause and the cure."""

    @pytest.mark.parametrize(
        ("wrong", "error", "words"),
        [
            (
                lambda x: x[:, :5],
                ma.ShapeMismatch,
                r"x: shape \(2, 5\), .* with \(N, 6\); reshape it, or",
            ),
            (lambda x: x[0], ma.ShapeMismatch, r"x: shape \(6,\)"),
            (lambda x: x[None], ma.ShapeMismatch, r"x: shape \(1, 2, 6\)"),
            (lambda x: x.float(), ma.ShapeMismatch, r"x: dtype torch.float32, .* torch.float64; convert it with .to"),
            (lambda x: x.long(), ma.ShapeMismatch, r"x: dtype torch.int64"),
            (lambda x: x.to("meta"), ma.ShapeMismatch, r"x: on meta, .* captured on cpu; move it with .to"),
            (lambda x: x[:0], ma.BadInput, "x: the batch is empty; give at least one"),
            (lambda x: x * torch.nan, ma.BadInput, "x: it holds NaN or infinity, .* clean the data"),
            (lambda x: x / 0, ma.BadInput, "x: it holds NaN or infinity"),
            (lambda x: x.to_sparse(), ma.BadInput, "x: a torch.sparse_coo tensor; give a dense one"),
            (lambda x: (x, x), ma.BadInput, r"x: the network takes 1 inputs \('x',\), got 2"),
            (lambda x: {"x": x}, ma.BadInput, "x: expected a torch.Tensor, got dict"),
            (lambda x: x.numpy(), ma.BadInput, "x: expected a torch.Tensor, got ndarray; use torch.as_tensor"),
            (lambda x: None, ma.BadInput, "x: expected a torch.Tensor, got NoneType"),
        ],
    )
    @pytest.mark.parametrize("entry", ["call", "affine_map", "codes", "verify"])
    def test_inputs(self, entry: str, wrong: Any, error: type[ma.BadInput], words: str) -> None:
        module, net = plain()
        x = wrong(vectors(2))
        calls: dict[str, Any] = {
            "call": net,
            "affine_map": net.affine_map,
            "codes": net.codes,
            "verify": lambda x: net.verify(module, x),
        }
        if entry == "codes" and x is None:
            words = "x: expected inputs or a loader of batches, got NoneType"
        with pytest.raises(error, match=words):
            calls[entry](x)

    def test_dicts_and_tuples(self) -> None:
        net = ma.capture(Net(lambda m, x, y: x - y), {"x": vectors(1), "y": vectors(1)})
        for wrong in (vectors(1), (vectors(1), vectors(1)), {"x": vectors(1)}, {"x": vectors(1), "z": vectors(1)}):
            with pytest.raises(ma.BadInput, match=r"x: expected a dict with the keys \['x', 'y'\], got"):
                net(wrong)
        with pytest.raises(ma.ShapeMismatch, match="different numbers of samples"):
            net({"x": vectors(1), "y": vectors(2)})
