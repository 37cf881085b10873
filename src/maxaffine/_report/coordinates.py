"""Rectangles of planes: around points, and around the coordinates that a field is a function of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine.errors import BadInput


@dataclass(frozen=True, eq=False)
class CoordinatePlane:
    """The plane of the first two coordinates; a third one stands still."""

    origin: Tensor  # (1, D), zero in the first two coordinates
    basis: Tensor  # (2, D) their directions
    window: tuple[float, float, float, float]  # left, right, bottom and top of the rectangle that holds the points
    height: float | None  # the third coordinate; None where there are two


def around(points: Tensor, margin: float) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of points (N, 2), with a margin that is a share of the longer side."""
    low, high = points.double().amin(0), points.double().amax(0)
    # Equal points have no side, but a rectangle must have an area.
    width = margin * float((high - low).max()) or 1.0
    (left, bottom), (right, top) = (low - width).tolist(), (high + width).tolist()
    return left, right, bottom, top


def coordinate_plane(points: Tensor) -> CoordinatePlane:
    """The plane of the first two coordinates of points (N, 2) or (N, 3), the third one at its median."""
    (left, bottom), (right, top) = points[:, :2].amin(0).tolist(), points[:, :2].amax(0).tolist()
    if not (left < right and bottom < top):
        raise BadInput("inputs: their first two coordinates span no rectangle; give some that differ in both")
    origin = torch.zeros_like(points[:1])
    height = float(points[:, 2].median()) if points.shape[1] > 2 else None
    if height is not None:
        origin[:, 2] = height
    basis = torch.eye(points.shape[1], dtype=points.dtype, device=points.device)[:2]
    return CoordinatePlane(origin, basis, (left, right, bottom, top), height)
