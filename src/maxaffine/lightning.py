"""The penalty on templates as a Lightning callback (extra `lightning`)."""

from maxaffine._learning.lightning import OrthogonalTemplatesCallback

__all__ = ["OrthogonalTemplatesCallback"]
