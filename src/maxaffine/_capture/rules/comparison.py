"""Comparisons of dependent values: constant within a region, with a code of their own."""

from torch import Tensor

from maxaffine._capture.batch import along, pointwise
from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import Comparison, Operator, Sign

ORDERS = " ".join(f"{name}.Tensor {name}.Scalar" for name in ("gt", "ge", "lt", "le", "eq", "ne"))


@rule(*overloads(f"{ORDERS} signbit"), batch=pointwise)
def compare(call: Call) -> Operator:
    """True or false, entry by entry."""
    return Comparison(call.affine())


@rule(*overloads("sign"), batch=pointwise)
def sign(call: Call) -> Operator:
    """-1, 0 or 1: three pieces, one of them a single point."""
    return Comparison(call.affine(), pieces=3)


@rule(*overloads("isnan isinf"), batch=pointwise)
def infinite(call: Call) -> Operator:
    """Whether an entry is NaN or infinite: never, at finite inputs."""
    # As nan_to_num asks, which is then the identity.
    return Comparison(call.affine())


@rule(*overloads("argmax argmin"), batch=along("dim"))
def argmax(call: Call) -> Operator:
    """The place of the winner along an axis."""
    # A place is a code: as many pieces as there are places.
    dim, sample = call["dim"], call["self"].sample
    return Comparison(call.affine(), pieces=sample.numel() if dim is None else sample.shape[dim])


@rule(*overloads("bucketize.Tensor"), batch=pointwise)
def bucketize(call: Call) -> Operator:
    """The number of boundaries below an entry."""
    if not isinstance(call["boundaries"], Tensor):
        call.refuse("its boundaries depend on the input", "use boundaries that are a buffer")
    return Comparison(call.affine(), pieces=len(call["boundaries"]) + 1)


@rule(*overloads("where.self"), batch=pointwise)
def where(call: Call) -> Operator:
    """One of two values by a condition that is constant within a region."""
    # A constant among the two is an offset, wherever it is chosen.
    return call.affine(homogeneous=len(call.active) == 2, sign=Sign.NONNEGATIVE)


LOGIC = """
    logical_and logical_or logical_not logical_xor bitwise_and.Tensor bitwise_or.Tensor bitwise_not bitwise_xor.Tensor
"""


@rule(*overloads(LOGIC), batch=pointwise)
def logic(call: Call) -> Operator:
    """Logic on comparisons; a float here would mean its being zero or not."""
    call.refuse("it reads a float as true or false", "compare explicitly, e.g. x != 0")


@rule(*overloads("any.dim any.dims"), batch=along("dim"))
def logic_along(call: Call) -> Operator:
    """Any of several comparisons."""
    return logic(call)
