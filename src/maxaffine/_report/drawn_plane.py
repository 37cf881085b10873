"""A divided plane as pages draw it: the cells themselves where they are few enough, else the cell at every pixel."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import side_by_side
from maxaffine._network import Task
from maxaffine._partition import PlanePartition
from maxaffine.errors import BadInput

MOST_DRAWN = 60_000
MOST_PIXELS = 2**20
SLOPES = 9  # bands of slopes
NAMED = 0.01  # of the area that is seen: a class or band with less is not named
TYPES = {"float32": "f4", "float64": "f8", "int16": "i2", "int32": "i4"}
Window = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class DrawnPlane:
    """A divided plane, its cells grouped by what is colored alike."""

    regions: int
    # The regions, divided further by the decision boundary or level sets; if so, the last operator of the cells is what
    # divides them, and none of the network's.
    cells: PlanePartition
    divided: bool
    groups: np.ndarray  # (F,) class of each cell, or of values the band between level sets that it lies in
    ranges: tuple[tuple[float, float], ...]  # the ends of each band; none where there are classes
    # (S, 2, 2) ends of segments: the decision boundary or level sets; in a field of one value, the level set of 0.
    boundary: np.ndarray
    surface: np.ndarray
    window: Window  # what is divided
    note: str = ""  # why that is less than what was asked for

    @classmethod
    def of(cls, found: PlanePartition, window: Window | None = None) -> DrawnPlane:
        """A divided plane, grouped by what the network answers: by class, by bands of the first value, or by slope."""
        corners = found.cells.points
        if window is None:
            (left, bottom), (right, top) = corners.min(0).tolist(), corners.max(0).tolist()
            window = left, right, bottom, top
        none = np.zeros((0, 2, 2))
        # The entries of a picture do not compete, and none of them speaks for it; how steeply it changes does.
        if len(found.graph.values[found.number].units) > 1:
            groups, ranges = _slopes(found)
            return cls(found.regions, found, False, groups, ranges, none, none, window)
        if found.task is Task.CLASSES:
            cells = found.divided_by_class()
            last = cells.cells.operator == len(cells.operators) - 1
            boundary = cells.cells.points[cells.cells.ends[last]]
            return cls(found.regions, cells, True, cells.classes.numpy().astype(np.int16), (), boundary, none, window)
        bands = found.contours()
        boundary = np.concatenate([none, *(segments.points.numpy() for segments in bands.lines)])
        # Of a field of one value the level set of 0 is a surface.
        single = found.task is Task.FIELD and found.values.shape[1] == 1
        zero = [lines.points.numpy() for level, lines in zip(bands.levels, bands.lines, strict=True) if level == 0]
        surface = zero[0] if single and zero else none
        groups, ranges = bands.numbers.astype(np.int16), tuple(bands.ranges)
        return cls(found.regions, bands.bands, True, groups, ranges, boundary, surface, window)

    @property
    def operators(self) -> tuple[str, ...]:
        """The network's operators."""
        return tuple(self.cells.operators)[: -1 if self.divided else None]

    @cached_property
    def depths(self) -> np.ndarray:
        """(F,) the last operator of the network that cut each cell; -1 where none did."""
        # A side on the rim (-1), or one that divides regions further, is not the network's.
        complex_ = self.cells.cells
        of_side = complex_.operator[complex_.sides]
        networks = np.where(of_side >= len(self.operators), -1, of_side)
        return np.maximum.reduceat(networks, complex_.starts[:-1]).astype(np.int16)

    @cached_property
    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """(F, 2) lowest and highest coordinates of each cell."""
        corners = self.cells.cells.points[self.cells.cells.corners]
        starts = self.cells.cells.starts[:-1]
        return np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)

    def summary(self) -> dict[str, Any]:
        """Its sizes, the network's operators, and the share of the area of each group: classes the largest first."""
        areas = np.bincount(self.groups, self.cells.cells.areas)
        ranked = range(len(areas)) if self.ranges else np.argsort(-areas, kind="stable").tolist()
        order = [number for number in ranked if areas[number] > 0]
        return {
            "regions": self.regions,
            "window": self.window,
            "note": self.note,
            "cells": self.cells.regions,
            "operators": list(self.operators),
            "bands": self.ranges,
            "shares": [[number, float(areas[number] / areas.sum())] for number in order],
        }

    def view(self, window: Window, width: int, height: int) -> dict[str, Any]:
        """What is seen through a window: up to 60,000 cells with their edges, of more the one at every pixel."""
        left, right, bottom, top = window
        if not (left < right and bottom < top):
            raise BadInput(f"window: (left, right, bottom, top) must span an area, got {window}")
        if not 0 < width * height <= MOST_PIXELS:
            raise BadInput(f"width, height: expected 1 to {MOST_PIXELS} pixels in all, got {width} x {height}")
        low, high = self.boxes
        seen = np.flatnonzero((low <= [right, top]).all(1) & (high >= [left, bottom]).all(1))
        found = self._polygons(seen) if len(seen) <= MOST_DRAWN else self._pixels(window, width, height)
        return self._shown(seen, window) | found

    def whole(self) -> dict[str, Any]:
        """All cells with their edges, however many, as `view` gives them."""
        seen = np.arange(self.cells.regions)
        return self._shown(seen, self.window) | self._polygons(seen)

    def _shown(self, seen: np.ndarray, window: Window) -> dict[str, Any]:
        """What is drawn over the cells: as far as they are seen, the lines in bold and the names."""
        left, right, bottom, top = window
        found = {}
        for name, ends in (("boundary", self.boundary), ("surface", self.surface)):
            near = (ends.min(1) <= [right, top]).all(1) & (ends.max(1) >= [left, bottom]).all(1)
            found[name] = array(ends[near])
        return found | {"seen": len(seen), "names": self._names(seen, window)}

    def _polygons(self, seen: np.ndarray) -> dict[str, Any]:
        part, _, _ = self.cells.cells.cells(seen)
        arrays = {
            "numbers": seen,
            "groups": self.groups[seen],
            "depths": self.depths[seen],
            "points": part.points,
            "starts": part.starts,
            "corners": part.corners,
            "ends": part.ends[(part.operator >= 0) & (part.operator < len(self.operators))],
        }
        return {"kind": "cells", **{name: array(values) for name, values in arrays.items()}}

    def _pixels(self, window: Window, width: int, height: int) -> dict[str, Any]:
        left, right, bottom, top = window
        across = left + (np.arange(width) + 0.5) * ((right - left) / width)
        down = top - (np.arange(height) + 0.5) * ((top - bottom) / height)
        points = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
        cells = self.cells.locate(torch.from_numpy(points)).numpy()
        arrays = {
            "numbers": cells,
            "groups": np.where(cells < 0, -1, self.groups[cells]).astype(np.int16),
            "depths": np.where(cells < 0, -1, self.depths[cells]).astype(np.int16),
        }
        return {"kind": "pixels", **{name: array(item.reshape(height, width)) for name, item in arrays.items()}}

    def _names(self, seen: np.ndarray, window: Window) -> list[tuple[int, float, float]]:
        """(group, x, y) at the cell nearest to the middle of what is seen of each group."""
        # The middle itself may lie in another group, since groups need be neither convex nor connected.
        centers, areas = self.cells.cells.centers[seen], self.cells.cells.areas[seen]
        left, right, bottom, top = window
        inside = ((centers > [left, bottom]) & (centers < [right, top])).all(1)
        centers, areas, groups = centers[inside], areas[inside], self.groups[seen][inside]
        names = []
        for number in np.unique(groups).tolist():
            own = groups == number
            if areas[own].sum() >= NAMED * areas.sum():
                middle = np.average(centers[own], axis=0, weights=areas[own])
                nearest = centers[own][np.argmin(((centers[own] - middle) ** 2).sum(1))]
                x, y = nearest.tolist()
                names.append((number, x, y))
        return names


def _slopes(found: PlanePartition) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
    """The norm of each cell's slopes within the plane, in bands of equal width, and the ends of the bands."""
    norms = found.slope_norms.numpy()
    ends = np.linspace(norms.min(), norms.max(), SLOPES + 1)
    groups = np.clip(np.searchsorted(ends, norms, side="right") - 1, 0, SLOPES - 1).astype(np.int16)
    return groups, tuple(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def array(values: Tensor | np.ndarray) -> dict[str, Any]:
    """An array of floats, or of integers that fit into 32 bits, as shape, type and bytes in base64."""
    # The lowest byte of each number first, whatever the machine: so the scripts read them on every other one.
    plain = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if plain.dtype.kind == "f":
        plain = plain.astype("<f8" if plain.dtype.itemsize > 4 else "<f4")
    else:
        plain = plain.astype("<i2" if plain.dtype == np.int16 else "<i4")
    data = base64.b64encode(np.ascontiguousarray(plain).tobytes()).decode("ascii")
    return {"shape": list(plain.shape), "type": TYPES[plain.dtype.name], "data": data}


def drawn_array(values: Tensor) -> dict[str, Any]:
    """An input, or what is shaped like one, likewise; the slices of a stack side by side, as the scripts draw them."""
    return array(side_by_side(values.detach().cpu().numpy(), gap=1))


def number(value: Tensor | float) -> float | None:
    """One number; None where it is not finite, which JSON cannot say."""
    plain = float(value)
    return plain if math.isfinite(plain) else None
