"""What to add to a training: what makes templates orthogonal, and a record of how the codes change."""

from maxaffine._learning.drift import CodeDrift
from maxaffine._learning.hard import orthogonal_classifier
from maxaffine._learning.orthogonal_templates import OrthogonalTemplates
