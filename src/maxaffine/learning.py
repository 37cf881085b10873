"""What is added to a training: the penalty on templates, the hard form of it, the record of how codes change."""

from maxaffine._learning import CodeDrift, OrthogonalTemplates, orthogonal_classifier

__all__ = ["CodeDrift", "OrthogonalTemplates", "orthogonal_classifier"]
