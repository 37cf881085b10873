"""The arrays that the page reads, back as numpy arrays."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np


def decoded(sent: dict[str, Any]) -> np.ndarray:
    """Read one array."""
    return np.frombuffer(base64.b64decode(sent["data"]), "<" + sent["type"]).reshape(sent["shape"])
