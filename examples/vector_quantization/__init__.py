"""A learnable vector-quantisation layer that is a max-affine spline, beside K-means on patches of images."""
