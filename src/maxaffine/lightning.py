"""The penalty on templates and the early bird as Lightning callbacks (extra `lightning`)."""

from maxaffine._learning.lightning import OrthogonalTemplatesCallback
from maxaffine._pruning.lightning import EarlyBirdCallback

__all__ = ["EarlyBirdCallback", "OrthogonalTemplatesCallback"]
