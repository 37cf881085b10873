"""What capture refuses, each time with the argument or the operator, the cause and the cure."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maxaffine as ma
from tests.zoo.networks import Net, mlp

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OWN = torch.ones(6, dtype=torch.float64)


@dataclass
class Record:
    first: Tensor
    second: Tensor


def net(function: Callable[..., Any], **parts: Any) -> nn.Module:
    return Net(function, **({"a": nn.Linear(6, 6)} | parts)).double()


def reassigned(m: Any, x: Tensor) -> Tensor:
    m.n = m.n + 1
    return m.a(x)


def gradient(m: Any, x: Tensor) -> Tensor:
    return torch.autograd.grad(m.a(x.requires_grad_()).relu().sum(), x)[0]


def numbered(m: Any, x: Tensor) -> Tensor:
    return x + torch.arange(x.shape[0], dtype=x.dtype)[:, None]


def mistaken(m: Any, x: Tensor) -> Tensor:
    raise LookupError("no such layer")


def shrinking(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.a.weight.mul_(0.9)
    return m.a(x)


BATCH_SIZE = "its value depends on the number of samples.*cure: .*batch size"
BUFFER = "changes its buffer 'n'.*cure: call model.eval"
SINGLE = r"gives a single sample another output.*x\.shape\[0\].*Cure: let every number of samples"
TWICE = "several values into one place.*cure: write each place once"
UNPROVED = "indexes by a value computed from the input.*cure: use torch.gather.*F.embedding.*torch.where"
ONE_SIZE = r"one batch size only.*Cure: write shapes with x.shape\[0\]"
RUNS = r"Cure: check that model\(example\) runs"
MODULES: dict[str, tuple[Callable[..., Any], type[ma.MaxAffineError], str]] = {
    "none_among_outputs": (lambda m, x: (x, None), ma.CaptureError, "returns NoneType None; return tensors only"),
    "number_among_outputs": (lambda m, x: (x, 3), ma.CaptureError, "returns int 3; return tensors only"),
    "record": (lambda m, x: Record(x, x), ma.CaptureError, "objects of a class.*Cure:.*register_dataclass"),
    "counts_in_a_buffer": (lambda m, x: (m.n.add_(1), m.a(x))[1], ma.NotPiecewiseAffine, BUFFER),
    "keeps_in_a_buffer": (lambda m, x: (m.n.copy_(x.mean(0)), m.a(x))[1], ma.NotPiecewiseAffine, BUFFER),
    "replaces_a_buffer": (reassigned, ma.NotPiecewiseAffine, BUFFER),
    "changes_a_parameter": (
        shrinking,
        ma.NotPiecewiseAffine,
        "changes its parameter 'a.weight'.*cure: call model.eval",
    ),
    "changes_a_tensor": (
        lambda m, x: m.a(x) * OWN.add_(1),
        ma.CaptureError,
        "changes a tensor of its own.*Cure: leave",
    ),
    "data_attribute": (lambda m, x: m.a(x.data).relu(), ma.CaptureError, r"\.data.*Cure: write \.detach\(\)"),
    "numpy": (lambda m, x: torch.from_numpy(m.a(x).detach().numpy()), ma.CaptureError, r"\.numpy\(\).*Cure"),
    "gradient_inside": (gradient, ma.CaptureError, r"torch\.autograd\.grad.*Cure"),
    "item": (lambda m, x: m.a(x) * x[0, 0].item(), ma.MaxAffineError, "[Cc]ure: "),
    "branch": (lambda m, x: x if x.sum() > 0 else -x, ma.CaptureError, "control flow.*Cure: replace the Python `if`"),
    "mistake": (mistaken, ma.CaptureError, f"LookupError: .*no such layer.*{RUNS}"),
    "shape_mistake": (lambda m, x: m.a(x[:, :5]), ma.CaptureError, RUNS),
    "shape_of_two": (lambda m, x: m.a(x).view(2, 6), ma.CaptureError, ONE_SIZE),
    "mean_by_hand": (lambda m, x: x / x.shape[0], ma.NotPiecewiseAffine, BATCH_SIZE),
    "times_batch_size": (lambda m, x: x * x.shape[0], ma.NotPiecewiseAffine, BATCH_SIZE),
    "sample_numbers": (numbered, ma.NotPiecewiseAffine, BATCH_SIZE),
    "rounds": (lambda m, x: m.a(x).int().double(), ma.NotPiecewiseAffine, "infinitely many pieces.*cure: keep"),
    "sparse": (lambda m, x: torch.sparse.mm(m.a.weight.to_sparse(), x.T).T, ma.CaptureError, "sparse"),
    "one_sample": (lambda m, x: x if x.shape[0] == 1 else m.a(x), ma.CaptureError, SINGLE),
    "several_samples": (lambda m, x: m.a(x) if x.shape[0] > 1 else x, ma.CaptureError, SINGLE),
    "one_sample_and_dropout": (
        lambda m, x: F.dropout(x, 0.5, False) if x.shape[0] == 1 else F.dropout(m.a(x), 0.5, False),
        ma.CaptureError,
        SINGLE,
    ),
    "throws_dice": (lambda m, x: m.a(x) * random.random(), ma.CaptureError, "Python's own random numbers"),
    "a_small_input": (lambda m, x: x if x.numel() <= 6 else m.a(x), ma.CaptureError, SINGLE),
    "the_fifth_sample": (lambda m, x: x.index_select(0, torch.tensor([4])), ma.CaptureError, "failed on the example"),
    "written_twice": (lambda m, x: x.index_copy(1, torch.tensor([0, 0]), x[:, :2]), ma.NotPiecewiseAffine, TWICE),
    "chosen_samples": (lambda m, x: F.embedding((x[:, :2] > 0).long(), x), ma.NotPiecewiseAffine, UNPROVED),
    "constant_samples": (lambda m, x: F.embedding(torch.tensor([0, 1]), x), ma.NotPiecewiseAffine, "mixes the samples"),
    "assigned_by_a_mask": (lambda m, x: (y := m.a(x), y.__setitem__(y > 0, 0.0))[0], ma.NotPiecewiseAffine, UNPROVED),
    "quantized": (lambda m, x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -8, 7), ma.CaptureError, "dense"),
    "sum_over_everything": (
        lambda m, x: m.a(x).sum(),
        ma.NotPiecewiseAffine,
        "mixes the samples.*cure: let the module",
    ),
}


PLACES: dict[str, Callable[..., Any]] = {
    "constants_as_further_samples": lambda m, x: torch.cat([x, m.a.weight], 0),
    "zeros_as_further_samples": lambda m, x: F.pad(x, (0, 0, 0, 3)),
    "further_samples_cut_off_again": lambda m, x: F.pad(x, (0, 0, 0, 3))[:-3],
    "triangle_over_the_batch": lambda m, x: x.tril(),
    "first_sample_overwritten": lambda m, x: x.index_fill(0, torch.tensor([0]), 0.0),
    "first_sample_moved_a_little": lambda m, x: x.index_add(0, torch.tensor([0]), torch.full((1, 6), 1e-6).double()),
    "first_sample_assigned": lambda m, x: (y := x.clone(), y.__setitem__(0, 0.0), y)[2],
    "diagonal_over_the_batch": lambda m, x: x.diagonal(0, 0, 1),
    "one_row_of_places": lambda m, x: x.gather(1, torch.tensor([[0, 1]])),
    "first_sample_scattered": lambda m, x: x.scatter(0, torch.zeros(1, 6, dtype=torch.long), x + 1),
}


@pytest.mark.parametrize("name", PLACES)
def test_samples_treated_by_their_place(name: str) -> None:
    """Each sample keeps to itself, but which map it sees depends on where in the batch it stands."""
    with pytest.raises(ma.NotPiecewiseAffine, match=r"(treats|mixes) the samples of a batch"):
        ma.capture(net(PLACES[name]), X)


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    function, error, words = MODULES[name]
    with pytest.raises(error, match=f"(?s){words}"):
        ma.capture(net(function, n=torch.zeros(6)), X)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torch_script() -> None:
    scripted: Any = torch.jit.script(mlp(nn.ReLU).double())
    with pytest.raises(ma.CaptureError, match="TorchScript cannot be traced. Cure: capture the nn.Module"):
        ma.capture(scripted, X)


class OwnError(Exception):
    """An error of the user's own kind."""


@pytest.mark.parametrize("kind", [OwnError, OSError, KeyError])
def test_whatever_a_forward_raises_is_its_own_failure(kind: type[Exception]) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        raise kind("out of order")

    with pytest.raises(ma.CaptureError, match=f"failed on the example.*{kind.__name__}: .?out of order"):
        ma.capture(Net(forward), torch.zeros(2, 3))


def test_a_module_without_parameters_of_its_own_size() -> None:
    with pytest.raises(ma.BadInput, match="model: its parameter 'weight' is not initialized; run the model once"):
        ma.capture(nn.LazyLinear(3), X)


def test_an_exported_program_of_one_batch_size() -> None:
    program = torch.export.export(mlp(nn.ReLU).double().eval(), (X,))
    with pytest.raises(ma.CaptureError, match="one batch size only.*export an exported program again with a dynamic"):
        ma.capture(program.module(), X)


class TestModes:
    @pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.AlphaDropout(0.2), nn.BatchNorm1d(6), nn.RReLU()])
    def test_training(self, layer: nn.Module) -> None:
        module = nn.Sequential(nn.Linear(6, 6), nn.Sequential(layer)).double().train()
        with pytest.raises(
            ma.NotPiecewiseAffine, match=r"in module '1\.0'.*(?s:.*)cure: call model\.eval\(\) before capture"
        ):
            ma.capture(module, X)
        assert ma.capture(module.eval(), X).verify(module, X).exact

    def test_training_without_an_effect_is_accepted(self) -> None:
        module = mlp(nn.ReLU).double().train()
        assert ma.capture(module, X).verify(module, X).exact

    def test_dropout_that_forgets_the_mode(self) -> None:
        with pytest.raises(ma.NotPiecewiseAffine, match="(?s)dropout.*cure: call model.eval"):
            ma.capture(net(lambda m, x: F.dropout(m.a(x), 0.5)).eval(), X)


class TestWhere:
    def test_the_message_names_operator_module_reason_and_cure(self) -> None:
        module = nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.ReLU(), nn.Tanh())).double()
        with pytest.raises(ma.NotPiecewiseAffine) as caught:
            ma.capture(module, X)
        refusal = caught.value
        assert (refusal.operator, refusal.module_path) == ("aten.tanh", "1.1")
        assert str(refusal) == (
            f"aten.tanh in module '1.1' was refused: {refusal.reason}"
            + (f"\n  source: {refusal.source}" if refusal.source else "")
            + f"\n  cure: {refusal.cure}"
        )

    def test_the_first_operator_is_named(self) -> None:
        module = net(lambda m, x: m.a(x.sigmoid()).tanh())
        with pytest.raises(ma.NotPiecewiseAffine, match="aten.sigmoid in the root module"):
            ma.capture(module, X)

    def test_what_the_output_does_not_need_is_not_refused(self) -> None:
        module = net(lambda m, x: (m.a(x).relu(), m.a(x).tanh(), x.exp())[0])
        assert ma.capture(module, X).verify(module, X).exact


class TestStoppingBefore:
    @pytest.mark.parametrize("ending", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Tanh(), nn.LogSigmoid()])
    def test_a_final_activation(self, ending: nn.Module) -> None:
        body = mlp(nn.ReLU).double()
        module = nn.Sequential(body, ending)
        with pytest.raises(ma.NotPiecewiseAffine, match="(?s)cure: .*output='pre_activation'"):
            ma.capture(module, X)
        network = ma.capture(module, X, output="pre_activation")
        assert torch.equal(network(X), body(X))
        assert network.verify(module, X).exact

    def test_never_silently(self) -> None:
        with pytest.raises(ma.NotPiecewiseAffine, match="aten.*softmax"):
            ma.capture(nn.Sequential(mlp(nn.ReLU), nn.Softmax(1)).double(), X)

    def test_only_where_there_is_one(self) -> None:
        with pytest.raises(ma.BadInput, match="output: 'pre_activation' needs a final softmax.*ends in '4'"):
            ma.capture(mlp(nn.ReLU).double(), X, output="pre_activation")

    def test_at_an_operator(self) -> None:
        module = nn.Sequential(mlp(nn.ReLU), nn.GELU(), nn.Linear(3, 2)).double()
        network = ma.capture(module, X, until="0")
        assert torch.equal(network(X), module[0](X))
        with pytest.raises(ma.NotPiecewiseAffine, match="gelu"):
            ma.capture(module, X, until="2")


class TestArguments:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (None, "example: expected a tensor"),
            (3.0, "example: expected a tensor"),
            ([], "example: expected a tensor"),
            ({}, "example: expected a tensor"),
            ((X, None), "example: expected a tensor"),
            (X.numpy(), "example: expected a tensor"),
            ([[X]], "example: expected a tensor"),
            (X.long(), r"example: no input is floating point.*use \.float"),
            (X.to(torch.complex64), "example: complex inputs.*split them"),
            (X[:0], "x: the batch is empty"),
            (X * torch.nan, "x: it holds NaN or infinity"),
            (X.to("meta"), "x: a meta tensor holds no numbers"),
            (X.to_sparse(), "x: a torch.sparse_coo tensor; give a dense one"),
            (X.float().to_mkldnn(), "x: a torch._mkldnn tensor; give a dense one"),
            (torch.tensor(1.0), "batch_dim: 0 is not an axis"),
        ],
    )
    def test_examples(self, given: Any, words: str) -> None:
        with pytest.raises(ma.BadInput, match=words):
            ma.capture(mlp(nn.ReLU).double(), given)

    def test_another_dtype_or_device(self) -> None:
        with pytest.raises(
            ma.ShapeMismatch, match=r"example: dtype torch.float64, .* '0.weight' is torch.float32; con"
        ):
            ma.capture(mlp(nn.ReLU), X)
        with pytest.raises(ma.ShapeMismatch, match=r"example: on cpu, but the model's '0.weight' is on meta; move one"):
            ma.capture(mlp(nn.ReLU).double().to("meta"), X)

    def test_names_of_inputs(self) -> None:
        with pytest.raises(ma.CaptureError, match="missing a required argument: 'input'.*Cure: .*a dict of them by"):
            ma.capture(mlp(nn.ReLU).double(), {"nope": X})
        with pytest.raises(ma.CaptureError, match="(?s)it failed on the example.*Cure"):
            ma.capture(mlp(nn.ReLU).double(), (X, X))

    @pytest.mark.parametrize("place", ["0.weight", "0.bias"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("layer", [nn.Linear(6, 3), nn.Conv1d(6, 3, 1)])
    def test_weights_that_are_no_numbers(self, layer: nn.Module, value: float, place: str) -> None:
        module = nn.Sequential(copy.deepcopy(layer), nn.ReLU()).double()
        module.get_parameter(place).data.view(-1)[1] = value
        example = X if isinstance(layer, nn.Linear) else X[:, :, None]
        with pytest.raises(
            ma.BadInput, match=f"model: its parameter '{place}' holds NaN or infinity, .*; load weights"
        ):
            ma.capture(module, example)
        module.get_parameter(place).data.view(-1)[1] = 1e300
        assert ma.capture(module, example).operators

    def test_infinite_limits_in_buffers_are_no_fault(self) -> None:
        class Limited(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("highest", torch.full((6,), math.inf, dtype=torch.float64))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.minimum(x, self.get_buffer("highest"))

        assert torch.equal(ma.capture(Limited(), X)(X), X)

    @pytest.mark.parametrize("batch_dim", [2, -1, (0, 0), ()])
    def test_batch_axes(self, batch_dim: Any) -> None:
        with pytest.raises(ma.BadInput, match="batch_dim: .* is not an axis of every input; give 0, or one axis"):
            ma.capture(mlp(nn.ReLU).double(), X, batch_dim=batch_dim)

    def test_a_wrong_batch_axis(self) -> None:
        with pytest.raises(ma.CaptureError, match="batch_dim= is the axis of the samples"):
            ma.capture(nn.Linear(6, 2).double(), torch.randn(5, 6).double(), batch_dim=1)

    def test_options(self) -> None:
        with pytest.raises(ma.BadInput, match="output: expected 'as_is' or 'pre_activation', got 'logits'"):
            ma.capture(mlp(nn.ReLU).double(), X, output="logits")
