"""Recurrent networks, attention and transformers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tests.operator_table.row import STEPS, Row, function, layer, module, refused
from tests.zoo.networks import Net


def _rnn(*, relu: bool = True, batch_first: bool = True, **options: Any) -> Row:
    """A recurrent layer: its outputs keep the samples where its inputs do, its last state on axis 1."""
    name = "relu" if relu else "tanh"
    axis = 0 if batch_first else 1
    where = {"batch_dim": axis, "output_dims": (axis, 1)}
    return layer("RNN", STEPS, 4, 3, nonlinearity=name, batch_first=batch_first, **options, **where)


def from_state(m: Any, x: Tensor, h: Tensor) -> Any:
    """A recurrent layer from an initial state that is an input."""
    return m.rnn(x, h.transpose(0, 1))


RECURRENT = (
    _rnn(),
    _rnn(batch_first=False),
    _rnn(bias=False),
    _rnn(num_layers=2, dropout=0.5),
    _rnn(bidirectional=True),
    _rnn(num_layers=2, bidirectional=True, bias=False),
    module(
        "RNN",
        (STEPS, (2, 3)),
        "4, 3, nonlinearity='relu', num_layers=2, initial state given",
        lambda: Net(from_state, rnn=nn.RNN(4, 3, 2, nonlinearity="relu", batch_first=True)),
        output_dims=(0, 1),
    ),
    layer("RNNCell", (4,), 4, 3, nonlinearity="relu"),
    layer("RNNCell", ((4,), (3,)), 4, 3, nonlinearity="relu", bias=False, variant="4, 3, relu, no bias, state given"),
    *refused(
        _rnn(relu=False),
        _rnn(num_layers=2, dropout=0.5, train=True),
        layer("RNNCell", (4,), 4, 3),
        layer("LSTM", STEPS, 4, 3, batch_first=True, output_dims=(0, 1, 1)),
        layer("LSTM", STEPS, 4, 3, proj_size=2, batch_first=True, output_dims=(0, 1, 1)),
        layer("LSTMCell", (4,), 4, 3),
        layer("GRU", STEPS, 4, 3, batch_first=True, output_dims=(0, 1)),
        layer("GRUCell", (4,), 4, 3),
    ),
)

LAYERS = (
    *RECURRENT,
    *refused(
        layer("MultiheadAttention", (STEPS, STEPS, STEPS), 4, 2, batch_first=True),
        module(
            "MultiheadAttention",
            STEPS,
            "4, 2, need_weights=False",
            lambda: Net(
                lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(4, 2, batch_first=True)
            ),
        ),
        layer("TransformerEncoderLayer", STEPS, 4, 2, 5, batch_first=True),
        layer("TransformerEncoderLayer", STEPS, 4, 2, 5, batch_first=True, norm_first=True, train=True),
        module(
            "TransformerEncoder",
            STEPS,
            "2 layers",
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 5, batch_first=True), 2),
        ),
        layer("TransformerDecoderLayer", (STEPS, STEPS), 4, 2, 5, batch_first=True),
        module(
            "TransformerDecoder",
            (STEPS, STEPS),
            "2 layers",
            lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 5, batch_first=True), 2),
        ),
        layer("Transformer", (STEPS, STEPS), 4, 2, 1, 1, 5, batch_first=True),
    ),
)


def attend(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention between three inputs."""
    return F.scaled_dot_product_attention(q, k, v)


def attend_to_value(m: Any, x: Tensor) -> Tensor:
    """Attention with constant queries and keys."""
    return F.scaled_dot_product_attention(m.q.expand(x.shape[0], -1, -1), m.k.expand(x.shape[0], -1, -1), x)


def heads(m: Any, x: Tensor) -> Any:
    """The function under nn.MultiheadAttention."""
    y = x.transpose(0, 1)
    return F.multi_head_attention_forward(
        y, y, y, 4, 2, m.w, m.b, None, None, False, 0.0, m.o, m.c, training=False, need_weights=False
    )[0]


FUNCTIONS = (
    function(
        "scaled_dot_product_attention", STEPS, attend_to_value, "constant queries and keys", {"q": (5, 4), "k": (3, 4)}
    ),
    *refused(
        function("scaled_dot_product_attention", (STEPS, STEPS, STEPS), attend),
        function(
            "multi_head_attention_forward",
            STEPS,
            heads,
            "",
            {"w": (12, 4), "b": (12,), "o": (4, 4), "c": (4,)},
            output_dims=(1,),
        ),
    ),
)
