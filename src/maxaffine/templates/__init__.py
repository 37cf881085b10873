"""Templates: what a network matches each input against, and how far they have memorized the data."""

from maxaffine.templates.bias import BiasReport, bias_free
from maxaffine.templates.comparison import Comparison
from maxaffine.templates.layers import LayerTemplates, layer_templates
from maxaffine.templates.memorization import Alignment, Memorization, memorization, memorization_spreads
from maxaffine.templates.optimum import optimal_templates
from maxaffine.templates.result import Templates
from maxaffine.templates.templates import templates

__all__ = [
    "Alignment",
    "BiasReport",
    "Comparison",
    "LayerTemplates",
    "Memorization",
    "Templates",
    "bias_free",
    "layer_templates",
    "memorization",
    "memorization_spreads",
    "optimal_templates",
    "templates",
]
