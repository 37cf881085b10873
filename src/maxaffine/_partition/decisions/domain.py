"""Where an input may move: a box around x, within a distance of it, and how far it must move for an affine function."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FAR = 1e30  # a side of the box that is farther away has no part in any sum


@dataclass(frozen=True, eq=False)
class Domain:
    """{x': low <= x' <= high, |x' - x| <= radius} in the norm 1 or infinity."""

    x: np.ndarray  # (features,)
    low: np.ndarray
    high: np.ndarray
    norm: float
    radius: float = np.inf

    def within(self, radius: float) -> Domain:
        """The part that is no farther away than this."""
        if not np.isfinite(radius):
            return self
        low, high = np.maximum(self.low, self.x - radius), np.minimum(self.high, self.x + radius)
        return replace(self, low=low, high=high, radius=radius)

    def restricted(self, low: np.ndarray, high: np.ndarray) -> Domain:
        """The same with another box."""
        return replace(self, low=low, high=high)

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
        """By how much affine functions can grow from x on, (rows,)."""
        rate, room = np.abs(slopes), self._room(slopes)
        if self.norm == np.inf or not np.isfinite(self.radius):
            return self._first(slopes) + (rate * room).sum(1)
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
