"""Where an input may move: a box around x, within a distance of it, and how far it must move for an affine function."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FAR = 1e30  # a side of the box that is farther away has no part in any sum
TRIED = np.array([0.0, *2.0 ** np.arange(-4, 5)])  # multiples of a cut in the norm 1, times the ratio of both slopes
EPS = float(np.finfo(float).eps)

Cut = tuple[np.ndarray, float]  # slopes a (features,) and value c: {x': a (x' - x) + c >= 0}


@dataclass(frozen=True, eq=False)
class Domain:
    """{x': low <= x' <= high, |x' - x| <= radius} in the norm 1 or infinity, of which a part may be cut off."""

    x: np.ndarray  # (features,)
    low: np.ndarray
    high: np.ndarray
    norm: float
    radius: float = np.inf
    cut: Cut | None = None  # only places in this halfspace count

    def within(self, radius: float) -> Domain:
        """The part that is no farther away than this."""
        if not np.isfinite(radius):
            return self
        low, high = np.maximum(self.low, self.x - radius), np.minimum(self.high, self.x + radius)
        return replace(self, low=low, high=high, radius=radius)

    def restricted(self, low: np.ndarray, high: np.ndarray) -> Domain:
        """The same with another box."""
        return replace(self, low=low, high=high)

    @property
    def _sides(self) -> np.ndarray:
        """How far every feature can move down and up, (2, features), with signs."""
        return np.stack([self.low - self.x, self.high - self.x]).clip(-FAR, FAR)

    def _room(self, slopes: np.ndarray) -> np.ndarray:
        """How far every feature can move in the direction in which a function grows, (rows, features)."""
        room = np.where(slopes > 0, self.high - self.x, self.x - self.low).clip(0, FAR)
        return room if self.norm == np.inf else (room - np.abs(self.forced)).clip(min=0)

    @property
    def forced(self) -> np.ndarray:
        """How x must move to be in the box at all, (features,): not at all but where the box was divided."""
        return np.clip(self.x, self.low, self.high) - self.x

    def _first(self, slopes: np.ndarray) -> np.ndarray:
        """By how much affine functions grow by the forced moves alone, (rows,)."""
        # In the norm 1 these moves are made before all others. In the norm infinity what goes the way in which the
        # function grows is a part of the common move, so that only what goes against it is counted.
        grown = slopes * self.forced
        return (grown.clip(max=0) if self.norm == np.inf else grown).sum(1)

    def gain(self, slopes: np.ndarray) -> np.ndarray:
        """By how much affine functions can grow from x on, (rows,), at most."""
        free = self._gain(slopes)
        if self.cut is None:
            return free
        # Where a (x' - x) + c is not negative, no function is above itself plus any multiple of that.
        a, c = self.outward
        multiple = self._multiple(slopes, a, c)
        return np.minimum(free, self._gain(slopes + multiple[:, None] * a) + multiple * c)

    @property
    def outward(self) -> Cut:
        """The cut, rounded outward for sums of all features' parts; one that cuts nothing off without one."""
        a, c = self.cut or (np.zeros(len(self.x)), 0.0)
        return a, c + (len(a) + 64) * EPS * (np.abs(a) @ np.abs(self._sides).max(0) + abs(c))

    def _multiple(self, slopes: np.ndarray, a: np.ndarray, c: float) -> np.ndarray:
        """The multiples (rows,) of the cut with which functions grow least, or nearly."""
        if self.norm == 1 and np.isfinite(self.radius):
            tried = TRIED[:, None] * np.abs(slopes).max(1) / np.abs(a).max()
            gains = [self._gain(slopes + one[:, None] * a) + one * c for one in tried]
            return tried[np.argmin(gains, 0), np.arange(len(slopes))]
        # What a function is largest at moves from one side of the box to the other, feature by feature as the multiple
        # grows, until the cut holds there.
        low, high = self._sides
        missing = (a * np.where(slopes > 0, high, low)).sum(1) + c
        with np.errstate(divide="ignore", invalid="ignore"):
            turns = -slopes / a
        turns = np.where((turns > 0) & np.isfinite(turns), turns, np.inf)
        order = np.argsort(turns, 1)
        moved = missing[:, None] + np.cumsum((np.abs(a) * (high - low))[order], 1)
        found = np.take_along_axis(np.take_along_axis(turns, order, 1), (moved >= 0).argmax(1)[:, None], 1)[:, 0]
        return np.where((missing < 0) & np.isfinite(found), found, 0)

    def _gain(self, slopes: np.ndarray) -> np.ndarray:
        """The same without cuts."""
        if self.norm == np.inf or not np.isfinite(self.radius):
            # In a box each feature moves by itself, to whichever side the function grows.
            low, high = self._sides
            return np.maximum(slopes * low, slopes * high).sum(1)
        rate, room = np.abs(slopes), self._room(slopes)
        # The steepest features first, until all of the distance is spent.
        order = np.argsort(-rate, 1)
        rate, room = np.take_along_axis(rate, order, 1), np.take_along_axis(room, order, 1)
        before = np.cumsum(room, 1) - room
        radius = self.radius - np.abs(self.forced).sum()
        return self._first(slopes) + (rate * np.minimum(room, (radius - before).clip(min=0))).sum(1)

    def nearest(self, slopes: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far from x (rows,) affine functions have grown by what is missing, and the places (rows, features)."""
        # The shortest way to gain sum_i a_i d_i = missing: in the norm infinity all features move alike until they meet
        # the box, in the norm 1 one after the other, the steepest first. Infinite where the box does not hold so much.
        rate, room = np.abs(slopes), self._room(slopes)
        key = room if self.norm == np.inf else -rate
        order = np.argsort(key, 1)
        rate, room = np.take_along_axis(rate, order, 1), np.take_along_axis(room, order, 1)
        done = np.cumsum(rate * room, 1)
        if self.norm == np.inf:
            moving = rate.sum(1, keepdims=True) - np.cumsum(rate, 1) + rate  # this one and all after it
            total, start, base = done + room * (moving - rate), np.zeros_like(room), done - rate * room
        else:
            moving, total, start, base = rate, done, np.cumsum(room, 1) - room, done - rate * room
        need = (missing - self._first(slopes)).clip(min=0)[:, None]
        at = (total >= need).argmax(1)[:, None]
        enough = np.take_along_axis(total, at, 1) >= need

        def pick(items: np.ndarray) -> np.ndarray:
            return np.take_along_axis(items, at, 1)

        with np.errstate(divide="ignore", invalid="ignore"):
            more = np.where(need > pick(base), (need - pick(base)) / pick(moving), 0)
        found = np.where(enough, pick(start) + more, np.inf)
        steps = np.minimum(room, found - (0 if self.norm == np.inf else start)).clip(0)
        back = np.empty_like(steps)
        np.put_along_axis(back, order, steps, 1)
        forced = np.linalg.norm(self.forced, self.norm)
        found = np.maximum(found, forced) if self.norm == np.inf else found + forced
        return found[:, 0], np.clip(self.x + np.sign(slopes) * back, self.low, self.high)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Of points (points, features) from x."""
        return np.linalg.norm(points - self.x, self.norm, 1)
