"""The plane of the coordinates that a field is a function of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine.errors import BadInput


@dataclass(frozen=True, eq=False)
class CoordinatePlane:
    """The plane of the first two coordinates; a third one stands still.

    Attributes:
        origin: (1, D), zero in the first two coordinates.
        basis: (2, D) their directions.
        low: (2,) left and bottom of the rectangle that holds some points.
        high: (2,) right and top.
        height: The third coordinate; None where there are two.
    """

    origin: Tensor
    basis: Tensor
    low: tuple[float, float]
    high: tuple[float, float]
    height: float | None


def coordinate_plane(points: Tensor) -> CoordinatePlane:
    """The plane of the first two coordinates of some points, the third one at its median.

    Args:
        points: (N, D) with D = 2 or 3.

    Returns:
        The plane and the rectangle around the points, in the type and on the device of the points.

    Raises:
        BadInput: When they all have one first, or one second, coordinate.
    """
    (left, bottom), (right, top) = points[:, :2].amin(0).tolist(), points[:, :2].amax(0).tolist()
    if not (left < right and bottom < top):
        raise BadInput("inputs: their first two coordinates span no rectangle; give some that differ in both")
    origin = torch.zeros_like(points[:1])
    height = float(points[:, 2].median()) if points.shape[1] > 2 else None
    if height is not None:
        origin[:, 2] = height
    basis = torch.eye(points.shape[1], dtype=points.dtype, device=points.device)[:2]
    return CoordinatePlane(origin, basis, (left, bottom), (right, top), height)
