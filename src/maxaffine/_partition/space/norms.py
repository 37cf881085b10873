"""How steep a network can be where each unit's slope is known to an interval: by norms of matrices, not of entries.

Between affine maps A stand operators, each of which makes the slopes of its units from those of the values before.
Where a unit follows one entry, that is a factor between a least and a most; where it selects one of n that may be the
largest, the mean of these n and what one of them is off it. In matrices D = C + E F: C the middles, F what entries are
off them, and E rows of length one at most, a unit's own entries in each. With C in place of all D the network's slopes
are one matrix, and what they are off it is a sum over the operators,

    A_L D_L ... D_1 A_0 - A_L C_L ... C_1 A_0
        = sum over k of  (A_L C_L ... C_k+1 A_k) E_k (F_k A_k-1 D_k-1 ... D_1 A_0).

Each term is no larger than |(...) T_k| |T_k^-1 (...)| for any diagonal T_k > 0, one number for a unit, since E_k and
T_k commute, and the last factor is a shorter network. Bounds entry by entry add magnitudes, however signs differ; norms
see that signs cancel, which in wide boxes makes them several times as small.
"""

from collections.abc import Iterator, Sequence

import numpy as np

SPREAD = 1e6  # of T
ROUNDING = 1e-12  # of the product of all norms


class Stage:
    """An operator whose units' slopes are made from those of entries, and the affine map after it."""

    def __init__(self, windows: np.ndarray, middle: np.ndarray, spread: np.ndarray, matrix: np.ndarray) -> None:
        """From entries (units, m), C and F in these, (boxes, units, m) and (boxes, units, r, m), and A."""
        boxes, units, count = middle.shape
        self.matrix, self.units = matrix, units  # A: (values after, units and values before)
        width, every = matrix.shape[1] - units, np.arange(units)
        self.middle = np.zeros((boxes, units, width))  # C
        rows = np.argwhere(spread.any((0, 3)))  # those of F that are not zero in all boxes
        self.owner, own = rows[:, 0], spread[:, rows[:, 0], rows[:, 1]]
        self.spread = np.zeros((boxes, len(rows), width))  # F
        self.of = (every[:, None] == self.owner) * 1.0  # (units, rows) whose they are
        for place in range(count):
            self.middle[:, every, windows[:, place]] += middle[..., place]
            self.spread[:, np.arange(len(rows)), windows[self.owner, place]] += own[..., place]


def norm_bounds(first: np.ndarray, stages: Sequence[Stage], norm: float) -> np.ndarray:
    """(boxes,) bounds of the operator norm, 2 or infinity, of all slopes from the inputs to the last values."""
    boxes = len(stages[0].middle)
    found = [np.broadcast_to(first, (boxes, *first.shape))]  # slopes with all units in the middle
    for stage in stages:
        found.append(stage.matrix @ np.concatenate([stage.middle @ found[-1], found[-1]], 1))
    end = np.eye(len(found[-1][0]))[None]
    scales: list[np.ndarray] = [np.zeros(0)] * len(stages)
    for k, after in _ways(end, stages):
        rows = np.sqrt(np.square(stages[k].spread @ found[k]).sum(2) @ stages[k].of.T)
        columns = np.linalg.norm(after, axis=1)
        scale = np.sqrt((rows + 1 / SPREAD * (1 + rows.max())) / (columns + 1 / SPREAD * (1 + columns.max())))
        # Where F is zero nothing is off the middle.
        scales[k] = np.where(stages[k].spread.any(2) @ stages[k].of.T > 0, scale, 0)
    parts: list[np.ndarray] = []  # of what the entries of each operator's units are off, scaled
    for k, stage in enumerate(stages):
        scale = scales[k][:, stage.owner]
        begin = stage.spread / np.where(scale > 0, scale, 1)[:, :, None]
        whole = _largest(begin @ found[k])
        for j, after in _ways(begin, stages[:k]):
            whole = whole + _largest(after * scales[j][:, None]) * parts[j]
        parts.append(whole)
    # Rounding is far below this, also where large entries cancel.
    slack = ROUNDING * np.linalg.norm(first)
    for stage in stages:
        own = np.abs(stage.middle) + stage.of @ np.abs(stage.spread)
        slack = slack * np.linalg.norm(stage.matrix) * np.sqrt(1 + own.sum(1).max(1) * own.sum(2).max(1))
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
    """From the units of each operator to combinations ``end`` of the last values; backward."""
    for k in range(len(stages) - 1, -1, -1):
        after = end @ stages[k].matrix
        own, rest = np.split(after, [stages[k].units], 2)
        yield k, own
        end = rest + own @ stages[k].middle


def _largest(matrices: np.ndarray) -> np.ndarray:
    """The largest singular value of each (boxes, rows, columns), from the smaller of both Gram matrices."""
    if not matrices.size:
        return np.zeros(len(matrices))
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.swapaxes(1, 2)
    size = np.abs(matrices).max((1, 2), initial=0)
    if not np.isfinite(size).all():
        return np.full(len(size), np.inf)
    part = matrices / np.where(size > 0, size, 1)[:, None, None]
    return size * np.sqrt(np.linalg.eigvalsh(part @ part.swapaxes(1, 2))[:, -1].clip(0)) * (1 + ROUNDING)
