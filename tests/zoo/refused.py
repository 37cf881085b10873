"""Networks that capture must refuse: not piecewise affine, in the wrong mode, random, or mixing a batch's samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maxaffine.errors import CaptureError, MaxAffineError
from tests.zoo.case import COLOR, IMAGE, STEPS, VECTOR, Refused
from tests.zoo.networks import Net


def inside(name: str, function: Callable[[Tensor], Tensor], words: str) -> Refused:
    """A function of 8 numbers between a linear layer and a leaky relu."""
    return Refused(name, lambda: Net(lambda m, x: F.leaky_relu(function(m.a(x))), a=nn.Linear(6, 8)), VECTOR, words)


def module(name: str, factory: Callable[[], nn.Module], words: str, train: bool = False) -> Refused:
    """One refused module that reads the input, before a relu."""
    return Refused(name, lambda: nn.Sequential(nn.Identity(), factory(), nn.ReLU()), COLOR, words, train=train)


def mixing(name: str, function: Callable[[Tensor], Tensor], words: str = "batch|sample|first dimension") -> Refused:
    """A function that lets one sample of the batch see another, behind a linear layer."""
    return Refused(
        f"batch_{name}", lambda: Net(lambda m, x: function(m.a(x)), a=nn.Linear(6, 4)), VECTOR, words, MaxAffineError
    )


def two(name: str, function: Callable[[Tensor, Tensor], Tensor], words: str) -> Refused:
    """A function of two different linear maps of the input."""
    return Refused(
        name, lambda: Net(lambda m, x: function(m.a(x), m.b(x)), a=nn.Linear(6, 8), b=nn.Linear(6, 8)), VECTOR, words
    )


def branch_on_value(m: Any, x: Tensor) -> Tensor:
    """Control flow that depends on the data."""
    return x.relu() if x.sum() > 0 else -x


def loop_on_value(m: Any, x: Tensor) -> Tensor:
    """A number of steps that depends on the data."""
    for _ in range(int(x[0, 0].abs()) + 1):
        x = x.relu() - 1
    return x


def attention(m: Any, x: Tensor) -> Tensor:
    """Self-attention spelled out by hand."""
    return (x @ x.transpose(1, 2)).softmax(-1) @ x


def dependent_convolution(m: Any, x: Tensor) -> Tensor:
    """An image filtered with weights computed from itself."""
    return F.conv2d(x, m.conv(x).mean((0, 2, 3)).view(1, 1, 3, 3))


SMOOTH = tuple(
    inside(name, function, words)
    for name, function, words in (
        ("tanh", torch.tanh, "tanh"),
        ("sigmoid", torch.sigmoid, "sigmoid"),
        ("gelu", F.gelu, "gelu"),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), "gelu|tanh"),
        ("silu", F.silu, "silu"),
        ("elu", F.elu, "elu"),
        ("softplus", F.softplus, "softplus"),
        ("mish", F.mish, "mish"),
        ("hardswish", F.hardswish, "hardswish"),
        ("softsign", F.softsign, "softsign|div"),
        ("softmax", lambda x: x.softmax(1), "softmax"),
        ("log_softmax", lambda x: x.log_softmax(1), "softmax"),
        ("logsumexp", lambda x: x.logsumexp(1), "logsumexp"),
        ("glu", lambda x: F.glu(x, 1), "glu"),
        ("square", lambda x: x.pow(2), "pow"),
        ("square_root", lambda x: (x.abs() + 1).sqrt(), "sqrt|pow"),
        ("exponential", lambda x: x.exp(), "exp"),
        ("logarithm", lambda x: (x.abs() + 1).log(), "log"),
        ("sine", torch.sin, "sin"),
        ("floor", torch.floor, "floor"),
        ("reciprocal", lambda x: 1 / (x.abs() + 1), "reciprocal|div"),
        ("product_along_dim", lambda x: x.prod(1, keepdim=True), "prod"),
        ("variance", lambda x: x.var(1, keepdim=True), "var"),
        ("norm", lambda x: x.norm(dim=1, keepdim=True), "norm"),
        ("divided_by_norm", lambda x: x / x.norm(dim=1, keepdim=True), "norm|div"),
        ("normalize", lambda x: F.normalize(x, dim=1), "norm|div"),
        ("spectrum", lambda x: torch.fft.rfft(x, dim=1).abs(), "fft|complex|abs"),
    )
)

PRODUCTS = (
    two("product", lambda y, z: y * z, "mul"),
    two("quotient", lambda y, z: y / (z.abs() + 1), "div"),
    two("gate", lambda y, z: y * z.sigmoid(), "sigmoid"),
    two("matrix_product", lambda y, z: y.view(-1, 2, 4) @ z.view(-1, 4, 2), "matmul|bmm|mm"),
    two("einsum_product", lambda y, z: torch.einsum("ni,nj->nij", y, z), "einsum|bmm|mul|mm"),
    two("cosine", lambda y, z: F.cosine_similarity(y, z), "cosine|norm|mul|div"),
    two("lerp_by_dependent", lambda y, z: torch.lerp(y, 2 * y, z), "lerp|mul"),
    Refused("square_by_product", lambda: Net(lambda m, x: x * x), VECTOR, "mul"),
    Refused(
        "squeeze_excite",
        lambda: Net(lambda m, x: x * F.hardsigmoid(m.a(x.mean((2, 3))))[..., None, None], a=nn.Linear(3, 3)),
        COLOR,
        "mul",
    ),
    Refused("attention_by_hand", lambda: Net(attention), STEPS, "matmul|bmm|softmax"),
    Refused(
        "dependent_convolution",
        lambda: Net(dependent_convolution, conv=nn.Conv2d(1, 9, 3)),
        IMAGE,
        "conv|batch|sample",
        error=MaxAffineError,
    ),
)

MODULES = (
    module("layer_norm", lambda: nn.LayerNorm(8), "layer_norm"),
    module("rms_norm", lambda: nn.RMSNorm(8), "rms_norm|pow|mean|rsqrt"),
    module("group_norm", lambda: nn.GroupNorm(3, 3), "group_norm"),
    module("instance_norm", lambda: nn.InstanceNorm2d(3), "instance_norm|batch_norm"),
    module("local_response_norm", lambda: nn.LocalResponseNorm(2), "mul|pow|response"),
    module("power_average_pool", lambda: nn.LPPool2d(2, 2), "pow|lp"),
    module("fractional_max_pool", lambda: nn.FractionalMaxPool2d(2, output_ratio=0.6), "fractional|rand"),
    module("batch_norm_without_statistics", lambda: nn.BatchNorm2d(3, track_running_stats=False), "batch_norm"),
    module("batch_norm_in_train_mode", lambda: nn.BatchNorm2d(3), r"(batch_norm|buffer)[\s\S]*eval", train=True),
    module("dropout_in_train_mode", lambda: nn.Dropout(0.5), r"dropout[\s\S]*eval", train=True),
    module("channel_dropout_in_train_mode", lambda: nn.Dropout2d(0.5), r"(dropout|bernoulli)[\s\S]*eval", train=True),
    module("rrelu_in_train_mode", lambda: nn.RReLU(), r"rrelu[\s\S]*eval", train=True),
    Refused(
        "lstm",
        lambda: Net(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(3, 4, batch_first=True)),
        STEPS,
        "lstm|sigmoid|tanh",
    ),
    Refused(
        "gru", lambda: Net(lambda m, x: m.rnn(x)[0], rnn=nn.GRU(3, 4, batch_first=True)), STEPS, "gru|sigmoid|tanh"
    ),
    Refused("rnn_tanh", lambda: Net(lambda m, x: m.rnn(x)[0], rnn=nn.RNN(3, 4, batch_first=True)), STEPS, "tanh"),
    Refused(
        "multihead_attention",
        lambda: Net(
            lambda m, x: m.mha(x, x, x, need_weights=False)[0], mha=nn.MultiheadAttention(3, 1, batch_first=True)
        ),
        STEPS,
        "attention|softmax|matmul|bmm",
    ),
    Refused(
        "scaled_dot_product_attention",
        lambda: Net(lambda m, x: F.scaled_dot_product_attention(x, 2 * x, x + 1)),
        STEPS,
        "attention|softmax|matmul|bmm",
    ),
    Refused(
        "transformer_layer",
        lambda: nn.TransformerEncoderLayer(3, 1, 4, batch_first=True),
        STEPS,
        "attention|softmax|transformer|norm",
    ),
    Refused(
        "functional_dropout_left_on",
        lambda: Net(lambda m, x: F.dropout(m.a(x), 0.5, training=True), a=nn.Linear(6, 4)),
        VECTOR,
        "dropout",
    ),
    Refused("noise", lambda: Net(lambda m, x: F.relu(x + torch.randn_like(x))), VECTOR, "rand"),
)

BATCH_MIXING = (
    mixing("centered", lambda x: x - x.mean(0)),
    mixing("sum", lambda x: x + x.sum(0, keepdim=True)),
    mixing("amax", lambda x: x - x.amax(0)),
    mixing("flip", lambda x: x + x.flip(0)),
    mixing("flip_by_index", lambda x: x[torch.arange(x.shape[0] - 1, -1, -1)]),
    mixing("roll", lambda x: x.roll(1, 0).relu()),
    mixing("roll_flat", lambda x: x.roll(1).relu()),
    mixing("cumsum", lambda x: x.cumsum(0)),
    mixing("sort", lambda x: x.sort(0).values),
    mixing("softmax", lambda x: x.softmax(0), "softmax|batch|sample"),
    mixing("gram", lambda x: x @ x.T, "matmul|mm|batch|sample"),
    mixing("first_sample", lambda x: x - x[0]),
    mixing("first_sample_narrowed", lambda x: x + x[:1]),
    mixing("reshaped", lambda x: x.reshape(4, -1).t().reshape(-1, 4), "batch|sample|first dimension|shape"),
    mixing("flattened_mean", lambda x: x - x.mean()),
)

CONTROL_FLOW = (
    Refused("branch_on_value", lambda: Net(branch_on_value), VECTOR, "data", error=CaptureError),
    Refused("loop_on_value", lambda: Net(loop_on_value), VECTOR, "data", error=CaptureError),
    Refused(
        "boolean_mask",
        lambda: Net(lambda m, x: x[x > 0].sum()),
        VECTOR,
        "data|shape|index|nonzero",
        error=MaxAffineError,
    ),
)

REFUSED = SMOOTH + PRODUCTS + MODULES + BATCH_MIXING + CONTROL_FLOW
