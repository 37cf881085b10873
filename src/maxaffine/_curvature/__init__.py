"""Curvature: networks with soft codes, and the beta that a data set asks for."""

from maxaffine._curvature.forms import FORMS
from maxaffine._curvature.network import SoftNetwork
from maxaffine._curvature.soften import soften
from maxaffine._curvature.tuning import GRID, Tuning, tune
