"""SplineNetwork: records and names, stopping anywhere, parts, the table, convexity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import maxaffine as ma
from tests import oracles
from tests.blocks import only
from tests.network.captured import capture, vectors
from tests.zoo.networks import CellLoop, Net, ResidualMLP, mlp


class Block(nn.Module):
    """relu(x + norm(conv(relu(x)))), one relu module for both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.norm(self.conv(self.relu(x.clone()))))


class Shared(nn.Module):
    """The same block under two names, called twice under one of them, and functions at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(Block())
        self.second = self.first
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(self.first(x))
        return F.relu(self.relu(x).flatten(1) - 1)


class TestRecords:
    def test_a_plain_network(self) -> None:
        net = capture(mlp(nn.ReLU), vectors(1))
        assert [(r.name, r.kind, r.pieces, r.units, r.module_path) for r in net.operators] == [
            ("0", "linear", 1, (8,), "0"),
            ("1", "relu", 2, (8,), "1"),
            ("2", "linear", 1, (8,), "2"),
            ("3", "relu", 2, (8,), "3"),
            ("4", "linear", 1, (3,), "4"),
        ]
        assert all(r.convex and r.continuous for r in net.operators)

    def test_names_are_unique_and_say_which_call(self) -> None:
        net = capture(Shared(), torch.zeros(1, 2, 4, 4))
        names = [record.name for record in net.operators]
        assert len(set(names)) == len(names)
        called = [record for record in net.operators if record.kind == "convolution"]
        assert [record.name for record in called] == ["first.0.conv", "first.0.conv#2", "second.0.conv"]
        relus = [record.name for record in net.operators if record.module_path == "first.0.relu"]
        assert relus == ["first.0.relu", *(f"first.0.relu#{n}" for n in (2, 3, 4))]
        assert names[-4:] == ["relu", "view", "sub", "relu#2"]

    def test_kinds_are_those_of_torch_nn(self) -> None:
        net = capture(nn.Sequential(nn.Linear(3, 2), nn.PReLU()), torch.zeros(1, 3))
        assert [record.kind for record in net.operators] == ["linear", "prelu"]

    def test_every_module_path_exists(self) -> None:
        module = Shared()
        paths = {path for path, _ in module.named_modules(remove_duplicate=False)}
        assert {record.module_path for record in capture(module, torch.zeros(1, 2, 4, 4)).operators} <= paths

    def test_every_step_of_a_recurrent_cell_has_a_code(self) -> None:
        net = capture(CellLoop(), torch.zeros(1, 4, 3, dtype=torch.float64))
        relus = [record.name for record in net.operators if record.kind == "relu"]
        assert len(relus) == 4 and all(name.startswith("cell.relu") for name in relus)

    def test_a_source_line_is_known(self) -> None:
        def forward(m: Any, x: Tensor) -> Tensor:
            return x.relu()

        try:
            ma.capture(Net(lambda m, x: forward(m, x).tanh()), torch.zeros(1, 3))
        except ma.NotPiecewiseAffine as refusal:
            assert refusal.operator == "aten.tanh" and refusal.module_path == ""
        else:
            pytest.fail("tanh was not refused")

    def test_constants_are_no_operators(self) -> None:
        net = ma.capture(Net(lambda m, x: x * m.g.exp().softmax(0), g=torch.randn(3)), torch.zeros(1, 3))
        assert [record.kind for record in net.operators] == ["mul"]

    def test_units_of_folded_samples(self) -> None:
        """Samples folded into one axis with the steps are still told apart."""
        net = ma.capture(Net(lambda m, x: x.reshape(-1, 3).relu().reshape(x.shape[0], -1)), torch.zeros(1, 4, 3))
        (relu,) = (record for record in net.operators if record.pieces == 2)
        assert relu.units == (4, 3)
        x = torch.randn(5, 4, 3)
        assert torch.equal(net.codes(x)["relu"].unpack(), (x > 0).to(torch.uint8))


class TestUntil:
    def test_an_operator_a_module_and_a_later_call(self) -> None:
        module = Net(lambda m, x: m.b(m.r(m.a(m.r(x)))), a=nn.Linear(6, 4), b=nn.Linear(4, 2), r=nn.ReLU()).double()
        net, x = capture(module, vectors(1)), vectors(3)
        parts: Any = module
        for until, expected in {
            "r": x.relu(),
            "a": parts.a(x.relu()),
            "r#2": parts.a(x.relu()).relu(),
            "b": module(x),
        }.items():
            assert_close(net.affine_map(x, until=until).value, expected.detach())
            assert_close(net.part(until=until)(x), expected.detach())
            assert_close(ma.capture(module, x, until=until)(x), expected.detach())

    def test_a_container_ends_where_its_last_call_ends(self) -> None:
        module = nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), nn.Tanh()).double()
        x = vectors(3)
        net = ma.capture(module, x, until="1")
        assert [record.name for record in net.operators] == ["0", "1.0", "1.1"]
        assert_close(net(x), module[1](module[0](x)).detach())

    def test_nothing_behind_the_end_is_kept(self) -> None:
        net = capture(mlp(nn.ReLU), vectors(1)).part(until="1")
        assert [record.name for record in net.operators] == ["0", "1"]
        assert list(net.codes(vectors(2))) == ["1"]
        with pytest.raises(ma.BadInput, match="until: no operator or module is called '4'"):
            net.affine_map(vectors(2), until="4")

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        module = mlp(nn.ReLU).double()
        with pytest.raises(ma.BadInput, match=r"until: no operator or module is called 'nope'; there are \['0', '1'"):
            ma.capture(module, vectors(1), until="nope")
        with pytest.raises(ma.BadInput, match=r"until: no operator or module is called 'nope'; there are \['0', '1'"):
            capture(module, vectors(1)).affine_map(vectors(1), until="nope")


class TestPart:
    def test_two_parts_compose_to_the_whole(self) -> None:
        module = mlp(nn.LeakyReLU).double()
        net, x = capture(module, vectors(1)), vectors(4)
        for cut in ("0", "1", "2", "3"):
            head, tail = net.part(until=cut), net.part(after=cut)
            assert_close(tail(head(x)), module(x).detach())
            assert [r.name for r in (*head.operators, *tail.operators)] == [r.name for r in net.operators]
            inner, outer = head.affine_map(x), tail.affine_map(head(x))
            assert_close(only(outer.slopes) @ only(inner.slopes), only(net.affine_map(x).slopes))
            codes = {**head.codes(x), **tail.codes(head(x))}
            assert codes == dict(net.codes(x))

    def test_between_two_operators(self) -> None:
        module = mlp(nn.ReLU).double()
        net, x = capture(module, vectors(1)), vectors(4)
        middle = net.part(after="1", until="3")
        assert [record.name for record in middle.operators] == ["2", "3"]
        assert_close(middle(module[:2](x).detach()), module[:4](x).detach())

    def test_a_bypass_is_refused(self) -> None:
        net = capture(ResidualMLP(), vectors(1))
        with pytest.raises(ma.BadInput, match="after: some path leads around 'blocks.0.0'.*skip"):
            net.part(after="blocks.0.0")
        assert net.part(after="relu").operators[0].name == "blocks.1.0"

    def test_a_skip_inside_a_part_is_fine(self) -> None:
        module = ResidualMLP().double()
        net, x = capture(module, vectors(1)), vectors(4)
        tail = net.part(after="first")
        assert_close(tail(module.first(x).detach()), module(x).detach())

    def test_what_no_operator_leads_to_is_refused(self) -> None:
        net = capture(mlp(nn.ReLU), vectors(1))
        with pytest.raises(ma.BadInput, match="after: "):
            net.part(after="3", until="1")
        with pytest.raises(ma.BadInput, match="after: no operator or module is called 'nope'"):
            net.part(after="nope")

    def test_the_number_of_samples_is_read_off_the_new_input(self) -> None:
        """The tracer reads it off the network's own input, wherever the module did."""

        def forward(m: Any, x: Tensor) -> Tensor:
            x = m.conv(x).relu()
            return m.head(x.view(x.size(0), -1)) + x.new_zeros(x.size(0), 1)

        module = Net(forward, conv=nn.Conv2d(1, 2, 3), head=nn.Linear(8, 3))
        net, x = capture(module, torch.zeros(1, 1, 4, 4)), torch.randn(5, 1, 4, 4)
        head, tail = net.part(until="relu"), net.part(after="relu")
        assert_close(tail(head(x)), module(x).detach())
        assert_close(tail.affine_map(head(x)[:2]).value, module(x[:2]).detach())

    def test_a_place_with_folded_samples_is_refused(self) -> None:
        net = ma.capture(Net(lambda m, x: x.reshape(-1, 3).relu().reshape(-1, 4, 3)), torch.zeros(1, 4, 3))
        with pytest.raises(ma.BadInput, match="after: this value keeps its samples folded"):
            net.part(after="relu")

    def test_a_part_checks_its_own_input(self) -> None:
        tail = capture(mlp(nn.ReLU), vectors(1)).part(after="1")
        with pytest.raises(ma.ShapeMismatch, match=r"x: shape \(2, 6\).*\(N, 8\)"):
            tail(vectors(2))


class TestTable:
    def test_repr(self) -> None:
        lines = repr(capture(mlp(nn.ReLU), vectors(1))).splitlines()
        assert lines[0] == (
            "SplineNetwork: 5 operators, 2 of them piecewise affine with 16 units; not shown to be convex in its input;"
            " answers: classes"
        )
        assert lines[1].split() == ["operator", "kind", "units", "pieces", "convex", "continuous"]
        assert lines[3].split() == ["1", "relu", "8", "2", "yes", "yes"]

    def test_html_is_escaped(self) -> None:
        module = nn.Sequential()
        module.add_module("<b>", nn.ReLU())
        html = capture(module, vectors(1))._repr_html_()
        assert "<td>&lt;b&gt;</td>" in html and "<b><" not in html.replace("<b>SplineNetwork", "")
        assert html.count("<tr") == 2 and "convex in its input" in html


class TestConvexity:
    def test_the_certificate_against_midpoints(self) -> None:
        """A convex value behind a leaky relu stays convex; behind a relu of its negative it does not."""
        for sign, convex in ((1, True), (-1, False)):
            module = Net(
                lambda m, x, s=sign: F.leaky_relu(s * m.f(x).relu().sum(1, keepdim=True) - s), f=nn.Linear(6, 8)
            )
            net = capture(module, vectors(1))
            assert net.convex == convex
            start, end = vectors(500, 1), vectors(500, 2)
            middle = oracles.along(module, (start,), (end - start,), torch.tensor([0.0, 0.5, 1.0]))
            assert bool((middle[1] <= (middle[0] + middle[2]) / 2 + 1e-12).all()) == convex
