"""One family of operators per file; importing this package fills the registry."""

from maxaffine._capture.rules import (  # noqa: F401
    activation,
    arithmetic,
    comparison,
    convolution,
    indexing,
    normalization,
    pooling,
    refused,
    resampling,
    selection,
    shape,
    smooth,
    solving,
)
