"""Max-affine regression for scikit-learn (extra ``data``)."""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from maxaffine._spline import MaxAffineSpline, fit_differences, stacked


class MaxAffineRegressor(RegressorMixin, BaseEstimator):
    r"""A maximum of affine pieces, or the difference of two, by least squares.

    .. math:: f(x) = \max_r (\langle A_r, x \rangle + B_r) - \max_s (\langle C_s, x \rangle + D_s)

    Without the second maximum f is convex, and then this is convex regression with few pieces (of a concave function
    fit -y). With both, every continuous piecewise-affine function is within reach, as a composition of two max-affine
    spline operators: (u, v) = the two maxima, then u - v.

    Args:
        pieces: Pieces of the first maximum at most.
        subtracted: Pieces of the second at most; 0 leaves it out, and f is convex.
        steps: Steps of least squares at the end; those between growth are not counted.
        tolerance: They end when one lowers the sum of squares by less than this share.

    After `fit`, ``module_`` is f as a float64 module, (N, D) to (N, 1): train it on, or capture it.

    Source: see `maxaffine.MaxAffineSpline.from_samples`, of which this is the general form; the difference: Siahkamari
    et al., Piecewise linear regression via a difference of convex functions (ICML 2020), by other steps.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> wave = np.sin(4 * x[:, 0])
    >>> convex, both = MaxAffineRegressor(8).fit(x, wave), MaxAffineRegressor(4, 4).fit(x, wave)
    >>> bool(convex.score(x, wave) < 0.8), bool(both.score(x, wave) > 0.99)
    (True, True)
    """

    def __init__(self, pieces: int = 16, subtracted: int = 0, *, steps: int = 100, tolerance: float = 1e-6) -> None:
        self.pieces = pieces
        self.subtracted = subtracted
        self.steps = steps
        self.tolerance = tolerance

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fit the pieces to values y (N,) at X (N, D); nothing is random."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)  # noqa: N806
        [fit] = fit_differences(
            torch.tensor(X),
            torch.tensor(np.asarray(y, dtype=np.float64))[:, None],
            self.pieces,
            self.subtracted,
            steps=self.steps,
            tolerance=self.tolerance,
            progress=None,
        )
        units = [fit.rows[fit.added], fit.rows[~fit.added]]
        slopes, offsets, present = stacked([unit for unit in units if len(unit)])
        last = nn.Linear(len(slopes), 1, bias=False, dtype=torch.float64)
        last.weight.data = torch.tensor([[1.0, -1.0][: len(slopes)]], dtype=torch.float64)
        self.module_ = nn.Sequential(MaxAffineSpline(slopes, offsets, present=present), last)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The values f(x) (N,) at X (N, D)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        with torch.no_grad():
            return self.module_(torch.tensor(X))[:, 0].numpy()
