"""Power (Laguerre) diagrams: the geometry of the cells of a max-affine spline."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from maxaffine._spline.checks import check_finite, check_rows
from maxaffine.errors import BadInput, ShapeMismatch

# The cells of a whole layer are written out up to this many; beyond, only those asked for.
MOST_CELLS = 1 << 20


@dataclass(frozen=True, eq=False)
class PowerDiagram:
    """M centers with squared radii; a point belongs to the cell of least power distance |x - c_m|^2 - rho_m."""

    centers: Tensor  # c, (M, D), floating point
    squared_radii: Tensor  # rho, (M,), of the same dtype and device
    # With equal radii the cells are the Voronoi cells of the centers; a squared radius may be negative, and -inf marks
    # an empty cell.
    codes: Tensor | None = None  # the code that each cell bears, (M, units); None for a diagram of no spline
    # (rho - |c|^2) / 2, (M,), what the cells are told apart by; computed by default. A spline hands over its own, from
    # which rounding |c|^2 has taken nothing away.
    offsets: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the fields belong together."""
        centers, radii = self.centers, self.squared_radii
        cells = (len(centers),)
        if centers.ndim != 2 or radii.shape != cells or (self.offsets is not None and self.offsets.shape != cells):
            raise ShapeMismatch(
                f"centers, squared_radii: shapes {tuple(centers.shape)} and {tuple(radii.shape)}; give (M, D) and (M,)"
            )
        if radii.dtype != centers.dtype or radii.device != centers.device or not centers.is_floating_point():
            raise ShapeMismatch("centers, squared_radii: give floating point of one dtype on one device")
        check_finite("centers", centers)
        if bool(radii.isnan().any() | (radii == torch.inf).any()) or not bool((radii > -torch.inf).any()):
            raise BadInput("squared_radii: give numbers or -inf (an empty cell), and one number at least")

    def locate(self, x: Tensor) -> Tensor:
        """Cell of each point; the lowest cell wins a tie."""
        check_rows(x, self.centers)
        offsets = self.offsets
        if offsets is None:
            offsets = (self.squared_radii - self.centers.square().sum(1)) / 2
        # |x|^2 is the same for every cell; without it, half the power distance is this with the sign turned.
        return F.linear(x, self.centers, offsets).max(dim=1).indices


def unit_diagram(slopes: Tensor, offsets: Tensor, present: Tensor | None, unit: int) -> PowerDiagram:
    """The cells of one unit, one per piece."""
    # 2 (<c_r, x> + B_r) = |x|^2 - (|x - c_r|^2 - rho_r) with rho_r = |c_r|^2 + 2 B_r: the piece that wins is the cell.
    units, pieces, _ = slopes.shape
    if not 0 <= unit < units:
        raise BadInput(f"unit: {unit} is not one of them; give a number from 0 to {units - 1}")
    heights = offsets[unit] if present is None else offsets[unit].masked_fill(~present[unit], -torch.inf)
    every = torch.arange(pieces, device=slopes.device)[:, None]
    return PowerDiagram(slopes[unit], slopes[unit].square().sum(1) + 2 * heights, every, heights)


def layer_diagram(slopes: Tensor, offsets: Tensor, present: Tensor | None, codes: Tensor | None) -> PowerDiagram:
    """The cells of all units together that bear the codes (M, K), in their order; all there are without codes."""
    units, pieces, _ = slopes.shape
    codes = every_code(present, units, pieces, slopes.device) if codes is None else codes
    if codes.ndim != 2 or codes.shape[1] != units or codes.is_floating_point():
        raise ShapeMismatch(f"codes: {codes.dtype} {tuple(codes.shape)}; give integers of shape (M, {units})")
    codes = codes.long()
    if bool(((codes < 0) | (codes >= pieces)).any()):
        raise BadInput(f"codes: some are not in 0..{pieces - 1}; use codes returned by codes(x)")
    if present is not None and not bool(present.gather(1, codes.T).all()):
        raise BadInput("codes: a piece is not present in its unit; use codes returned by codes(x)")
    # A sum of maxima is the maximum over all combinations: the layer's pieces are sums of one piece of each unit.
    # Balestriero, Cosentino, Aazhang, Baraniuk, The Geometry of Deep Networks: Power Diagram Subdivision (2019),
    # arXiv 1905.08443.
    selected = F.one_hot(codes, pieces).to(slopes.dtype).flatten(1)
    centers, heights = selected @ slopes.flatten(0, 1), selected @ offsets.flatten()
    return PowerDiagram(centers, centers.square().sum(1) + 2 * heights, codes, heights)


def every_code(present: Tensor | None, units: int, pieces: int, device: torch.device) -> Tensor:
    """All the codes (M, K) that a layer could have, the last unit's changing fastest."""
    present = torch.ones(units, pieces, dtype=torch.bool) if present is None else present
    choices = [row.nonzero().flatten().to(device) for row in present]
    cells = prod(len(choice) for choice in choices)
    if cells > MOST_CELLS:
        raise BadInput(
            f"codes: the layer has up to {cells:,} cells, more than {MOST_CELLS:,}; give those to look at, e.g."
            " codes=spline.codes(x).unique(dim=0)"
        )
    return torch.cartesian_prod(*choices).view(-1, units)
