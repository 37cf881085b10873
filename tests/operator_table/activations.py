"""Activations: functions of one number, and those of one number and its neighbors."""

from __future__ import annotations

from torch.nn import functional as F

from tests.operator_table.row import IMAGE, SERIES, VECTOR, function, layer, refused

SMOOTH = "celu elu gelu hardswish mish selu sigmoid silu softplus softsign tanh tanhshrink logsigmoid".split()
SMOOTH_LAYERS = "CELU ELU GELU Hardswish LogSigmoid Mish SELU Sigmoid SiLU Softplus Softsign Tanh Tanhshrink".split()

LAYERS = (
    layer("ReLU", VECTOR),
    layer("ReLU", IMAGE, inplace=True),
    layer("ReLU6", VECTOR),
    layer("LeakyReLU", VECTOR),
    layer("LeakyReLU", VECTOR, 0.2, inplace=True),
    layer("LeakyReLU", VECTOR, 1.5),
    layer("LeakyReLU", VECTOR, -0.5),
    layer("LeakyReLU", VECTOR, 0.0),
    layer("LeakyReLU", VECTOR, 1.0),
    layer("PReLU", VECTOR),
    layer("PReLU", IMAGE, 2),
    layer("PReLU", SERIES, 2, init=-0.3),
    layer("RReLU", VECTOR),
    layer("RReLU", VECTOR, 0.5, 1.8),
    layer("Hardtanh", VECTOR),
    layer("Hardtanh", VECTOR, -0.2, 0.7),
    layer("Hardtanh", VECTOR, 0.5, 2.0),
    layer("Hardtanh", VECTOR, -2.0, -0.5),
    layer("Hardsigmoid", VECTOR),
    layer("Hardshrink", VECTOR),
    layer("Hardshrink", VECTOR, 0.0),
    layer("Hardshrink", VECTOR, -0.5),
    layer("Softshrink", VECTOR),
    layer("Softshrink", VECTOR, 0.0),
    layer("Threshold", VECTOR, 0.3, 0.3),
    layer("Threshold", VECTOR, -0.1, 2.0),
    *refused(
        *(layer(name, VECTOR) for name in SMOOTH_LAYERS),
        layer("GELU", VECTOR, approximate="tanh"),
        layer("ELU", VECTOR, 0.5),
        layer("GLU", VECTOR),
        layer("RReLU", VECTOR, train=True),
        layer("Softmax", VECTOR, dim=-1),
        layer("Softmin", VECTOR, dim=-1),
        layer("LogSoftmax", VECTOR, dim=-1),
        layer("Softmax2d", IMAGE),
    ),
)

FUNCTIONS = (
    function("relu", VECTOR),
    function("relu", VECTOR, inplace=True),
    function("relu_", VECTOR),
    function("relu6", VECTOR),
    function("leaky_relu", VECTOR, negative_slope=0.1),
    function("leaky_relu", VECTOR, negative_slope=2.0),
    function("leaky_relu_", VECTOR),
    function("prelu", IMAGE, lambda m, x: F.prelu(x, m.weight), "a constant slope per channel", {"weight": (2,)}),
    *refused(function("prelu", VECTOR, lambda m, x: F.prelu(x, x.abs().amax()), "a slope that depends on the input")),
    function("rrelu", VECTOR),
    function("rrelu_", VECTOR),
    *refused(function("rrelu", VECTOR, training=True), function("rrelu_", VECTOR, training=True)),
    function("hardtanh", VECTOR, min_val=-0.5, max_val=2.0),
    function("hardtanh_", VECTOR),
    function("hardsigmoid", VECTOR),
    function("hardshrink", VECTOR, lambd=0.8),
    function("softshrink", VECTOR, lambd=0.2),
    function("threshold", VECTOR, threshold=0.2, value=-1.0),
    function("threshold_", VECTOR, lambda m, x: F.threshold_(x, 0.1, 0.1), "threshold=0.1, value=0.1"),
    *refused(
        *(function(name, VECTOR) for name in (*SMOOTH, "celu_", "elu_", "selu_")),
        function("gelu", VECTOR, approximate="tanh"),
        function("glu", VECTOR),
        function("softmax", VECTOR, dim=-1),
        function("softmin", VECTOR, dim=-1),
        function("log_softmax", VECTOR, dim=-1),
        function("gumbel_softmax", VECTOR),
        function("gumbel_softmax", VECTOR, hard=True),
    ),
)
