"""Which operators are taken apart into simpler ones before capture, and how."""

import importlib
from collections.abc import Callable
from functools import lru_cache, partial
from math import copysign, inf
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.export import default_decompositions
from torch.overrides import TorchFunctionMode

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
    norm std var var_mean linalg_vector_norm special_entr special_log_ndtr multilabel_margin_loss_forward
    """.split()
)

# These have no rule even with gates held: their parts have.
OPENED = frozenset(
    """
    lstm gru rnn_tanh lstm_cell gru_cell rnn_tanh_cell glu cosine_similarity pairwise_distance std var var_mean
    """.split()
)


def decompositions(smooth: bool = False) -> dict[Any, Callable]:
    """PyTorch's own table, less the operators that have a rule or a refusal, and with the exact ones written here."""
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
    for operator in list(table):  # all overloads of a name
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
    table |= dict.fromkeys((aten.empty.memory_format, aten.empty_permuted.default, aten.empty_strided.default), _empty)
    table |= dict.fromkeys((aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims), _squeeze)
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
    if dtype is not None or ord not in (1, inf):
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
    # Each entry is compared with each boundary, and the comparisons that hold are counted.
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


# A sum adds entries where the index says. A largest or smallest entry is picked among candidates, one row per place:
# what stands there first, then every source entry, each that belongs elsewhere replaced by what stands there. The
# replacement ties with the first candidate, and the lowest wins a tie, so it never wins: no infinite number is needed,
# and the code says which entry won (0: what stood there, or the first that belongs there where that does not count; k:
# entry k - 1).
EXTREMES = ("amax", "amin")
# By the name of a segment's reduction: that of a scatter's, and the value of an empty segment.
NEUTRAL = {
    "sum": ("sum", 0.0),
    "mean": ("mean", 0.0),
    "max": ("amax", -inf),
    "min": ("amin", inf),
}


def scatter_reduce(
    whole: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """As aten.scatter_reduce; NotImplemented for a product, and where the index does not cover the other axes."""
    axis = dim % whole.dim()
    if not _covers(whole, index, axis) or not (whole.is_floating_point() or reduce in ("sum", *EXTREMES)):
        return NotImplemented
    src = src[tuple(map(slice, index.shape))]
    if reduce in EXTREMES:
        return _extreme(whole, axis, index, src, reduce, include_self)
    if reduce not in ("sum", "mean"):
        return NotImplemented
    counts = torch.zeros_like(whole).scatter_add(axis, index, torch.ones_like(src))
    kept = whole if include_self else torch.where(counts > 0, 0, whole)
    total = kept.scatter_add(axis, index, src)
    return total if reduce == "sum" else total / (counts + 1 if include_self else counts.clamp(min=1))


def _covers(whole: Tensor, index: Tensor, axis: int) -> bool:
    """Whether the index reaches all of every axis but one, whose length is not the number of samples."""
    sizes = zip(whole.shape, index.shape, strict=True) if whole.dim() == index.dim() else ()
    # With it comes sympy, half a second, so it is not imported with the library.
    known: Any = importlib.import_module("torch.fx.experimental.symbolic_shapes").statically_known_true
    others = [known(a == b) for place, (a, b) in enumerate(sizes) if place != axis]
    return len(others) == whole.dim() - 1 and all(others) and isinstance(whole.shape[axis], int)


def _extreme(whole: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, include_self: bool) -> Tensor:
    places = torch.arange(whole.shape[axis], device=whole.device).view(-1, *[1] * (whole.dim() - axis))
    belongs = index.unsqueeze(axis) == places
    base = whole
    if not include_self:
        # Of the entries that belong to a place any may stand first; the lowest of them keeps ties decided by order.
        first = src.gather(axis, belongs.to(torch.uint8).argmax(axis + 1))
        base = torch.where(belongs.any(axis + 1), first, whole)
    base = base.unsqueeze(axis + 1)
    candidates = torch.cat([base, torch.where(belongs, src.unsqueeze(axis), base)], axis + 1)
    return candidates.amax(axis + 1) if reduce == "amax" else candidates.amin(axis + 1)


def index_reduce(
    whole: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """As aten.index_reduce: one index for all entries along the other axes."""
    axis = dim % whole.dim()
    spread = index.view(-1, *[1] * (whole.dim() - axis - 1)).expand(source.shape)
    return scatter_reduce(whole, axis, spread, source, reduce, include_self=include_self)


def segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Any:
    """As aten.segment_reduce: neighbors along an axis, cut into segments of given lengths."""
    # Offsets begin with the end of what lies before the first segment.
    ends = lengths.cumsum(-1) if lengths is not None else offsets
    if ends is None:
        return NotImplemented
    axis, count, size = axis % data.dim(), ends.shape[-1], data.shape[axis]
    if reduce not in NEUTRAL or not isinstance(count, int) or not isinstance(size, int):
        return NotImplemented
    # The number of a segment is how many segments end before the entry or at it.
    numbers = (ends.unsqueeze(-1) <= torch.arange(size, device=data.device)).sum(-2)
    index = numbers.view(*numbers.shape, *[1] * (data.dim() - axis - 1)).expand(data.shape)
    name, neutral = NEUTRAL[reduce]
    # A segment without entries keeps what it starts from; in a mean that is divided by its entries alone.
    start = torch.full_like(data.narrow(axis, 0, 1), neutral if initial is None else initial)
    start = start.expand(*data.shape[:axis], count, *data.shape[axis + 1 :])
    if reduce != "mean":
        found = scatter_reduce(start, axis, index, data, name, include_self=initial is not None)
    else:
        counts = torch.zeros_like(start).scatter_add(axis, index, torch.ones_like(data))
        found = start.scatter_add(axis, index, data) / (counts if initial is None else counts.clamp(min=1))
    return found if lengths is not None or found is NotImplemented else found.narrow(axis, 1, count - 1)


def _take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Entries read along an axis, the others of both tensors broadcast."""
    if dim is None:
        return x.flatten().gather(0, indices.flatten())
    others = indices.narrow(dim, 0, 1).shape, x.narrow(dim, 0, 1).shape
    sizes = list(torch.broadcast_shapes(*others))
    sizes[dim] = -1
    return x.expand(sizes).gather(dim, indices.expand(sizes))


class OpenSizes(TorchFunctionMode):
    """While it is active, functions whose code asks for sizes as numbers run as others that leave sizes open."""

    # Traced as it is in PyTorch, this one fixes the number of samples, though it treats each sample alone.
    WRITTEN = dict.fromkeys((torch.take_along_dim, Tensor.take_along_dim), _take_along_dim)

    @no_type_check  # whoever wraps functions to check types would stand between PyTorch and the line of the user's
    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the function, or what is written in its place."""
        return self.WRITTEN.get(func, func)(*args, **(kwargs or {}))
