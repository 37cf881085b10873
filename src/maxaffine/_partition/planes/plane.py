"""Every region of a network on a plane, exactly: kept in memory, or written to disk tile by tile.

The division is the same; what differs is where a finished block goes. In memory blocks are collected, and joined along
their borders at the end. On disk a block becomes a file at once, so that a plane of any number of regions needs the
memory of one. The folder is also the record of what is done: the same call goes on after its last tile, since the line
about a tile says on which way it was reached.
"""

import warnings
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from maxaffine._capture import SplineNetwork
from maxaffine._partition.planes.blocks import Leaf, Watch, divide_plane
from maxaffine._partition.planes.checks import AREA, check_geometry
from maxaffine._partition.planes.glue import glue
from maxaffine._partition.planes.partition import PlanePartition
from maxaffine._partition.planes.task import MEMORY, TOLERANCE, new_task
from maxaffine._partition.planes.tiles import COMPLETE, TILES, PlaneTiles, add_line, prepare, read_lines, write_tile
from maxaffine.errors import PartitionError


def plane(
    net: SplineNetwork,
    anchors: Any = None,
    *,
    origin: Any = None,
    basis: Any = None,
    points: Any = None,
    extent: Any = None,
    until: str | None = None,
    output: int | str | None = None,
    tolerance: float = TOLERANCE,
    memory: int = MEMORY,
    keep_values: bool | None = None,
    progress: bool | Watch | None = None,
) -> PlanePartition:
    """Divide a convex polygon of a plane in input space into the regions of a network.

    x(t) = origin + t_1 basis_1 + t_2 basis_2; on every cell all units keep their pieces, so f(x(t)) is affine in t.
    The network is followed operator by operator, and all cells are divided by all units of an operator at once: an edge
    is cut where a unit changes sign, and within a cell, on which the unit is affine, its zero set is the chord between
    two such cuts. Continuity makes the value at a vertex the same for all cells around it. All in float64.

    Args:
        net: The network. One captured in another type is computed in float64, with the parameters as they are.
        anchors: Three inputs that span the plane: (x0, x1, x2), or a batch of three. Coordinates then are distances
            in input space, the first anchor at (0, 0) and the second on the first axis. A network that takes two
            numbers needs neither anchors nor origin and basis: coordinates are its inputs.
        origin: In place of anchors, one input,
        basis: and two directions, shaped as inputs: a pair, or a batch of two; coordinates count these directions.
        points: Further inputs that lie in the plane, given as anchors are. Where an image has flat patches, hundreds of
            boundaries pass through its point; a known point (an anchor, the origin, these) is a vertex from the start,
            any other is found and costs more time.
        extent: What to partition, in coordinates: r for [-r, r]^2, (left, right, bottom, top), or the corners (n, 2) of
            a convex polygon. By default the rectangle around the anchors with a margin, or [-1, 1]^2.
        until: Name of an operator or module to stop after; the boundaries of what follows it are left out.
        output: Which output, by number or name, for a network with several.
        tolerance: Points closer than this, relative to the polygon, may become one vertex; units this small beside
            their largest value on the polygon count as zero at a vertex.
        memory: About how many bytes the values of one block of cells may take; other blocks wait, depth first.
        keep_values: Whether to keep the outputs at the vertices; by default when there are at most 128.
        progress: Whether to show a progress bar of the area done; by default when it takes over two seconds. Or a
            function, called before every step with the share of the work done, in [0, 1], and the number of cells so
            far, which only grows; what it raises ends the run and reaches the caller.

    Returns:
        The partition. Ctrl-C returns it with unfinished cells, which say so, and a warning.

    Raises:
        BadInput: For anything that spans no plane or polygon, bad inputs or an unknown name.
        NotPiecewiseAffine: For an operator that jumps (hardshrink, a comparison) or sorts.
        PartitionError: When rounding made the result inconsistent; it is always checked.

    Example:
        >>> import torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> found = ma.partition.plane(net, extent=1.0)
        >>> found.regions, found.areas.tolist()
        (4, [1.0, 1.0, 1.0, 1.0])

    Source: the partition of Balestriero and Baraniuk, "Mad Max" (arXiv 1805.06576); restriction of networks to planes,
    Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks" (NeurIPS 2019); subdivision by the signs at
    vertices, Berzins, "Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision" (ICML 2023).
    """
    task = new_task(net, anchors, origin, basis, points, extent, until, output, tolerance, memory, keep_values)
    leaves: list[Leaf] = []
    rest = divide_plane(task, leaves.append, progress)
    if leaves and rest and rest[-1].path == leaves[-1].path:
        rest.pop()  # interrupted just after its last leaf
    if rest:
        warnings.warn("interrupted: the partition returned has unfinished cells", UserWarning, stacklevel=2)
    cells, values, level = glue([*leaves, *rest], task.tolerance)
    found = PlanePartition(task.frame, task.operators, cells, level, task.tolerance, task.number, values, task.dtype)
    found.check_geometry(task.corners)
    return found


def stream_plane(
    net: SplineNetwork,
    folder: str | PathLike[str],
    anchors: Any = None,
    *,
    progress: bool | Watch | None = None,
    **options: Any,
) -> PlaneTiles:
    """Divide a polygon as :func:`plane` does, writing every finished block of cells to a folder as a tile.

    Memory stays bounded whatever the number of regions: one block is worked on, and others wait. A tile holds whole
    cells, so that nothing is cut at its borders; every tile's geometry is checked before it is written, and the total
    area after the last one. Ctrl-C or a crash leaves a readable folder, and the same call goes on after its last tile,
    once it has divided again what led to it.

    Args:
        net: The network.
        folder: Where the tiles go: a new or empty folder, or that of an earlier run with the same arguments.
        anchors: As of :func:`plane`.
        progress: See there.
        options: All other arguments of :func:`plane`; ``memory`` is about what a tile takes.

    Returns:
        The tiles, read from disk when they are asked for. After Ctrl-C they are not ``complete``, with a warning.

    Raises:
        BadInput: As :func:`plane`, and for a folder that holds something else.
        NotPiecewiseAffine: As :func:`plane`.
        PartitionError: As :func:`plane`.
        DataError: When a file cannot be written, or is damaged.

    Example:
        >>> import tempfile, torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> plane = {"origin": torch.zeros(1, 2), "basis": torch.eye(2)}
        >>> tiles = ma.partition.stream_plane(net, tempfile.mkdtemp(), **plane)
        >>> tiles.regions, len(tiles), tiles[0].areas.tolist()
        (4, 1, [1.0, 1.0, 1.0, 1.0])

    Source: see :func:`plane`.
    """
    path = Path(folder).expanduser()
    task = new_task(net, anchors, **options)
    prepare(path, task, net.fingerprint)
    entries, complete, whole = read_lines(path)
    if complete:
        return PlaneTiles.open(net, path)
    with (path / TILES).open("ab") as lines:
        lines.truncate(whole)
    count = len(entries)

    def write(leaf: Leaf) -> None:
        nonlocal count
        check_geometry(leaf.cells, task.tolerance)
        write_tile(path, count, leaf)
        count += 1

    area = float(sum(entry.area for entry in entries))
    after = tuple((part, vertices) for part, vertices in entries[-1].path) if entries else None
    rest = divide_plane(task, write, progress, after, area)
    found = PlaneTiles.open(net, path)
    if rest:
        warnings.warn(f"interrupted: the same call goes on after the {count} tiles in {path}", stacklevel=2)
        return found
    # The last line says that nothing is missing: the areas have to add up first.
    if abs(found.area - found.polygon_area) > AREA * found.polygon_area:
        raise PartitionError(f"the tiles have area {found.area}, the polygon {found.polygon_area}")
    add_line(path, COMPLETE)
    return replace(found, complete=True)
