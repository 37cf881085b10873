"""Power (Laguerre) diagrams: the geometry of the cells of a max-affine spline."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from maxaffine.spline.checks import check_rows


@dataclass(frozen=True, eq=False)
class PowerDiagram:
    r"""M centres with squared radii; a point belongs to the cell whose power distance to it is smallest.

    .. math:: \mathrm{cell}(x) = \arg\min_m |x - c_m|^2 - \rho_m

    A squared radius may be negative; -inf marks an empty cell.

    Args:
        centres: c, (M, D).
        squared_radii: rho, (M,).

    Source: Balestriero, Cosentino, Aazhang, Baraniuk, The Geometry of Deep Networks: Power Diagram Subdivision (2019),
    arXiv 1905.08443 (a layer of MASO units cuts its input space into a power diagram).

    >>> import torch
    >>> PowerDiagram(torch.tensor([[0.0], [4.0]]), torch.tensor([9.0, 1.0])).locate(torch.tensor([[2.5], [3.5]]))
    tensor([0, 1])
    """

    centres: Tensor
    squared_radii: Tensor

    def locate(self, x: Tensor) -> Tensor:
        """Cell of each point; the lowest cell wins a tie.

        Args:
            x: points, (N, D).

        Returns:
            Cell numbers, (N,) int64.
        """
        check_rows(x, self.centres)
        # |x|^2 is the same for every cell, so it is left out of the power distance.
        power = self.centres.square().sum(1) - self.squared_radii - 2 * (x @ self.centres.T)
        return power.min(dim=1).indices
