"""The numbers of a report as JSON and in a few lines of text, without its pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

from maxaffine.report.facts import Contents
from maxaffine.report.lookup import Lookup


def as_json(contents: Contents | Lookup) -> str:
    """Write down every number of a report or a lookup.

    Args:
        contents: It.

    Returns:
        JSON: the records of ``facts`` by field, less arrays and source lines; numbers that are not finite are text.
    """
    plain = _plain(contents)
    if isinstance(contents, Contents):
        plain["exact"] = contents.exact
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)


def as_text(contents: Contents) -> str:
    """Sum up a report in a few lines.

    Args:
        contents: The report.

    Returns:
        The weights, the test accuracy, the size of the network and the exactness, a line each.
    """
    units = sum(math.prod(record.units) for record in contents.piecewise)
    lines = [f"{contents.origin.model}: {contents.origin.weights}"]
    if contents.accuracy is not None:
        lines.append(f"test accuracy: {contents.accuracy:.2%}")
    lines.append(
        f"operators: {len(contents.operators)}, {len(contents.piecewise)} of them piecewise affine with {units:,} units"
    )
    lines += [str(check.report or f"not checked in {check.dtype}: {check.reason}") for check in contents.checks]
    return "\n".join(lines)


def _plain(item: Any) -> Any:
    if is_dataclass(item) and not isinstance(item, type):
        kept = {field.name: getattr(item, field.name) for field in fields(item) if field.name != "source"}
        return _plain(kept)
    if isinstance(item, Mapping):
        return {str(key): _plain(value) for key, value in item.items() if not _holds_arrays(value)}
    if isinstance(item, tuple):
        return [_plain(value) for value in item]
    if isinstance(item, torch.dtype):
        return str(item).removeprefix("torch.")
    if isinstance(item, float) and not math.isfinite(item):
        return str(item)
    return item


def _holds_arrays(item: Any) -> bool:
    return isinstance(item, np.ndarray) or (
        isinstance(item, Mapping) and any(isinstance(value, np.ndarray) for value in item.values())
    )
