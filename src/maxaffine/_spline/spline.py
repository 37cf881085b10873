"""The max-affine spline operator: value, codes, local affine map, soft inference and cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maxaffine._spline.centroids import is_decided, quantizer
from maxaffine._spline.checks import check_finite, check_rows, check_spline
from maxaffine._spline.fit import fit_differences, stacked
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


@dataclass(frozen=True, eq=False)
class LocalMap:
    """The affine map that a spline equals at each input: S(x) = A[x] x + B[x]."""

    slopes: Tensor  # A[x], (N, K, D)
    offsets: Tensor  # B[x], (N, K)


class MaxAffineSpline(nn.Module):
    r"""K units, each the largest of R affine pieces of the input; slopes and offsets are learnable parameters.

    .. math:: S(x)_k = \max_r \langle A[k, r], x \rangle + B[k, r], \qquad q(x)_k = \arg\max_r \text{ of the same}

    Every unit is convex and piecewise affine in x. The lowest piece wins a tie, and the gradient flows through the
    winning piece alone.

    Source: Balestriero and Baraniuk, Mad Max: Affine Spline Insights into Deep Learning (arXiv 1805.06576), the
    definition of the max-affine spline operator.

    >>> absolute = MaxAffineSpline(torch.tensor([[[-1.0], [1.0]]]), torch.zeros(1, 2))
    >>> x = torch.tensor([[-3.0], [0.0], [2.0]])
    >>> absolute(x).flatten().tolist(), absolute.codes(x).flatten().tolist()
    ([3.0, 0.0, 2.0], [0, 0, 1])
    """

    present: Tensor | None

    def __init__(
        self,
        slopes: Tensor,
        offsets: Tensor,
        *,
        present: Tensor | None = None,
        output_shape: Sequence[int] | None = None,
    ) -> None:
        """Copy the slopes and offsets into parameters.

        Args:
            slopes: A, (K, R, D).
            offsets: B, (K, R).
            present: (K, R) bool, where units differ in their number of pieces: a piece that is not present never wins,
                whatever its slope and offset. By default every piece is present.
            output_shape: Shape of the K units in the layer that the spline stands for; (K,) by default.

        Raises:
            ShapeMismatch: The shapes, dtypes or devices do not agree.
            BadInput: No unit, piece or input; NaN or infinity; not floating point; a unit without any piece.
        """  # noqa: DOC502
        super().__init__()
        check_spline(slopes, offsets, present)
        self.output_shape = (slopes.shape[0],) if output_shape is None else tuple(output_shape)
        if prod(self.output_shape) != slopes.shape[0]:
            raise ShapeMismatch(
                f"output_shape: {self.output_shape} does not hold K = {slopes.shape[0]} units; leave it out"
            )
        self.slopes = nn.Parameter(slopes.detach().clone())
        self.offsets = nn.Parameter(offsets.detach().clone())
        self.register_buffer("present", None if present is None else present.detach().clone())

    @classmethod
    def from_centroids(cls, centroids: Tensor) -> Self:
        r"""The spline whose codes are the K-means assignment: one codebook of R centroids per unit.

        .. math:: B[k, r] = -|A[k, r]|^2 / 2 \;\Rightarrow\; q(x)_k = \arg\min_r |x - A[k, r]|

        With K units the spline is K codebooks side by side, a factorial quantizer. The slopes of its `affine_map` are
        the chosen centroids, and :math:`|x - A[k, q_k]|^2 = |x|^2 - 2 S(x)_k`.

        The codes are the nearest centroids wherever `certain` says so; elsewhere two centroids are as near as rounding
        can tell. Equal centroids of one codebook count as the first of them.

        Args:
            centroids: A, (K, R, D), or (R, D) for a single codebook.

        Returns:
            A spline of K units.

        Raises:
            ShapeMismatch: Not two or three dimensions.
            BadInput: Not floating point, empty or not finite; or so far from the origin, for their distances, that
                rounding their scores, in some order of summation, could make one lose at its own place.

        Source: Mad Max (arXiv 1805.06576), the link between MASO partitions and K-means.

        >>> spline = MaxAffineSpline.from_centroids(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
        >>> spline.codes(torch.tensor([[1.0, 9.0], [3.0, 9.0]])).flatten().tolist()
        [0, 1]
        """  # noqa: DOC502
        slopes, offsets, present = quantizer(centroids)
        return cls(slopes, offsets, present=present)

    @classmethod
    def from_samples(
        cls,
        x: Tensor,
        y: Tensor,
        pieces: int,
        *,
        steps: int = 100,
        tolerance: float = 1e-6,
        progress: bool | None = None,
    ) -> Self:
        r"""The spline of least squares through samples: convex regression, a unit for every column of y.

        .. math:: \min_{A, B} \sum_n \left( y_{nk} - \max_r (\langle A[k, r], x_n \rangle + B[k, r]) \right)^2

        The problem is not convex, so this is a local minimum: pieces are added one by one, where the loss is worst and
        falls most, and between them all pieces take damped steps of least squares. Nothing is random. The result is
        convex whatever y is; `maxaffine.sklearn.MaxAffineRegressor` also fits differences of two splines.

        Args:
            x: Inputs, (N, D).
            y: Values, (N,) or (N, K).
            pieces: R, pieces per unit at most; fewer where samples do not suffice for more (2 (D + 1) per cut).
            steps: Steps at the end, when all pieces are there.
            tolerance: They end when one lowers the loss by less than this share.
            progress: Whether to show progress; by default on a terminal or notebook, after two seconds.

        Returns:
            A spline of K units, of the dtype of y.

        Raises:
            ShapeMismatch: x and y do not belong together.
            BadInput: No piece; NaN or infinity; more numbers to solve for than 6,000.

        Source: Magnani and Boyd, Convex piecewise-linear fitting (Optimization and Engineering, 2009), whose steps are
        not damped; the growth is that of Balazs, Gyorgy and Szepesvari, Near-optimal max-affine estimators for convex
        regression (AISTATS 2015).

        >>> x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
        >>> spline = MaxAffineSpline.from_samples(x, x[:, 0].abs(), pieces=2)
        >>> spline.slopes.detach().flatten().sort().values.round(decimals=6).tolist()
        [-1.0, 1.0]
        """  # noqa: DOC502
        columns = y[:, None] if isinstance(y, Tensor) and y.ndim == 1 else y
        fits = fit_differences(x, columns, pieces, 0, steps=steps, tolerance=tolerance, progress=progress)
        slopes, offsets, present = stacked([fit.rows.to(y.dtype) for fit in fits])
        return cls(slopes, offsets, present=present)

    @property
    def units(self) -> int:
        """K, the number of outputs."""
        return self.slopes.shape[0]

    @property
    def pieces(self) -> int:
        """R, the number of affine pieces per unit."""
        return self.slopes.shape[1]

    @property
    def in_features(self) -> int:
        """D, the number of numbers in one input."""
        return self.slopes.shape[2]

    def extra_repr(self) -> str:
        """Sizes for `repr`, in one line."""
        return f"units={self.units}, pieces={self.pieces}, in_features={self.in_features}"

    def _scores(self, x: Tensor) -> Tensor:
        """Every piece at every input, (N, K, R), whether present or not."""
        check_rows(x, self.slopes)
        scores = F.linear(x, self.slopes.flatten(0, 1), self.offsets.flatten())
        return scores.unflatten(1, (self.units, self.pieces))

    def _compete(self, scores: Tensor) -> Tensor:
        """The scores with -inf for the pieces that are not present."""
        return scores if self.present is None else scores.masked_fill(~self.present, -torch.inf)

    def forward(self, x: Tensor) -> Tensor:
        """The values S(x)_k = max_r <A[k, r], x> + B[k, r], (N, K), at inputs x (N, D)."""
        return self._compete(self._scores(x)).max(dim=2).values

    def codes(self, x: Tensor) -> Tensor:
        """The piece q(x)_k that wins, (N, K) int64, at inputs (N, D): the lowest in a tie of the computed scores."""
        with torch.no_grad():
            return self._compete(self._scores(x)).max(dim=2).indices

    def certain(self, x: Tensor) -> Tensor:
        """Whether a code is proved to be that of exact arithmetic, however the scores were rounded.

        The bound holds for sums in any order in the dtype of the slopes (not for TF32 products), and for offsets that
        were rounded too: of `from_centroids` it proves which centroid is the nearest. It is careful: few of the inputs
        that it leaves open have another code. For those, ask the same spline in double precision.

        Args:
            x: inputs, (N, D).

        Returns:
            (N, K) bool; False at a tie.

        >>> spline = MaxAffineSpline.from_centroids(torch.tensor([[-1.0], [1.0]]))
        >>> spline.certain(torch.tensor([[-0.5], [0.0], [1e-9]])).flatten().tolist()
        [True, False, False]
        """
        with torch.no_grad():
            return is_decided(x, self.slopes, self.offsets, self._compete(self._scores(x)))

    def vq_matrix(self, x: Tensor) -> Tensor:
        """The codes as one-hot rows of the slopes' dtype, (N, K, R): Q(x)[k, r] = 1 exactly where r = q(x)_k."""
        return F.one_hot(self.codes(x), self.pieces).to(self.slopes.dtype)

    def affine_map(self, x: Tensor) -> LocalMap:
        """The affine map that the spline equals on the cell of each input, A[x] = A[k, q_k] and B[x] = B[k, q_k].

        Args:
            x: inputs, (N, D).

        Returns:
            Slopes (N, K, D) and offsets (N, K), differentiable in the parameters.

        >>> relu = MaxAffineSpline(torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 2))
        >>> relu.affine_map(torch.tensor([[-2.0], [5.0]])).slopes.flatten().tolist()
        [0.0, 1.0]
        """
        # Between boundaries codes do not change, so the gradient is that of the chosen slopes and offsets.
        codes = self.codes(x)
        unit = torch.arange(self.units, device=codes.device)
        return LocalMap(self.slopes[unit, codes], self.offsets[unit, codes])

    def soft(self, x: Tensor, beta: float) -> Tensor:
        r"""Soft inference: every piece counts, the more so the larger it is.

        .. math:: y_k = \sum_r t_r z_r, \quad t = \mathrm{softmax}\left(\tfrac{\beta}{1-\beta} z\right), \quad
            z_r = \langle A[k, r], x \rangle + B[k, r]

        beta = 1 is the spline itself, beta = 1/2 turns ReLU into SiLU, beta = 0 is the mean over the pieces.

        Args:
            x: inputs, (N, D).
            beta: in [0, 1].

        Returns:
            Values, (N, K).

        Raises:
            BadInput: beta is outside [0, 1].

        Source: Balestriero and Baraniuk, From Hard to Soft (arXiv 1810.09274, ICLR 2019), beta-VQ inference.

        >>> relu = MaxAffineSpline(torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 2))
        >>> bool(relu.soft(torch.tensor([[0.7]]), 0.5) == F.silu(torch.tensor(0.7)))
        True
        """
        if not 0 <= beta <= 1:
            raise BadInput(f"beta: {beta} is not in [0, 1]; 1 is hard inference, 0 the mean of the pieces")
        if beta == 1:
            return self(x)
        scores = self._scores(x)
        # Relative to the largest score nothing can overflow, however close beta is to 1.
        largest = self._compete(scores.detach()).amax(dim=2, keepdim=True)
        weights = self._compete((scores - largest) * (beta / (1 - beta))).softmax(dim=2)
        return (weights * scores).sum(dim=2)

    def power_diagram(self, unit: int | None = None, *, codes: Tensor | None = None) -> PowerDiagram:
        r"""The cells of one unit, or of all units together, as a power diagram.

        .. math:: c_r = A[k, r],\ \rho_r = |c_r|^2 + 2 B[k, r] \qquad \text{unit } k

            c = \sum_k A[k, q_k],\ \rho = |c|^2 + 2 \sum_k B[k, q_k] \qquad \text{the layer's cell with code } q

        A point's cell bears its code: ``diagram.codes[diagram.locate(x)]`` equals ``codes(x)``, of that unit or of the
        layer, up to rounding at a boundary and as long as the cell is in the diagram.

        Args:
            unit: k, from 0 to K - 1; by default all units together.
            codes: For the layer: the cells to write out, one row of codes each, (M, K) integers. By default all that
                the pieces combine to, which can be up to R^K.

        Returns:
            Centers, squared radii and codes: of R cells in the order of the pieces, or of M in the order of the rows.

        Raises:
            ShapeMismatch: codes is not (M, K) integers.
            BadInput: No such unit or piece; both arguments; too many cells to write them all out.

        Source: The Geometry of Deep Networks: Power Diagram Subdivision (arXiv 1905.08443).

        >>> relus = MaxAffineSpline(
        ...     torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]), torch.zeros(2, 2)
        ... )
        >>> x = torch.tensor([[-2.0, 5.0], [2.0, -5.0]])
        >>> relus.power_diagram(0).locate(x).tolist(), relus.power_diagram().locate(x).tolist()
        ([0, 1], [1, 2])
        """  # noqa: DOC502
        if unit is None:
            return self._layer_diagram(codes)
        if codes is not None:
            raise BadInput("codes: they name cells of the layer, and unit those of one unit; leave one of them out")
        if not 0 <= unit < self.units:
            raise BadInput(f"unit: {unit} is not one of them; give a number from 0 to {self.units - 1}")
        # 2 (<c_r, x> + B_r) = |x|^2 - (|x - c_r|^2 - rho_r) with rho_r = |c_r|^2 + 2 B_r: the piece that wins is the
        # cell.
        slopes, heights = self.slopes[unit], self._compete(self.offsets)[unit]
        every = torch.arange(self.pieces, device=slopes.device)[:, None]
        return PowerDiagram(slopes, slopes.square().sum(1) + 2 * heights, every, heights)

    def _layer_diagram(self, codes: Tensor | None) -> PowerDiagram:
        """The cells of all units together that bear the codes (M, K), in their order; all there are without codes."""
        codes = _every_code(self.present, self.units, self.pieces, self.slopes.device) if codes is None else codes
        if codes.ndim != 2 or codes.shape[1] != self.units or codes.is_floating_point():
            raise ShapeMismatch(f"codes: {codes.dtype} {tuple(codes.shape)}; give integers of shape (M, {self.units})")
        codes = codes.long()
        if bool(((codes < 0) | (codes >= self.pieces)).any()):
            raise BadInput(f"codes: some are not in 0..{self.pieces - 1}; use codes returned by codes(x)")
        if self.present is not None and not bool(self.present.gather(1, codes.T).all()):
            raise BadInput("codes: a piece is not present in its unit; use codes returned by codes(x)")
        # A sum of maxima is the maximum over all combinations: the layer's pieces are sums of one piece of each unit.
        # Balestriero, Cosentino, Aazhang, Baraniuk, The Geometry of Deep Networks: Power Diagram Subdivision (2019),
        # arXiv 1905.08443.
        selected = F.one_hot(codes, self.pieces).to(self.slopes.dtype).flatten(1)
        centers, heights = selected @ self.slopes.flatten(0, 1), selected @ self.offsets.flatten()
        return PowerDiagram(centers, centers.square().sum(1) + 2 * heights, codes, heights)


def _every_code(present: Tensor | None, units: int, pieces: int, device: torch.device) -> Tensor:
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
