"""Which operators are taken apart into simpler ones before capture, and how."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from math import copysign
from typing import Any

import torch
from torch import Tensor
from torch.export import default_decompositions

from maxaffine._capture.reductions import index_reduce, scatter_reduce, segment_reduce

aten = torch.ops.aten

# These have a rule, or a refusal, under their own name: taking them apart would hide what the user wrote.
KEPT = frozenset(
    """
    hardshrink softshrink threshold hardsigmoid hardswish rrelu _prelu_kernel celu selu mish silu softplus glu logit
    log_sigmoid log_sigmoid_forward log_softmax softmax _safe_softmax gelu elu logsumexp sinc
    im2col col2im max_unpool2d max_unpool3d pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle roll
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa affine_grid_generator grid_sampler
    pad _pad_circular instance_norm
    linear avg_pool1d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d tril triu
    layer_norm group_norm rms_norm lstm gru rnn_tanh lstm_cell gru_cell rnn_tanh_cell
    scaled_dot_product_attention cosine_similarity pairwise_distance cdist pdist bilinear embedding_bag
    norm std var var_mean linalg_vector_norm special_entr multilabel_margin_loss_forward
    """.split()
)


Infinity = float("inf")


# These have no rule even with gates held: their parts have.
OPENED = frozenset(
    """
    lstm gru rnn_tanh lstm_cell gru_cell rnn_tanh_cell glu cosine_similarity pairwise_distance std var var_mean
    """.split()
)


def decompositions(smooth: bool = False) -> dict[Any, Callable]:
    """The table of decompositions for torch.export.

    Args:
        smooth: Whether operators are taken apart too whose parts are smooth.

    Returns:
        PyTorch's own table, less the operators that have a rule or a refusal, and with the exact ones added here.
    """
    # A library that is imported later may bring operators of its own.
    composite = tuple(torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd"))
    return dict(_table(composite, KEPT - OPENED if smooth else KEPT))


@lru_cache(maxsize=2)
def _table(composite: tuple[str, ...], kept: frozenset[str]) -> dict[Any, Callable]:
    """The table, in which these composite operators are taken apart as PyTorch does."""
    table: dict[Any, Callable] = {}
    for path in composite:  # PyTorch's own table has those only that share no memory with their arguments
        namespace, name = path.split("::")
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")
        if not packet.startswith("sym_"):  # of a graph's sizes
            table[operator] = operator.decompose
    table |= default_decompositions()
    for operator in list(table):
        namespace, name = operator.name().split("::")
        if namespace == "aten" and name.split(".")[0] in kept:
            table.pop(operator)
    table[aten.clamp.Tensor] = _clamp
    table[aten.linalg_vector_norm.default] = _vector_norm
    # With gates held, a distance is the norm of a difference, of whatever order.
    norm = _vector_norm if kept == KEPT else _any_norm
    table[aten.pairwise_distance.default] = partial(_pairwise_distance, norm)
    table[aten.cdist.default] = partial(_cdist, norm)
    if kept != KEPT:
        table[aten.var_mean.correction] = _var_mean
    table[aten.scatter_reduce.two] = scatter_reduce
    table[aten.index_reduce.default] = index_reduce
    table[aten.segment_reduce.default] = segment_reduce
    table[aten.copysign.Tensor] = table[aten.copysign.Scalar] = _copysign
    table[aten.ldexp.Tensor] = _ldexp
    table[aten.searchsorted.Tensor] = _searchsorted
    table[aten.native_batch_norm.default] = _batch_norm
    for operator in (aten.empty.memory_format, aten.empty_permuted.default, aten.empty_strided.default):
        table[operator] = _empty
    for operator in (aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims):
        table[operator] = _squeeze
    for operator, place in ((aten.rnn_relu.input, 5), (aten.rnn_relu.data, 6)):
        table[operator] = _refuse_dropout(table[operator], place)
    return table


def _clamp(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """A clamp by tensors: a maximum, then a minimum."""
    raised = x if low is None else torch.maximum(x, low)
    return raised if high is None else torch.minimum(raised, high)


def _vector_norm(
    x: Tensor, ord: float | int = 2, dim: list[int] | None = None, keepdim: bool = False, *, dtype=None
) -> Any:
    """The 1-norm and the maximum norm are piecewise affine; any other stays as it is, to be refused."""
    axes = list(range(x.dim())) if dim is None else dim
    if dtype is not None or ord not in (1, Infinity):
        return NotImplemented
    return x.abs().sum(axes, keepdim) if ord == 1 else x.abs().amax(axes, keepdim)


def _any_norm(x: Tensor, ord: float | int, dim: list[int], keepdim: bool = False) -> Any:
    taken = _vector_norm(x, ord, dim, keepdim)
    return torch.linalg.vector_norm(x, ord, dim, keepdim) if taken is NotImplemented else taken


def _pairwise_distance(
    norm: Callable, x1: Tensor, x2: Tensor, p: float | int = 2, eps: float = 1e-6, keepdim: bool = False
) -> Any:
    """The norm of the difference, moved off zero by eps."""
    return norm(x1 - x2 + eps, p, [-1], keepdim)


def _cdist(norm: Callable, x1: Tensor, x2: Tensor, p: float | int = 2, compute_mode: int | None = None) -> Any:
    """The norm of the difference of each row of the first with each row of the second."""
    return norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, [-1])


def _var_mean(x: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.var(dim, correction=1 if correction is None else correction, keepdim=keepdim), x.mean(dim, keepdim)


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: float) -> Any:
    """By the stored statistics it changes nothing."""
    if training:
        return NotImplemented
    return aten._native_batch_norm_legit_no_training(x, weight, bias, mean, variance, *rest)


def _copysign(magnitude: Tensor, sign: Tensor | float) -> Tensor:
    """The absolute value of the first with the sign of the second, zeros have one too."""
    size = magnitude.abs()
    return torch.where(sign.signbit(), -size, size) if isinstance(sign, Tensor) else copysign(1.0, sign) * size


def _ldexp(x: Tensor, exponent: Tensor) -> Tensor:
    """The first times two to the power of the second."""
    return x * torch.pow(2.0, exponent)


def _searchsorted(
    boundaries: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """How many boundaries lie below each entry, or below it and at it."""
    boundaries = boundaries if sorter is None else boundaries.gather(-1, sorter)
    boundaries = boundaries if boundaries.dim() == 1 else boundaries.unsqueeze(-2)
    entries = x.unsqueeze(-1)
    passed = entries >= boundaries if right or side == "right" else entries > boundaries
    return passed.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def _empty(size: list[Any], *_: Any, dtype: torch.dtype | None = None, device: Any = None, **__: Any) -> Tensor:
    """Memory that will be written before it is read: zeros will do, and they are the same at every run."""
    return torch.full(size, 0, dtype=dtype or torch.get_default_dtype(), device=device)


def _squeeze(x: Tensor, dim: Any = None) -> Any:
    """Without the axis of the samples, which has size one too where there is one sample."""
    named = range(x.dim()) if dim is None else [axis % x.dim() for axis in ([dim] if isinstance(dim, int) else dim)]
    fixed = [axis for axis in named if isinstance(x.shape[axis], int)]
    return NotImplemented if len(fixed) == len(named) else aten.squeeze.dims(x, fixed)


def _refuse_dropout(decomposition: Callable, place: int) -> Callable:
    """A recurrent layer taken apart, unless it drops out: PyTorch's own decomposition forgets the dropout."""

    def apart(*args: Any) -> Any:
        dropout, train = args[place : place + 2]
        return NotImplemented if dropout and train else decomposition(*args)

    return apart
