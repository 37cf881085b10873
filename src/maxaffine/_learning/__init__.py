"""What to add to a training: penalties on templates and centroids, and a record of how the codes change."""

from maxaffine._learning.centroid_alignment import CentroidAlignment
from maxaffine._learning.drift import CodeDrift
from maxaffine._learning.hard import orthogonal_classifier
from maxaffine._learning.orthogonal_templates import OrthogonalTemplates
