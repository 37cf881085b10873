"""Tables written for tests, and the targets that are read back."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from maxaffine._data import Split


def write_bunch(path: Path, bunch: Any, target: Callable[[Any], object] = str) -> Path:
    """Write one of scikit-learn's data sets as a table, its target last."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*bunch.feature_names, "target"])
        writer.writerows([*row, target(y)] for row, y in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True))
    return path


def targets_of(split: object) -> Tensor:
    """The targets of a split that has some."""
    assert isinstance(split, Split) and split.targets is not None
    return split.targets
