"""How steep a network can be where each unit's slope is known to an interval: by norms of matrices, not of entries.

Between affine maps A stand diagonal matrices of units' slopes, D = C + E: C the middles, and |E| <= R the radii. With
the middles in place of all D the network's slopes are one matrix, and what they are off it is a sum over the operators,

    A_L D_L ... D_1 A_0 - A_L C_L ... C_1 A_0 = sum over k of  (A_L C_L ... C_k+1 A_k) E_k (A_k-1 D_k-1 ... D_1 A_0).

Each term is no larger than |(...) R_k T_k| |T_k^-1 (...)| for any diagonal T_k > 0, since E_k and T_k commute, and the
last factor is a shorter network. Bounds entry by entry add magnitudes, however signs differ; norms see that signs
cancel, which in wide boxes makes them several times as small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SPREAD = 1e6  # of T
ROUNDING = 1e-12  # of the product of all norms


@dataclass(frozen=True, eq=False)
class Stage:
    """An operator of units that each follow one entry, and the affine map after it."""

    place: slice  # of the entries that its units follow, among all values before
    middle: np.ndarray  # (boxes, units) of the slopes of the units
    radius: np.ndarray  # (boxes, units)
    matrix: np.ndarray  # (values after, units and values before)


def norm_bounds(first: np.ndarray, stages: Sequence[Stage], norm: float) -> np.ndarray:
    """(boxes,) bounds of the operator norm, 2 or infinity, of all slopes from the inputs to the last values."""
    boxes = len(stages[0].middle)
    found = [np.broadcast_to(first, (boxes, *first.shape))]  # slopes with all units in the middle
    for stage in stages:
        units = stage.middle[:, :, None] * found[-1][:, stage.place]
        found.append(stage.matrix @ np.concatenate([units, found[-1]], 1))
    end = np.eye(len(found[-1][0]))[None]
    scales = [np.ones_like(stage.middle) for stage in stages]
    for k, after in _ways(end, stages):
        rows = np.linalg.norm(found[k][:, stages[k].place], axis=2)
        columns = np.linalg.norm(after, axis=1)
        scales[k] = np.sqrt((rows + 1 / SPREAD * (1 + rows.max())) / (columns + 1 / SPREAD * (1 + columns.max())))
    parts: list[np.ndarray] = []  # of the scaled entries that each operator's units follow
    for k, stage in enumerate(stages):
        begin = np.zeros((boxes, stage.middle.shape[1], found[k].shape[1]))
        begin[:, :, stage.place] = np.eye(stage.middle.shape[1]) / scales[k][:, :, None]
        whole = _largest(found[k][:, stage.place] / scales[k][:, :, None])
        for j, after in _ways(begin, stages[:k]):
            whole = whole + _largest(after * scales[j][:, None]) * parts[j]
        parts.append(whole)
    # Rounding is far below this, also where large entries cancel.
    steep = [1 + np.square(np.abs(stage.middle) + stage.radius).max(1, initial=0) for stage in stages]
    sizes = [np.linalg.norm(stage.matrix) * np.sqrt(most) for stage, most in zip(stages, steep, strict=True)]
    slack = ROUNDING * np.prod(sizes, 0) * np.linalg.norm(first)
    if norm == 2:
        total = _largest(found[-1])
        for k, after in _ways(end, stages):
            total = total + _largest(after * scales[k][:, None]) * parts[k]
        return total * (1 + ROUNDING) + slack
    # |v|_1 <= sqrt(D) |v|_2, for what each row is off its middle.
    rows = np.zeros(found[-1].shape[:2])
    for k, after in _ways(end, stages):
        rows = rows + np.linalg.norm(after * scales[k][:, None], axis=2) * parts[k][:, None]
    root = np.sqrt(first.shape[1])
    return (np.abs(found[-1]).sum(2) + root * rows).max(1) * (1 + ROUNDING) + root * slack


def _ways(end: np.ndarray, stages: Sequence[Stage]) -> Iterator[tuple[int, np.ndarray]]:
    """From the units of each operator, times their radii, to combinations ``end`` of the last values; backward."""
    for k in range(len(stages) - 1, -1, -1):
        stage, units = stages[k], stages[k].middle.shape[1]
        after = end @ stage.matrix
        own = after[..., :units]
        yield k, own * stage.radius[:, None]
        end = np.repeat(after[..., units:], len(stage.middle) // len(after), 0)
        end[..., stage.place] += own * stage.middle[:, None]


def _largest(matrices: np.ndarray) -> np.ndarray:
    """The largest singular value of each (boxes, rows, columns), from the smaller of both Gram matrices."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.swapaxes(1, 2)
    size = np.abs(matrices).max((1, 2), initial=0)
    if not np.isfinite(size).all():
        return np.full(len(size), np.inf)
    part = matrices / np.where(size > 0, size, 1)[:, None, None]
    return size * np.sqrt(np.linalg.eigvalsh(part @ part.swapaxes(1, 2))[:, -1].clip(0)) * (1 + ROUNDING)
