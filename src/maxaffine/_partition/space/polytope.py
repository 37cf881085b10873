"""Polytopes given by halfspaces: which of them matter, the largest ball inside, and the nearest point of a part.

Thousands of halfspaces bound a region, and a few dozen matter. In high dimensions corners are out of reach, so what is
asked there is answered by linear programs. Distances are seen from a point inside, whose slack is the distance to every
boundary.
"""

from importlib import import_module
from typing import Any

import numpy as np

from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, MaxAffineError

SAME = 1e-9  # boundaries closer than this, on unit normals, are one
RAYS_PER_HALFSPACE = 4
FAR = 1e6


def scipy(part: str) -> Any:
    """Import a part of scipy, such as ``optimize``, which only polytopes and the parts of surfaces need."""
    try:
        return import_module(f"scipy.{part}")
    except ModuleNotFoundError as error:
        raise MaxAffineError(
            "polytopes of the input space, and parts of surfaces, need scipy, which is absent; pip install"
            " 'maxaffine[partition]'"
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


def ring(places: np.ndarray) -> np.ndarray:
    """The corners (n, 2) of a polygon, counter-clockwise."""
    away = places - places.mean(0)
    return places[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]
