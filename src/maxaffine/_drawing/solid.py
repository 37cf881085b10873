"""Meshes of flat polygons in three dimensions as a picture to turn around: self-contained HTML, drawn by one script.

The script fills pixels and asks for nothing: no library, no network, no graphics card. Coordinates are rounded to a
65,536th of the box for it, which no screen shows. Of more polygons than it can turn smoothly it gets a coarser mesh,
whose corners are pulled together on a grid, and says so.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SOLID_SCRIPT, SOLID_STYLE = HERE / "solid.js", HERE / "solid.css"
FINEST = 65_535  # steps along each side of the box
GRIDS = (512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16, 8)
FLAT = 4  # times as long as another: then each axis has a scale of its own
THIN, LEAST = 1e-9, 1e-3  # of the longest side: less counts as none, which is drawn so wide
MOST_CORNERS = 65_535
HELP = "Drag to turn; two fingers zoom and tilt; click first for the wheel and the keys."


@dataclass(frozen=True, eq=False)
class Solid:
    """Polygons over shared vertices, corners polygon by polygon, with a part that each belongs to."""

    vertices: np.ndarray  # (V, 3)
    corners: np.ndarray  # (C,) vertices
    counts: np.ndarray  # (F,) corners of each polygon
    normals: np.ndarray  # (F, 3) towards one side, which is called front
    parts: np.ndarray  # (F,) numbers of what each is part of
    names: tuple[str, ...] = ("x₁", "x₂", "x₃")

    def view(self, alt: str, most: int) -> str:
        """The picture as an element for a page that has the style and, at its end, the script."""
        low, high = (end(self.vertices, 0, initial=start) for end, start in ((np.min, np.inf), (np.max, -np.inf)))
        low, high = (np.where(np.isfinite(end), end, 0) for end in (low, high))
        # A plane across an axis has no width there, but for rounding.
        thin = high - low <= THIN * (high - low).max()
        span = np.where(thin, 1, high - low)
        longest, shortest = (high - low).max(), span[~thin].min(initial=np.inf)
        # Features of a table have nothing to do with each other; lengths in space do.
        own = bool(longest > FLAT * shortest)
        sizes = np.where(thin, LEAST, 1 if own else span / (longest or 1))
        places, normals = (self.vertices - low) / span, self.normals * (span / sizes)
        solid = Solid(places, self.corners, self.counts, normals, self.parts)
        shown, piece, rest = solid, "polygon", [HELP]
        if len(self.counts) > most or self.counts.max(initial=0) > MOST_CORNERS:
            shown, grid = solid.coarser(most, sizes)
            piece = "triangle"
            rest.append(
                f"Simplified for this picture: {len(shown.counts):,} triangles, on a grid of {grid} steps along each"
                f" side, stand for {len(self.counts):,} polygons."
            )
        if own:
            rest.append("Each axis has a scale of its own.")
        content = {
            "low": low.tolist(),
            "high": high.tolist(),
            "sizes": sizes.tolist(),
            "names": list(self.names),
            "piece": piece,
            "count": int(self.parts.max(initial=0)) + 1,
            "rest": " ".join(rest),
            "data": shown.packed(),
        }
        parts = '<option value="parts">by part</option>' if content["count"] > 1 else ""
        text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        filled = {"alt": escape(alt), "parts": parts, "rest": escape(content["rest"]), "data": text}
        return _filled((HERE / "solid.html").read_text(encoding="utf-8"), filled)

    def coarser(self, most: int, sizes: np.ndarray) -> tuple["Solid", int]:
        """At most so many triangles, vertices between 0 and 1 pulled together on a grid; and how fine that is."""
        starts = np.cumsum(self.counts) - self.counts
        owner = np.repeat(np.arange(len(self.counts)), self.counts)
        fan = np.flatnonzero(np.arange(len(self.corners)) - starts[owner] >= 2)
        triangles = np.stack([self.corners[starts[owner[fan]]], self.corners[fan - 1], self.corners[fan]], 1)
        tried = (self._clustered(triangles, grid) for grid in GRIDS)
        # Of the coarsest grid they may still be more.
        grid, which, kept = next((found for found in tried if len(found[2]) <= most), None) or self._clustered(
            triangles, GRIDS[-1]
        )
        corners = which[triangles[kept]]
        sums = np.stack([np.bincount(which, column) for column in self.vertices.T], 1)
        vertices, of = sums / np.bincount(which)[:, None], owner[fan[kept]]
        a, b, c = (sizes * vertices[corners[:, k]] for k in range(3))
        crossed, old = np.cross(b - a, c - a), self.normals[of]
        turned = np.where((crossed * old).sum(1, keepdims=True) < 0, -crossed, crossed)
        normals = np.where(np.linalg.norm(crossed, axis=1, keepdims=True) > 0, turned, old)
        return Solid(vertices, corners.ravel(), np.full(len(kept), 3), normals, self.parts[of]), grid

    def _clustered(self, triangles: np.ndarray, grid: int) -> tuple[int, np.ndarray, np.ndarray]:
        """The grid, the number of the cell that each vertex is in, and which triangles are left, each once."""
        cells = np.minimum((self.vertices * grid).astype(np.int64), grid - 1)
        _, which = np.unique(cells @ (1, grid, grid * grid), return_inverse=True)
        corners = which[triangles]
        apart = (corners != np.roll(corners, 1, 1)).all(1)
        _, first = np.unique(np.sort(corners, 1), axis=0, return_index=True)
        return grid, which, first[apart[first]]

    def packed(self) -> dict[str, str]:
        """The arrays as the script reads them, lowest byte first, of vertices between 0 and 1."""
        normals = self.normals / np.linalg.norm(self.normals, axis=1, keepdims=True)
        arrays = {
            "points": np.round(self.vertices * FINEST).astype("<u2"),
            "corners": self.corners.astype("<u4"),
            "counts": self.counts.astype("<u2"),
            "normals": np.round(127 * normals).astype("i1"),
            "parts": np.minimum(self.parts, FINEST).astype("<u2"),
        }
        return {name: base64.b64encode(item.tobytes()).decode("ascii") for name, item in arrays.items()}

    def page(self, title: str, words: Sequence[str], most: int) -> str:
        """A page of its own, with a few sentences about the mesh."""
        script = SOLID_SCRIPT.read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        filled = {
            "digest": f"sha256-{digest}",
            "title": escape(title),
            "style": SOLID_STYLE.read_text(encoding="utf-8"),
            "words": escape(" ".join(words)),
            "view": self.view(title, most),
            "script": script,
        }
        return _filled((HERE / "page.html").read_text(encoding="utf-8"), filled)

    def frame(self, title: str, words: Sequence[str], most: int) -> str:
        """The page within another one, such as a notebook, whose style and scripts it does not touch."""
        page = escape(self.page(title, words, most))
        style = "width:100%;max-width:44rem;height:40rem;border:0"
        return f'<iframe srcdoc="{page}" style="{style}" title="{escape(title)}"></iframe>'


def _filled(template: str, values: dict[str, str]) -> str:
    """A template with every {name} replaced; what is put in is not looked at."""
    return re.sub(rf"\{{({'|'.join(values)})\}}", lambda found: values[found[1]], template)
