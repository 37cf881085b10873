"""Smooth operators, affine in a carrier with their gate held at the input, or by their tangent.

A function of single entries f(u) with f(0) = 0 is the ratio f(u*)/u* times u; sigmoid and exponential have an offset of
their own, and below -1, where the ratio cancels, their tangent. Norms hold their statistics. Softplus, log-sum-exp and
log-softmax are energies: their tangent has the probabilities for slopes and the entropy for an offset.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maxaffine._capture.batch import along, leading, pointwise, probed
from maxaffine._capture.call import Call
from maxaffine._capture.registry import smooth_rule
from maxaffine._graph import Gated, GatedMap, Normalization, Operator, Tangent

aten = torch.ops.aten

FAR = -1.0  # below it the ratios of sigmoid and exponential cancel


def ratio(value: Tensor, u: Tensor, at_zero: float | int) -> Tensor:
    """f(u)/u, and f'(0) at zero."""
    return torch.where(u == 0, at_zero, value / torch.where(u == 0, 1, u))


def gelu(u: Tensor, approximate: str = "none") -> tuple[Tensor, None]:
    """Phi(u): of -u, whose error function does not cancel."""
    if approximate == "none":
        return 0.5 * torch.special.erfc(-u / math.sqrt(2)), None
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3))), None


def silu(u: Tensor) -> tuple[Tensor, None]:
    return torch.sigmoid(u), None


def mish(u: Tensor) -> tuple[Tensor, None]:
    return torch.tanh(F.softplus(u)), None


def hardswish(u: Tensor) -> tuple[Tensor, None]:
    return F.hardsigmoid(u), None


def tanh(u: Tensor) -> tuple[Tensor, None]:
    return ratio(torch.tanh(u), u, 1.0), None


def erf(u: Tensor) -> tuple[Tensor, None]:
    return ratio(torch.erf(u), u, 2 / math.sqrt(math.pi)), None


def expm1(u: Tensor) -> tuple[Tensor, None]:
    return ratio(torch.expm1(u), u, 1.0), None


def exp(u: Tensor) -> tuple[Tensor, Tensor]:
    far, value = u < FAR, torch.exp(u)
    return torch.where(far, value, ratio(torch.expm1(u), u, 1.0)), torch.where(far, value * (1 - u), 1.0)


def sigmoid(u: Tensor) -> tuple[Tensor, Tensor]:
    far, value, other = u < FAR, torch.sigmoid(u), torch.sigmoid(-u)
    near = ratio(torch.tanh(u / 2) / 2, u, 0.25)  # (sigmoid(u) - 1/2) / u
    return torch.where(far, value * other, near), torch.where(far, value * (1 - u * other), 0.5)


def elu(u: Tensor, alpha: float | int = 1, scale: float | int = 1, input_scale: float | int = 1) -> tuple[Tensor, None]:
    below = alpha * scale * ratio(torch.expm1(u * input_scale), u, input_scale)
    return torch.where(u > 0, scale, below), None


def celu(u: Tensor, alpha: float | int = 1.0) -> tuple[Tensor, None]:
    return torch.where(u > 0, 1.0, alpha * ratio(torch.expm1(u / alpha), u, 1 / alpha)), None


def selu(u: Tensor) -> tuple[Tensor, None]:
    return elu(u, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def power(u: Tensor, exponent: float | int) -> tuple[Tensor, None]:
    slope = u ** (exponent - 1)
    return torch.where(u == 0, 0.0, slope) if exponent < 1 else slope, None


def square(u: Tensor) -> tuple[Tensor, None]:
    return u, None


def quotient(c: Any, v: Tensor) -> tuple[Tensor, None]:
    """C/v as a multiple of v."""
    return c / v / v, None


# Activations, whose hard code is the sign of what they take; the others are steps of a norm or a quotient.
UNITS = frozenset("gelu silu mish hardswish tanh sigmoid elu celu selu softplus log_sigmoid".split())
# Operator: its gate, the formula, and how much of a gate its value is.
ENTRYWISE: dict[Callable, tuple[Callable, str, float]] = {
    aten.gelu.default: (gelu, "Phi(u*) u", 0.5),
    aten.silu.default: (silu, "sigmoid(u*) u", 0.5),
    aten.mish.default: (mish, "tanh(softplus(u*)) u", 0.5),
    aten.hardswish.default: (hardswish, "hardsigmoid(u*) u", 0.5),
    aten.tanh.default: (tanh, "(tanh(u*)/u*) u", 0.85),
    aten.erf.default: (erf, "(erf(u*)/u*) u", 1.0),
    aten.expm1.default: (expm1, "(expm1(u*)/u*) u", 0.9),
    aten.exp.default: (exp, "(expm1(u*)/u*) u + 1, below -1 the tangent", 0.9),
    aten.sigmoid.default: (sigmoid, "(tanh(u*/2)/(2u*)) u + 1/2, below -1 the tangent", 1.0),
    aten.elu.default: (elu, "(elu(u*)/u*) u", 0.4),
    aten.celu.default: (celu, "(celu(u*)/u*) u", 0.4),
    aten.selu.default: (selu, "(selu(u*)/u*) u", 0.4),
    aten.square.default: (square, "u* u", 0.2),
    aten.sqrt.default: (partial(power, exponent=0.5), "u*^(-1/2) u", 0.9),
    aten.rsqrt.default: (partial(power, exponent=-0.5), "u*^(-3/2) u", 1.0),
    aten.reciprocal.default: (partial(power, exponent=-1.0), "u*^(-2) u", 1.0),
}

for _target, (_gate, _formula, _gating) in ENTRYWISE.items():

    @smooth_rule(_target, batch=pointwise, gating=_gating)
    def entrywise(call: Call, gate: Callable = _gate, formula: str = _formula) -> Operator:
        """Scale and offset by the entry's own value."""
        return Gated(call.affine(), gate, formula, pieces=2 if call.kind in UNITS else 1)


@smooth_rule(aten.pow.Tensor_Scalar, batch=pointwise, gating=0.9)
def to_power(call: Call) -> Operator | None:
    """u^p = u*^(p-1) u; x itself, to the power one."""
    exponent = call["exponent"]
    if exponent == 0:
        call.refuse("x to the power 0 is the constant 1", "write torch.ones_like(x)")
    return None if exponent == 1 else Gated(call.affine(), power, f"u*^({exponent - 1:g}) u")


@smooth_rule(
    *(
        getattr(aten, name).default
        for name in (
            "softplus log_sigmoid log_sigmoid_forward log log2 log10 log1p sin cos tan asin acos atan sinh cosh asinh"
            " acosh atanh erfc erfinv exp2 sinc lgamma digamma logaddexp atan2 hypot special_entr i0 special_i0e"
            " special_i1 special_i1e logit special_ndtri special_erfcx special_log_ndtr"
        ).split()
    ),
    aten.pow.Scalar,
    aten.pow.Tensor_Tensor,
    batch=pointwise,
)
def curve(call: Call) -> Operator:
    """Any other smooth curve."""
    curved = call.affine()
    if call.kind == "sinc":
        curved = replace(curved, target=sinc)
    return Tangent(curved, pieces=2 if call.kind in UNITS else 1)


def sinc(u: Tensor) -> Tensor:
    """Sine over argument, by its series near zero: PyTorch's derivative cancels there, and is NaN at 1e-300."""
    near = u.abs() < 0.05
    z = torch.where(near, (math.pi * u).square(), 0)
    series = 1 - z / 6 * (1 - z / 20 * (1 - z / 42 * (1 - z / 72 * (1 - z / 110))))
    return torch.where(near, series, torch.sinc(torch.where(near, 1, u)))


@smooth_rule(
    aten.log_softmax.int,
    aten._log_softmax.default,
    aten.logsumexp.default,
    aten.logcumsumexp.default,
    aten.prod.dim_int,
    aten.cumprod.default,
    batch=along("dim"),
)
def energy(call: Call) -> Operator:
    """Slopes p, offset the entropy: the tangent; of a product of entries likewise."""
    return Tangent(call.affine())


def weights(value: Tensor, u: Tensor, dim: int, *_: object) -> Callable[[Tensor], Tensor]:
    """Softmax as a carrier: exp(u - m) / S, the maximum m taken at its place and the sum S held."""
    top = u.max(dim, keepdim=True)
    below = u - top.values
    total = torch.where(below.isfinite(), below.exp(), 0).sum(dim, keepdim=True)
    # where the entry is masked by minus infinity the weight is zero, whatever the carrier
    open_ = below.isfinite()
    slopes, offset = (torch.where(open_, part / total, 0) for part in exp(torch.where(open_, below, 0)))

    def held(t: Tensor) -> Tensor:
        moved = torch.where(open_, t - t.gather(dim, top.indices), 0)
        return (slopes * moved + offset).to(value.dtype)

    return held


@smooth_rule(aten.softmax.int, aten._softmax.default, aten._safe_softmax.default, batch=along("dim"), gating=1.0)
def softmax(call: Call) -> Operator:
    """A softmax that carries, as at the end of a classifier; where it weighs values it is held itself."""
    return GatedMap(call.affine(), weights, "(expm1(z*)/z*) z / S* + 1/S*, z = u - max")


def _wide(u: Tensor) -> Tensor:
    """In single precision where it is half: so PyTorch takes statistics."""
    return u.to(torch.promote_types(u.dtype, torch.float32))


def layer(
    value: Tensor, u: Tensor, shape: Sequence[int], weight: Any, bias: Any, eps: float | int, *_: object
) -> Normalization:
    """Weight * (t - mean t) / sqrt(var u* + eps) + bias."""
    scale = torch.native_layer_norm(_wide(u), shape, None, None, eps)[2]
    return Normalization(value, scale, tuple(range(-len(shape), 0)), weight, bias)


def root_mean_square(
    value: Tensor, u: Tensor, shape: Sequence[int], weight: Any, eps: float | int | None
) -> Normalization:
    """Weight * t / sqrt(mean u*^2 + eps)."""
    axes, u = tuple(range(-len(shape), 0)), _wide(u)
    eps = torch.finfo(u.dtype).eps if eps is None else eps
    scale = torch.rsqrt(u.square().mean(axes, keepdim=True) + eps)
    return Normalization(value, scale, axes, weight, None, centered=False)


def group(value: Tensor, u: Tensor, groups: int, weight: Any, bias: Any, eps: float | int, *_: object) -> Normalization:
    """As of a layer, by groups of channels."""
    parts = _wide(u).reshape(u.shape[0], groups, -1)
    scale = torch.native_layer_norm(parts, parts.shape[2:], None, None, eps)[2]
    gamma, beta = (None if item is None else item.view(-1, *[1] * (u.dim() - 2)) for item in (weight, bias))
    return Normalization(value, scale, (-1,), gamma, beta, parts.shape)


def instance(
    value: Tensor,
    u: Tensor,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    use: bool,
    momentum: float | int,
    eps: float | int,
    *_: Any,
) -> Normalization:
    """As of a group of one channel each."""
    return group(value, u, u.shape[1], weight, bias, eps)


NORM = "gamma (u - mean u) / sqrt(var u* + eps) + beta"


@smooth_rule(aten.layer_norm.default, aten.native_layer_norm.default, batch=probed, gating=0.0)
def layer_norm(call: Call) -> Operator:
    """The statistics held."""
    _alone(call, "weight", "bias")
    return GatedMap(call.affine(), layer, NORM, homogeneous=call["bias"] is None)


@smooth_rule(aten.rms_norm.default, aten._fused_rms_norm.default, batch=probed, gating=0.0)
def rms_norm(call: Call) -> Operator:
    """The root mean square held."""
    _alone(call, "weight")
    return GatedMap(call.affine(), root_mean_square, "gamma u / sqrt(mean u*^2 + eps)", homogeneous=True)


@smooth_rule(aten.group_norm.default, batch=leading, gating=0.0)
def group_norm(call: Call) -> Operator:
    """The statistics of each group held."""
    _alone(call, "weight", "bias")
    return GatedMap(call.affine(), group, NORM, homogeneous=call["bias"] is None)


@smooth_rule(aten.instance_norm.default, batch=leading, gating=0.0)
def instance_norm(call: Call) -> Operator | None:
    """The statistics of each channel held; by running ones it is affine."""
    _alone(call, "weight", "bias")
    if not call["use_input_stats"]:
        return None
    return GatedMap(call.affine(), instance, NORM, homogeneous=call["bias"] is None)


def _alone(call: Call, *names: str) -> None:
    if any(call.depends(name) for name in names):
        call.refuse("its scale or shift depends on the input", "multiply and add after a norm without weight and bias")


def _axes(u: Tensor, dim: Any) -> tuple[int, ...]:
    """The axes that an operator reduces over: all of them where it names none."""
    return tuple(range(u.dim())) if dim is None or dim == [] else tuple(dim)


def length(value: Tensor, u: Tensor, order: float | int, dim: Any, keepdim: bool, **_: object) -> Callable:
    """|u| = <u*/|u*|, u>; for order p with |u*_i|^(p-1) sign(u*_i) / |u*|^(p-1)."""
    axes, u = _axes(u, dim), _wide(u)
    full = torch.linalg.vector_norm(u, order, axes, True)
    along_ = u.sign() * (u.abs() / torch.where(full == 0, 1, full)) ** (order - 1)
    return lambda t: (along_ * t).sum(axes, keepdim=keepdim).to(value.dtype)


@smooth_rule(aten.linalg_vector_norm.default, batch=along("dim"), gating=1.0)
def vector_norm(call: Call) -> Operator | None:
    """The direction held; of order 1 and infinity it was taken apart."""
    if not 1 < call["ord"] < math.inf:
        call.refuse(f"its order {call['ord']} gives no norm", "use an order of at least 1")
    return GatedMap(call.affine(), length, "<u*/|u*|, u>", homogeneous=True)


def variance(value: Tensor, u: Tensor, dim: Any, *, correction: Any, keepdim: bool) -> Callable:
    """Var u = <u* - mean u*, u> / (n - correction)."""
    axes = _axes(u, dim)
    centered = u - u.mean(axes, keepdim=True)
    count = math.prod(u.shape[axis] for axis in axes) - (1 if correction is None else correction)
    return lambda t: (centered * t).sum(axes, keepdim=keepdim) / count


@smooth_rule(aten.var.correction, batch=along("dim"), gating=0.9)
def var(call: Call) -> Operator:
    """The deviations held."""
    return GatedMap(call.affine(), variance, "<u* - mean u*, u> / (n - 1)", homogeneous=True)


@smooth_rule(aten.div.Tensor, batch=pointwise, gating=1.0)
def divided(call: Call) -> Operator | None:
    """c/v = (c/v*^2) v where the divisor carries; by a divisor that is held it is a multiple."""
    return Gated(call.affine(), quotient, "(c/v*^2) v") if call.depends("other") else None
