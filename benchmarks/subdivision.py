"""Neuron-by-neuron edge subdivision on a plane, in float64: a published algorithm, written anew as a peer.

A. Berzins, "Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision" (ICML 2023): one unit after the
other, edges whose ends have opposite signs are cut, and the new vertices of one face, found by sorting the sign vectors
of the faces beside the cut edges, are joined. It knows vertices and edges of fully connected ReLU networks in general
position; the number of faces follows from Euler's formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Skeleton:
    """Vertices and edges.

    Attributes:
        points: (V, 2).
        edges: (E, 2) vertices.
        signs: (V, sides + units) int8: on which side of each side of the square and each unit a vertex lies.
    """

    points: np.ndarray
    edges: np.ndarray
    signs: np.ndarray

    @property
    def regions(self) -> int:
        """Faces of a connected plane graph, but for the outer one."""
        return 1 - len(self.points) + len(self.edges)


def edge_subdivision(network: nn.Sequential, extent: tuple[float, float, float, float]) -> Skeleton:
    """The skeleton of a fully connected ReLU network of two inputs on a rectangle.

    Args:
        network: Linear layers, with a ReLU between each two.
        extent: Left, right, bottom, top.

    Returns:
        Its vertices and edges.
    """
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in network if isinstance(m, nn.Linear)]
    left, right, bottom, top = extent
    points = np.array([[left, bottom], [right, bottom], [right, top], [left, top]], dtype=np.float64)
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    signs = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 0]], dtype=np.int8)
    for depth, (weight, _) in enumerate(layers[:-1]):
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
    """Pairs of cut edges beside one face: an edge's faces have a sign where it has its zero."""
    count = len(between)
    if not count:
        return np.zeros((0, 2), dtype=np.int64)
    zero = (between == 0).argmax(1)
    faces = np.concatenate([between, between])
    faces[np.arange(count), zero], faces[count + np.arange(count), zero] = 1, -1
    order = np.lexsort(faces.T)
    same = np.flatnonzero((faces[order[1:]] == faces[order[:-1]]).all(1))
    return np.stack([order[same], order[same + 1]], 1) % count
