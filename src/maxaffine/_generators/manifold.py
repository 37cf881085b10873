"""The whole image of a generator of two latents: a folded surface, whose pieces are the regions of the latent plane.

On a region g is affine, so its piece of the surface is flat, and every integral of what is constant on regions is a
finite sum: area, entropy under a uniform prior, expectations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._drawing import axes_for, color_map, draw_strokes, fill_polygons, input_pixels, is_image
from maxaffine._generators.density import Entropy
from maxaffine._generators.slopes import BLOCK_BYTES, Generator, generator, in_float64
from maxaffine._generators.spectrum import log_volumes, require_volume
from maxaffine._partition import PlanePartition, plane
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

SHADES = 256
SHARE = 0.01  # of the latent area at either end that shares a color
PICTURES = 6  # side by side on the sheet of samples


@dataclass(frozen=True, eq=False)
class Manifold:
    """The image of a polygon of latents under a generator of two; from :func:`manifold`.

    Attributes:
        plane: The regions of the latent plane, whose coordinates are the latents.
        log_volumes: (F,) of every region: log sqrt(det(A^T A)).
    """

    plane: PlanePartition
    log_volumes: Tensor
    g: Generator

    @property
    def areas(self) -> Tensor:
        """(F,) the area of every piece of the surface, counted once for every region that covers it."""
        return self.plane.areas * self.log_volumes.exp()

    @property
    def area(self) -> float:
        """The area of the whole surface, each sheet counted where it passes twice."""
        return float(self.areas.sum())

    def expectation(self, values: Tensor, uniform: str = "image") -> Tensor:
        """The mean of a quantity that is constant on regions, exactly.

        Args:
            values: (F, ...) one per region.
            uniform: What is uniform: the ``"image"``, so that regions weigh by their area on the surface, or the
                ``"latent"``.

        Returns:
            The mean, of shape ``values.shape[1:]``.

        Raises:
            BadInput: For another number of values, or another word.
        """
        if len(values) != self.plane.regions:
            raise BadInput(f"values: {len(values)} for {self.plane.regions} regions; give one for each")
        if uniform not in ("image", "latent"):
            raise BadInput(f"uniform: expected 'image' or 'latent', got {uniform!r}")
        weights = self.areas if uniform == "image" else self.plane.areas
        if not weights.sum() > 0:
            raise BadInput("uniform: the image has no area, the generator is flat; give uniform='latent'")
        kept = weights > 0  # a region that is not on the image adds nothing, infinite as it may be
        return torch.tensordot((weights / weights.sum())[kept], values[kept].double(), 1)

    @property
    def entropy(self) -> Entropy:
        """Of samples whose latents are uniform on the polygon: log of its area plus the mean log volume, exactly."""
        mean = float(self.expectation(self.log_volumes, "latent"))
        return Entropy(log(float(self.plane.areas.sum())) + mean, 0.0, 0)

    @property
    def imbalance(self) -> float:
        """Total variation between samples of uniform latents and uniform samples of the surface, in [0, 1].

        Where the surface passes twice each sheet counts by itself; not a number where it has no area.
        """
        shares = [part / part.sum() for part in (self.areas, self.plane.areas)]
        return float((shares[0] - shares[1]).abs().sum() / 2)

    @cached_property
    def angles(self) -> Tensor:
        """(A,) the angle in radians between the pieces on either side of each pair of ``plane.adjacency``.

        sin of it is the norm of P_A - P_A', with P_A = A (A^T A)^-1 A^T: the largest angle between the planes that
        carry the pieces. Across one unit's boundary the slopes differ by a matrix of rank one, so the pieces turn about
        their common edge and this is the angle of the fold, up to pi / 2. Not a number beside a collapsed piece, which
        lies in no one plane.
        """
        pairs, parts = self.plane.adjacency, []
        per_pair = 64 * self.g.numbers
        for part in slices(len(pairs), BLOCK_BYTES // per_pair):
            cells, places = torch.unique(pairs[part], return_inverse=True)
            bases = torch.linalg.qr(self.plane.plane_map(cells)[0].reshape(len(cells), -1, 2)).Q
            one, other = bases[places[:, 0]], bases[places[:, 1]]
            # What one plane has outside the other has the sine as its norm, to full precision near zero.
            outside = other - one @ (one.transpose(1, 2) @ other)
            parts.append(torch.linalg.matrix_norm(outside, 2).clamp(max=1).asin())
        angles = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        return torch.where(self.log_volumes[pairs].isfinite().all(1), angles, nan)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        samples: bool = True,
        cmap: str | Colormap | None = None,
        linewidth: float = 0.0,
        size: float | None = None,
    ) -> Axes:
        """Draw the latent plane, colored by log volume, beside what the generator makes of a grid of its latents.

        Args:
            ax: What to draw in; None makes a figure of pyplot.
            samples: Whether pictures stand beside the plane; only of generators of pictures.
            cmap: A color map of matplotlib, viridis by default.
            linewidth: Of the boundaries, in points; 0 draws none.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        pictures = samples and is_image(self.g.units)
        ax = axes_for(ax, 9.0 if pictures else 5.0, 4.2, sheet=False, size=size)
        cells, logs = self.plane.cells, self.log_volumes.numpy()
        low, high = _ends(logs, cells.areas)
        shades = np.clip((logs - low) / (high - low) * (SHADES - 1), 0, SHADES - 1).astype(int)
        palette = color_map(cmap, "viridis")(np.linspace(0, 1, SHADES))
        # Areas of one color need no line between them, so thousands of cells stay one path.
        fill_polygons(ax, cells.points, cells.corners, cells.starts, shades, palette)
        if linewidth:
            draw_strokes(ax, cells.points[cells.ends], "white", linewidth)
        left, bottom = cells.points.min(0)
        right, top = cells.points.max(0)
        word = "latent" if self.plane.frame.anchors is None else "coordinate"
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel=f"{word} 1", ylabel=f"{word} 2")
        ax.set_title(f"log volume, {low:.2f} to {high:.2f} ({self.plane.regions:,} regions)", fontsize=9)
        if pictures:
            inset = ax.inset_axes((1.08, 0, 1, 1))
            inset.imshow(self._sheet(left, right, bottom, top), extent=(left, right, bottom, top), aspect="auto")
            inset.set_title("what it generates there", fontsize=9)
            inset.set(xticks=[], yticks=[])
        return ax

    def surface(self, ax: Any = None, *, cmap: str | Colormap | None = None, size: float = 5.0) -> Any:
        """Draw the surface itself, of a generator of three numbers, colored by log volume, in axes of mplot3d."""
        if self.g.numbers != 3:
            raise BadInput(f"surface: samples of {self.g.numbers} numbers, not 3; plot() draws the latent plane")
        ax = axes_for(ax, size, size, sheet=False, size=size, projection="3d")
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection

        cells, logs = self.plane.cells, self.log_volumes.numpy()
        corners = self.plane.values.numpy()
        low, high = _ends(logs, cells.areas)
        colors = color_map(cmap, "viridis")((logs - low) / (high - low))
        polygons = np.split(corners[cells.corners], cells.starts[1:-1])
        ax.add_collection3d(Poly3DCollection(polygons, facecolors=colors, edgecolors="none"))
        for name, low, high in zip("xyz", corners.min(0), corners.max(0), strict=True):
            getattr(ax, f"set_{name}lim")(low, high)
        return ax

    def _sheet(self, left: float, right: float, bottom: float, top: float) -> np.ndarray:
        """One picture of samples on a grid of latents, the first row on top."""
        counts = PICTURES, min(max(round(PICTURES * (top - bottom) / (right - left)), 1), 2 * PICTURES)
        across, down = (
            a + (b - a) * (torch.arange(count, dtype=torch.float64) + 0.5) / count
            for a, b, count in ((left, right, counts[0]), (top, bottom, counts[1]))
        )
        grid = torch.stack([across.repeat(counts[1]), down.repeat_interleave(PICTURES)], 1)
        tiles = [input_pixels(picture) for picture in self.plane.at(grid).reshape(-1, *self.g.units).numpy()]
        rows = [np.concatenate(tiles[part], axis=1) for part in slices(len(tiles), PICTURES)]
        return np.concatenate(rows, axis=0)

    def __repr__(self) -> str:
        return f"Manifold: {self.plane.regions:,} regions, area {self.area:.6g}, imbalance {self.imbalance:.3f}"


def manifold(
    net: object, extent: Any = None, *, output: int | str | None = None, progress: bool | None = None
) -> Manifold:
    """The exact image of a polygon of latents under a generator of two latents: its area, entropy, folds and picture.

    Args:
        net: The generator, captured, piecewise affine, of two latents.
        extent: The latents: r for [-r, r]^2, (left, right, bottom, top), or the corners (n, 2) of a convex polygon;
            [-1, 1]^2 by default.
        output: Which output, by number or name, for a network with several.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The surface, region by region. In float64.

    Raises:
        BadInput: For another number of latents, and as of :func:`maxaffine.partition.plane`.
        NotPiecewiseAffine: For a smooth generator, which has no regions, or an operator that jumps.

    Example:
        >>> import torch, maxaffine as ma
        >>> net = ma.capture(torch.nn.Linear(2, 2).double(), torch.zeros(1, 2).double())
        >>> found = ma.generators.manifold(net, 1.0)
        >>> bool(abs(found.area - 4 * net.affine_map(torch.zeros(1, 2).double()).slopes.det().abs()) < 1e-12)
        True
    """
    g = in_float64(generator(net, output))
    g.net.require_regions("manifolds")
    if g.latents != 2:
        raise BadInput(f"net: {g.latents} latents, not 2; sample(net, ...) and entropy(net, ...) take any number")
    require_volume(g)
    shape = g.net.inputs.units[0]
    found = plane(
        g.net,
        origin=torch.zeros(1, *shape, dtype=torch.float64),
        basis=torch.eye(2, dtype=torch.float64).reshape(2, *shape),
        extent=1.0 if extent is None else extent,
        output=output,
        progress=progress,
    )
    return manifold_of(found)


def manifold_of(found: PlanePartition) -> Manifold:
    """The image of latents whose plane is divided already, in coordinates that keep areas."""
    g = generator(found.frame.net, found.frame.net.graph.outputs.index(found.number))
    size = max(1, BLOCK_BYTES // (16 * g.numbers))
    parts = torch.arange(found.regions).split(size)
    slopes = (found.plane_map(cells)[0].reshape(len(cells), -1, 2) for cells in parts)
    return Manifold(found, log_volumes(slopes, g), g)


def _ends(logs: np.ndarray, areas: np.ndarray) -> tuple[float, float]:
    """The log volumes between which colors run: a hundredth of the area lies beyond either."""
    finite = np.isfinite(logs)
    if not finite.any():
        return 0.0, 1.0
    order = np.argsort(logs[finite])
    below = np.cumsum(areas[finite][order])
    places = np.searchsorted(below, np.array([SHARE, 1 - SHARE]) * below[-1])
    low, high = logs[finite][order][places]
    return float(low), float(max(high, low + 1e-12 * (1 + abs(low))))
