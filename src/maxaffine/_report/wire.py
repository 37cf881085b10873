"""Numbers on their way to a page, as its scripts read them."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from torch import Tensor

TYPES = {"float32": "f4", "float64": "f8", "int16": "i2", "int32": "i4"}


def array(values: Tensor | np.ndarray) -> dict[str, Any]:
    """An array, bit by bit.

    Args:
        values: Floats, or integers that fit into 32 bits.

    Returns:
        Its shape, its type and its bytes in base64, the lowest byte of each number first.
    """
    plain = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if plain.dtype.kind == "f":
        plain = plain.astype("<f8" if plain.dtype.itemsize > 4 else "<f4")
    else:
        plain = plain.astype("<i2" if plain.dtype == np.int16 else "<i4")
    data = base64.b64encode(np.ascontiguousarray(plain).tobytes()).decode("ascii")
    return {"shape": list(plain.shape), "type": TYPES[plain.dtype.name], "data": data}


def number(value: Tensor | float) -> float | None:
    """One number; None where it is not finite, which JSON cannot say."""
    plain = float(value)
    return plain if math.isfinite(plain) else None
