"""What is measured on every network: how exact the spline form is, and how long it takes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.published import UpTo

RTOL = {torch.float64: 1e-10, torch.float32: None}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measured:
    """What one network's study found.

    Attributes:
        title: The network and where it ends.
        net: Its spline form in single precision.
        units: How many units have a code.
        reports: The exactness reports, in double and in single precision.
        seconds: CPU seconds by what was done.
    """

    title: str
    net: ma.SplineNetwork
    units: int
    reports: list[ma.ExactnessReport]
    seconds: dict[str, float]


def measure(title: str, module: nn.Module, x: Tensor, last: str | None) -> Measured:
    """Capture a network in double and in single precision and check both against the untouched module.

    Args:
        title: The network and where it ends.
        module: The network in single precision; not changed.
        x: Inputs in double precision.
        last: The module after which to stop; the output by default.

    Returns:
        What was found.

    Raises:
        ExactnessError: When a residual exceeds 1e-10 in double precision, or rounding in single precision.
    """
    reports = []
    seconds: dict[str, float] = {}
    for dtype in (torch.float64, torch.float32):
        cast, inputs = copy.deepcopy(module).to(dtype), x.to(dtype)
        net, seconds["capture"] = timed(lambda: ma.capture(cast, inputs, until=last))  # noqa: B023 - called at once
        reports.append(net.verify(UpTo(cast, last) if last else cast, inputs, rtol=RTOL[dtype]))
    units = sum(prod(record.units) for record in net.operators if record.pieces > 1)
    return Measured(title, net, units, reports, seconds)


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Call a function and count the process's CPU seconds.

    Args:
        call: The function.

    Returns:
        Its result and the seconds.
    """
    start = time.process_time()
    return call(), time.process_time() - start


def only(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The one tensor of a network with one input.

    Args:
        result: Slopes, or what ``rmv`` returned.

    Returns:
        The tensor.

    Raises:
        TypeError: When there are several.
    """
    if not isinstance(result, Tensor):
        raise TypeError(f"result: expected one tensor, got {len(result)}; the network has several inputs")
    return result


def exactness_table(measured: Measured) -> str:
    """The residuals as a Markdown table.

    Args:
        measured: What was found.

    Returns:
        The table.
    """
    rows = [
        [str(report.dtype).removeprefix("torch."), *(f"{value:.1e}" for value in report.residuals.values())]
        + [f"{report.bound:.1e}"]
        for report in measured.reports
    ]
    return markdown(["dtype", *measured.reports[0].residuals, "bound"], rows)


def facts(measured: Measured) -> str:
    """One sentence about the network's size and the time it takes.

    Args:
        measured: What was found.

    Returns:
        The sentence.
    """
    records = measured.net.operators
    pieces = sorted({record.pieces for record in records if record.pieces > 1})
    times = ", ".join(f"{name} {value:.2g} s" for name, value in measured.seconds.items())
    return (
        f"{measured.title}: {len(records)} operators, {sum(r.pieces > 1 for r in records)} of them piecewise affine,"
        f" with {measured.units:,} units of {', '.join(map(str, pieces))} pieces. CPU time, float32: {times}.\n"
    )


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose first column is text and whose others are numbers.

    Args:
        head: The column titles.
        rows: The cells.

    Returns:
        The table.
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
