"""Sums, and products with a factor that does not depend on the input."""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from maxaffine._capture.batch import MIXED, MIXED_CURE, along, pointwise
from maxaffine._capture.call import Call, Ref
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import Attention, MatrixProduct, Multiple, Operator, Shift, Sign, Sum, Transposable

aten = torch.ops.aten

PRODUCT = "it multiplies two values that both depend on the input, which is quadratic"
PRODUCT_CURE = "capture the part before it (until=...), or make one factor a parameter"


def one_factor(call: Call, *names: str) -> str:
    """The single factor that depends on the input; a product of two is refused."""
    dependent = [name for name in names if call.depends(name)]
    if len(dependent) > 1:
        call.refuse(PRODUCT, PRODUCT_CURE)
    return dependent[0] if dependent else ""


@rule(*overloads("add.Tensor add.Scalar sub.Tensor sub.Scalar"), batch=pointwise)
def add(call: Call) -> Operator:
    """x_1 + alpha x_2, both may depend on the input: the skip connection."""
    factor = -float(call["alpha"]) if call.name == "aten.sub" else float(call["alpha"])
    if len(call.refs) == 2 and len(call.active) == 2:
        first, second = (ref.sample for ref in call.active)
        # Without broadcasting and conversion the transpose hands the cotangent on as it is.
        if first.shape == second.shape and first.dtype == second.dtype:
            return Sum(call.affine(homogeneous=True), factor)
    # Slopes are 1 in the first term and the factor in the second.
    if call.depends("self") != call.depends("other") and (factor == 1 or call.depends("self")):  # x - x is none
        return Shift(call.affine(sign=Sign.NONNEGATIVE))
    if factor >= 0:
        return call.affine(sign=Sign.NONNEGATIVE)
    return call.affine(sign=Sign.MIXED if call.depends("self") else Sign.NONPOSITIVE)


@rule(*overloads("neg"), batch=pointwise)
def neg(call: Call) -> Operator:
    """-x."""
    return call.affine(homogeneous=True, sign=Sign.NONPOSITIVE)


@rule(*overloads("mul.Tensor mul.Scalar"), batch=pointwise)
def mul(call: Call) -> Operator:
    """A product with a factor that is constant or constant within a region."""
    factor = call["other" if one_factor(call, "self", "other") == "self" else "self"]
    product = call.affine(homogeneous=True, sign=_sign(factor))
    return Multiple(product) if len(call.active) == 1 else product


@rule(*overloads("div.Tensor div.Scalar"), batch=pointwise)
def div(call: Call) -> Operator:
    """A quotient by a divisor that is constant or constant within a region."""
    if call.depends("other"):
        call.refuse(
            "it divides by a value that depends on the input",
            "divide by a parameter or a constant, or capture the part before it (until=...)",
        )
    return call.affine(homogeneous=True, sign=_sign(call["other"]))


def _sign(factor: object) -> Sign:
    return Sign.MIXED if isinstance(factor, Ref) else Sign.of(torch.as_tensor(factor))


@rule(*overloads("pow.Tensor_Scalar"), batch=pointwise)
def power(call: Call) -> Operator:
    """x^1 only."""
    if call["exponent"] != 1:
        call.refuse(
            f"x to the power {call['exponent']} is not piecewise affine",
            "use the absolute value, or capture the part before it (until=...)",
        )
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)


@rule(*overloads("mean.dim sum.dim_IntList"), batch=along("dim"))
def mean(call: Call) -> Operator:
    """Sum or mean over axes."""
    summed = call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)
    if call["dtype"]:
        return summed
    return Transposable(summed, partial(spread, axes=tuple(call["dim"] or ()), mean=call.kind == "mean"))


def spread(rows: Tensor, shape: torch.Size, axes: Sequence[int], mean: bool = True) -> Tensor:
    """The transpose of a mean or sum over axes: every entry has its share of what is asked of the whole."""
    gone = {axis % len(shape) for axis in axes}
    kept = [1 if axis in gone else size for axis, size in enumerate(shape)]
    share = rows / prod(shape[axis] for axis in gone) if mean else rows
    return share.reshape(len(rows), *kept).expand(-1, *shape)


@rule(*overloads("mean sum max min median"))
def total(call: Call) -> Operator:
    """A reduction over all axes, the samples' included."""
    call.refuse(MIXED, MIXED_CURE)


@rule(*overloads("cumsum"), batch=along("dim"))
def cumsum(call: Call) -> Operator:
    """Running sum along an axis."""
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)


@rule(*overloads("mm bmm"))
def matmul(call: Call) -> Operator:
    """Matrix product with one factor that depends on the input."""
    # Where the first factor carries, the other is one matrix for all samples, whose transpose is at hand.
    first, second = call.positional[:2]
    name = one_factor(call, first, second)
    if name == first and call.kind == "mm" and isinstance(call[second], Tensor):
        return MatrixProduct(call.affine(homogeneous=True, kind="linear"), call[second], None)
    return call.affine(homogeneous=True)


@rule(*overloads("addmm"))
def addmm(call: Call) -> Operator:
    """Beta x_0 + alpha x_1 x_2 with one factor that depends on the input."""
    first, second = call.positional[1:3]
    name = one_factor(call, first, second)
    plain = call["beta"] == 1 and call["alpha"] == 1
    if plain and name == first and isinstance(call["self"], Tensor) and isinstance(call[second], Tensor):
        return MatrixProduct(call.affine(kind="linear"), call[second], call["self"])
    return call.affine()


@rule(*overloads("linear"))
def linear(call: Call) -> Operator:
    """W x + b on the last axis."""
    name, weight, bias = one_factor(call, "input", "weight"), call["weight"], call["bias"]
    if name == "input" and isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)):
        return MatrixProduct(call.affine(kind="linear"), weight.mT, bias)
    return call.affine()


@rule(*overloads("bilinear"))
def bilinear(call: Call) -> Operator:
    """x_1^T W x_2 + b with one factor that depends on the input."""
    one_factor(call, "input1", "input2", "weight")
    return call.affine()


@rule(*overloads("scaled_dot_product_attention"))
def attention(call: Call) -> Operator:
    """Weighted means of values, the weights constant: queries, keys and mask do not depend on the input."""
    if any(call.depends(name) for name in ("query", "key", "attn_mask")):
        call.refuse("it multiplies values that all depend on the input", "capture the part before it (until=...)")
    if call["dropout_p"]:
        call.refuse("it drops out at random", "call model.eval() before capture")
    return Attention(call.affine(homogeneous=True, sign=Sign.NONNEGATIVE))
