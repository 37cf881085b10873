"""Which inputs each pooling window sees."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


def pool_window(length: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Positions that each window of a max-pooling sees along one dimension.

    Args:
        length: Number of inputs.
        outputs: Number of windows.
        kernel: Window size.
        stride: Distance between windows.
        padding: Positions added before the first input.
        dilation: Distance between the positions of one window.

    Returns:
        Positions, (outputs, kernel) int64, -1 outside the input.
    """
    start = torch.arange(outputs)[:, None] * stride - padding
    position = start + torch.arange(kernel) * dilation
    return position.where((position >= 0) & (position < length), -1)


def adaptive_window(length: int, outputs: int) -> Tensor:
    """Positions that each window of an adaptive pooling sees along one dimension: floor(oL/O) up to ceil((o+1)L/O).

    Args:
        length: L, number of inputs.
        outputs: O, number of windows.

    Returns:
        Positions, (outputs, largest window) int64, -1 after the end of a smaller window.
    """
    output = torch.arange(outputs)[:, None]
    start, end = output * length // outputs, -(-(output + 1) * length // outputs)
    position = start + torch.arange(int((end - start).max()))
    return position.where(position < end, -1)


def window_rows(shape: Sequence[int], windows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Flat positions in an input of shape (channels, *spatial) that each window sees, in raster order.

    Args:
        shape: (channels, *spatial).
        windows: Per spatial dimension, (outputs, kernel) positions with -1 outside.

    Returns:
        Flat positions (K, R) int64, K = channels * outputs, and which of them exist, (K, R) bool. Those that exist
        come first; the others repeat the first one.
    """
    channels, *spatial = shape
    dims = len(spatial)
    flat = torch.arange(channels).view(-1, *[1] * (2 * dims)) * prod(spatial)
    present = torch.ones_like(flat, dtype=torch.bool)
    for dim, window in enumerate(windows):
        # Dimensions of the grid: channel, every output, every place in the window.
        place = [1] * (2 * dims + 1)
        place[1 + dim], place[1 + dims + dim] = window.shape
        position = window.view(place)
        flat = flat + position * prod(spatial[dim + 1 :])
        present = present & (position >= 0)
    kernel = prod(window.shape[1] for window in windows)
    flat, present = flat.reshape(-1, kernel), present.reshape(-1, kernel)
    order = present.int().argsort(dim=1, descending=True, stable=True)
    flat, present = flat.gather(1, order), present.gather(1, order)
    return flat.where(present, flat[:, :1]), present
