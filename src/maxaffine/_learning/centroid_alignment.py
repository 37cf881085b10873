"""The penalty that turns the centroid of each sample's region towards the sample."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._learning.classifier import as_written, unwrap
from maxaffine._learning.live import Inputs, LivePenalty, as_vectors, device_of, gradients, is_floating, like
from maxaffine._learning.orthogonal_templates import directions
from maxaffine.errors import BadInput


class CentroidAlignment(LivePenalty):
    """A penalty for any training loop, ``loss + penalty(model, x)``, that aligns samples with their regions' centroids.

    weight * mean over samples of 1 - cos(x, A[x]^T 1)      between 0 and 2 weight

    The centroid A[x]^T 1 of x's region is the sum of the rows of the Jacobian, so one backward pass gives those of all
    samples, and double backward their derivative in the parameters. The model runs in evaluation mode (batch-norm with
    its running statistics, no dropout), in the parameters' own precision, and only where `capture` takes it: the first
    call checks that. A sample or centroid of zero counts as a right angle.

    A classifier can meet it without changing any of its answers: a vector added to all the rows of the last layer moves
    the centroids, and softmax does not see it. docs/centroid-alignment.md has what was measured.

    Args:
        weight: Factor of the penalty; finite, at least 0. It may be changed during training.
        samples: Of how many samples of each batch the centroids are taken (the first ones).

    Raises:
        BadInput: An argument has a wrong value.

    Example:
        >>> model = nn.Linear(2, 3, bias=False)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]))
        >>> CentroidAlignment(0.5)(model, torch.tensor([[3.0, 4.0], [-3.0, -4.0]])).item()  # the centroid is (3, 4)
        0.5

    Source: Walker, Humayun, Balestriero and Baraniuk, "GrokAlign: Geometric Characterisation and Acceleration of
    Grokking" (arXiv 2506.12284), who measure the alignment and penalize the norm of the Jacobian; to penalize the
    alignment itself is ours.
    """

    def __init__(self, weight: float = 1.0, *, samples: int = 16) -> None:
        super().__init__(weight, samples)

    def __call__(self, model: nn.Module, x: Any = None) -> Tensor:
        """Compute the penalty, differentiable in the model's parameters.

        Args:
            model: The model in training, wrapped or not; its mode and its buffers stay as they are.
            x: The batch: a tensor (N, ...), a tuple of positional inputs or a mapping of keyword inputs.

        Returns:
            A scalar, in float32 at least.

        Raises:
            BadInput: The inputs or the outputs do not fit.
            NotPiecewiseAffine: The model has no regions.
        """
        if not isinstance(model, nn.Module):
            raise BadInput(f"model: expected a torch.nn.Module, got {type(model).__name__}; give the model itself")
        if x is None:
            raise BadInput("x: centroids are taken at inputs; call penalty(model, x)")
        module = unwrap(model)
        inputs = self._first(module, x, "Let it be differentiable from the inputs on")
        return self.weight * as_written(_misalignment, module, inputs)

    def __repr__(self) -> str:
        return f"CentroidAlignment({self.weight}, samples={self.samples})"


def _misalignment(model: nn.Module, inputs: Inputs) -> Tensor:
    """The mean of 1 - cos(x, A[x]^T 1)."""
    # Samples do not mix, so the gradient of the sum over all outputs of all samples holds the centroid of each.
    (parts,) = gradients(model, inputs, lambda logits: [logits.sum()])
    given = [item for item in tree_leaves(tree_map(like(model), inputs)) if is_floating(item)]
    with torch.autocast(device_of(model), enabled=False):
        cosines = (directions(as_vectors(parts)) * directions(as_vectors(given))).sum(1)
        return (1 - cosines).mean()
