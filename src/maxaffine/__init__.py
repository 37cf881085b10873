"""maxaffine: the exact spline form of any piecewise-affine PyTorch network."""
