"""Rules for operators on single entries, and for sums, products and comparisons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.contracts.case import IMAGE, STEPS, VECTOR, Contract, beside, each, gated

aten = torch.ops.aten

ACTIVATION = (
    Contract("activation.relu", each(F.relu)),
    Contract("activation.absolute", each(torch.abs)),
    Contract("activation.leaky_relu", each(lambda x: F.leaky_relu(x, 0.2))),
    Contract("activation.prelu", lambda m, x: F.prelu(x, m.slope), (IMAGE,), {"slope": (2,)}),
    Contract("activation.rrelu", each(F.rrelu, lambda x: F.rrelu_(2 * x))),
    Contract("activation.hardtanh", each(lambda x: F.hardtanh(x, -0.4, 0.7))),
    Contract(
        "activation.clamp", each(lambda x: x.clamp(-0.5, 1), lambda x: x.clamp(min=0.2), lambda x: x.clamp(max=0))
    ),
    Contract("activation.hardsigmoid", each(F.hardsigmoid)),
    Contract("activation.hardshrink", each(F.hardshrink)),
    Contract("activation.softshrink", each(F.softshrink)),
    Contract("activation.threshold", each(lambda x: F.threshold(x, 0.3, -0.6))),
)


def sums(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """Sums and differences of two inputs, with a constant and with a number."""
    return beside(
        x + y,
        torch.add(x, m.c, alpha=3),
        torch.sub(m.c, x, alpha=2),
        x - y,
        aten.add.Scalar(x, 2.0),
        aten.sub.Scalar(y, 1.5),
    )


def matrices(m: Any, x: Tensor) -> Tensor:
    """Products of matrices with one constant factor."""
    batched = torch.bmm(x, m.w.expand(x.shape[0], -1, -1))
    return beside(batched, torch.mm(x.flatten(1), m.v), torch.mv(x.flatten(1), m.v[:, 0])[:, None])


def added(m: Any, x: Tensor) -> Tensor:
    """The same, added to a constant."""
    flat = x.flatten(1)
    return beside(torch.addmm(m.b, flat, m.v), torch.addmm(m.b, flat, m.v, beta=2, alpha=-1))


def solved(m: Any, x: Tensor) -> Tensor:
    """Linear equations with a constant matrix: in full, triangular, and in factors."""
    columns, linalg = x.unsqueeze(-1), torch.linalg
    full = linalg.solve(m.a, columns), linalg.solve(m.a, x, left=False), linalg.solve(m.a, x.T).T
    each = m.a.expand(x.shape[0], -1, -1)
    full += linalg.solve(each, columns), linalg.solve(each, x), linalg.solve(each.mT, x.view(-1, 1, 6), left=False)
    above = linalg.solve_triangular(m.l.T, columns, upper=True)
    left = linalg.solve_triangular(m.l, x, upper=False, left=False, unitriangular=True)
    factored = torch.cholesky_solve(columns, m.l), torch.cholesky_solve(x.T, m.l.T, upper=True).T
    factors = linalg.lu_factor(m.a)
    by_lu = linalg.lu_solve(*factors, x.T).T, linalg.lu_solve(*factors, x, left=False, adjoint=True)
    return beside(*full, above, left, *factored, *by_lu)


WELL_CONDITIONED = {"a": torch.eye(6) + torch.arange(36).view(6, 6).sin() / 4}
WELL_CONDITIONED["l"] = WELL_CONDITIONED["a"].tril()
SOLVING = (Contract("solving.solve", solved, parts=WELL_CONDITIONED),)


def attended(m: Any, x: Tensor) -> Tensor:
    """Attention with constant queries and keys."""
    queries, keys = (item.expand(x.shape[0], -1, -1) for item in (m.q, m.k))
    return F.scaled_dot_product_attention(queries, keys, x)


ARITHMETIC = (
    Contract("arithmetic.add", sums, (VECTOR, VECTOR), {"c": VECTOR}),
    Contract("arithmetic.neg", each(torch.neg)),
    Contract(
        "arithmetic.mul", lambda m, x: beside(x * m.c, aten.mul.Scalar(x, -2.0), m.c * (x > 0) * x), parts={"c": VECTOR}
    ),
    Contract("arithmetic.div", lambda m, x: beside(x / m.c, aten.div.Scalar(x, -2.0)), parts={"c": VECTOR}),
    Contract("arithmetic.power", each(lambda x: x**1)),
    Contract("arithmetic.mean", each(lambda x: x.mean(1), lambda x: x.sum((1, 2))[:, None]), (STEPS,)),
    Contract("arithmetic.cumsum", each(lambda x: x.cumsum(1)), (STEPS,)),
    Contract("arithmetic.matmul", matrices, (STEPS,), {"w": (4, 2), "v": (12, 2)}),
    Contract("arithmetic.addmm", added, (STEPS,), {"v": (12, 2), "b": (2,)}),
    Contract("arithmetic.linear", lambda m, x: F.linear(x, m.w, m.b), (STEPS,), {"w": (5, 4), "b": (5,)}),
    Contract(
        "arithmetic.bilinear",
        lambda m, x: F.bilinear(x, m.c.expand(x.shape[0], 3), m.w),
        parts={"c": (3,), "w": (2, 6, 3)},
    ),
    Contract("arithmetic.attention", attended, (STEPS,), {"q": (5, 4), "k": (3, 4)}),
)


def compared(m: Any, x: Tensor) -> Tensor:
    """Every comparison, with a number and with a tensor."""
    operators = [getattr(aten, name) for name in ("gt", "ge", "lt", "le", "eq", "ne")]
    signs = x * x.signbit()
    return beside(signs, *(x * o.Scalar(x, 0.3) for o in operators), *(x * o.Tensor(x, m.c) for o in operators))


def joined(m: Any, x: Tensor) -> Tensor:
    """Logic on comparisons of the input."""
    a, b = x > 0.1, x < 0.8
    logical = a.logical_and(b), a.logical_or(b), a.logical_xor(b), a.logical_not()
    return beside(*(x * item for item in (*logical, a & b, a | b, a ^ b, ~a)))


def joined_along(m: Any, x: Tensor) -> Tensor:
    """Any along one axis and along two, and all, which is none of the contrary."""
    positive = x > 0
    axes = positive.any(1, keepdim=True), positive.all(1, keepdim=True), aten.any.dims(positive, [1, 2], True)
    return beside(*(x * item for item in axes))


COMPARISON = (
    Contract("comparison.compare", compared, parts={"c": VECTOR}),
    Contract("comparison.sign", gated(torch.sign)),
    Contract("comparison.infinite", each(torch.nan_to_num, lambda x: x.where(aten.isinf.default(x), 2 * x))),
    Contract("comparison.argmax", gated(lambda x: x.argmax(1, keepdim=True), lambda x: x.argmin(1, keepdim=True))),
    Contract(
        "comparison.bucketize",
        lambda m, x: x * torch.bucketize(x, m.edges),
        parts={"edges": torch.tensor([-1.0, 0.0, 2.0])},
    ),
    Contract("comparison.where", lambda m, x, y: torch.where(x > y, 2 * x, m.c), (VECTOR, VECTOR), {"c": VECTOR}),
    Contract("comparison.logic", joined),
    Contract("comparison.logic_along", joined_along, (STEPS,)),
)
