"""Affine functions of the variables of a program, as sparse rows, and the program that they make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

DENSE = 2**18
Matrix = Any  # a scipy.sparse.csr_array


def sparse() -> Any:
    """scipy.sparse, which only decisions need."""
    return import_module("scipy.sparse")


@dataclass(frozen=True, eq=False)
class Rows:
    """Affine functions of a program's variables: slopes v + offsets; of variables made later the slopes are zero."""

    slopes: Matrix  # (rows, variables so far)
    offsets: np.ndarray  # (rows,)

    def __len__(self) -> int:
        return len(self.offsets)

    def wide(self, width: int) -> Matrix:
        """The slopes for so many variables."""
        found = self.slopes
        return sparse().csr_array((found.data, found.indices, found.indptr), shape=(len(self), width))

    def dense(self, width: int) -> np.ndarray:
        """The slopes for so many variables, zeros among them."""
        return self.wide(width).toarray()

    def __add__(self, other: Rows) -> Rows:
        width = max(self.slopes.shape[1], other.slopes.shape[1])
        return Rows((self.wide(width) + other.wide(width)).tocsr(), self.offsets + other.offsets)

    def __sub__(self, other: Rows) -> Rows:
        return self + other.times(np.full(len(other), -1.0))

    def __getitem__(self, rows: Any) -> Rows:
        return Rows(self.slopes[rows], self.offsets[rows])

    def times(self, factors: np.ndarray) -> Rows:
        """Every row times its factor."""
        return Rows((sparse().diags_array(factors) @ self.slopes).tocsr(), factors * self.offsets)

    def of(self, sources: Rows) -> Rows:
        """These rows of variables that are themselves rows of earlier ones."""
        return Rows((self.slopes @ sources.slopes).tocsr(), self.offsets + self.slopes @ sources.offsets)

    def spread(self, places: np.ndarray) -> Rows:
        """The rows at the places where a mask is true, zeros at the others."""
        count = len(self)
        onto = sparse().csr_array(
            (np.ones(count), (np.flatnonzero(places), np.arange(count))), shape=(len(places), count)
        )
        return Rows((onto @ self.slopes).tocsr(), onto @ self.offsets)

    @classmethod
    def stack(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of several, in order."""
        width = max(part.slopes.shape[1] for part in parts)
        slopes = sparse().vstack([part.wide(width) for part in parts], format="csr")
        return cls(slopes, np.concatenate([part.offsets for part in parts]))

    @classmethod
    def variables(cls, start: int, count: int) -> Rows:
        """So many variables themselves, from number ``start`` on."""
        parts = (np.ones(count), np.arange(start, start + count), np.arange(count + 1))
        return cls(sparse().csr_array(parts, shape=(count, start + count)), np.zeros(count))


@dataclass(frozen=True, eq=False)
class Stage:
    """Variables made from earlier ones, all at once: affine functions of them, rectified or not."""

    rows: Rows
    rectified: bool
    start: int  # number of its first variable

    @property
    def stop(self) -> int:
        """The number after its last variable."""
        return self.start + len(self.rows)

    @property
    def width(self) -> int:
        """The number of variables that it may read."""
        return self.rows.slopes.shape[1]

    @cached_property
    def slopes(self) -> Any:
        """The rows' slopes, dense where that is small: a sparse product of few numbers is all overhead."""
        found = self.rows.slopes
        return found.toarray() if np.prod(found.shape) <= DENSE else found

    @cached_property
    def sizes(self) -> Any:
        """The absolute slopes."""
        return abs(self.slopes)


@dataclass(frozen=True, eq=False)
class Program:
    """The stages in order, the first after the inputs, and the network's outputs as rows of all variables."""

    features: int
    stages: tuple[Stage, ...]
    outputs: Rows

    @property
    def size(self) -> int:
        """Variables in all, the inputs among them."""
        return self.stages[-1].stop if self.stages else self.features

    def trimmed(self) -> Program:
        """Without the variables that no output follows from."""
        kept = np.arange(self.size) < self.features
        kept |= abs(self.outputs.wide(self.size)).sum(0) > 0
        # Backward: a unit is wanted where an output, or a later unit that is wanted, reads it.
        for stage in reversed(self.stages):
            kept[: stage.width] |= abs(stage.rows.slopes[kept[stage.start : stage.stop]]).sum(0) > 0

        def of(rows: Rows) -> Rows:
            return Rows(rows.slopes[:, kept[: rows.slopes.shape[1]]], rows.offsets)

        stages: list[Stage] = []
        for stage in self.stages:
            if (own := kept[stage.start : stage.stop]).any():
                stages.append(Stage(of(stage.rows[own]), stage.rectified, stages[-1].stop if stages else self.features))
        return Program(self.features, tuple(stages), of(self.outputs))

    def run(self, points: np.ndarray) -> np.ndarray:
        """All variables (points, size) at inputs (points, features)."""
        values = np.zeros((len(points), self.size))
        values[:, : self.features] = points
        for stage in self.stages:
            found = (stage.slopes @ values[:, : stage.width].T).T + stage.rows.offsets
            values[:, stage.start : stage.stop] = found.clip(min=0) if stage.rectified else found
        return values

    def pull(self, values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Slopes in all variables (rows, size) as slopes in the inputs, each on the piece of its row of values."""
        slopes = slopes.copy()
        for stage in reversed(self.stages):
            part = slopes[:, stage.start : stage.stop]
            part = part * (values[:, stage.start : stage.stop] > 0) if stage.rectified else part
            slopes[:, : stage.width] += part @ stage.slopes
        return slopes[:, : self.features]
