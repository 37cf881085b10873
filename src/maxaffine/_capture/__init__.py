"""nn.Module and an example in, SplineNetwork out, or a refusal; and the registry that others may extend."""

from maxaffine._capture import batch
from maxaffine._capture.call import Call
from maxaffine._capture.capture import capture
from maxaffine._capture.contract import check_rule
from maxaffine._capture.form import max_affine_form
from maxaffine._capture.initial_state import FromInitialState, changed_states
from maxaffine._capture.registry import all_rules, rule
from maxaffine._capture.spline_network import SplineNetwork
