"""Templates: what a network matches each input against, and how far they have memorized the data."""

from maxaffine._templates.bias import BiasReport, bias_free
from maxaffine._templates.comparison import Comparison
from maxaffine._templates.layers import LayerTemplates, layer_templates
from maxaffine._templates.memorization import Alignment, Memorization, memorization, memorization_spreads
from maxaffine._templates.optimum import optimal_templates
from maxaffine._templates.result import Templates
from maxaffine._templates.templates import Names, Unit, templates

__all__ = [
    "Alignment",
    "BiasReport",
    "Comparison",
    "LayerTemplates",
    "Memorization",
    "Names",
    "Templates",
    "Unit",
    "bias_free",
    "layer_templates",
    "memorization",
    "memorization_spreads",
    "optimal_templates",
    "templates",
]
