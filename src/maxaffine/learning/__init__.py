"""What to add to a training so that the templates of different classes become orthogonal: a penalty, or a hard form."""

from maxaffine.learning.hard import orthogonal_classifier
from maxaffine.learning.orthogonal_templates import OrthogonalTemplates

__all__ = ["OrthogonalTemplates", "orthogonal_classifier"]
