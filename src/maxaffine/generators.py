"""The geometry of generators: spectra, volumes, even sampling, densities, and the whole surface of two latents."""

from maxaffine._generators import (
    Density,
    Manifold,
    Samples,
    column_cosines,
    density,
    dimension_by_dropout,
    elbow,
    entropy,
    local_dimension,
    log_volume,
    manifold,
    sample,
    spectrum,
)

__all__ = [
    "Density",
    "Manifold",
    "Samples",
    "column_cosines",
    "density",
    "dimension_by_dropout",
    "elbow",
    "entropy",
    "local_dimension",
    "log_volume",
    "manifold",
    "sample",
    "spectrum",
]
