"""What to add to a training: what makes templates orthogonal, and a record of how the codes change."""

from maxaffine.learning.drift import CodeDrift
from maxaffine.learning.hard import orthogonal_classifier
from maxaffine.learning.orthogonal_templates import OrthogonalTemplates

__all__ = ["CodeDrift", "OrthogonalTemplates", "orthogonal_classifier"]
