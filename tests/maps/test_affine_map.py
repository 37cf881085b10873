"""AffineMap: chosen outputs, blocks of rows, small chunks, several inputs, points elsewhere, and bad arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._graph import Graph, Linearization, as_tuple
from tests import oracles
from tests.blocks import blocks, only
from tests.zoo.networks import Net, mlp, randomize

F64 = torch.float64


class Mixed(nn.Module):
    """A convolution over an image, a table read at integers, and a vector in double precision of half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv = nn.Embedding(5, 3), nn.Conv2d(2, 3, 3)
        self.linear = nn.Linear(4, 3)

    def forward(self, places: Tensor, image: Tensor, vector: Tensor) -> Tensor:
        return (self.conv(image).relu().amax((2, 3)) + self.table(places)).abs() - self.linear(vector).relu()


def mixed_inputs(batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(batch)
    image, vector = (
        torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for shape in ((2, 5, 6), (4,))
    )
    return torch.randint(5, (batch,), generator=generator), image, vector


@cache
def mixed() -> tuple[nn.Module, ma.SplineNetwork]:
    torch.manual_seed(0)
    module = Mixed()
    randomize(module)
    module = module.double().eval()
    return module, ma.capture(module, mixed_inputs(2))


@cache
def convnet() -> tuple[nn.Module, ma.SplineNetwork]:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3),
        nn.ReLU6(),
    ]
    module = nn.Sequential(*layers)
    randomize(module)
    module = module.double().eval()
    return module, ma.capture(module, images(2))


def images(batch: int) -> Tensor:
    return torch.randn(batch, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 20_000, 10**9])
def test_chunks_change_nothing(chunk_bytes: int) -> None:
    module, net = convnet()
    x = images(5)
    amap = net.affine_map(x, chunk_bytes=chunk_bytes)
    (((expected,), offsets),) = oracles.affine_maps(module, (x,))
    assert_close(only(amap.slopes), expected, rtol=1e-12, atol=1e-12)
    assert_close(amap.offsets, offsets, rtol=1e-12, atol=1e-12)
    assert_close(amap.value, module(x))
    assert_close(amap(x), module(x))
    assert_close(amap.offset_contributions().sum(), offsets, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(amap.value)
    assert_close(only(amap.rmv(weights)), torch.einsum("nchw,nchwdij->ndij", weights, expected))
    assert_close(torch.cat([only(block) for block in amap.rows()], 1), expected.flatten(1, 3))


def test_a_tiny_chunk_gives_the_rows_in_blocks() -> None:
    _, net = convnet()
    sizes = [only(block).shape[1] for block in net.affine_map(images(2), chunk_bytes=1000).rows()]
    assert len(sizes) > 1 and sum(sizes) == 4 * 2 * 2


def blocks_of(curve: type[nn.Module], width: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples are worked on at once, of 100, in a network of 20 layers."""
    module = nn.Sequential(*(layer for _ in range(20) for layer in (nn.Linear(width, width), curve()))).double().eval()
    found: list[int] = []

    class Spied(Linearization):
        def __init__(self, graph: Graph, inputs: Sequence[Tensor]) -> None:
            found.append(len(inputs[0]))
            super().__init__(graph, inputs)

    x = torch.zeros(100, width, dtype=torch.float64)
    net = ma.capture(module, x[:2], smooth="frozen")
    with monkeypatch.context() as patched:
        patched.setattr("maxaffine._maps.affine_map.Linearization", Spied)
        _ = net.affine_map(x, [0], chunk_bytes=chunk_bytes).slopes
    return found


def test_gates_that_are_held_leave_room_for_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, gates = (blocks_of(curve, 250, 2**20, monkeypatch) for curve in (nn.ReLU, nn.GELU))
    # Four rows of 250 numbers are 8 kB; gates of 20 times 250 numbers count half as much again as the 40 kB they are.
    assert pieces == [100]
    assert max(gates) <= 2**20 / (8000 + 1.5 * 40_000) and sum(gates) == 100 and len(gates) == 7


def test_many_small_gates_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blocks_of(nn.GELU, 2, 2**14, monkeypatch) == [100]


@pytest.mark.parametrize("outputs", [[0], [15, 0, 7], torch.tensor([3, 3]), range(4), (2,)])
def test_chosen_outputs_are_rows_of_the_whole(outputs: Any) -> None:
    _, net = convnet()
    x = images(3)
    whole, chosen = net.affine_map(x), net.affine_map(x, outputs=outputs)
    places = torch.as_tensor(outputs)
    assert chosen.out_shape == (len(places),)
    assert_close(only(chosen.slopes), only(whole.slopes).flatten(1, 3)[:, places])
    assert_close(chosen.offsets, whole.offsets.flatten(1)[:, places])
    assert_close(chosen.value, whole.value.flatten(1)[:, places])
    assert_close(chosen(x), whole(x).flatten(1)[:, places])
    assert_close(chosen.mv(x), whole.mv(x).flatten(1)[:, places])
    weights = torch.randn(3, len(places), dtype=torch.float64)
    rows = only(whole.slopes).flatten(1, 3)[:, places]
    assert_close(only(chosen.rmv(weights)), torch.einsum("nk,nkcij->ncij", weights, rows))
    parts = chosen.offset_contributions()
    assert_close(parts.sum(), chosen.offsets)
    for name, part in whole.offset_contributions().items():
        assert_close(parts[name], part.flatten(1)[:, places])


@pytest.mark.parametrize(
    ("outputs", "words"),
    [([], "non-empty"), ([16], r"0\.\.15"), ([-1], r"0\.\.15"), ([0.5], "unit numbers"), ([[0]], "unit numbers")],
)
def test_unknown_outputs_are_refused(outputs: Any, words: str) -> None:
    _, net = convnet()
    with pytest.raises(ma.BadInput, match=f"outputs.*{words}"):
        net.affine_map(images(1), outputs=torch.tensor(outputs))


@pytest.mark.parametrize("until", ["0", "1", "2", "3", "4"])
def test_up_to_any_operator(until: str) -> None:
    module, net = convnet()
    x = images(2)
    head = module[: int(until) + 1]  # pyright: ignore[reportIndexIssue]
    amap = net.affine_map(x, until=until)
    (((expected,), offsets),) = oracles.affine_maps(head, (x,))
    assert_close(amap.value, head(x))
    assert_close(only(amap.slopes), expected, rtol=1e-12, atol=1e-12)
    assert_close(amap.offsets, offsets, rtol=1e-12, atol=1e-12)


def test_several_inputs_with_integers_in_front() -> None:
    module, net = mixed()
    places, image, vector = inputs = mixed_inputs(4)
    amap = net.affine_map(inputs)
    assert amap.in_shapes == ((2, 5, 6), (4,))
    for sample in range(4):
        fixed = Net(lambda m, image, vector, s=sample: module(places[s : s + 1], image, vector))
        ((expected, offsets),) = oracles.affine_maps(fixed, (image[sample : sample + 1], vector[sample : sample + 1]))
        for own, block in zip(blocks(amap.slopes), expected, strict=True):
            assert_close(own[sample : sample + 1], block, rtol=1e-12, atol=1e-12)
        assert_close(amap.offsets[sample : sample + 1], offsets, rtol=1e-12, atol=1e-12)
    weights = torch.randn(4, 3, dtype=torch.float64)
    for own, block in zip(blocks(amap.rmv(weights)), blocks(amap.slopes), strict=True):
        assert_close(own, torch.einsum("nk,nk...->n...", weights, block))
    assert_close(amap(inputs), module(*inputs))
    assert_close(amap((image, vector)), module(*inputs))  # the integers may be left out: they are held fixed
    assert_close(amap.mv((image, vector)), amap(inputs) - amap.offsets)


def test_points_are_given_as_the_inputs_were() -> None:
    module = Net(lambda m, x, y: m.f(x) + 2 * y.abs(), f=mlp(nn.ReLU)).double().eval()
    x, y = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    net = ma.capture(module, {"y": y, "x": x})
    amap = net.affine_map({"x": x, "y": y})
    assert_close(amap({"x": x, "y": y}), module(x, y))
    assert_close(amap((y, x)), module(x, y))  # in the order of the example
    with pytest.raises(ma.BadInput, match=r"x: expected a tensor for each input or a dict with the keys \['y', 'x'\]"):
        amap({"x": x})


def test_directions_keep_their_digits_beside_large_constants() -> None:
    net = ma.capture(Net(lambda m, x: (x + 1e6).relu() - 1e6), torch.zeros(1, 3))
    direction = torch.tensor([[1e-4, -2e-4, 3e-5]])
    assert_close(net.affine_map(torch.ones(1, 3)).mv(direction), direction, rtol=1e-6, atol=0)


def test_cotangents_keep_the_precision_of_the_output() -> None:
    net = ma.capture(Net(lambda m, x: x.double() * 3), torch.zeros(1, 2))
    weights = torch.tensor([[1 + 1e-9, 1.0]], dtype=torch.float64)
    amap = net.affine_map(torch.ones(1, 2))
    assert amap.value.dtype == torch.float64
    assert only(amap.rmv(weights)).dtype == torch.float32
    assert_close(only(amap.rmv(weights)), torch.tensor([[3.0, 3.0]]))


def test_minus_infinity_in_front_of_a_maximum_is_no_offset() -> None:
    mask = torch.tensor([True, False, False])
    net = ma.capture(Net(lambda m, x: x.masked_fill(mask, -torch.inf).amax(1)), torch.zeros(1, 3))
    x = torch.tensor([[5.0, 1.0, 2.0]])
    amap = net.affine_map(x)
    assert only(amap.slopes).tolist() == [[0.0, 0.0, 1.0]]
    assert amap.offsets.tolist() == [0.0] and amap.offset_contributions().sum().tolist() == [0.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("low", [-1e4, torch.finfo])
def test_low_numbers_in_front_of_a_maximum_leave_the_slopes_alone(dtype: torch.dtype, low: Any) -> None:
    """Neither overflow nor lost digits, however far beyond the inputs the constant lies."""
    mask, lowest = torch.tensor([True, False, False]), low if isinstance(low, float) else low(dtype).min
    net = ma.capture(Net(lambda m, x: x.masked_fill(mask, lowest).amax(1)), torch.zeros(1, 3, dtype=dtype))
    x = torch.tensor([[5.0, 1.0, 2.0]], dtype=dtype)
    amap = net.affine_map(x)
    assert amap(x).tolist() == [2.0] and amap.mv(x / 1024).tolist() == [2 / 1024]
    assert only(amap.slopes).tolist() == [[0.0, 0.0, 1.0]] and amap.offsets.tolist() == [0.0]


def test_an_output_without_slopes_is_all_offset() -> None:
    net = ma.capture(Net(lambda m, x: (m.c.expand(x.shape[0], -1), x.sign()), c=torch.arange(3.0)), torch.zeros(1, 4))
    x = torch.tensor([[1.0, -2.0, 0.5, 0.0]])
    for output in range(2):
        amap = net.affine_map(x, output=output)
        assert not only(amap.slopes).any()
        assert_close(amap.offsets, amap.value)
        assert_close(amap.offset_contributions().sum(), amap.value)


def test_a_kept_map_stays_what_it_was() -> None:
    """Lazy, but bound to the parameters and inputs of its making."""
    module = mlp(nn.ReLU).double().eval()
    x = torch.randn(2, 6, dtype=torch.float64)
    expected = oracles.affine_maps(module, (x,))
    amap = ma.capture(module, x).affine_map(x)
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert_close(only(amap.slopes), expected[0][0][0])


@pytest.mark.parametrize("shape", [(2, 16), (3, 4, 2), (3, 16, 1)])
def test_weights_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    _, net = convnet()
    with pytest.raises(ma.ShapeMismatch, match=r"u: shape .*expected \(3, 4, 2, 2\)"):
        net.affine_map(images(3)).rmv(torch.zeros(shape, dtype=torch.float64))


def test_weights_that_are_no_tensor_are_refused() -> None:
    _, net = convnet()
    with pytest.raises(ma.BadInput, match=r"u: expected a torch.Tensor, got ndarray; use torch.as_tensor"):
        net.affine_map(images(3)).rmv(torch.zeros(3, 4, 2, 2, dtype=torch.float64).numpy())


@pytest.mark.parametrize("argument", ["v", "x"])
def test_points_of_a_wrong_kind_are_refused(argument: str) -> None:
    _, net = convnet()
    amap = net.affine_map(images(3))
    call: Any = amap.mv if argument == "v" else amap
    with pytest.raises(ma.ShapeMismatch, match=rf"{argument}: shapes .*expected"):
        call(images(2))
    for wrong in (None, "x", [1.0], {"x": images(3)}):
        with pytest.raises(ma.BadInput, match=f"{argument}: expected a tensor for each input"):
            call(wrong)


def test_an_output_that_is_a_constant_has_no_map() -> None:
    net = ma.capture(Net(lambda m, x: (x, m.c), c=torch.ones(3)), torch.zeros(1, 4))
    with pytest.raises(ma.BadInput, match="does not depend on the input"):
        net.affine_map(torch.zeros(1, 4), output=1)


def test_repr_says_the_shapes() -> None:
    _, net = convnet()
    assert repr(net.affine_map(images(3))) == "AffineMap(batch=3, in=(1, 8, 8), out=(4, 2, 2), torch.float64)"


class TestSlopesBeyondMemory:
    SAID = (
        r"slopes: A of shape \(2, 3, 512, 512, 3, 512, 512\) takes 4947802324992 bytes \(4,608\.0 GiB\).*"
        r"rows\(\).*outputs=.*mv\(\) and rmv\(\)"
    )

    def map_of_pictures(self) -> ma.AffineMap:
        x = torch.ones(2, 3, 512, 512)
        return ma.capture(nn.ReLU(), x).affine_map(x)

    def test_size_and_cure_are_named_before_any_work(self) -> None:
        with pytest.raises(ma.BadInput, match=self.SAID):
            _ = self.map_of_pictures().slopes

    def test_also_where_the_machine_does_not_say_what_it_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("maxaffine._maps.affine_map.memory", lambda device: None)
        with pytest.raises(ma.BadInput, match=self.SAID):
            _ = self.map_of_pictures().slopes

    def test_other_errors_stay_what_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        amap = self.map_of_pictures()
        monkeypatch.setattr("maxaffine._maps.affine_map.memory", lambda device: None)
        monkeypatch.setattr(type(amap), "_rows_of", lambda self, wanted: torch.ones(2) @ torch.ones(3))
        with pytest.raises(RuntimeError, match="inconsistent tensor size"):
            _ = amap.slopes

    def test_what_the_cure_names_works(self) -> None:
        amap = self.map_of_pictures()
        (pulled,) = as_tuple(amap.rmv(torch.ones(2, 3, 512, 512)))
        assert pulled.sum() == 2 * 3 * 512 * 512
        x = torch.ones(2, 3, 512, 512)
        (slopes,) = as_tuple(ma.capture(nn.ReLU(), x).affine_map(x, outputs=[5]).slopes)
        assert slopes.sum() == 2


def test_it_is_a_linear_operator() -> None:
    module, net = mixed()
    given = mixed_inputs(3)
    amap = net.affine_map(given, outputs=[2, 0])
    v, u = mixed_inputs(3)[1:], torch.randn(3, 2, dtype=F64)
    directions = tuple(item.flip(0) for item in v)
    assert_close(amap @ directions, amap.mv(directions), rtol=0, atol=0)
    assert_close(amap.T @ u, amap.rmv(u), rtol=0, atol=0)
    assert amap.T.T is amap and repr(amap.T) == f"{amap!r}.T"


@pytest.mark.parametrize("sample", [0, 2, -1])
def test_as_an_operator_of_scipy_it_is_the_matrix_of_one_sample(sample: int) -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    _, net = mixed()
    amap = net.affine_map(mixed_inputs(3))
    matrix = torch.cat([part[sample].flatten(1) for part in as_tuple(amap.slopes)], 1).numpy()
    operator = amap.to_scipy(sample)
    assert operator.shape == matrix.shape and operator.dtype == np.float64
    np.testing.assert_allclose(operator @ np.eye(matrix.shape[1]), matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(operator.T @ np.eye(len(matrix)), matrix.T, rtol=1e-12, atol=1e-12)
    largest = linalg.svds(operator, k=1, return_singular_vectors=False, random_state=0)
    np.testing.assert_allclose(largest[0], np.linalg.norm(matrix, 2), rtol=1e-8)


def test_as_an_operator_of_scipy_in_single_precision_with_the_samples_last() -> None:
    pytest.importorskip("scipy.sparse.linalg")
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    last = Net(lambda m, x: m.a(x.T).T, a=module)
    x = torch.randn(4, 5)
    amap = ma.capture(last, x, batch_dim=1).affine_map(x)
    np.testing.assert_allclose(amap.to_scipy(1) @ np.eye(4), as_tuple(amap.slopes)[0][1].numpy(), rtol=1e-5, atol=1e-6)


def test_scipy_is_asked_for_a_sample_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    amap = mixed()[1].affine_map(mixed_inputs(3))
    for sample in (3, -4):
        with pytest.raises(ma.BadInput, match=f"sample: {sample} is not one of the 3 samples"):
            amap.to_scipy(sample)
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(ma.MaxAffineError, match=r"pip install 'maxaffine\[partition\]'"):
        amap.to_scipy()


def test_rows_are_drawn_beside_the_input() -> None:
    pixels = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 4)).eval()
    x = torch.rand(3, 1, 6, 6)
    amap = ma.capture(pixels, x).affine_map(x)
    panels: Any = amap.plot(-1, units=[3, 1]).child_axes
    assert [ax.get_title(loc="left") for ax in panels] == ["input x\n(sample 2)", "output 3", "output 1", ""]
    slopes = as_tuple(amap.slopes)[0][2, 1].double().numpy()
    end = float(panels[3].get_yticklabels()[2].get_text())
    assert 0 < end <= 1.01 * np.abs(as_tuple(amap.slopes)[0][2, [3, 1]].numpy()).max()
    red = panels[2].images[0].get_array()[..., 0].astype(float) - panels[2].images[0].get_array()[..., 2]
    assert np.array_equal(np.sign(red)[np.abs(slopes[0]) > end / 20], np.sign(slopes[0])[np.abs(slopes[0]) > end / 20])
    bad: dict[str, dict[str, Any]] = {
        "sample: 3 is not one of the 3": {"sample": 3},
        "input: 1 is not one of the 1 floating": {"input": 1},
        "outputs: ": {"units": [9]},
    }
    for words, options in bad.items():
        with pytest.raises(ma.BadInput, match=words):
            amap.plot(**options)


def test_slopes_and_offsets_of_one_pass_are_those_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).double()
    x = torch.randn(7, 6).double()
    net = ma.capture(model, x)
    apart, together = (net.affine_map(x, [0, 3], chunk_bytes=1) for _ in range(2))
    together.prepare()
    assert torch.equal(only(together.slopes), only(apart.slopes))
    monkeypatch.setattr(type(together), "_push", lambda *_, **__: pytest.fail("the blocks were made anew"))
    kept = together.offsets
    monkeypatch.undo()
    assert torch.equal(kept, apart.offsets)
