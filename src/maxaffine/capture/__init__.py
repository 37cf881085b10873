"""nn.Module and an example in, SplineNetwork out, or a refusal; and the registry that others may extend."""

from maxaffine.capture import batch
from maxaffine.capture.call import Call, Ref
from maxaffine.capture.capture import capture
from maxaffine.capture.contract import check_rule
from maxaffine.capture.form import max_affine_form
from maxaffine.capture.registry import Rule, registered, rule

__all__ = ["Call", "Ref", "Rule", "batch", "capture", "check_rule", "max_affine_form", "registered", "rule"]
