"""The level set of a network in three dimensions, exactly: found, and as an object that answers for it."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from math import prod
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork
from maxaffine._codes import Codes
from maxaffine._drawing import Solid, axes_for, html_table
from maxaffine._graph import Dependence, undisturbed
from maxaffine._maps import AffineMap
from maxaffine._partition.inputs import require_network
from maxaffine._partition.planes.task import Frame, frame_along, input_frame
from maxaffine._partition.space.growth import split_by_decision
from maxaffine._partition.space.halfspaces import sides
from maxaffine._partition.space.regions import regions
from maxaffine._partition.surfaces.files import write_mesh
from maxaffine._partition.surfaces.germs import Field
from maxaffine._partition.surfaces.margin import OTHERS, with_margin
from maxaffine._partition.surfaces.mesh import Mesh, join
from maxaffine._partition.surfaces.seeds import grid_crossings, region_crossings
from maxaffine._partition.surfaces.walk import CURE, Walk
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, PartitionError

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

COLOR = "#b9cbe4"
AXES = ("x₁", "x₂", "x₃")
MOST_DRAWN, MOST_SHOWN = 150_000, 20_000  # polygons on a page of their own, and in a notebook
LINES = 6
MAX_FACES = 2_000_000
OFF = 1e-9  # of the output's largest value, and of the box: a vertex that misses them by more is wrong
COARSE = 1e-7  # of the shortest side: coordinates that are farther apart make no mesh
LARGEST = 1e70  # of bounds: areas come from products of four lengths


@dataclass(frozen=True, eq=False)
class Surface:
    """The set where an output has a value, as a mesh of convex polygons; made by :func:`surface`.

    Every polygon is a region's share, on which the network is one affine map. ``trimesh.Trimesh(found.vertices,
    found.triangles)`` takes it as it is. Arrays are of numpy, coordinates those of the network's three inputs, or
    count the directions of ``basis``.

    Attributes:
        mesh: Vertices and polygons.
        level: The value.
        output: Flat number of the output that has it.
        against: What is taken off that output first: another, by its number, or the largest of the others; or nothing.
        complete: Whether the walk came to its end: else edges are open where it was stopped.
        frame: Where the coordinates lie in input space.
    """

    mesh: Mesh = field(repr=False)
    level: float
    output: int
    against: int | str | None
    complete: bool
    frame: Frame = field(repr=False)
    options: dict[str, Any] = field(repr=False)

    @property
    def vertices(self) -> np.ndarray:
        """(V, 3) float64, each where the boundaries of at least two units, or sides of the box, meet."""
        return self.mesh.vertices

    @property
    def faces(self) -> list[np.ndarray]:
        """Vertices of every polygon, counter-clockwise as seen from where the output is larger."""
        return np.split(self.mesh.corners, self.mesh.starts[1:-1])

    @property
    def triangles(self) -> np.ndarray:
        """(T, 3) vertices: the polygons as fans, in their order."""
        return self.mesh.triangles

    @property
    def normals(self) -> np.ndarray:
        """(F, 3) of length one, towards larger outputs."""
        return self.mesh.normals

    @property
    def centers(self) -> np.ndarray:
        """(F, 3) a place inside every polygon: the mean of its corners."""
        of = self.mesh
        return np.add.reduceat(of.vertices[of.corners], of.starts[:-1]) / of.counts[:, None]

    @property
    def areas(self) -> np.ndarray:
        """(F,) of the polygons."""
        return self.mesh.areas

    @property
    def area(self) -> float:
        """Of the whole surface."""
        return float(self.areas.sum())

    @property
    def volume(self) -> float:
        """Enclosed; negative where the output is larger inside. NaN where the surface is not watertight."""
        # By Gauss, the sum of the cones from any point over all triangles; from a near one the least is lost.
        if not self.watertight:
            return float("nan")
        a, b, c = (self.vertices[self.triangles[:, k]] - self.vertices.mean(0) for k in range(3))
        return float((a * np.cross(b, c)).sum() / 6)

    @property
    def euler(self) -> int:
        """V - E + F: twice the number of components less their handles, of a watertight surface; 0 of a torus."""
        return len(self.vertices) - len(self.mesh.edges[1]) + len(self)

    @property
    def labels(self) -> np.ndarray:
        """(F,) number of the component that each polygon belongs to."""
        return self.mesh.labels

    @property
    def components(self) -> int:
        """Parts that share no edge. Needs scipy."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def watertight(self) -> bool:
        """Whether every edge belongs to exactly two polygons, which go along it in opposite ways."""
        return self.mesh.watertight

    @property
    def rim(self) -> np.ndarray:
        """(n, 2) vertices at the ends of the edges that belong to one polygon alone: those on the box."""
        number, count = self.mesh.edges
        return self.mesh.ends[count[number] == 1]

    def inputs(self, points: np.ndarray) -> Any:
        """Points (N, 3) in the surface's coordinates as the network takes them, in float64."""
        return self.frame.net.inputs.nest(self.frame.points(torch.as_tensor(points, dtype=torch.float64)))

    def affine_map(self, **options: Any) -> AffineMap:
        """The network's affine map on every polygon; options as of :meth:`maxaffine.SplineNetwork.affine_map`."""
        return self.frame.net.affine_map(self.inputs(self.centers), **(self.options | options))

    def codes(self) -> Codes:
        """The codes of every polygon's region."""
        return self.frame.net.codes(self.inputs(self.centers))

    def residual(self, model: nn.Module) -> float:
        """The largest |f(vertex) - level| of the user's own module, which should be in float64."""
        with torch.no_grad():
            value = model(*self.frame.points(torch.from_numpy(self.vertices)))
        return float(self.margin(value.reshape(len(self.vertices), -1)).abs().max())

    def margin(self, values: Tensor) -> Tensor:
        """(N,) what is zero on the surface, of outputs (N, K): f less the level, and less what it is taken against."""
        rivals = torch.zeros(len(values), dtype=values.dtype)
        if self.against == OTHERS:
            rivals = values.masked_fill(torch.arange(values.shape[1]) == self.output, -torch.inf).amax(1)
        elif self.against is not None:
            rivals = values[:, int(self.against)]
        return values[:, self.output] - rivals - self.level

    def save(self, path: str | PathLike[str]) -> None:
        """Write the polygons to a file: ``.ply`` (binary, float64), ``.obj``, or a page to turn them on, ``.html``.

        The page needs no other file and no network. Its coordinates are rounded, for drawing alone; of more than
        150,000 polygons it has a simplified picture, and says so.
        """
        write_mesh(self.mesh, lambda: self.solid().page(repr(self), self._words(), MOST_DRAWN), Path(path).expanduser())

    def solid(self, names: tuple[str, ...] | None = None) -> Solid:
        """The polygons as pages draw them, with names for the axes."""
        of = self.mesh
        return Solid(of.vertices, of.corners, of.counts, of.normals, self.labels, names or AXES)

    def _words(self) -> list[str]:
        """What is said of the surface under its title."""
        rival = {None: "", OTHERS: " less the largest of the others"}.get(self.against, f" less output {self.against}")
        volume = f", volume {abs(self.volume):.6g}" if self.watertight else ""
        value = f"Where output {self.output}{rival} is {self.level:g}: area {self.area:.6g}{volume}."
        return [value, "Blue is seen from where the value is larger, orange from where it is smaller."]

    def to_numpy(self) -> dict[str, np.ndarray]:
        """All arrays by name, for ``numpy.savez``; polygon k has the vertices corners[starts[k]:starts[k + 1]]."""
        names = ("vertices", "corners", "starts", "normals", "triangles", "areas", "labels")
        return {name: getattr(self.mesh, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """The figures of it."""
        names = ("level", "output", "against", "complete", "watertight", "components", "euler", "area", "volume")
        sizes = {"vertices": len(self.vertices), "faces": len(self), "rim": len(self.rim)}
        return sizes | {name: getattr(self, name) for name in names}

    def plot(self, ax: Axes3D | None = None, *, color: Any = None, linewidth: float = 0.2, size: float = 4.5) -> Axes3D:
        """Draw the polygons in three dimensions, shaded by the light on them.

        Args:
            ax: Where to draw, axes with ``projection="3d"``; those of a new figure by default.
            color: Of the polygons, as matplotlib takes it: one, or one for each.
            linewidth: Of their edges, in points; 0 draws none.
            size: Side of a new figure in inches.

        Returns:
            The axes.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        axes: Any = axes_for(ax, 4.5, 4.5, sheet=False, size=size, projection="3d")
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection

        corners = [self.vertices[face] for face in self.faces]
        faces = {"facecolors": COLOR if color is None else color, "shade": True}
        drawn = Poly3DCollection(corners, **faces, edgecolors="#333333", linewidths=linewidth)
        axes.add_collection3d(drawn)
        low, high = self.vertices.min(0), self.vertices.max(0)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
        axes.set_box_aspect(high - low)
        return axes

    def __len__(self) -> int:
        return len(self.mesh.counts)

    def _repr_html_(self) -> str:
        if not len(self):
            return html_table([("", repr(self))])
        return self.solid().frame(repr(self), self._words(), MOST_SHOWN)

    def __repr__(self) -> str:
        closed = "watertight" if self.watertight else f"{len(self.rim)} edges on its rim"
        stopped = "" if self.complete else ", unfinished"
        return f"Surface: {len(self)} polygons, {len(self.vertices)} vertices, {closed}{stopped}"


def surface(
    net: SplineNetwork,
    level: float = 0.0,
    output: int = 0,
    *,
    bounds: Any,
    against: int | str | None = None,
    origin: Any = None,
    basis: Any = None,
    until: str | None = None,
    lines: int = LINES,
    exhaustive: bool = False,
    max_faces: int = MAX_FACES,
    time_limit: float | None = None,
    progress: bool | None = None,
) -> Surface:
    """The exact set {t in a box of R^3: f(t) = level} of one output, as a mesh of polygons.

    On a region f is affine, so that the level set is a plane there, and its part in the region a convex polygon whose
    edges lie on the boundaries of units. The walk crosses every edge by changing the units on it, all polygons of a
    front at once, in float64. Corners are known by the units that are zero there, so vertices are shared exactly, and
    that nothing is missing between polygons follows from counting: once the walk has ended, every edge inside the box
    belongs to two.

    Args:
        net: The network, continuous and of three input numbers, unless ``origin`` and ``basis`` are given. One captured
            in another type is computed in float64.
        level: The value.
        output: Flat number of the output.
        bounds: (low, high) of the box, numbers or three each, in the surface's coordinates. What only touches a side of
            the box from inside is no part of the surface: the output must pass through the level within the box.
        against: For the border of a class: the number of another output, where ``output`` is ahead of it by the level
            (at 0 draws level with it), or ``"others"``, the largest of all others.
        origin: For a network of more inputs, one input,
        basis: and three directions, shaped as inputs, which coordinates count: f(t) is f(origin + t_1 basis_1 + t_2
            basis_2 + t_3 basis_3). To fix features, put their values in ``origin`` and zeros in ``basis``.
        until: Name of an operator or module whose output is meant.
        lines: The walk starts from all crossings with ``lines`` squared lines along each axis. What is missed are
            components that meet none of them: no closed one in which a ball fits whose radius is above 0.71 times the
            distance between lines, the longest side of the box divided by ``lines``.
        exhaustive: Start in all regions of the box that the level set passes through instead, so that no component can
            be missed. For small networks, of three inputs: see :func:`regions`.
        max_faces: Stop after this many polygons.
        time_limit: Stop after this many seconds.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The surface. When stopped, also by Ctrl-C, what was found so far, with a warning: it is not ``complete``.

    Raises:
        BadInput: For a network of other inputs than three, bounds that are not finite, a level that the output does not
            reach or has all over a region, and other bad arguments; a smooth network.
        NotPiecewiseAffine: For an operator that jumps or sorts.
        PartitionError: When rounding made the result inconsistent; it is always checked.

    Example:
        >>> import maxaffine as ma
        >>> class Octahedron(torch.nn.Module):
        ...     def forward(self, x):
        ...         return x.abs().sum(1, keepdim=True) - 1
        >>> found = ma.partition.surface(ma.capture(Octahedron(), torch.zeros(1, 3)), bounds=(-2, 2))
        >>> found
        Surface: 8 polygons, 6 vertices, watertight
        >>> round(found.area, 12), round(found.volume, 12), found.euler
        (6.928203230276, 1.333333333333, 2)

    Source: level sets by regions, Lei and Jia, "Analytic Marching" (ICML 2020), which walks one polygon after another.
    """
    space = _space(net, _level(level), output, against, bounds, origin, basis, until)
    if not (isinstance(lines, Integral) and 1 <= lines <= 256):
        raise BadInput(
            f"lines: expected a whole number from 1 to 256, got {lines!r}; give {LINES}, or more for small parts"
        )
    if not (isinstance(max_faces, Integral) and max_faces >= 1):
        raise BadInput(f"max_faces: expected a whole number above 0, got {max_faces!r}; leave it out for {MAX_FACES}")
    if time_limit is not None and not (isinstance(time_limit, Real) and time_limit > 0):
        raise BadInput(f"time_limit: expected seconds above 0, got {time_limit!r}; leave it out for no limit")
    with undisturbed(net.inputs.device):
        if exhaustive:
            if origin is not None:
                raise BadInput("exhaustive: it lists regions, of networks of three inputs only; raise lines instead")
            every = regions(net, bounds, until=until, progress=progress)
            if against == OTHERS:
                every = replace(every, cells=split_by_decision(every.space, every.cells, 0.0, output)[0])
            points, directions = region_crossings(space, every)
        else:
            points, directions = grid_crossings(space, lines)
        walk = Walk(space)
        complete = _follow(walk, points, directions, max_faces, time_limit, progress)
        mesh = join(walk.parts)
        mesh = replace(mesh, vertices=mesh.vertices + space.center)
        if complete:
            mesh.check()
        _require_inside(space, mesh)
        _require_level(space, mesh)
    return Surface(mesh, space.level, output, against, complete, space.frame, {"until": until})


def _space(
    net: SplineNetwork,
    level: float,
    output: int,
    against: int | str | None,
    bounds: Any,
    origin: Any,
    basis: Any,
    until: str | None,
) -> Field:
    """The output less the level over the box; arguments as of :func:`surface`."""
    require_network(net)
    if (origin is None) != (basis is None):
        raise BadInput("basis: give origin and basis together")
    frame = input_frame(net, 3) if origin is None else frame_along(net, origin, basis, 3)
    number = frame.net.target(until, None)
    value = frame.net.graph.values[number]
    if value.dependence is not Dependence.AFFINE:
        raise BadInput("until: its value is piecewise constant (a comparison or an index); name another")
    if not 0 <= output < prod(value.units):
        raise BadInput(f"output: numbers run from 0 to {prod(value.units) - 1}, got {output}")
    box = sides(bounds, 3)
    if not (np.abs(box) <= LARGEST).all():
        raise BadInput(f"bounds: beyond {LARGEST:g} areas overflow; give a smaller box")
    spacing, side = float(np.spacing(np.abs(box).max())), float((box[1] - box[0]).min())
    if spacing > COARSE * side:
        raise BadInput(
            f"bounds: so far from zero float64 tells only points {spacing:.2g} apart, and the shortest side is"
            f" {side:g}; give a larger box, or subtract the offset and capture the network of what is left"
        )
    graph = frame.net.graph.part([number])
    if against is not None:
        return Field(frame, with_margin(graph, output, against), 0, level, box)
    return Field(frame, graph, output, level, box)


def _level(level: Any) -> float:
    """The level as a finite number."""
    try:
        found = float(level)
    except (TypeError, ValueError):
        found = float("nan")
    if not np.isfinite(found):
        raise BadInput(f"level: expected a finite number, got {level!r}; give a value that the output takes")
    return found


def _require_inside(space: Field, mesh: Mesh) -> None:
    """Refuse a mesh with a vertex out of the box, or a polygon of fewer than three corners."""
    points = mesh.vertices - space.center
    out = np.flatnonzero(
        ~(np.maximum(space.box[0] - points, points - space.box[1]).max(1) <= (OFF + space.rounding) * space.size)
    )
    if len(out):
        place = tuple(mesh.vertices[out[0]].tolist())
        raise PartitionError(f"{len(out)} vertices are out of the box", place, cure=CURE)
    thin = np.flatnonzero(mesh.counts < 3)
    if len(thin):
        place = tuple(mesh.vertices[mesh.corners[mesh.starts[thin[0]]]].tolist())
        raise PartitionError(f"{len(thin)} polygons have fewer than three corners", place, cure=CURE)


def _require_level(space: Field, mesh: Mesh) -> None:
    """Refuse a mesh with a vertex off the level set, by running the network there."""
    off = np.flatnonzero(~(np.abs(space.values(mesh.vertices)) <= space.tolerance(OFF)))
    if len(off):
        place = tuple(mesh.vertices[off[0]].tolist())
        raise PartitionError(f"{len(off)} vertices are off the level set", place, cure=CURE)


def _follow(
    walk: Walk,
    points: np.ndarray,
    directions: np.ndarray,
    max_faces: int,
    time_limit: float | None,
    progress: bool | None,
) -> bool:
    """Walk until the end, a limit or Ctrl-C; whether it was the end, and a warning where it was not."""
    end = np.inf if time_limit is None else time.monotonic() + time_limit
    with progress_bar(progress, "surface", unit="polygon") as bar:

        def stop(faces: int) -> bool:
            bar.update(faces - bar.n)
            return faces >= max_faces or time.monotonic() > end

        try:
            complete = walk.run(points, directions, stop)
            reason = "max_faces" if walk.faces >= max_faces else "time_limit"
        except KeyboardInterrupt:
            complete, reason = False, "an interrupt"
    if not complete:
        what = f"{reason} ended the walk: the surface of {walk.faces} polygons is unfinished"
        warnings.warn(what, UserWarning, stacklevel=3)
    return complete
