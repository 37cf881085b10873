"""Piecewise-affine activations: scalar functions with knots, applied entry by entry."""

from math import inf

import torch

from maxaffine._capture.batch import pointwise
from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import Affine, Elementwise, Operator, ScalarSpline, Sign, WideSpline


def _elementwise(call: Call, spline: ScalarSpline) -> Operator:
    traced = call.affine()
    wide = WideSpline(**vars(spline))
    return Elementwise(
        traced, wide if any(_compares_wide(call, traced, spline, knot) for knot in spline.knots) else spline
    )


def _compares_wide(call: Call, traced: Affine, spline: ScalarSpline, knot: float) -> bool:
    """Whether an operator on 16-bit numbers compares them with a knot in float32, as the operator itself shows."""
    # Which type it compares in differs from operator to operator and from device to device. Only the number that the
    # knot rounds to tells: there one comparison finds a tie, the other none.
    sample = call["self"].sample
    tie = torch.full_like(sample, knot)
    if sample.element_size() > 2 or not sample.numel() or tie.flatten()[0].item() == knot:
        return False
    at = tie.flatten()[:1]
    own, wide = (int(kind.codes(at)) for kind in (spline, WideSpline(**vars(spline))))
    found = traced(*(tie for _ in call.refs)).flatten()[0]
    values = [spline.slopes[piece] * at.double() + spline.offsets[piece] for piece in (own, wide)]
    near, far = ((value.to(found.dtype) - found).abs() for value in values)
    return bool(far < near)


@rule(*overloads("relu"), batch=pointwise)
def relu(call: Call) -> Operator:
    """max(0, x)."""
    return _elementwise(call, ScalarSpline((0.0,), (0.0, 1.0), (0.0, 0.0)))


@rule(*overloads("abs"), batch=pointwise)
def absolute(call: Call) -> Operator:
    """max(-x, x)."""
    return _elementwise(call, ScalarSpline((0.0,), (-1.0, 1.0), (0.0, 0.0)))


@rule(*overloads("leaky_relu"), batch=pointwise)
def leaky_relu(call: Call) -> Operator:
    """Slope v below zero, 1 above."""
    return _elementwise(call, ScalarSpline((0.0,), (float(call["negative_slope"]), 1.0), (0.0, 0.0)))


@rule(*overloads("_prelu_kernel"), batch=pointwise)
def prelu(call: Call) -> Operator:
    """Slope v below zero, a parameter per channel; 1 above."""
    if not isinstance(call["weight"], torch.Tensor):
        call.refuse("its slope depends on the network's input", "use a slope that is a parameter")
    return _elementwise(call, ScalarSpline((0.0,), (call["weight"], 1.0), (0.0, 0.0)))


@rule(*overloads("rrelu rrelu_with_noise_functional"), batch=pointwise)
def rrelu(call: Call) -> Operator:
    """Leaky ReLU with the mean slope; random, hence refused, in training mode."""
    if call["training"]:
        call.refuse(
            "it draws its slopes at random in training mode",
            "call model.eval() before capture, and give F.rrelu training=self.training",
        )
    slope = (float(call["lower"]) + float(call["upper"])) / 2
    return _elementwise(call, ScalarSpline((0.0,), (slope, 1.0), (0.0, 0.0)))


@rule(*overloads("hardtanh"), batch=pointwise)
def hardtanh(call: Call) -> Operator:
    """Clipped to [min_val, max_val]; ReLU6 is the case [0, 6]."""
    return _clip(call, call["min_val"], call["max_val"])


@rule(*overloads("clamp"), batch=pointwise)
def clamp(call: Call) -> Operator:
    """Clipped below, above or both."""
    return _clip(call, call["min"], call["max"])


def _clip(call: Call, low: float | int | None, high: float | int | None) -> Operator:
    if low is not None and high is not None and low > high:
        call.refuse("its lower bound is above its upper one, so it is constant", "order the bounds")
    low, high = None if low == -inf else low, None if high == inf else high
    if low is None and high is None:
        return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)
    # A clipped piece is constant, so its offset is the bound that it is clipped at, where its knot lies too.
    below, above = (() if bound is None else (float(bound),) for bound in (low, high))
    slopes = (0.0,) * len(below) + (1.0,) + (0.0,) * len(above)
    return _elementwise(call, ScalarSpline(below + above, slopes, (*below, 0.0, *above)))


@rule(*overloads("hardsigmoid"), batch=pointwise)
def hardsigmoid(call: Call) -> Operator:
    """x/6 + 1/2 clipped to [0, 1]."""
    return _elementwise(call, ScalarSpline((-3.0, 3.0), (0.0, 1 / 6, 0.0), (0.0, 0.5, 1.0)))


@rule(*overloads("hardshrink"), batch=pointwise)
def hardshrink(call: Call) -> Operator:
    """X where |x| > lambda, else 0: piecewise affine, not continuous; x itself for a negative lambda."""
    lambd = float(call["lambd"])
    if lambd < 0:
        return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)
    return _elementwise(call, ScalarSpline((-lambd, lambd), (1.0, 0.0, 1.0), (0.0, 0.0, 0.0), (True, False)))


@rule(*overloads("softshrink"), batch=pointwise)
def softshrink(call: Call) -> Operator:
    """X moved towards zero by lambda, zero in between."""
    lambd = float(call["lambd"])
    return _elementwise(call, ScalarSpline((-lambd, lambd), (1.0, 0.0, 1.0), (lambd, 0.0, -lambd)))


@rule(*overloads("threshold"), batch=pointwise)
def threshold(call: Call) -> Operator:
    """X above the threshold, a constant at or below it: in general not continuous."""
    return _elementwise(call, ScalarSpline((float(call["threshold"]),), (0.0, 1.0), (float(call["value"]), 0.0)))
