"""What the slopes of a generator say at single latents: singular values, volume, local dimension, column cosines.

The volume of the image of a small latent cube is that of the cube times sqrt(det(A^T A)), the product of the singular
values of A (D, S). Logarithms are kept throughout: products of a hundred singular values leave the range of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import axes_for
from maxaffine._generators.slopes import Generator, Head, derivative, generator
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, MaxAffineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Lanczos takes some 10 products for each singular value that it finds; from here on that is less than all columns.
LANCZOS = 10


def spectrum(
    net: object,
    z: Tensor,
    k: int | None = None,
    *,
    output: int | str | None = None,
    head: Head = None,
    progress: bool | None = None,
) -> Tensor:
    r"""The singular values of the slopes A[z] at each latent, largest first: how a small step in z moves the sample.

    A has the shape (D, S) and is the Jacobian of g at z. Few of many (k below a tenth of min(D, S)) are found by
    Lanczos iteration from products with A and A^T alone, so that A is never built; their error is about
    eps sigma_1^2 / sigma_k, while that of all is eps sigma_1, and of values that are equal to the last digit it may
    miss one.

    Args:
        net: The generator, captured; one captured with ``smooth="tangent"`` has the true Jacobian's.
        z: Latents (N, *latent), as at capture.
        k: How many, all min(D, S) by default.
        output: Which output, by number or name, for a network with several.
        head: A function that is applied to every number after the last piece, such as ``torch.tanh``: an exact diagonal
            factor. True takes the activation that was left out with ``capture(..., output="pre_activation")``.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        (N, k).

    Raises:
        BadInput: For a network that is not a generator, or whose maps are not Jacobians; a head that mixes numbers; k
            outside 1..min(D, S).
        MaxAffineError: When SciPy is absent, for few of many.

    Example:
        >>> import torch, maxaffine as ma
        >>> stretch = torch.nn.Linear(2, 3, bias=False).double()
        >>> _ = torch.nn.init.zeros_(stretch.weight)
        >>> stretch.weight.data[0, 0], stretch.weight.data[2, 1] = 2.0, 5.0
        >>> net = ma.capture(stretch, torch.zeros(1, 2).double())
        >>> ma.generators.spectrum(net, torch.zeros(1, 2).double()).tolist()
        [[5.0, 2.0]]

    Source: Balestriero and Baraniuk, Mad Max (2018), eq. 7; Humayun, Balestriero and Baraniuk, Polarity Sampling
    (CVPR 2022).
    """
    g = generator(net, output, head)
    most = min(g.numbers, g.latents)
    count = most if k is None else check_count(k, most)
    if count * LANCZOS < most:
        return _leading(g, z, count, progress)
    parts = [singular_values(slopes)[:, :count] for slopes in g.slopes(z, progress, "spectrum")]
    return torch.cat(parts)


def log_volume(
    net: object, z: Tensor, *, output: int | str | None = None, head: Head = None, progress: bool | None = None
) -> Tensor:
    """The logarithm of the volume that g gives to a unit of latent volume: log sqrt(det(A^T A)), at each latent.

    Args:
        net: The generator, as of :func:`spectrum`.
        z: Latents (N, *latent), as at capture.
        output: Which output, by number or name, for a network with several.
        head: An elementwise function after the last piece, as of :func:`spectrum`.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        (N,): the sum of log singular values; minus infinity where one of them is zero up to rounding (see
        :func:`local_dimension`), as of a generator that is constant, or ignores a latent.

    Raises:
        BadInput: As of :func:`spectrum`, and for more latents than numbers in a sample, whose image has no volume of
            that dimension.

    Example:
        >>> import torch, maxaffine as ma
        >>> net = ma.capture(torch.nn.Identity(), torch.zeros(1, 3))
        >>> ma.generators.log_volume(net, torch.rand(4, 3)).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    g = generator(net, output, head)
    require_volume(g)
    return log_volumes(g.slopes(z, progress, "volume"), g)


@dataclass(frozen=True, eq=False)
class LocalDimension:
    """How many dimensions a generator uses around each latent; from :func:`local_dimension`."""

    dimensions: Tensor  # (N,) singular values above the tolerance: the rank of A
    tolerances: Tensor  # (N,) below which a singular value counts as zero
    spectrum: Tensor  # (N, min(D, S)) the singular values

    @property
    def log_volumes(self) -> Tensor:
        """(N,) sums of the log singular values; minus infinity where one counts as zero."""
        return torch.where(self.spectrum > self.tolerances[:, None], self.spectrum.double().log(), -inf).sum(1)

    def plot(self, ax: Axes | None = None, *, size: float = 5.0) -> Axes:
        """Draw the singular values, median and range over the latents, and the tolerance; ``size``: inches of width."""
        ax = axes_for(ax, 5.0, 3.4, sheet=False, size=size)
        values = self.spectrum.double().cpu().clamp_min(1e-300)
        places = np.arange(1, values.shape[1] + 1)
        ax.fill_between(places, values.amin(0), values.amax(0), color="#0072B2", alpha=0.2, label="range")
        ax.plot(places, values.median(0).values, color="#0072B2", marker=".", label="median")
        ax.axhline(float(self.tolerances.double().median()), color="gray", linestyle=":", label="tolerance")
        ax.set_yscale("log")
        ax.set_xlabel("number of the singular value")
        ax.set_ylabel("singular value")
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def to_dict(self) -> dict[str, list]:
        """Dimensions and tolerances as lists."""
        return {"dimensions": self.dimensions.tolist(), "tolerances": self.tolerances.tolist()}

    def __repr__(self) -> str:
        low, high = int(self.dimensions.min()), int(self.dimensions.max())
        return f"LocalDimension: {low if low == high else f'{low} to {high}'} of {self.spectrum.shape[1]} at most"


def local_dimension(
    net: object,
    z: Tensor,
    tolerance: float | None = None,
    *,
    output: int | str | None = None,
    head: Head = None,
    progress: bool | None = None,
) -> LocalDimension:
    """The number of dimensions that the generator's image has around each latent: the numerical rank of A[z].

    Args:
        net: The generator, as of :func:`spectrum`.
        z: Latents (N, *latent), as at capture.
        tolerance: Singular values up to this share of the largest count as zero; by default max(D, S) eps of the
            network's type, what rounding alone may leave of a zero.
        output: Which output, by number or name, for a network with several.
        head: An elementwise function after the last piece, as of :func:`spectrum`.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The dimensions, at most min(S, narrowest layer), with the tolerances used and the spectrum.

    Raises:
        BadInput: As of :func:`spectrum`, and for a tolerance outside [0, 1).
    """
    g = generator(net, output, head)
    if tolerance is not None and not 0 <= tolerance < 1:
        raise BadInput(f"tolerance: {tolerance} is not a share of the largest singular value; give one in [0, 1)")
    values = torch.cat([singular_values(slopes) for slopes in g.slopes(z, progress, "dimension")])
    least = limits(values, g)[:, 0] if tolerance is None else values[:, 0] * tolerance
    return LocalDimension((values > least[:, None]).sum(1), least, values)


def column_cosines(
    net: object, z: Tensor, *, output: int | str | None = None, head: Head = None, progress: bool | None = None
) -> Tensor:
    """The cosines between the columns of A[z]: how far latents move the sample in one direction (disentanglement).

    Args:
        net: The generator, as of :func:`spectrum`.
        z: Latents (N, *latent), as at capture.
        output: Which output, by number or name, for a network with several.
        head: An elementwise function after the last piece, as of :func:`spectrum`.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        (N, S, S), 1 on the diagonal; 0 beside a latent that moves nothing.

    Raises:
        BadInput: As of :func:`spectrum`.
    """
    parts = []
    for slopes in generator(net, output, head).slopes(z, progress, "cosines"):
        columns = torch.nn.functional.normalize(slopes, dim=1, eps=torch.finfo(slopes.dtype).tiny)
        parts.append(columns.transpose(1, 2) @ columns)
    return torch.cat(parts)


def singular_values(slopes: Tensor) -> Tensor:
    """Of slopes (n, D, S), (n, min(D, S)) largest first."""
    # Of half precision the factors are found in single, which adds nothing to its own rounding.
    wide = slopes if slopes.dtype in (torch.float32, torch.float64) else slopes.float()
    # The triangle of a tall matrix has its singular values and fits in the cache.
    if wide.shape[1] > 2 * wide.shape[2]:
        wide = torch.linalg.qr(wide, mode="r").R
    return torch.linalg.svdvals(wide)


def logarithms(values: Tensor, g: Generator) -> Tensor:
    """Log singular values (n, k), in double precision; minus infinity where one is zero up to rounding."""
    return torch.where(values > limits(values, g), values.double().log(), -inf)


def limits(values: Tensor, g: Generator) -> Tensor:
    """Below which a singular value counts as zero, (n, 1): max(D, S) eps sigma_1, in the eps of the network's type."""
    return values[:, :1] * (max(g.numbers, g.latents) * torch.finfo(g.net.inputs.dtypes[0]).eps)


def log_volumes(slopes: Iterable[Tensor], g: Generator) -> Tensor:
    """The sums of the log singular values of blocks of slopes, (N,) in double precision."""
    return torch.cat([logarithms(singular_values(block), g).sum(1) for block in slopes])


def require_volume(g: Generator) -> None:
    """Refuse a generator whose image has fewer dimensions than its latents."""
    if g.latents > g.numbers:
        raise BadInput(
            f"net: it takes {g.latents} latents to {g.numbers} numbers, so its image has no volume of {g.latents}"
            " dimensions; look at spectrum(net, z) instead"
        )


def check_count(k: int, most: int) -> int:
    """The number of singular values asked for."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise BadInput(f"k: there are {most} singular values, min(D, S); give 1..{most}, got {k}")
    return k


def _leading(g: Generator, z: Tensor, count: int, progress: bool | None) -> Tensor:
    """The largest singular values of each latent's A, from products with A and A^T."""
    try:
        from scipy.sparse import diags
        from scipy.sparse.linalg import ArpackError, aslinearoperator, svds
    except ImportError as error:
        raise MaxAffineError("spectrum of few values needs scipy; pip install 'maxaffine[partition]'") from error
    amap, found = g.affine_map(z), []
    diagonal = None if g.head is None else derivative(g.head, amap.value).reshape(amap.batch, -1).double()
    for sample in progress_bar(progress, "spectrum", iterable=range(amap.batch), unit="sample"):
        # From the same start each time, so that the same latent gives the same digits; a random one, since it must not
        # be orthogonal to what is sought.
        start = np.random.default_rng(0).standard_normal(min(g.numbers, g.latents))
        product = amap.to_scipy(sample)
        if diagonal is not None:
            product = aslinearoperator(diags(diagonal[sample].numpy(force=True))) @ product
        try:
            values = np.asarray(svds(product, k=count, v0=start, return_singular_vectors=False))
        except ArpackError:  # no convergence, as of a map that is zero
            slopes = next(g.slopes(z[sample : sample + 1], False, ""))
            values = singular_values(slopes)[0, :count].double().numpy(force=True)
        found.append(torch.from_numpy(np.sort(values)[::-1].copy()))
    return torch.stack(found).to(z)
