"""The layer: K codebooks whose nearest centroids are the codes of a max-affine spline, learned by its gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maxaffine import BadInput, MaxAffineSpline


class Quantized(NamedTuple):
    """What the layer makes of a batch.

    Attributes:
        values: The chosen centroids put together, (N, D); the gradient passes to the input as if nothing had happened.
        codes: Which centroid of each codebook, (N, K) int64.
        distortion: Squared distance of each input to its value, (N,), differentiable in the centroids.
    """

    values: Tensor
    codes: Tensor
    distortion: Tensor


class VectorQuantizer(nn.Module):
    r"""K codebooks of R centroids, each for its own features; together a factorial quantizer of R^K values.

    Codebook k is unit k of a max-affine spline whose slopes are the centroids, zero outside the codebook's features,
    and whose offsets stay tied to them, B[k, r] = -|A[k, r]|^2 / 2. So the codes are nearest centroids, and

    .. math:: |x - \sum_k A[k, q_k]|^2 = |x|^2 - 2 \sum_k S(x)_k

    The spline's own value is all that gradient descent has to raise.

    Args:
        centroids: (K, R, d) to begin with; copied. Of equal ones in a codebook only the first is ever chosen.
        features: Which features each codebook sees, (K, d) int64; each of 0 .. K d - 1 belongs to one codebook. With a
            single codebook all of them, by default.

    Raises:
        BadInput: The features are not shared out among the codebooks.

    >>> layer = VectorQuantizer(torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]))
    >>> out = layer(torch.tensor([[0.9, 0.8], [0.1, -0.1]]))
    >>> out.codes.flatten().tolist(), [round(value, 4) for value in out.distortion.tolist()]
    ([1, 0], [0.05, 0.02])
    """

    seen: Tensor

    def __init__(self, centroids: Tensor, features: Tensor | None = None) -> None:
        super().__init__()
        codebooks, pieces, width = centroids.shape
        features = torch.arange(width)[None] if features is None else features
        total = codebooks * width
        if features.shape != (codebooks, width) or sorted(features.flatten().tolist()) != list(range(total)):
            raise BadInput(f"features must share out 0 .. {total - 1} among {codebooks} codebooks, {width} to each")
        places = features[:, None].expand(-1, pieces, -1)
        slopes = centroids.new_zeros(codebooks, pieces, total).scatter(2, places, centroids.detach())
        self.register_buffer("seen", torch.zeros_like(slopes[:, :1]).scatter(2, features[:, None], 1.0))
        self.maso = MaxAffineSpline.from_centroids(slopes)
        self.maso.offsets.requires_grad_(False)

    def spline(self) -> MaxAffineSpline:
        """The layer as it is now, as a spline of its own."""
        return MaxAffineSpline.from_centroids(self.maso.slopes)

    def forward(self, x: Tensor) -> Quantized:
        """Quantize.

        Args:
            x: inputs, (N, D).

        Returns:
            Values, codes and distortions.
        """
        # The product keeps the gradient zero outside a codebook's features, where the slopes begin at zero and so stay.
        slopes = self.maso.slopes * self.seen
        tied = -slopes.square().sum(2) / 2
        value = functional_call(self.maso, {"slopes": slopes, "offsets": tied}, (x,)).sum(1)
        with torch.no_grad():
            self.maso.offsets.copy_(tied)
            codes, decoded = self.maso.codes(x), self.maso.affine_map(x).slopes.sum(1)
        return Quantized(x + (decoded - x).detach(), codes, x.square().sum(1) - 2 * value)
