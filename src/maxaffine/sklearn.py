"""Max-affine regression as a scikit-learn estimator (extra `data`)."""

from maxaffine._learning.sklearn import MaxAffineRegressor

__all__ = ["MaxAffineRegressor"]
