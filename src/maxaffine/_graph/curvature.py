"""The input-convexity certificate: which values are provably convex in the network's input."""

from __future__ import annotations

from enum import Enum

from maxaffine._graph.contract import Operator, Sign
from maxaffine._graph.graph import Dependence, Graph


class Curvature(Enum):
    """What is proved of a value as a function of the network's input."""

    CONSTANT = "constant"
    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"


def curvatures(graph: Graph) -> dict[int, Curvature]:
    """Prove the curvature of every value, in running order.

    A non-negative combination of convex values is convex, and so is a convex non-decreasing operator of convex
    values (Mad Max section 2.3; Amos, Xu and Kolter, *Input Convex Neural Networks*, 2017). Where neither
    rule applies the answer is unknown: the certificate is sufficient, not necessary.

    Args:
        graph: The frozen graph.

    Returns:
        The curvature of every value, by number.
    """
    known = {
        number: Curvature.AFFINE if graph.values[number].dependence is Dependence.AFFINE else Curvature.UNKNOWN
        for number in graph.inputs
    }
    for step in graph.steps:
        held = [step.inputs[p] for p in range(len(step.inputs)) if p not in step.active]
        varies = any(graph.values[n].dependence in (Dependence.REGION, Dependence.HELD) for n in held) or bool(
            step.held
        )
        arguments = [known[step.inputs[position]] for position in step.active]
        for number in step.outputs:
            if number is None:
                continue
            if graph.values[number].dependence is Dependence.CONSTANT:
                known[number] = Curvature.CONSTANT
            elif graph.values[number].dependence in (Dependence.REGION, Dependence.HELD) or varies:
                known[number] = Curvature.UNKNOWN
            else:
                known[number] = _compose(step.operator, arguments)
    return known


def _compose(operator: Operator, arguments: list[Curvature]) -> Curvature:
    affine = all(item in (Curvature.AFFINE, Curvature.CONSTANT) for item in arguments)
    traits = operator.traits
    if traits.pieces == 1 and affine:
        return Curvature.AFFINE
    if not traits.convex:
        return Curvature.UNKNOWN
    if affine:
        return Curvature.CONVEX
    flipped = [_through(sign, item) for sign, item in zip(operator.signs(), arguments, strict=True)]
    if all(item in (Curvature.CONVEX, Curvature.AFFINE, Curvature.CONSTANT) for item in flipped):
        return Curvature.CONVEX
    concave = all(item in (Curvature.CONCAVE, Curvature.AFFINE, Curvature.CONSTANT) for item in flipped)
    return Curvature.CONCAVE if concave and traits.pieces == 1 else Curvature.UNKNOWN


def _through(sign: Sign, curvature: Curvature) -> Curvature:
    """Curvature of a multiple of known sign."""
    if sign is Sign.NONNEGATIVE or curvature in (Curvature.AFFINE, Curvature.CONSTANT):
        return curvature
    mirror = {Curvature.CONVEX: Curvature.CONCAVE, Curvature.CONCAVE: Curvature.CONVEX}
    return mirror.get(curvature, Curvature.UNKNOWN) if sign is Sign.NONPOSITIVE else Curvature.UNKNOWN
