"""The user's module differentiated with its gates detached: what the slopes of a smooth network are checked against.

The module runs as it is while every ATen operator that PyTorch calls is written down; the tape is then run again under
autograd, each smooth operator as its carrier times what gates it, the gate detached. Nothing here reads a rule, a step
or a local map of the library: which part of an operator is the gate stands in this file a second time, from the theory.
The network is asked for one thing only, what it *says* it carries (`net.held`), and only at a product of two values
that both depend on the input.
"""

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._graph import undisturbed
from maxaffine._network.network import Network
from maxaffine._network.rerun import Rerun

# Affine in their entries, or piecewise affine: by autograd itself. Places, sizes and truth values have no derivative.
PLAIN = frozenset(
    """
    view reshape _unsafe_view _reshape_alias _reshape_copy expand permute transpose t unsqueeze squeeze select slice
    alias detach clone _to_copy contiguous copy lift_fresh lift_fresh_copy diagonal unfold movedim unbind split
    split_with_sizes chunk unsafe_split unsafe_chunk unsafe_split_with_sizes narrow cat stack add sub rsub neg sum
    nansum mean cumsum flip roll rot90 repeat repeat_interleave index index_select gather take scatter scatter_add
    index_put _unsafe_index _unsafe_index_put index_add index_copy index_fill masked_fill masked_scatter masked_select
    where constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d tril triu im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa avg_pool1d avg_pool2d avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d trace diag diag_embed diagonal_scatter select_scatter
    slice_scatter fill zero positive real imag view_as_real view_as_complex conj _conj resolve_conj _fft_r2c _fft_c2c
    _fft_c2r dropout native_dropout squeeze_copy
    relu relu6 hardtanh clamp clamp_min clamp_max leaky_relu threshold prelu _prelu_kernel rrelu_with_noise abs max min
    maximum minimum fmax fmin amax amin aminmax max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d
    mkldnn_max_pool2d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d max_unpool2d
    max_unpool3d sort topk median nanmedian kthvalue cummax cummin mode hardsigmoid hardshrink softshrink nan_to_num
    """.split()
)
FLAT = frozenset("floor ceil round trunc sign sgn heaviside zeros_like ones_like full_like empty_like".split())
# Smooth curves without a gate of their own: their tangent, which is autograd too.
CURVES = frozenset(
    """
    softplus log_sigmoid log_sigmoid_forward log_softmax _log_softmax logsumexp logcumsumexp prod cumprod log log2 log10
    log1p sin cos tan asin acos atan sinh cosh asinh acosh atanh erfc erfinv exp2 lgamma digamma logaddexp
    logaddexp2 atan2 hypot special_entr special_i0 i0 special_i0e special_i1 special_i1e logit
    special_ndtri special_erfcx special_log_ndtr frac
    """.split()
)
# f(u) = (f(u*)/u*) u, and the gate at zero, where it is the derivative there.
RATIOS: dict[str, float] = {
    "gelu": 0.5,
    "silu": 0.5,
    "mish": 0.6,
    "hardswish": 0.5,
    "tanh": 1.0,
    "erf": 2 / math.sqrt(math.pi),
    "expm1": 1.0,
    "celu": 1.0,
    "selu": 1.7580993408473766,
    "sqrt": 0.0,
    "rsqrt": 0.0,
    "square": 0.0,
}
FIRST = ("self", "mat1", "batch1", "input1")  # what operators call their first factor
GATES = frozenset("sigmoid softmax _softmax _safe_softmax rsqrt reciprocal".split())
ATTENTIONS = frozenset(
    """
    scaled_dot_product_attention _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention _scaled_dot_product_attention_math
    _scaled_dot_product_fused_attention_overrideable
    """.split()
)


@dataclass(frozen=True)
class Choice:
    """What a network says of one product: the values of carrier and gates by their moments, and the carrier's place."""

    carrier: Tensor
    gates: tuple[Tensor, ...]
    place: str


@dataclass
class Detached:
    """A module's outputs as functions of its inputs under autograd, the gates detached.

    Attributes:
        leaves: The inputs, those of floating point as leaves.
        outputs: The outputs, front to back as the module returns them.
        unchecked: Operators that the last derivative came through and that have no derivative here, by name.
    """

    leaves: tuple[Tensor, ...]
    outputs: list[Tensor]
    unchecked: set[str]

    def pull(self, output: Callable[[list[Tensor]], Tensor], u: Tensor) -> list[Tensor | None]:
        """A^T u per floating-point input; whether it is all of it, ``unchecked`` says."""
        self.unchecked.clear()
        value = output(self.outputs)
        floating = [leaf for leaf in self.leaves if leaf.requires_grad]
        if not value.requires_grad:
            return [None for _ in floating]
        token = _REACHED.set(self.unchecked)
        try:
            return list(torch.autograd.grad(value, floating, u, allow_unused=True, retain_graph=True))
        finally:
            _REACHED.reset(token)


_REACHED: ContextVar[set[str] | None] = ContextVar("reached", default=None)


def detach_gates(net: Network, call: Rerun, tensors: tuple[Tensor, ...]) -> Detached:
    """Run a module with its gates detached.

    Args:
        net: The captured network, asked for what it says it carries in a product of two values.
        call: The module.
        tensors: The inputs.

    Returns:
        Its outputs under autograd.
    """
    tape = Tape()
    # A mode that changes nothing keeps PyTorch's own modules from their fused kernels.
    with torch.no_grad(), BaseTorchFunctionMode(), tape:
        outputs = call(tensors)
    with undisturbed(tensors[0].device), torch.enable_grad():
        leaves = tuple(item.detach().clone().requires_grad_(item.is_floating_point()) for item in tensors)
        shadows = dict(zip(map(id, tensors), leaves, strict=True))
        replay = Replay(tape, shadows, _choices(net, tensors), {id(item) for item in outputs if net.endings})
        replay.run()
        # An output that no operator made is an input, or a constant.
        return Detached(leaves, [shadows.get(id(item), item) for item in outputs], set())


@dataclass
class Entry:
    """One call on the tape: its operator, its arguments, its results, and what they were when it ended."""

    target: Any
    args: tuple
    kwargs: dict[str, Any]
    results: tuple[Any, ...]
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        return self.target._schema.name.split("::")[1]

    @property
    def writes(self) -> bool:
        return self.target._schema.is_mutable


class Tape(TorchDispatchMode):
    """Writes down every ATen operator that is called, and constants as they are when first read."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.constants: dict[int, Tensor] = {}
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        for item in tree_leaves((args, kwargs)):
            if isinstance(item, Tensor) and id(item) not in self._known:
                self._known.add(id(item))
                self.constants[id(item)] = item if isinstance(item, nn.Parameter) else item.clone()
        found = func(*args, **kwargs)
        results = tuple(found) if isinstance(found, tuple | list) else (found,)
        self._known.update(id(item) for item in results)
        entry = Entry(func, args, kwargs, results, ())
        # A value may be overwritten later; only of operators with a gate it is wanted again.
        plain = entry.name.rstrip("_") in PLAIN or entry.name in PLAIN
        kept = () if plain else tuple(item.clone() if isinstance(item, Tensor) else item for item in results)
        entry.values = kept
        self.entries.append(entry)
        return found


class _Anchored(torch.autograd.Function):
    """A value as the module has it, with the derivative of another way to compute it."""

    @staticmethod
    def forward(ctx: Any, computed: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *rows: Tensor) -> Any:
        return rows[0], None


class _Unchecked(torch.autograd.Function):
    """A value whose derivative is not known here: a derivative that comes through it is told by name."""

    @staticmethod
    def forward(ctx: Any, name: str, value: Tensor, *inputs: Tensor) -> Tensor:
        ctx.name, ctx.count = name, len(inputs)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *rows: Tensor) -> Any:
        reached = _REACHED.get()
        if reached is not None and bool((rows[0] != 0).any()):
            reached.add(ctx.name)
        return (None,) * (2 + ctx.count)


class Unknown(Exception):
    """No carrier and gate are known of this call."""


@dataclass
class Replay:
    """Runs a tape under autograd.

    Attributes:
        tape: The tape.
        shadows: What stands for each tensor of the module's run, by its identity.
        choices: What the network says of its products.
        endings: Outputs that an activation gives which the network left out: that is differentiated as it is.
        gates: What a gate gives, by the identity of what stands for it.
    """

    tape: Tape
    shadows: dict[int, Any]
    choices: Sequence[Choice]
    endings: set[int] = field(default_factory=set)
    gates: set[int] = field(default_factory=set)

    def run(self) -> None:
        for entry in self.tape.entries:
            args, kwargs = tree_map(self._shadow, entry.args), tree_map(self._shadow, entry.kwargs)
            self._replay(entry, args, kwargs)

    def _shadow(self, item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        if id(item) not in self.shadows:
            self.shadows[id(item)] = self.tape.constants[id(item)].detach()
        return self.shadows[id(item)]

    def _replay(self, entry: Entry, args: tuple, kwargs: dict[str, Any]) -> None:
        name = entry.name.rstrip("_") if entry.writes else entry.name
        moving = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor) and item.requires_grad]
        ends = any(id(item) in self.endings for item in entry.results)
        if not moving or name in PLAIN or name in CURVES or ends:
            # What the module cuts from its autograd is a part of what it computes.
            target = torch.ops.aten.alias.default if name == "detach" else entry.target
            self._keep(entry, target(*args, **kwargs), len(moving) == 1 and id(moving[0]) in self.gates)
            return
        written = args[0]
        if entry.writes:  # what it writes into may be wanted for the derivative
            args = (written.clone(), *args[1:])
        try:
            found = self._held(entry, name, args, kwargs)
            self._check(entry, found)
        except Unknown:
            found = None
        if found is None:
            found = [
                _Unchecked.apply(entry.name, value, *moving)
                if isinstance(value, Tensor) and value.is_floating_point()
                else value
                for value in entry.values
            ]
        elif isinstance(found, Tensor):
            anchored = _Anchored.apply(found, entry.values[0]) if found.requires_grad else found
            found = [anchored, *entry.values[1:]]
        if entry.writes:
            written.copy_(found[0])
            found = [written]
        self._keep(entry, found, name in GATES)

    def _keep(self, entry: Entry, found: Any, gates: bool) -> None:
        items = found if isinstance(found, tuple | list) else (found,)
        for result, item in zip(entry.results, items, strict=True):
            # What is written in place has its shadow already: the one that was written into.
            if isinstance(result, Tensor) and not (entry.writes and id(result) in self.shadows):
                self.shadows[id(result)] = item
                if gates:
                    self.gates.add(id(item))

    def _held(self, entry: Entry, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What a smooth operator gives as a function of its carrier."""
        value = entry.values[0]
        if name in FLAT:
            return value
        if name in RATIOS:
            return _by_ratio(args[0], value, RATIOS[name])
        if name in ATTENTIONS:
            query, key, carried, *rest = args
            rest = tree_map(_still, rest)
            return entry.target(_still(query), _still(key), carried, *rest, **tree_map(_still, kwargs))[0]
        rule = RULES.get(name)
        if rule is None:
            raise Unknown
        return rule(self, value, *args, **kwargs)

    def _check(self, entry: Entry, found: Tensor) -> None:
        """A way to compute it that does not give the value the module has is of another operator."""
        value = entry.values[0]
        if found.shape != value.shape:
            raise Unknown
        finite = found.isfinite() & value.isfinite()
        gap = torch.where(finite, found.detach() - value, 0).abs()
        size = torch.where(finite, value, 0).abs()
        if gap.numel() and float(gap.max()) > 64 * torch.finfo(value.dtype).eps ** 0.75 * float(size.max()):
            raise Unknown

    def product(self, first: Any, second: Any) -> tuple[Any, Any]:
        """Two factors, one of them detached where both depend on the input."""
        if not (_moves(first) and _moves(second)):
            return first, second
        carrier = self._carrier(first, second)
        return (first, second.detach()) if carrier == 0 else (first.detach(), second)

    def _carrier(self, first: Tensor, second: Tensor) -> int:
        """Which of two factors the network says it carries: told by their values, wherever they stand in the module."""
        one, two = _moments(first), _moments(second)
        tolerance = torch.finfo(first.dtype).eps ** 0.5
        for whole in (True, False):
            votes = set()
            for choice in self.choices:
                carries = [_alike(choice.carrier, item, tolerance) for item in (one, two)]
                gates = [any(_alike(gate, item, tolerance) for gate in choice.gates) for item in (two, one)]
                for place in (0, 1):
                    if carries[place] and gates[place] if whole else carries[place] or gates[place]:
                        # of two factors of one value, by the place that is said
                        votes.add(place if not choice.place else int(choice.place not in FIRST))
            if len(votes) == 1:
                return votes.pop()
        # Inside an operator that the network keeps whole, such as a norm, it says nothing: what is a gate is held.
        held = [id(item) in self.gates for item in (first, second)]
        if held[0] == held[1]:
            raise Unknown
        return int(held[0])


def _moves(item: Any) -> bool:
    return isinstance(item, Tensor) and item.requires_grad


def _still(item: Any) -> Any:
    return item.detach() if isinstance(item, Tensor) else item


def _by_ratio(u: Tensor, value: Tensor, at_zero: float) -> Tensor:
    """(value/u*) u; what is infinite, as a mask makes it, does not move."""
    here = u.detach()
    moves = here.isfinite() & value.isfinite()
    gate = torch.where(here == 0, at_zero, value / torch.where(here == 0, 1, here))
    carried = torch.where(moves, u, 0) * torch.where(moves, gate, 0)
    # of a root at zero the value is infinite, or zero
    return torch.where(moves, carried, value)


def _elu(
    run: Replay, value: Tensor, u: Tensor, alpha: float | int = 1, scale: float | int = 1, input_scale: float | int = 1
) -> Tensor:
    return _by_ratio(u, value, float(alpha) * float(scale) * float(input_scale))


def _exponential(run: Replay, value: Tensor, u: Tensor) -> Tensor:
    """(expm1(u*)/u*) u + 1, and below -1 the tangent."""
    return torch.where(u < -1, u.clamp(max=0).exp(), _by_ratio(u, torch.expm1(u.detach()), 1.0) + 1)


def _sigmoid(run: Replay, value: Tensor, u: Tensor) -> Tensor:
    """(tanh(u*/2)/(2u*)) u + 1/2, and below -1 the tangent."""
    return torch.where(u < -1, u.clamp(max=0).sigmoid(), _by_ratio(u, torch.tanh(u.detach() / 2) / 2, 0.25) + 0.5)


def _power(run: Replay, value: Tensor, u: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, Tensor) or not isinstance(u, Tensor):
        raise Unknown
    return u if exponent == 1 else _by_ratio(u, value, 0.0)


def _quotient(run: Replay, value: Tensor, c: Any, v: Any, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is not None:
        raise Unknown
    return c / _still(v) if _moves(c) else _by_ratio(v, value, 0.0)


def _times(run: Replay, value: Tensor, first: Any, second: Any) -> Tensor:
    one, two = run.product(first, second)
    return one * two


def _xlogy(run: Replay, value: Tensor, first: Any, second: Any) -> Tensor:
    """The product x log(y), and zero where x is."""
    return _times_curve(run, first, second, torch.log)


def _xlog1py(run: Replay, value: Tensor, first: Any, second: Any) -> Tensor:
    """The product x log(1 + y), and zero where x is."""
    return _times_curve(run, first, second, torch.log1p)


def _times_curve(run: Replay, first: Any, second: Any, curve: Callable[[Tensor], Tensor]) -> Tensor:
    one, two = run.product(torch.as_tensor(first), curve(torch.as_tensor(second)))
    return torch.where(one.detach() == 0, 0, one * torch.where(two.isfinite(), two, 0))


def _sinc(run: Replay, value: Tensor, u: Tensor) -> Tensor:
    """The tangent; near zero by the series of its slope, which cancels there."""
    here = u.detach()
    near = here.abs() < 1e-3
    slope = (torch.cos(math.pi * here) - value) / torch.where(near, 1, here)
    series = -(math.pi**2) / 3 * here + math.pi**4 / 30 * here**3
    return value + torch.where(near, series, slope) * (u - here)


def _matmul(run: Replay, value: Tensor, first: Tensor, second: Tensor) -> Tensor:
    one, two = run.product(first, second)
    return one @ two


def _plus_matmul(
    run: Replay,
    value: Tensor,
    bias: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    beta: float | int = 1,
    alpha: float | int = 1,
) -> Tensor:
    one, two = run.product(first, second)
    return beta * bias + alpha * (one @ two)


def _plus_product(run: Replay, value: Tensor, /, term: Tensor, first: Tensor, second: Tensor, **named: Any) -> Tensor:
    one, two = run.product(first, second)
    return term + named.get("value", 1) * (one * two)


def _plus_quotient(run: Replay, value: Tensor, /, term: Tensor, c: Tensor, v: Tensor, **named: Any) -> Tensor:
    return term + named.get("value", 1) * _quotient(run, value, c, v)


def _lerp(run: Replay, value: Tensor, start: Tensor, end: Tensor, weight: Any) -> Tensor:
    one, two = run.product(weight, end - start)
    return start + one * two


def _trilinear(
    run: Replay, value: Tensor, first: Tensor, weight: Tensor, second: Tensor, *rest: Any, **named: Any
) -> Tensor:
    one, two = run.product(first, second)
    return torch.ops.aten._trilinear.default(one, _fixed(weight), two, *rest, **named)


def _convolution(run: Replay, value: Tensor, u: Tensor, weight: Tensor, *rest: Any, **named: Any) -> Tensor:
    return torch.ops.aten.convolution.default(u, _still(weight) if _moves(u) else weight, *rest, **named)


def _fixed(item: Any) -> Any:
    """An argument that must not depend on the input."""
    if _moves(item):
        raise Unknown
    return item


def _glu(run: Replay, value: Tensor, u: Tensor, dim: int = -1) -> Tensor:
    carrier, gate = u.chunk(2, dim)
    gate = gate.sigmoid()
    try:
        one, two = run.product(carrier, gate)
    except Unknown:
        one, two = carrier, gate.detach()
    return one * two


def _shares(run: Replay, value: Tensor, u: Tensor, dim: int, *rest: Any, **named: Any) -> Tensor:
    """Softmax as a carrier: an exponential over a sum, maximum and sum held where they are."""
    here = u.detach()
    top = here.argmax(dim, keepdim=True)
    z = u - u.gather(dim, top)
    open_ = z.detach().isfinite()
    z = torch.where(open_, z, 0)
    at = z.detach()
    total = torch.where(open_, at.exp(), 0).sum(dim, keepdim=True)
    near = 1 + _by_ratio(z, torch.expm1(at), 1.0)
    return torch.where(open_, torch.where(at < -1, z.exp(), near) / total, 0).to(value.dtype)


def _normalized(u: Tensor, axes: tuple[int, ...], eps: float | int, centered: bool = True) -> Tensor:
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    moved = u - u.mean(axes, keepdim=True) if centered else u
    return moved / (moved.detach().square().mean(axes, keepdim=True) + eps).sqrt()


def _layer_norm(
    run: Replay, value: Tensor, u: Tensor, shape: Sequence[int], weight: Any, bias: Any, eps: float | int, *_: Any
) -> Tensor:
    y = _normalized(u, tuple(range(-len(shape), 0)), eps)
    y = y if weight is None else y * _fixed(weight)
    return (y if bias is None else y + _fixed(bias)).to(value.dtype)


def _rms_norm(run: Replay, value: Tensor, u: Tensor, shape: Sequence[int], weight: Any, eps: float | None) -> Tensor:
    eps = torch.finfo(torch.promote_types(u.dtype, torch.float32)).eps if eps is None else eps
    y = _normalized(u, tuple(range(-len(shape), 0)), eps, centered=False)
    return (y if weight is None else y * _fixed(weight)).to(value.dtype)


def _group_norm(
    run: Replay,
    value: Tensor,
    u: Tensor,
    weight: Any,
    bias: Any,
    samples: int,
    channels: int,
    size: int,
    groups: int,
    eps: float | int,
) -> Tensor:
    y = _normalized(u.reshape(samples, groups, -1), (-1,), eps).reshape(u.shape)
    ones = [1] * (u.dim() - 2)
    y = y if weight is None else y * _fixed(weight).view(-1, *ones)
    return (y if bias is None else y + _fixed(bias).view(-1, *ones)).to(value.dtype)


def _batch_norm(
    run: Replay, value: Tensor, u: Tensor, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any
) -> Tensor:
    training, eps = (rest[0], rest[-1]) if len(rest) == 3 else (False, rest[-1])
    ones = [1] * (u.dim() - 2)
    if training:  # by the statistics of the given, as instance norm asks of it for samples apart
        y = _normalized(u, (0, *range(2, u.dim())), eps)
    else:
        y = (u - mean.view(-1, *ones)) / (var.view(-1, *ones) + eps).sqrt()
    y = y if weight is None else y * _fixed(weight).view(-1, *ones)
    return (y if bias is None else y + _fixed(bias).view(-1, *ones)).to(value.dtype)


def _axes(u: Tensor, dim: Any) -> tuple[int, ...]:
    return tuple(range(u.dim())) if dim is None or dim == [] else (dim,) if isinstance(dim, int) else tuple(dim)


def _length(
    run: Replay, value: Tensor, u: Tensor, order: float | int = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Tensor:
    """|u| = <d|u|/du at u*, u>, and zero at zero; of order 1 and infinity piecewise affine."""
    axes, here = _axes(u, dim), u.detach().to(torch.promote_types(u.dtype, torch.float32))
    if order in (1, math.inf):
        return torch.linalg.vector_norm(u, order, axes, keepdim)
    if not 1 < order < math.inf:
        raise Unknown
    size = here.abs().pow(order).sum(axes, keepdim=True).pow(1 / order)
    along = here.sign() * (here.abs() / torch.where(size == 0, 1, size)) ** (order - 1)
    return (along * u).sum(axes, keepdim=keepdim).to(value.dtype)


def _distances(run: Replay, value: Tensor, one: Tensor, two: Tensor, p: float | int, mode: int | None = None) -> Tensor:
    return _length(run, value, one.unsqueeze(-2) - two.unsqueeze(-3), p, -1)


def _variance(
    run: Replay, value: Tensor, u: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> Tensor:
    axes, here = _axes(u, dim), u.detach()
    count = math.prod(u.shape[axis] for axis in axes) - (1 if correction is None else correction)
    return ((here - here.mean(axes, keepdim=True)) * u).sum(axes, keepdim=keepdim) / count


def _deviation(run: Replay, value: Tensor, u: Tensor, dim: Any = None, **named: Any) -> Tensor:
    """The square root of a variance, both held."""
    return _variance(run, value, u, dim, **named) / torch.where(value == 0, 1, value)


def _reduced(item: Tensor, reduction: int) -> Tensor:
    return item.mean() if reduction == 1 else item.sum() if reduction == 2 else item


def _squared(run: Replay, value: Tensor, u: Tensor, v: Tensor, reduction: int = 1) -> Tensor:
    """The difference times itself, held."""
    return _reduced((u - v).detach() * (u - v), reduction)


def _rounded_off(run: Replay, value: Tensor, u: Tensor, v: Tensor, reduction: int = 1, beta: float = 1.0) -> Tensor:
    """Smooth l1: |d| times |d*|/(2 beta) below beta, |d| - beta/2 from there on."""
    size = (u - v).abs()
    at = size.detach()
    return _reduced(torch.where(at < beta, at * size / (2 * beta), size - beta / 2), reduction)


def _huber(run: Replay, value: Tensor, u: Tensor, v: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    return delta * _rounded_off(run, value, u, v, reduction, delta)


def _soft_margin(run: Replay, value: Tensor, u: Tensor, v: Tensor, reduction: int = 1) -> Tensor:
    """The tangent of log1p at an exponential."""
    one, two = run.product(-u, v)
    return _reduced(_exponential(run, value, one * two).log1p(), reduction)


def _multi_margin(
    run: Replay,
    value: Tensor,
    u: Tensor,
    target: Tensor,
    p: float | int = 1,
    margin: float | int = 1,
    weight: Any = None,
    reduction: int = 1,
) -> Tensor:
    """The mean over the other classes of the margin's rest, of order two times itself, held."""
    rest = (margin - u.gather(-1, target.unsqueeze(-1)) + u).clamp(min=0)
    rest = rest.scatter(-1, target.unsqueeze(-1), 0)
    rest = rest if p == 1 else rest.detach() * rest
    weighed = rest if weight is None else rest * _fixed(weight)[target].unsqueeze(-1)
    return _reduced(weighed.mean(-1), reduction)


def _lstm(
    run: Replay,
    value: Tensor,
    u: Tensor,
    w0: Tensor,
    w1: Tensor,
    w2: Tensor,
    w3: Tensor,
    h: Tensor,
    c: Tensor,
    *rest: Any,
) -> Tensor:
    """One layer in one direction, as PyTorch fuses it on a CPU: (T, N, D), gates held, tanh by its ratio."""
    reverse, mode, biased = rest[0], rest[2], rest[5]
    if mode != 2:
        raise Unknown
    found = []
    times = range(len(u))
    for t in reversed(times) if reverse else times:
        both = u[t] @ w0.mT + h @ w1.mT + (w2 + w3 if biased else 0)
        i, f, g, o = both.chunk(4, -1)
        c = f.detach().sigmoid() * c + i.detach().sigmoid() * _by_ratio(g, g.detach().tanh(), 1.0)
        h = o.detach().sigmoid() * _by_ratio(c, c.detach().tanh(), 1.0)
        found.append(h)
    return torch.stack(found[::-1] if reverse else found)


def _laid_out(run: Replay, value: Tensor, u: Tensor, *_: Any) -> Tensor:
    """The same entries in another layout of memory; that they are the same is checked."""
    if u.shape != value.shape:
        raise Unknown
    return u


RULES: dict[str, Callable[..., Tensor]] = {
    "as_strided": _laid_out,
    "exp": _exponential,
    "sinc": _sinc,
    "xlogy": _xlogy,
    "special_xlog1py": _xlog1py,
    "sigmoid": _sigmoid,
    "elu": _elu,
    "pow": _power,
    "reciprocal": lambda run, value, u: _by_ratio(u, value, 0.0),
    "div": _quotient,
    "true_divide": _quotient,
    "mul": _times,
    "bmm": _matmul,
    "mm": _matmul,
    "mv": _matmul,
    "dot": _matmul,
    "matmul": _matmul,
    "linear": lambda run, value, u, weight, bias=None: F.linear(u, _still(weight) if _moves(u) else weight, bias),
    "addmm": _plus_matmul,
    "addmv": _plus_matmul,
    "baddbmm": _plus_matmul,
    "addcmul": _plus_product,
    "addcdiv": _plus_quotient,
    "lerp": _lerp,
    "_trilinear": _trilinear,
    "convolution": _convolution,
    "glu": _glu,
    "softmax": _shares,
    "_softmax": _shares,
    "_safe_softmax": _shares,
    "native_layer_norm": _layer_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "_fused_rms_norm": _rms_norm,
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "linalg_vector_norm": _length,
    "_cdist_forward": _distances,
    "var": _variance,
    "std": _deviation,
    "mkldnn_rnn_layer": _lstm,
    "norm": _length,
    "mse_loss": _squared,
    "smooth_l1_loss": _rounded_off,
    "huber_loss": _huber,
    "soft_margin_loss": _soft_margin,
    "multi_margin_loss": _multi_margin,
}


def _moments(value: Tensor) -> Tensor:
    """A few numbers that know a value again, in whatever shape and order it stands."""
    value = value.detach().double().flatten()
    value = value[value.isfinite()]
    if not value.numel():
        return value.new_zeros(4)
    return torch.stack([value.mean(), value.abs().mean(), value.square().mean().sqrt(), value.pow(3).mean()])


def _alike(one: Tensor, two: Tensor, tolerance: float) -> bool:
    size = max(float(one[2]), float(two[2]))
    return bool(((one - two).abs() <= tolerance * torch.tensor([size, size, size, size**3])).all())


def _choices(net: Network, tensors: tuple[Tensor, ...]) -> list[Choice]:
    """What `net.held` says of every product: the values of what it names, read off a run of the network."""
    named = {word for record in net.held for item in (record.carrier, *record.gates) for word in [_word(item)[0]]}
    numbers = {net.places[name]: name for name in named if name in net.places}
    found = {}
    for step, _, _, values in net.graph.walk(tensors):
        for number in step.outputs:
            if number in numbers and number in values:
                found[numbers[number]] = _moments(values[number])
    inputs = [_moments(item) for item in tensors if item.is_floating_point()]
    choices = []
    for record in net.held:
        if record.gates == (record.carrier,):  # it gates itself, and is not a product
            continue
        word, place = _word(record.carrier)
        carriers = inputs if word == "the input" else [found[word]] if word in found else []
        gates = [found[name] for name in (_word(item)[0] for item in record.gates) if name in found]
        gates += inputs if any(_word(item)[0] == "the input" for item in record.gates) else []
        choices += [Choice(carrier, tuple(gates), place) for carrier in carriers]
    return choices


def _word(item: str) -> tuple[str, str]:
    """The name of a factor, and its place where two have one name: ``a (mat2)``."""
    name, _, place = item.partition(" (")
    return name, place.rstrip(")")
