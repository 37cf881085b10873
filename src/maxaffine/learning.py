"""What is added to a training: penalties on templates and centroids, noise on initial states, a record of the codes."""

from maxaffine._capture import FromInitialState
from maxaffine._learning import (
    CentroidAlignment,
    CodeDrift,
    InitialStateNoise,
    NoiseEffect,
    OrthogonalTemplates,
    orthogonal_classifier,
)

__all__ = [
    "CentroidAlignment",
    "CodeDrift",
    "FromInitialState",
    "InitialStateNoise",
    "NoiseEffect",
    "OrthogonalTemplates",
    "orthogonal_classifier",
]
