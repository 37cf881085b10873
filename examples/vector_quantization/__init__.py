"""A learnable vector-quantization layer that is a max-affine spline, beside K-means on patches of images."""
