"""A published algorithm, written anew as a peer, for planes and for surfaces in three dimensions.

A. Berzins, "Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision" (ICML 2023): one unit after the
other, edges whose ends have opposite signs are cut, and the new vertices of one face, found by comparing the sign
vectors of the faces beside the cut edges, are joined. It knows vertices and edges of fully connected ReLU networks in
general position; the number of faces on a plane follows from Euler's formula. A level set is cut by the output as the
last unit: its vertices and edges are the new ones, and its polygons the faces that lie beside these.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Skeleton:
    """Vertices and edges.

    Attributes:
        points: (V, D).
        edges: (E, 2) vertices.
        signs: (V, sides + units) int8: on which side of each side of the box and each unit a vertex lies.
    """

    points: np.ndarray
    edges: np.ndarray
    signs: np.ndarray

    @property
    def regions(self) -> int:
        """Faces of a connected plane graph, but for the outer one."""
        return 1 - len(self.points) + len(self.edges)

    def level_set(self) -> tuple[Skeleton, int]:
        """Where the last unit is zero: vertices and edges of a surface in three dimensions, and how many polygons."""
        on = self.signs[:, -1] == 0
        kept = self.edges[on[self.edges].all(1)]
        # A polygon is a face beside an edge on which just the output is zero; beyond a side of the box there is none.
        between = np.sign(self.signs[kept].sum(1, dtype=np.int64))
        words, sides = _words(between.shape[1]), 2 * self.points.shape[1]
        row, place = np.nonzero(between[:, :-1] == 0)
        base, shift = (between @ words)[row], words[place]
        keys = np.concatenate([base + shift, (base - shift)[place >= sides]])
        number = np.cumsum(on) - 1
        return Skeleton(self.points[on], number[kept], self.signs[on]), len(np.unique(keys))


def edge_subdivision(network: nn.Module, extent: tuple[float, float, float, float]) -> Skeleton:
    """The skeleton of a fully connected ReLU network of two inputs on a rectangle.

    Args:
        network: Linear layers, with a ReLU between each two.
        extent: Left, right, bottom, top.

    Returns:
        Its vertices and edges.
    """
    left, right, bottom, top = extent
    return _subdivided(_layers(network), np.array([left, bottom]), np.array([right, top]), False)


def surface_subdivision(network: nn.Module, low: np.ndarray, high: np.ndarray) -> tuple[Skeleton, int]:
    """The level 0 of a fully connected ReLU network of three inputs and one output in a box.

    Args:
        network: Linear layers, with a ReLU between each two.
        low: (3,) the lower corner.
        high: (3,) the upper one.

    Returns:
        Its vertices and edges, and how many polygons it has.
    """
    return _subdivided(_layers(network), low, high, True).level_set()


def _layers(network: nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases."""
    return [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in network.modules() if isinstance(m, nn.Linear)]


def _subdivided(
    layers: list[tuple[np.ndarray, np.ndarray]], low: np.ndarray, high: np.ndarray, whole: bool
) -> Skeleton:
    """A box cut by all hidden units and, for the whole network, by its output."""
    size = len(low)
    upper = np.array(list(product((0, 1), repeat=size)))
    points = np.where(upper, high, low).astype(np.float64)
    apart = np.abs(upper[:, None] - upper).sum(2) == 1
    edges = np.argwhere(np.triu(apart))
    signs = np.concatenate([upper, 1 - upper], 1).astype(np.int8)
    for depth, (weight, _) in enumerate(layers if whole else layers[:-1]):
        values = _values(layers[: depth + 1], points)
        for unit in range(len(weight)):
            points, edges, signs, fresh = _divided(points, edges, signs, values[:, unit])
            values = np.concatenate([values, _values(layers[: depth + 1], points[len(values) :])]) if fresh else values
    return Skeleton(points, edges, signs)


def _values(layers: list[tuple[np.ndarray, np.ndarray]], points: np.ndarray) -> np.ndarray:
    """What enters the last layer's ReLU, (V, units)."""
    rows = points
    for weight, bias in layers[:-1]:
        rows = np.maximum(rows @ weight.T + bias, 0)
    weight, bias = layers[-1]
    return rows @ weight.T + bias


def _divided(
    points: np.ndarray, edges: np.ndarray, signs: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """One unit further, with the number of new vertices."""
    sign = np.sign(value).astype(np.int8)
    cut = np.flatnonzero(sign[edges[:, 0]] * sign[edges[:, 1]] < 0)
    old, count = edges[cut], len(points)
    a, b = value[old[:, 0]], value[old[:, 1]]
    new = points[old[:, 0]] + (a / (a - b))[:, None] * (points[old[:, 1]] - points[old[:, 0]])
    between = np.sign(signs[old[:, 0]] + signs[old[:, 1]]).astype(np.int8)  # of the cut edges
    vertex = count + np.arange(len(cut))
    chords = vertex[_of_one_face(between)]
    halves = [np.stack([old[:, 0], vertex], 1), np.stack([vertex, old[:, 1]], 1)]
    edges = np.concatenate([np.delete(edges, cut, axis=0), *halves, chords])
    column = np.concatenate([sign, np.zeros(len(cut), dtype=np.int8)])
    signs = np.concatenate([np.concatenate([signs, between]), column[:, None]], 1)
    return np.concatenate([points, new]), edges, signs, len(cut)


def _of_one_face(between: np.ndarray) -> np.ndarray:
    """Pairs of cut edges beside one face: an edge's faces have a sign where it has one of its zeros."""
    if not len(between):
        return np.zeros((0, 2), dtype=np.int64)
    words = _words(between.shape[1])
    row, place = np.nonzero(between == 0)
    base, shift = (between.astype(np.int64) @ words)[row], words[place]
    keys, owner = np.concatenate([base + shift, base - shift]), np.concatenate([row, row])
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(np.diff(keys[order]) == 0)
    return np.stack([owner[order[same]], owner[order[same + 1]]], 1)


def _words(columns: int) -> np.ndarray:
    """A random word for each column: sign vectors are compared by the sums of their words."""
    return np.random.default_rng(0).integers(2**62, size=columns)
