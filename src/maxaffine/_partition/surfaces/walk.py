"""From polygon to polygon: what lies beyond the edges of those on the front becomes the next front.

On a region the level set is a plane, and its part in the region a convex polygon. Its edges lie on boundaries of units,
beyond which the level set goes on in another region. A region is entered once, which its key tells; of most the key is
known before they are entered. A front is worked on all at once, in runs that fit in a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from maxaffine._chunks import slices
from maxaffine._partition.surfaces.germs import NEAR, RUN, Field, Germs
from maxaffine._partition.surfaces.polygons import FLAT, Polygons, polygons
from maxaffine.errors import BadInput, PartitionError

TURNS = 64  # regions around one edge
SETTLED = 3  # steps within the level set after which one leads along a polygon
CURE = "boundaries may nearly coincide; shift the box or the level a little"


@dataclass(frozen=True, eq=False)
class Front:
    """Places on the level set where it goes on."""

    points: np.ndarray  # (N, 3) in the middle of edges
    normals: np.ndarray  # (N, 3) of the polygons that the edges are of
    directions: np.ndarray  # (N, 3) out of these polygons, within their planes
    keys: np.ndarray  # (N, 2) of the regions there, zero where they are not known

    def __getitem__(self, rows: np.ndarray | slice) -> Front:
        """Some of them."""
        return Front(*(getattr(self, item.name)[rows] for item in fields(self)))


@dataclass(frozen=True, eq=False)
class Part:
    """Polygons that were found together."""

    counts: np.ndarray  # (F,) corners
    normals: np.ndarray  # (F, 3) towards larger outputs
    points: np.ndarray  # (C, 3) corners
    keys: np.ndarray  # (C, 2)
    sides: np.ndarray  # (C,) bool: the edge that leads to the corner lies on the box


class Walk:
    """A walk over a level set, which can be stopped between two fronts."""

    def __init__(self, space: Field) -> None:
        self.space = space
        self.parts: list[Part] = []
        self.faces = 0
        self._seen: set[int] = set()

    def run(self, points: np.ndarray, directions: np.ndarray, stop: Callable[[int], bool]) -> bool:
        """Follow the level set from points (N, 3) on it; whether it came to an end before it was stopped."""
        size = max(64, RUN // (self.space.units + 6))
        found = []
        for part in slices(len(points), size):
            found.append(self._find(*self._settle(points[part], directions[part])))
        while found:
            front = Front(*(np.concatenate([getattr(f, item.name) for f in found]) for item in fields(Front)))
            front, found = front[self._fresh(front.keys)], []
            for part in slices(len(front.points), size):
                if stop(self.faces):
                    return False
                here = front[part]
                found.append(self._find(self._beyond(here), here.points))
                # A region is known by the key that it was expected under, too.
                self._seen.update(here.keys[here.keys[:, 0] != 0, 0].tolist())
        return True

    def _fresh(self, keys: np.ndarray) -> np.ndarray:
        """Numbers of the first row of every key not seen before, and of all without a key."""
        known, first = np.unique(keys[:, 0], return_index=True)
        new = np.fromiter((key not in self._seen for key in known.tolist()), dtype=bool, count=len(known))
        return np.sort(np.concatenate([first[new & (known != 0)], np.flatnonzero(keys[:, 0] == 0)]))

    def _find(self, germs: Germs, points: np.ndarray) -> Front:
        """Find the polygons in regions that are new, from points on their edges; where they go on."""
        kept = self._fresh(germs.keys)
        self._seen.update(germs.keys[kept, 0].tolist())
        if not len(kept):
            none = np.zeros((0, 3))
            return Front(none, none, none, np.zeros((0, 2), dtype=np.uint64))
        germs, points = germs[kept], points[kept]
        normals = _normals(germs)
        points = points - normals * (germs.value / np.linalg.norm(germs.gradient, axis=0))[:, None]
        found = polygons(germs, points, normals)
        if len(found.unclosed):
            place = self.space.seen(points[found.unclosed[0]])
            raise PartitionError("a polygon of the level set does not close", place, cure=CURE)
        return self._record(germs, normals, found)

    def _record(self, germs: Germs, normals: np.ndarray, found: Polygons) -> Front:
        """Keep polygons; where they go on."""
        starts = np.flatnonzero(np.diff(found.row, prepend=-1))
        counts = np.diff(starts, append=len(found.row))
        before = np.arange(-1, len(found.row) - 1)
        before[starts] = starts + counts - 1
        unit = ~found.sides
        self.parts.append(Part(counts, normals[found.row[starts]], found.points, found.keys, found.sides))
        self.faces += len(counts)
        keys = np.zeros_like(found.keys)
        single = np.flatnonzero(unit & ~found.several)
        keys[single] = germs.beyond(found.row[single], found.column[single])
        middles = (found.points + found.points[before]) / 2
        return Front(middles, normals[found.row], found.outward, keys)[unit]

    def _beyond(self, front: Front) -> Germs:
        """The regions in which the level set goes on beyond edges."""
        # Nearly always one boundary is crossed, and what lies straight ahead is the region. Within the plane that the
        # polygon lies in the output stays what it is, so that ties are decided by a step down.
        germs = self.space.at(front.points, front.directions, -front.normals)
        rows = self._astray(germs)
        if len(rows):
            germs.put(rows, self._turn(front[rows]))
        self._require_slope(germs, front.points)
        return germs

    def _astray(self, germs: Germs) -> np.ndarray:
        """Regions in which the level set may not go on, or that it lies on the boundary of."""
        row, column = np.nonzero((germs.margins <= germs.near)[:, : self.space.units])
        count = np.bincount(row, minlength=len(germs.keys))
        if (count == 1).all():
            return row[:0]
        row, column = (item[count[row] > 1] for item in (row, column))
        slopes = germs.slopes[:, row, column].T
        size = np.linalg.norm(slopes, axis=1, keepdims=True)
        solid = np.flatnonzero(size[:, 0] * self.space.size > germs.near[row, column])
        # Boundaries that are the same plane are crossed at once. Others that meet along an edge are not.
        row, slopes = row[solid], slopes[solid] / size[solid]
        _, first, which = np.unique(row, return_index=True, return_inverse=True)
        return np.unique(row[(slopes * slopes[first[which]]).sum(1) < 1 - FLAT])

    def _turn(self, front: Front) -> Germs:
        """The regions in which the level set goes on, found around edges at which boundaries cross."""
        # Around an edge regions are sectors, and on each the output is linear. From a polygon down, through outputs
        # below the level, to where they reach it again: so two sheets that cross are kept apart, and where the level
        # set lies on a boundary, its region is always the one below. Angles are counted from the polygon on.
        first, second = -front.directions, -front.normals
        angle, rows = np.zeros(len(first)), np.arange(len(first))
        germs = self.space.at(front.points, first, second)
        for _ in range(TURNS):
            margins = germs.slopes[:, rows] * (germs.margins[rows] <= germs.near[rows])
            forms = np.concatenate([germs.gradient[:, rows, None], margins], 2)
            a, b = ((forms * axis[rows].T[..., None]).sum(0) for axis in (first, second))
            ahead = np.mod(np.arctan2(a, -b) - angle[rows, None], np.pi)
            ahead = np.where(ahead < FLAT, ahead + np.pi, ahead)
            small = np.hypot(a, b) <= FLAT * np.linalg.norm(forms, axis=0)
            ahead[small] = np.inf
            angle[rows] += ahead.min(1)
            rows = rows[ahead[:, 0] > ahead.min(1) + FLAT]
            if not len(rows):
                return germs
            turn = angle[rows, None]
            way = np.cos(turn) * first[rows] + np.sin(turn) * second[rows]
            then = np.cos(turn) * second[rows] - np.sin(turn) * first[rows]
            germs.put(rows, self.space.at(front.points[rows], way, then))
        place = self.space.seen(front.points[rows[0]])
        raise PartitionError("around an edge of the level set it does not go on", place, cure=CURE)

    def _require_slope(self, germs: Germs, points: np.ndarray) -> None:
        """Refuse a region all over which the output has the level."""
        flat = np.linalg.norm(germs.gradient, axis=0) * self.space.size <= NEAR * self.space.scale
        if flat.any():
            place = ", ".join(f"{x:.4g}" for x in self.space.seen(points[flat.argmax()]))
            raise BadInput(f"level: the output has it all over a region near ({place}); choose another level")

    def _settle(self, points: np.ndarray, directions: np.ndarray) -> tuple[Germs, np.ndarray]:
        """From points on the level set to edges of the polygons there: the regions, and points on the edges."""
        # A point may lie on an edge by chance. Halfway along a straight line within the level set none is near.
        random = np.random.default_rng(0).normal(size=points.shape)
        germs, within = self.space.at(points, directions), directions
        self._require_slope(germs, points)
        for _ in range(SETTLED):
            normals = _normals(germs)
            within = np.cross(normals, random)
            within /= np.linalg.norm(within, axis=1, keepdims=True)
            if not (germs.margins <= germs.near).any():
                break
            germs = self.space.at(points, within, -normals)
            self._require_slope(germs, points)
        stays = np.abs((within * _normals(germs)).sum(1)) <= FLAT  # in the level set: at an edge it may not yet
        germs, points, within = germs[stays], points[stays], within[stays]
        rate = (germs.slopes * within.T[..., None]).sum(0)
        ahead = (rate < 0) & (germs.margins > germs.near)
        reach = np.divide(germs.margins, -rate, out=np.full(rate.shape, np.inf), where=ahead).min(1)
        germs.margins[...] += reach[:, None] * rate
        return germs, points + reach[:, None] * within


def _normals(germs: Germs) -> np.ndarray:
    """(N, 3) of the level set in regions, towards larger outputs."""
    return (germs.gradient / np.linalg.norm(germs.gradient, axis=0)).T
