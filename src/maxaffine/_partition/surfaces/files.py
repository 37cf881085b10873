"""Meshes of polygons as files: PLY (binary), OBJ, and a page on which the mesh can be turned around."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from maxaffine._files import replacing
from maxaffine._partition.surfaces.mesh import Mesh
from maxaffine.errors import BadInput


def write_mesh(mesh: Mesh, page: Callable[[], str], path: Path) -> None:
    """Write a mesh, or the page about it, in the format that the name ends in."""
    writers = {".ply": lambda: _ply(mesh), ".obj": lambda: _obj(mesh), ".html": lambda: page().encode()}
    if path.suffix.lower() not in writers:
        raise BadInput(f"path: expected a name that ends in {', '.join(writers)}, got {path.name!r}")
    with replacing(path) as temporary:
        temporary.write_bytes(writers[path.suffix.lower()]())


def _ply(mesh: Mesh) -> bytes:
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(mesh.counts)}\nproperty list int int vertex_indices\nend_header\n"
    )
    # Every polygon's number of corners stands before its corners.
    faces = np.insert(mesh.corners, mesh.starts[:-1], mesh.counts).astype("<i4")
    return header.encode() + mesh.vertices.astype("<f8").tobytes() + faces.tobytes()


def _obj(mesh: Mesh) -> bytes:
    vertices = [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.vertices.tolist()]
    numbers = (mesh.corners + 1).astype(str).tolist()
    starts = mesh.starts.tolist()
    faces = [f"f {' '.join(numbers[a:b])}" for a, b in zip(starts, starts[1:], strict=False)]
    return ("\n".join([*vertices, *faces]) + "\n").encode()
