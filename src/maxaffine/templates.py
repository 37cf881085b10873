"""What a network matches its inputs against, layer by layer and through time, and how far it has memorized the data."""

from maxaffine._templates import (
    LayerTemplates,
    Memorization,
    StatesThroughTime,
    Templates,
    ThroughTime,
    bias_free,
    centroid_alignment,
    layer_templates,
    memorization,
    optimal_templates,
)

__all__ = [
    "LayerTemplates",
    "Memorization",
    "StatesThroughTime",
    "Templates",
    "ThroughTime",
    "bias_free",
    "centroid_alignment",
    "layer_templates",
    "memorization",
    "optimal_templates",
]
