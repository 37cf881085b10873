"""Polytopes given by halfspaces: which of them matter, the largest ball inside, and the nearest point of a part.

Thousands of halfspaces bound a region, and a few dozen matter. In high dimensions corners are out of reach, so what is
asked there is answered by linear programs; in up to six, Qhull lists corners, and where rounding defeats it, small
exact systems of equations do. Distances are seen from a point inside, whose slack is the distance to every boundary.
"""

from collections.abc import Iterator
from importlib import import_module
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np

from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, MaxAffineError, PartitionError

SAME = 1e-9  # boundaries closer than this, on unit normals, are one
RAYS_PER_HALFSPACE = 4
FAR = 1e6
POSED = 1e-7  # sides whose normals span less than this meet in no certain place
MERGED = 1e-8  # corners closer than this are one
AT_ONCE = 2**16
THIN = "boundaries nearly coincide; shift the box a little"


def scipy(part: str) -> Any:
    """Import a part of scipy, such as ``optimize``, which only polytopes of the input space need."""
    try:
        return import_module(f"scipy.{part}")
    except ModuleNotFoundError as error:
        raise MaxAffineError(
            "regions as polytopes of the input space need scipy, which is absent; pip install 'maxaffine[partition]'"
        ) from error


def essential(normals: np.ndarray, slack: np.ndarray, seed: int = 0, progress: bool | None = None) -> np.ndarray:
    """Numbers of the halfspaces without which {d: normals d <= slack} would be larger, one of each set of equals."""
    # Normals have length one, and all slack is positive: the origin lies inside. Rays from there end at boundaries that
    # matter. Every other halfspace is put to a linear program: how far can one go against it within those found so far?
    # Where further than it allows, the ray to that point finds a new one (Clarkson 1994, "More output-sensitive
    # geometric algorithms"). Every program settles one halfspace at least.
    count, size = normals.shape
    if not count:
        return np.zeros(0, dtype=int)
    random = np.random.default_rng(seed)
    rays = np.concatenate([normals, random.standard_normal((RAYS_PER_HALFSPACE * count, size))])
    hits, clear = _first_hits(normals, slack, rays)
    found, certain = set(hits.tolist()), set(hits[clear].tolist())
    rest = [number for number in range(count) if number not in found] if size > 1 else []
    number: int
    for number in progress_bar(progress, "halfspaces", iterable=rest):
        while number not in found:
            furthest = _beyond(number, sorted(found), normals, slack)
            if furthest is None:
                break
            (new,), (sure,) = _first_hits(normals, slack, furthest[None])
            if int(new) in found:
                new, sure = number, False
            found.add(int(new))
            certain.update([int(new)] if sure else [])
    # A ray that ends where boundaries meet, or coincide, may have named one that matters nowhere else.
    for number in sorted(found - certain):
        if len(found) > 1 and _beyond(number, sorted(found - {number}), normals, slack) is None:
            found.discard(number)
    return np.array(sorted(found), dtype=int)


def _first_hits(normals: np.ndarray, slack: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boundary that each ray meets first, and whether it meets no other there; rays that meet none are left out."""
    hits, clear = [], []
    for part in np.array_split(rays, max(1, len(rays) * len(normals) // 2**23)):
        with np.errstate(divide="ignore"):
            ahead = part @ normals.T
            wait = np.where(ahead > 0, slack / np.where(ahead > 0, ahead, 1), np.inf)
        first = wait.argmin(1)
        nearest = wait[np.arange(len(part)), first]
        met = np.isfinite(nearest)
        hits.append(first[met])
        clear.append((wait[met] <= nearest[met, None] * (1 + SAME)).sum(1) == 1)
    return np.concatenate(hits), np.concatenate(clear)


def _beyond(number: int, kept: list[int], normals: np.ndarray, slack: np.ndarray) -> np.ndarray | None:
    """The point within others that lies furthest beyond a halfspace's boundary, or None where none lies beyond it."""
    # One step beyond its own boundary is far enough, and keeps the program bounded.
    result = scipy("optimize").linprog(
        -normals[number],
        A_ub=normals[[*kept, number]],
        b_ub=np.append(slack[kept], slack[number] + 1.0),
        bounds=(None, None),
        method="highs",
    )
    if result.status != 0:
        raise BadInput(f"region: HiGHS found no answer ({result.message}); scale the network's inputs to about one")
    return result.x if -result.fun > slack[number] + SAME else None


def largest_ball(
    normals: np.ndarray, slack: np.ndarray, on: np.ndarray | None = None, at: float = 0.0
) -> tuple[np.ndarray, float]:
    """The Chebyshev center and radius of {d: normals d <= slack}, or of its part on the plane <on, d> = at."""
    # A ball around d of radius r lies inside where normals d + r <= slack: the largest r is a linear program. Within a
    # plane, boundaries are as far as their normals are long there. The radius is infinite where balls of every size
    # fit, and negative where none does.
    count, size = normals.shape
    widths = np.ones(count) if on is None else np.linalg.norm(normals - np.outer(normals @ on, on), axis=1)
    result = scipy("optimize").linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.column_stack([normals, widths]),
        b_ub=slack,
        A_eq=None if on is None else np.append(on, 0.0)[None],
        b_eq=None if on is None else [at],
        bounds=[(None, None)] * size + [(None, FAR)],
        method="highs",
    )
    if result.status != 0:
        return np.zeros(size), -1.0
    radius = float(result.x[-1])
    return result.x[:-1], np.inf if radius >= FAR * (1 - 1e-9) else radius


def nearest(normals: np.ndarray, slack: np.ndarray, plane: np.ndarray, gap: float) -> np.ndarray | None:
    """The shortest d with normals d <= slack and <plane, d> <= -gap, or None where there is none."""
    # By non-negative least squares (Lawson and Hanson, "Solving Least Squares Problems", chapter 23): the residual of
    # the closest combination of the constraints to (0, 1) points along the shortest d.
    length = np.linalg.norm(plane)
    if length == 0:
        return None
    unit = max(gap / length, np.finfo(float).tiny)  # measured in the distance of the plane itself
    sides = np.concatenate([-normals, -plane[None] / length])
    levels = np.append(-slack / unit, 1.0)
    matrix = np.concatenate([sides.T, levels[None]])
    wanted = np.append(np.zeros(len(plane)), 1.0)
    weights, _ = scipy("optimize").nnls(matrix, wanted, maxiter=30 * matrix.shape[1] + 100)
    rest = matrix @ weights - wanted
    if abs(rest[-1]) < 1e-9:
        return None
    step = -rest[:-1] / rest[-1]
    outside = (sides @ step - levels).min()
    return step * unit if outside > -1e-6 else None


def corners(normals: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The corners of a bounded polytope in up to six dimensions or so, and for every halfspace those that lie on it."""
    # By Qhull, from the middle of the largest ball inside: seen from a point close to a side, that side would outweigh
    # all others. Where Qhull gives up, or one of its corners breaks a halfspace, by intersecting every few halfspaces.
    if normals.shape[1] == 1:
        ends = np.array([[(slack[normals[:, 0] > 0]).min()], [-(slack[normals[:, 0] < 0]).min()]])
        return ends, [np.flatnonzero(near) for near in _incident(ends, normals, slack).T]
    middle, radius = largest_ball(normals, slack)
    if radius <= SAME:
        raise PartitionError(f"a region holds no ball larger than {max(radius, 0.0):.2g}", cure=THIN)
    room = slack - normals @ middle
    try:
        found = scipy("spatial").HalfspaceIntersection(np.column_stack([normals, -room]), np.zeros(len(middle)))
        places, sides = found.intersections, set(np.concatenate([np.asarray(f) for f in found.dual_facets]).tolist())
    except scipy("spatial").QhullError:
        places, sides = np.zeros((0, len(middle))), set()
    on = _incident(places, normals, room)
    sound = len(places) and (places @ normals.T <= room + SAME * (1 + room)).all() and on.sum(1).min() >= len(middle)
    if not sound:
        sides = set(essential(normals, room).tolist())
        places = _intersections(normals, room, sorted(sides))
        on = _incident(places, normals, room)
    # Where more sides than dimensions meet, Qhull names one corner several times, a rounding apart.
    kept = np.sort(np.unique(on, axis=0, return_index=True)[1])
    places, on = places[kept], on[kept]
    empty = np.zeros(0, dtype=int)
    return places + middle, [np.flatnonzero(on[:, n]) if n in sides else empty for n in range(len(slack))]


def _incident(places: np.ndarray, normals: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Which places lie on the boundaries of which halfspaces, (places, halfspaces)."""
    return np.abs(places @ normals.T - slack) <= SAME * (1 + slack)


def _intersections(normals: np.ndarray, slack: np.ndarray, sides: list[int]) -> np.ndarray:
    """The corners as the feasible places where as many sides as there are dimensions meet, the best posed first."""
    size = normals.shape[1]
    found = np.zeros((0, size))
    chosen = np.array(list(combinations(sides, size)))
    volumes = np.abs(np.linalg.det(normals[chosen]))
    chosen = chosen[np.argsort(-volumes)][: int((volumes > POSED).sum())]
    for part in np.array_split(chosen, len(chosen) // AT_ONCE + 1):
        places = np.linalg.solve(normals[part], slack[part][..., None])[..., 0]
        for place in places[(places @ normals.T <= slack + SAME * (1 + slack)).all(1)]:
            # More sides than dimensions may meet in one corner, which then is found several times.
            if not (np.abs(found - place) <= MERGED * (1 + np.abs(place))).all(1).any():
                found = np.concatenate([found, place[None]])
    return found


def ring(places: np.ndarray) -> np.ndarray:
    """The corners (n, 2) of a polygon, counter-clockwise."""
    away = places - places.mean(0)
    return places[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]


def volume(places: np.ndarray, on: list[np.ndarray]) -> float:
    """The volume of a polytope with corners at places; for every halfspace the numbers of the corners on it."""
    # By Qhull or, where it gives up, the sum over simplices: each face is cut into pyramids over its own sides, with
    # their tip in its first corner.
    if places.shape[1] == 1:
        return float(np.ptp(places))
    try:
        return float(scipy("spatial").ConvexHull(places).volume)
    except scipy("spatial").QhullError:
        sides = {frozenset(numbers.tolist()) for numbers in on if len(numbers)}
        simplices = np.array(list(_simplices(frozenset(range(len(places))), sides, places.shape[1])))
        edges = places[simplices[:, 1:]] - places[simplices[:, :1]]
        return float(np.abs(np.linalg.det(edges)).sum() / factorial(places.shape[1]))


def _simplices(face: frozenset[int], sides: set[frozenset[int]], size: int) -> Iterator[tuple[int, ...]]:
    """The corners of simplices that fill a face of ``size`` dimensions, given which corners lie on which sides."""
    if len(face) == size + 1:
        yield tuple(face)
        return
    tip = min(face)
    parts = {face & side for side in sides} - {face}
    for part in parts:
        # The sides of a face are its largest parts; those through the tip make flat pyramids.
        if tip not in part and not any(part < other for other in parts):
            for rest in _simplices(part, sides, size - 1):
                yield tip, *rest
