"""Functions of torch that have rules of their own: reductions by places, linear equations, tables, transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.operator_table.row import VECTOR, Row, refused, tensor_function

PLACES = {"i": lambda: torch.tensor([0, 1, 0, 2, 2, 1])}
MATRIX = {"m": lambda: 3 * torch.eye(6) + torch.rand(6, 6)}
TALL = {"m": lambda: torch.eye(6, 4) + torch.rand(6, 4)}
CENTERS = {"c": (4, 6)}
KNOTS = {"b": lambda: torch.tensor([-1.0, 0.0, 0.5])}


def _scattered(reduce: str, **options: Any) -> Row:
    def body(m: Any, x: Tensor) -> Tensor:
        return x.scatter_reduce(1, m.i.expand(x.shape[0], -1), 2 * x - 1, reduce, **options)

    text = ", ".join(["constant index", f"reduce={reduce!r}", *(f"{k}={v!r}" for k, v in options.items())])
    return tensor_function("scatter_reduce", VECTOR, body, text, PLACES)


def _segments(reduce: str) -> Row:
    def body(m: Any, x: Tensor) -> Tensor:
        return torch.segment_reduce(x, reduce, lengths=torch.tensor([2, 4]).expand(x.shape[0], -1), axis=1)

    return tensor_function("segment_reduce", VECTOR, body, f"constant lengths, reduce={reduce!r}")


REDUCTIONS = (
    *(_scattered(reduce) for reduce in ("sum", "mean", "amax", "amin")),
    _scattered("amax", include_self=False),
    tensor_function("index_reduce", VECTOR, lambda m, x: x.index_reduce(1, m.i, -x, "amax"), "reduce='amax'", PLACES),
    *(_segments(reduce) for reduce in ("sum", "max")),
    tensor_function(
        "masked_scatter",
        VECTOR,
        lambda m, x: x.masked_scatter(torch.tensor([True, False, False] * 2), 1 - x[:, :2]),
        "constant mask, a source of as many entries per sample",
    ),
    *refused(
        _scattered("prod"),
        tensor_function("masked_scatter", VECTOR, lambda m, x: x.masked_scatter(x > 0, 1 - x), "a mask of the input"),
    ),
)

EQUATIONS = (
    tensor_function("linalg.solve", VECTOR, lambda m, x: torch.linalg.solve(m.m, x.T).T, "constant matrix", MATRIX),
    tensor_function(
        "linalg.solve_triangular",
        VECTOR,
        lambda m, x: torch.linalg.solve_triangular(m.m.triu(), x.unsqueeze(-1), upper=True),
        "constant matrix",
        MATRIX,
    ),
    tensor_function(
        "cholesky_solve",
        VECTOR,
        lambda m, x: torch.cholesky_solve(x.unsqueeze(-1), m.m.tril()),
        "constant factor",
        MATRIX,
    ),
    tensor_function("linalg.pinv", VECTOR, lambda m, x: x @ torch.linalg.pinv(m.m).T, "of a constant", TALL),
    *refused(
        tensor_function(
            "linalg.solve",
            VECTOR,
            lambda m, x: torch.linalg.solve(m.m + torch.diag_embed(x), x),
            "a matrix of the input",
            MATRIX,
        ),
    ),
)

TABLES = (
    tensor_function("searchsorted", VECTOR, lambda m, x: x * torch.searchsorted(m.b, x), "times the input", KNOTS),
    tensor_function("bucketize", VECTOR, lambda m, x: x * torch.bucketize(x, m.b), "times the input", KNOTS),
    tensor_function("copysign", VECTOR, lambda m, x: torch.copysign(x, m.c), "sign of a constant", {"c": (6,)}),
    tensor_function("copysign", VECTOR, lambda m, x: x + torch.copysign(m.c, x), "constant size", {"c": (6,)}),
    tensor_function("cdist", VECTOR, lambda m, x: torch.cdist(x, m.c, p=1.0), "to constants, p=1", CENTERS),
    tensor_function("cdist", VECTOR, lambda m, x: torch.cdist(x, m.c, p=torch.inf), "to constants, p=inf", CENTERS),
    *refused(tensor_function("cdist", VECTOR, lambda m, x: torch.cdist(x, m.c), "to constants, p=2", CENTERS)),
)

TRANSFORMS = (
    tensor_function(
        "fft.irfft",
        VECTOR,
        lambda m, x: torch.fft.irfft(torch.fft.rfft(x) * m.c, n=6),
        "of rfft times a constant",
        {"c": (4,)},
    ),
    tensor_function("fft.fft", VECTOR, lambda m, x: torch.view_as_real(torch.fft.fft(x)), "its two parts"),
    tensor_function(
        "fft.ifft2", (2, 3), lambda m, x: torch.fft.ifft2(torch.fft.fft2(x) * 1j).imag, "of fft2 times a constant"
    ),
    *refused(tensor_function("fft.fft", VECTOR, lambda m, x: torch.fft.fft(x).abs(), "its modulus")),
)

FUNCTIONS = REDUCTIONS + EQUATIONS + TABLES + TRANSFORMS
