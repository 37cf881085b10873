"""What is added to a training: penalties on templates and centroids, orthogonal rows, a record of the codes."""

from maxaffine._learning import CentroidAlignment, CodeDrift, OrthogonalTemplates, orthogonal_classifier

__all__ = ["CentroidAlignment", "CodeDrift", "OrthogonalTemplates", "orthogonal_classifier"]
