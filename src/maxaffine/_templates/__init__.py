"""Templates: what a network matches each input against, and how far they have memorized the data."""

from maxaffine._templates.bias import BiasReport, bias_free
from maxaffine._templates.centroids import CentroidCosines, centroid_alignment
from maxaffine._templates.memorization import (
    Alignment,
    Memorization,
    memorization,
    memorization_spreads,
    optimal_templates,
)
from maxaffine._templates.result import Comparison, Templates
from maxaffine._templates.templates import LayerTemplates, Names, Unit, layer_templates, templates
from maxaffine._templates.through_time import StatesThroughTime, ThroughTime, through_time
