"""ONNX files: against the modules they were exported from, onnxruntime, ONNX's own cases, and numbers by hand."""

import copy
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import maxaffine as ma
from maxaffine._models import build, load_model
from maxaffine._models import onnx_operators as table
from maxaffine._models.onnx_network import OnnxNetwork
from maxaffine.errors import BadInput, ModelError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


class Branches(nn.Module):
    """Shapes from sizes, a shuffle of channels, parts, padding, transposed convolution, and resizing."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=4, stride=2)
        self.norm, self.back = nn.BatchNorm2d(8), nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1)
        self.last = nn.Linear(4, 5)

    def forward(self, x):
        y = F.leaky_relu(self.norm(self.first(x)))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = F.pad(self.second(y), (1, 0, 0, 1)).chunk(2, 1)
        y = F.max_pool2d(a, 2, ceil_mode=True) + F.avg_pool2d(F.hardtanh(b), 3, 2, 1)
        y = F.interpolate(self.back(y), size=(5, 7), mode="bilinear", align_corners=False)
        return self.last(y.mean((2, 3)))


class Token(nn.Module):
    """A class token, attention over tokens, and an average."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True)

    def forward(self, x):
        return self.layer(torch.cat([self.token.expand(x.shape[0], 1, 8), x], 1))[:, 0]


class Last(nn.Module):
    """The last state of a recurrent network."""

    def __init__(self, kind, **options):
        super().__init__()
        self.recurrent = kind(4, 6, batch_first=True, **options)

    def forward(self, x):
        return self.recurrent(x)[0][:, -1]


MODELS = {
    "mlp": (lambda: build("mlp", (1, 4, 4), 3, widths=(8,)), (1, 4, 4)),
    "residual": (lambda: build("resnet", (1, 8, 8), 3, width=4, blocks=(1, 1)), (1, 8, 8)),
    "mobile": (lambda: build("mobilenet", (3, 8, 8), 3), (3, 8, 8)),
    "branches": (Branches, (3, 6, 6)),
    "signal": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.PReLU(4), nn.MaxPool1d(2), nn.Flatten()), (2, 9)),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.ReLU6(), nn.AdaptiveAvgPool3d(1)), (1, 4, 4, 4)),
    "recurrent": (lambda: Last(nn.RNN, nonlinearity="relu"), (5, 4)),
}
SMOOTH = {
    "attention": (Token, (3, 8)),
    "lstm": (lambda: Last(nn.LSTM, bidirectional=True), (3, 4)),
    "gru": (lambda: Last(nn.GRU), (3, 4)),
    "norms": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.SiLU()), (4, 3, 3)),
}


def export(model, shape, path, *, count=1, dynamic=False, opset=17, new=False):
    """Write a module as an ONNX file with either of PyTorch's exporters."""
    x = torch.randn(count, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if new:
            shapes = ({0: torch.export.Dim("n")},) if dynamic else None
            torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            axes = {"x": {0: "n"}, "y": {0: "n"}} if dynamic else None
            names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
            torch.onnx.export(model, (x,), path, dynamo=False, opset_version=opset, **names)
    return path


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, "fixed") for name in (*MODELS, *SMOOTH)]
    + [(name, way) for name in ("branches", "attention", "recurrent") for way in ("dynamic", "new")],
)
def test_a_file_is_the_module_that_it_was_exported_from(tmp_path, name, way):
    torch.manual_seed(0)
    make, shape = {**MODELS, **SMOOTH}[name]
    model = make().eval()
    if way == "new":
        pytest.importorskip("onnxscript")
    path = export(
        model, shape, tmp_path / "net.onnx", dynamic=way != "fixed", count=1 + (way == "new"), new=way == "new"
    )
    network = load_model(path)
    x = torch.randn(3, *shape)
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)
    x = x.double()
    # Exporters fold batch-norms in single precision; what is read is otherwise the same in double precision.
    torch.testing.assert_close(copy.deepcopy(network).double()(x), model.double()(x), rtol=1e-5, atol=1e-5)
    net = ma.capture(network, x.float(), smooth="frozen" if name in SMOOTH else "refuse")
    assert net.verify(network, x.float()).exact


def written(nodes, inputs, outputs, constants, opset, path=None, domain=""):
    """A file of these nodes, from tables of names with shapes and of arrays."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    if path is not None:
        onnx.save(model, path)
    return model


def one(kind, opset, x, *others, **attributes):
    """What one node gives; other inputs are constants."""
    names = [f"c{place}" if other is not None else "" for place, other in enumerate(others)]
    constants = {name: other for name, other in zip(names, others, strict=True) if name}
    node = helper.make_node(kind, ["x", *names], ["y"], **attributes)
    return OnnxNetwork(written([node], {"x": [None] * x.ndim}, {"y": None}, constants, opset), "one").eval()(x)


def test_attributes_and_defaults_are_those_of_the_opset():
    x = torch.randn(2, 3, 4)
    assert one("Flatten", 1, x).shape == (2, 12)
    assert torch.equal(one("Clip", 6, x, min=-0.5, max=0.25), x.clamp(-0.5, 0.25))
    low, high = np.float32(-0.5), np.float32(0.25)
    assert torch.equal(one("Clip", 11, x, low, high), x.clamp(-0.5, 0.25))
    assert torch.equal(one("Clip", 11, x, None, high), x.clamp(max=0.25))
    assert torch.equal(one("Reshape", 1, x, shape=[0, -1]), x.reshape(2, 12))
    assert torch.equal(one("Dropout", 7, x, ratio=0.9), x)
    # Before version 13 a softmax is over all axes from one on.
    torch.testing.assert_close(one("Softmax", 11, x), x.flatten(1).softmax(1).reshape(x.shape))
    torch.testing.assert_close(one("Softmax", 13, x), x.softmax(-1))
    torch.testing.assert_close(one("Unsqueeze", 11, x, axes=[0, 4]), x[None, ..., None])
    assert torch.equal(one("Slice", 9, x, starts=[1], ends=[3], axes=[2]), x[:, :, 1:3])
    assert torch.equal(one("Slice", 10, x, *(np.array([n]) for n in (-1, -100, 2, -1))), x.flip(2))
    assert torch.equal(one("Add", 6, x, np.ones(3, "f4"), broadcast=1, axis=1), x + 1)
    four = [np.array(values, "f4") for values in ([1, 2, 3], [0, 1, 2], [1, 0, 1], [4, 1, 9])]
    scale, bias, mean, variance = map(torch.from_numpy, four)
    expected = F.batch_norm(x, mean, variance, scale, bias)
    torch.testing.assert_close(one("BatchNormalization", 7, x, *four), expected)


def test_gemm_pads_and_windows_by_hand():
    x = torch.randn(2, 3, dtype=torch.float64)
    a, c = torch.randn(3, 4, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64)
    torch.testing.assert_close(one("Gemm", 13, x, a.numpy(), c.numpy(), alpha=0.5, beta=2.0), 0.5 * x @ a + 2 * c)
    torch.testing.assert_close(one("Gemm", 13, x.t(), a.numpy(), transA=1), x @ a)
    y, w = torch.randn(1, 1, 6), torch.randn(1, 1, 3)
    for auto, sides in (("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0)), ("VALID", (0, 0))):
        found = one("Conv", 11, y, w.numpy(), auto_pad=auto, strides=[2])
        torch.testing.assert_close(found, F.conv1d(F.pad(y, sides), w, stride=2))
    found = one("AveragePool", 11, y, kernel_shape=[3], pads=[0, 2], strides=[1])[0, 0]
    expected = torch.stack([y[0, 0, start : start + 3].mean() for start in range(6)])
    torch.testing.assert_close(found, expected)
    found = one("AveragePool", 11, y, kernel_shape=[3], pads=[0, 2], count_include_pad=1)[0, 0]
    torch.testing.assert_close(found, torch.stack([y[0, 0, start : start + 3].sum() / 3 for start in range(6)]))
    found = one("MaxPool", 11, -y.abs(), kernel_shape=[2], pads=[0, 1])[0, 0]
    assert torch.equal(found[-1], -y.abs()[0, 0, -1])


def constant_arguments(case):
    """One of ONNX's own cases, its inputs after the first ones as constants, as files of networks have them."""
    inputs, outputs = (case.data_sets or [])[0]
    model, free = onnx.ModelProto(), []
    model.CopyFrom(case.model)
    node = model.graph.node[0]
    for info, value in zip(model.graph.input, inputs, strict=True):
        if list(node.input).index(info.name):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), info.name))
        else:
            free.append(torch.tensor(np.asarray(value)))
    return model, free, outputs


def test_onnx_own_cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = {"right": 0, "refused": 0}
    plain = ("f4", "f8", "i4", "i8", "?")
    for case in cases:
        assert case.model is not None and case.data_sets is not None
        values = [*case.data_sets[0][0], *case.data_sets[0][1]]
        kinds = {node.op_type for node in case.model.graph.node}
        known = len(case.model.graph.node) == 1 and kinds <= {*table.OPERATORS}
        if not known or not all(isinstance(value, np.ndarray) and value.dtype in plain for value in values):
            continue
        # Expected there of 3.2 points; onnxruntime and PyTorch align the corners of the 3 that there are.
        if re.fullmatch("test_resize_downsample_scales_(linear|cubic)_align_corners", case.name):
            continue
        try:
            model, free, outputs = constant_arguments(case)
            result = OnnxNetwork(model, case.name).eval()(*free)
        except ModelError:
            found["refused"] += 1
            continue
        except IndexError:
            assert "empty_set" in case.name  # PyTorch has no largest of no numbers
            continue
        for mine, theirs in zip(result.values() if isinstance(result, dict) else [result], outputs, strict=True):
            mine = np.array(mine.tolist() if isinstance(mine, np.ndarray) else mine.detach().numpy())
            assert mine.shape == theirs.shape, case.name
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5, err_msg=case.name)
        found["right"] += 1
    assert found["right"] > 400 and found["refused"] < 90, found


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_aligned_corners_of_fewer_points_are_those_of_onnxruntime_and_pytorch(tmp_path, mode):
    scales = {"s": np.array([1, 1, 0.8, 0.6], np.float32)}
    options = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], **options)]
    written(nodes, {"x": ["n", 1, 9, 7]}, {"y": None}, scales, 13, tmp_path / "resize.onnx")
    x = torch.randn(2, 1, 9, 7)
    how = {"size": (7, 4), "mode": {"linear": "bilinear", "cubic": "bicubic"}[mode], "align_corners": True}
    torch.testing.assert_close(load_model(tmp_path / "resize.onnx", inputs=x)(x), F.interpolate(x, **how))


@pytest.mark.parametrize("way", [True, False])
def test_a_condition_that_is_known_takes_its_branch(tmp_path, way):
    def branch(kind):
        out = helper.make_tensor_value_info(f"{kind}_out", FLOAT, None)
        held = [onnx.numpy_helper.from_array(np.array([1.0, -1.0], np.float32), f"{kind}_held")]
        inner = [helper.make_node(kind, ["x", f"{kind}_held"], [f"{kind}_out"])]
        return helper.make_graph(inner, kind, [], [out], held)

    nodes = [
        helper.make_node("Less", ["a", "b"], ["less"]),
        helper.make_node("If", ["less"], ["z"], then_branch=branch("Mul"), else_branch=branch("Sub")),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    ends = {"a": np.float32(1), "b": np.float32(2 if way else 0)}
    written(nodes, {"x": ["n", 2]}, {"y": None}, ends, 13, tmp_path / "if.onnx")
    x, held = torch.randn(4, 2), torch.tensor([1.0, -1.0])
    network = load_model(tmp_path / "if.onnx", inputs=x)
    assert torch.equal(network(x), F.relu(x * held if way else x - held))
    assert ma.capture(network, x).verify(network, x).exact
    nodes[0] = helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)
    nodes.insert(1, helper.make_node("Cast", ["sum"], ["less"], to=onnx.TensorProto.BOOL))
    with pytest.raises(ModelError, match=r"\(If, opset 13\): there is no reading of this operator"):
        OnnxNetwork(written(nodes, {"x": ["n", 2]}, {"y": None}, ends, 13), "if")


@pytest.mark.parametrize("count", [1, 3])
def test_a_fixed_number_of_samples_gives_way(tmp_path, count):
    attention = build("vit", (1, 8, 8), 3, width=16, blocks=2, heads=2).eval()
    path = export(attention, (1, 8, 8), tmp_path / "net.onnx", count=count)
    network, x = load_model(path), torch.randn(5, 1, 8, 8)
    assert network.fixed is None
    torch.testing.assert_close(network(x), attention(x), rtol=1e-4, atol=1e-5)


def mixing(count, path):
    """A network whose samples meet: a matrix across them."""
    node = helper.make_node("MatMul", ["m", "x"], ["y"])
    return written([node], {"x": [count, 2]}, {"y": [count, 2]}, {"m": np.ones((count, count), "f4")}, 13, path)


def test_samples_that_meet_stay_as_many(tmp_path):
    mixing(1, tmp_path / "one.onnx")
    network, x = load_model(tmp_path / "one.onnx"), torch.randn(3, 2)
    assert network.fixed == 1 and torch.equal(network(x), x)
    mixing(4, tmp_path / "four.onnx")
    with pytest.raises(ModelError, match=r"takes 4 samples together and no other number; export .* dynamic batch"):
        load_model(tmp_path / "four.onnx")


def two_outputs(path):
    nodes = [helper.make_node("Relu", ["x"], ["positive"]), helper.make_node("Neg", ["x"], ["negated"])]
    return written(nodes, {"x": [None, 2]}, {"positive": [None, 2], "negated": [None, 2]}, {}, 13, path)


def test_inputs_in_another_shape_of_one_order_are_taken_as_they_are(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    path = export(model, (12, 1), tmp_path / "flat.onnx")
    for shape in ((1, 3, 4), (12,), (1, 12), (12, 1, 1)):
        x = torch.randn(6, *shape)
        network = load_model(path, inputs=x)
        torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)
        assert f"inputs of shape {shape} are read as (12, 1)" in str(network.agreement)
        assert ma.capture(network, x).verify(network, x).exact
    # Several channels may lie one after the other or pixel by pixel; other numbers are other inputs.
    for shape in ((3, 2, 2), (4, 3, 1, 1), (11,), (1, 3, 5)):
        with pytest.raises(BadInput, match=re.escape("of shape (12, 1), not") + ".*bring the data in that shape"):
            load_model(path, inputs=torch.randn(6, *shape))
    picture = export(nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU()).eval(), (1, 3, 4), tmp_path / "picture.onnx")
    assert load_model(picture, inputs=torch.randn(6, 12))(torch.randn(2, 12)).shape == (2, 2, 2, 3)


def test_one_of_several_outputs_is_chosen_by_name(tmp_path):
    two_outputs(tmp_path / "two.onnx")
    x = torch.tensor([[1.0, -2.0]])
    assert {name: value.tolist() for name, value in load_model(tmp_path / "two.onnx")(x).items()} == {
        "positive": [[1.0, 0.0]],
        "negated": [[-1.0, 2.0]],
    }
    assert load_model(tmp_path / "two.onnx", output="negated")(x).tolist() == [[-1.0, 2.0]]
    with pytest.raises(BadInput, match="no output 'other'; it has positive, negated"):
        load_model(tmp_path / "two.onnx", output="other")


def test_the_agreement_with_onnxruntime_is_told_and_can_fail(tmp_path, monkeypatch):
    two_outputs(tmp_path / "two.onnx")
    x = torch.randn(7, 2)
    words = load_model(tmp_path / "two.onnx", inputs=x).agreement
    assert re.search(r"opset 13: outputs differ .* by at most 0.0e\+00, on 7 inputs", str(words))
    with pytest.raises(BadInput, match=r"takes inputs 'x' of shape \(2,\), not \(3,\)"):
        load_model(tmp_path / "two.onnx", inputs=torch.randn(7, 3))
    # A reading that is wrong in one place is found out.
    wrong = {"Relu": lambda call, x: F.leaky_relu(x, 1e-4)}
    monkeypatch.setattr(table, "OPERATORS", {**table.OPERATORS, **wrong})
    with pytest.raises(ModelError, match=r"differ from onnxruntime's by at most .*; rounding explains"):
        load_model(tmp_path / "two.onnx", inputs=x)
    monkeypatch.setattr(table, "OPERATORS", {**table.OPERATORS, "Relu": lambda call, x: x.relu().sum(1)})
    with pytest.raises(ModelError, match=r"has shape \(7, 2\) in onnxruntime and \(7,\) here"):
        load_model(tmp_path / "two.onnx", inputs=x)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"op_type": "NonZero", "name": "odd"}, r"node 'odd' \(NonZero, opset 13\): there is no reading of this"),
        ({"op_type": "Relu", "domain": "mine"}, "of the domain 'mine'"),
        ({"op_type": "Dropout", "inputs": ["x", "half", "yes"]}, "drops values, as in training"),
        ({"op_type": "Reshape", "inputs": ["x", "x"]}, "input number 1 is computed from tensors"),
        ({"op_type": "MaxPool", "outputs": ["y", "z"], "kernel_shape": [1]}, "further output 'z' is used"),
    ],
)
def test_a_node_that_cannot_be_read_is_named(node, message):
    inputs, outputs = node.pop("inputs", ["x"]), node.pop("outputs", ["y"])
    constants = {"half": np.float32(0.5), "yes": np.array(True)}
    made = helper.make_node(node.pop("op_type"), inputs, outputs, **node)
    model = written([made], {"x": [None, 2, 2]}, {name: None for name in outputs}, constants, 13, domain="mine")
    with pytest.raises(ModelError, match=message):
        OnnxNetwork(model, "one").eval()(torch.zeros(1, 2, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS"),
        (b"\x08\x07 not a graph at all", "is not an ONNX file"),
    ],
)
def test_what_is_no_onnx_file_is_named(tmp_path, content, message):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=f"net.onnx: {message}"):
        load_model(path)


def test_weights_in_another_file(tmp_path):
    path = tmp_path / "net.onnx"
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    w = np.random.default_rng(0).normal(size=(300, 2)).astype("f4")
    model = written([node], {"x": [None, 300]}, {"y": [None, 2]}, {"w": w}, 13)
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    x = torch.randn(2, 300)
    torch.testing.assert_close(load_model(path)(x), x @ torch.from_numpy(w))
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"its weights are in another file beside it, .* into the same folder"):
        load_model(path)


def test_what_does_not_apply_to_a_file_is_refused(tmp_path):
    two_outputs(tmp_path / "two.onnx")
    with pytest.raises(BadInput, match="state_dict: does not apply to .*two.onnx"):
        load_model(tmp_path / "two.onnx", "weights.pt")
    with pytest.raises(BadInput, match="width: does not apply to .*two.onnx"):
        load_model(tmp_path / "two.onnx", width=3)
    path = tmp_path / "open.onnx"
    written([helper.make_node("Relu", ["x"], ["y"])], {"x": [None, None]}, {"y": [None, None]}, {}, 13, path)
    with pytest.raises(BadInput, match="inputs: open.onnx leaves its shapes open"):
        load_model(path)
    assert load_model(path, inputs=torch.randn(2, 5))(torch.ones(1, 3)).shape == (1, 3)
    pair = {"a": [None, 2], "b": [None, 2]}
    written([helper.make_node("Sub", ["a", "b"], ["y"])], pair, {"y": [None, 2]}, {}, 13, path)
    with pytest.raises(BadInput, match=r"takes 2 inputs \(a, b\), not 1"):
        load_model(path, inputs=torch.randn(2, 2))
    a, b = torch.randn(2, 3, 2)
    assert torch.equal(load_model(path)(a, b), a - b)
