"""Operators that are known not to be piecewise affine, each with its reason and a cure."""

from __future__ import annotations

from typing import NoReturn

import torch

from maxaffine.capture.call import Call

aten = torch.ops.aten

STOP_BEFORE = "capture the part before it: output='pre_activation' for a final one, until='<operator>' anywhere"
REPLACE = (
    "replace it by a piecewise-affine operator (ReLU, leaky ReLU, hardtanh), or capture the part before it (until=...)"
)
EVALUATE = "call model.eval() before capture"
NORM = "batch-norm in evaluation mode is affine; else capture the part before it (until=...)"

SMOOTH = "it is a smooth curve, not finitely many affine pieces"
GATED = "it multiplies a value by a function of itself"
STATISTICS = "it divides by statistics of the input itself"
RANDOM = "it draws random numbers, so one input does not give one output"

# Operators, the reason, and what to do.
FAMILIES: tuple[tuple[str, str, str], ...] = (
    (
        "softmax _softmax _safe_softmax log_softmax _log_softmax sigmoid tanh logit log_sigmoid log_sigmoid_forward",
        SMOOTH,
        STOP_BEFORE,
    ),
    (
        "gelu elu celu selu softplus exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos "
        "atan sinh cosh asinh acosh atanh erf erfc erfinv logsumexp logcumsumexp reciprocal sinc lgamma digamma "
        "logaddexp atan2 hypot special_entr special_erf",
        SMOOTH,
        REPLACE,
    ),
    (
        "mish silu hardswish glu",
        GATED,
        REPLACE,
    ),
    (
        "layer_norm native_layer_norm group_norm native_group_norm rms_norm _fused_rms_norm instance_norm",
        STATISTICS,
        NORM,
    ),
    (
        "var std var_mean std_mean",
        "it squares the input",
        REPLACE,
    ),
    (
        "_native_batch_norm_legit _native_batch_norm_legit_functional native_batch_norm "
        "_batch_norm_with_update _batch_norm_with_update_functional cudnn_batch_norm",
        "it normalises by the statistics of the batch, so samples are mixed and divided by themselves",
        EVALUATE,
    ),
    (
        "native_dropout dropout feature_dropout alpha_dropout feature_alpha_dropout",
        RANDOM,
        "call model.eval() before capture; give F.dropout training=self.training",
    ),
    (
        "bernoulli rand rand_like randn randn_like randint randint_like randperm normal uniform exponential "
        "multinomial",
        RANDOM,
        "call model.eval() before capture; numbers drawn in evaluation mode too can become an input of the module",
    ),
    (
        "fractional_max_pool2d fractional_max_pool3d",
        "it places its windows at random, in evaluation mode too",
        "use max-pooling or adaptive max-pooling",
    ),
    (
        "rnn_relu",
        "it drops out at random between its layers",
        EVALUATE,
    ),
    (
        "multilabel_margin_loss_forward",
        "PyTorch takes it apart wrongly: it counts the padding behind a sample's labels",
        "write the sum of hinges with torch.clamp",
    ),
    (
        "embedding_bag _embedding_bag _embedding_bag_forward_only",
        "its bags are told apart by positions in the whole batch",
        "use nn.Embedding and a sum, mean or amax over the bag",
    ),
    (
        "lstm gru lstm_cell gru_cell",
        "its gates multiply values that depend on the input",
        "use nn.RNN(nonlinearity='relu')",
    ),
    (
        "rnn_tanh rnn_tanh_cell",
        "tanh is a smooth curve",
        "use nn.RNN(nonlinearity='relu')",
    ),
    (
        "norm linalg_norm linalg_vector_norm cosine_similarity pairwise_distance cdist _cdist_forward pdist "
        "_pdist_forward _euclidean_dist",
        "a norm (or a distance) is not piecewise affine",
        REPLACE,
    ),
    (
        "_trilinear prod cumprod mse_loss",
        "it multiplies values that depend on the input",
        REPLACE,
    ),
    (
        "floor ceil round trunc frac remainder fmod floor_divide",
        "it has infinitely many pieces",
        "leave it out, or capture the part before it (until=...)",
    ),
    (
        "pow square",
        "a power of the input is not piecewise affine",
        REPLACE,
    ),
    (
        "arange",
        "it counts over the whole batch, so its value depends on the number of samples",
        "use the batch size in shapes only; write nn.EmbeddingBag as nn.Embedding and a sum, mean or amax over the bag",
    ),
    (
        "as_strided",
        "it reads memory by its layout, which is not the same everywhere",
        "use unfold, slices or reshape",
    ),
    (
        "_fft_r2c _fft_c2r _fft_c2c view_as_complex complex",
        "it computes with complex numbers",
        "write it with real numbers, a Fourier transform as a product with two constant matrices",
    ),
    (
        "nonzero masked_select unique _unique2 item _local_scalar_dense",
        "the shape of its value depends on the data",
        "use torch.where with values of a fixed shape",
    ),
)
REASONS = {name: (reason, cure) for names, reason, cure in FAMILIES for name in names.split()}

UNKNOWN = (
    "no rule says that it is piecewise affine",
    "register a rule for it (see docs/howto-rule.md), or capture the part before it (until=...)",
)


def refuse(call: Call, otherwise: tuple[str, str] = UNKNOWN) -> NoReturn:
    """Refuse a call that has no rule.

    Args:
        call: The call.
        otherwise: Reason and cure for an operator that has none of its own.

    Raises:
        NotPiecewiseAffine: Always.
    """
    call.refuse(*REASONS.get(call.name.rpartition(".")[2], otherwise))
