"""The input-convexity certificate: which values are provably convex in the network's input."""

from enum import Enum

from maxaffine._graph.contract import Operator, Sign
from maxaffine._graph.graph import Dependence, Graph

VARYING = (Dependence.REGION, Dependence.HELD)


class Curvature(Enum):
    """What is proved of a value as a function of the network's input."""

    CONSTANT = "constant"
    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"


def curvatures(graph: Graph) -> dict[int, Curvature]:
    """Prove the curvature of every value, by its number."""
    # A non-negative combination of convex values is convex, and so is a convex non-decreasing operator of convex
    # values (Mad Max section 2.3; Amos, Xu and Kolter, Input Convex Neural Networks, 2017). Where neither rule applies
    # the answer is unknown: the certificate is sufficient, not necessary.
    known = {
        number: Curvature.AFFINE if graph.values[number].dependence is Dependence.AFFINE else Curvature.UNKNOWN
        for number in graph.inputs
    }
    for step in graph.steps:
        # A factor that is another one in another region, or at another input, may change sign on the way.
        others = [number for place, number in enumerate(step.inputs) if place not in step.active]
        varies = bool(step.held) or any(graph.values[number].dependence in VARYING for number in others)
        arguments = [known[step.inputs[position]] for position in step.active]
        for number in step.outputs:
            if number is None:
                continue
            dependence = graph.values[number].dependence
            if dependence is Dependence.CONSTANT:
                known[number] = Curvature.CONSTANT
            elif dependence in VARYING or varies:
                known[number] = Curvature.UNKNOWN
            else:
                known[number] = _compose(step.operator, arguments)
    return known


def _compose(operator: Operator, arguments: list[Curvature]) -> Curvature:
    """The curvature of an operator's value, from those of its active inputs."""
    affine = {Curvature.AFFINE, Curvature.CONSTANT}.issuperset(arguments)
    traits = operator.traits
    if traits.pieces == 1 and affine:
        return Curvature.AFFINE
    if not traits.convex:
        return Curvature.UNKNOWN
    if affine:
        return Curvature.CONVEX
    flipped = {_through(sign, item) for sign, item in zip(operator.signs(), arguments, strict=True)}
    if flipped <= {Curvature.CONVEX, Curvature.AFFINE, Curvature.CONSTANT}:
        return Curvature.CONVEX
    # Several pieces are a maximum, which makes nothing concave of what is.
    concave = flipped <= {Curvature.CONCAVE, Curvature.AFFINE, Curvature.CONSTANT}
    return Curvature.CONCAVE if concave and traits.pieces == 1 else Curvature.UNKNOWN


def _through(sign: Sign, curvature: Curvature) -> Curvature:
    """Curvature of a multiple of known sign."""
    if sign is Sign.NONNEGATIVE or curvature in (Curvature.AFFINE, Curvature.CONSTANT):
        return curvature
    mirror = {Curvature.CONVEX: Curvature.CONCAVE, Curvature.CONCAVE: Curvature.CONVEX}
    return mirror.get(curvature, Curvature.UNKNOWN) if sign is Sign.NONPOSITIVE else Curvature.UNKNOWN
