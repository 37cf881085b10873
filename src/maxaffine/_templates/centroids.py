"""How collinear samples are with the centroids of their regions, the sums of the rows of A[x]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maxaffine._drawing import axes_for
from maxaffine._graph import as_rows, as_tuple
from maxaffine._network import Network
from maxaffine._templates.layer import find_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class CentroidCosines:
    """The cosine of each sample with its region's centroid; from :func:`centroid_alignment`."""

    cosines: Tensor  # (N,) float64; 0 where the sample or the centroid is zero

    @property
    def mean(self) -> float:
        """The mean cosine over the samples."""
        return float(self.cosines.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, over the samples, the network held fixed; NaN for a single one."""
        return float(self.cosines.std()) / math.sqrt(len(self)) if len(self) > 1 else math.nan

    def plot(self, ax: Axes | None = None, *, label: str | None = None, size: float = 5.0) -> Axes:
        """Draw the histogram of the cosines, with a line at their mean.

        Args:
            ax: Where to draw, e.g. the axes of another network's; axes of a new figure by default.
            label: What the legend calls these; none by default.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        ax = axes_for(ax, 5.0, 3.2, sheet=False, size=size)
        # Shares rather than counts, so that batches of different sizes can be drawn into the same axes.
        weights = [1 / len(self)] * len(self)
        bars = ax.hist(self.cosines.cpu().numpy(), bins=50, range=(-1, 1), weights=weights, alpha=0.6, label=label)[2]
        ax.axvline(self.mean, color=bars[0].get_facecolor()[:3], linewidth=1.4)  # pyright: ignore
        ax.set_xlabel("cosine of x with its centroid $A[x]^T 1$ (line: mean)")
        ax.set_ylabel("share of the samples")
        ax.spines[["top", "right"]].set_visible(False)
        if label is not None:
            ax.legend(frameon=False)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """The mean, its standard error and every cosine, as plain numbers."""
        return {"mean": self.mean, "standard_error": self.standard_error, "cosines": self.cosines.tolist()}

    def __len__(self) -> int:
        return len(self.cosines)

    def __repr__(self) -> str:
        spread = "" if math.isnan(self.standard_error) else f" ± {self.standard_error:.2g}"
        return f"CentroidCosines: {self.mean:.3f}{spread} over {len(self)} samples"


def centroid_alignment(
    net: Network, x: Any, *, until: str | None = None, output: int | str | None = None
) -> CentroidCosines:
    """Measure how collinear samples are with the centroids of their regions: cos(x, A[x]^T 1).

    The partition of a piecewise-affine network is a power diagram, and the centroid of x's region is the sum of the
    rows of its Jacobian, A[x]^T 1. One backward pass gives those of a batch; A is never built. 1 is full alignment.

    Softmax does not see what is added to all logits alike, and the centroid does: a network can have any alignment with
    the same answers. Compare moments of one training, rather than networks.

    Args:
        net: The captured network.
        x: The samples, as at capture.
        until: Operator or module whose centroids are taken; the network's output by default.
        output: Which output, by number or name, for a network with several.

    Returns:
        The cosines, with their mean and its standard error.

    Raises:
        BadInput: When there is no such layer; lists what there is.
        NotPiecewiseAffine: For a smooth network, which has no regions.

    >>> import torch, maxaffine as ma
    >>> model = torch.nn.Linear(2, 3, bias=False)
    >>> with torch.no_grad():
    ...     _ = model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]))  # their sum is (3, 4)
    >>> net = ma.capture(model, torch.zeros(1, 2))
    >>> ma.templates.centroid_alignment(net, torch.tensor([[3.0, 4.0], [-4.0, 3.0]])).cosines
    tensor([1., 0.], dtype=torch.float64)

    Source: Walker, Humayun, Balestriero and Baraniuk, "GrokAlign: Geometric Characterisation and Acceleration of
    Grokking" (arXiv 2506.12284); centroids: Balestriero, Cosentino, Aazhang and Baraniuk, "The Geometry of Deep
    Networks: Power Diagram Subdivision" (2019).
    """
    layer = find_layer(net, until, output)
    net.require_regions("centroids")
    affine_map = layer.affine_map(x)
    parts = as_tuple(affine_map.rmv(torch.ones_like(affine_map.value)))
    centroids, samples = (
        torch.cat([as_rows(item).double() for item in items], dim=1) for items in (parts, layer.inputs(x))
    )
    lengths = centroids.norm(dim=1) * samples.norm(dim=1)
    products = (centroids * samples).sum(1)
    return CentroidCosines(torch.where(lengths > 0, products / lengths, 0.0))
