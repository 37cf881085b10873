"""The templates of a network that has memorized one input: the optimum that memorization is measured against."""

from __future__ import annotations

import torch
from torch import Tensor

from maxaffine._graph import as_rows
from maxaffine.errors import BadInput


def optimal_templates(x: Tensor, labels: Tensor, classes: int, budget: float = 1.0) -> Tensor:
    """The templates with sum_c |A_c|^2 <= alpha, and no offsets, whose cross-entropy at a given input is the least.

    With x of class y, A_y = sqrt((C-1) alpha / C) x/|x| and A_c = -sqrt(alpha / (C (C-1))) x/|x| for every other c: all
    collinear with the input, the own one along it, the others against it and shorter by the factor C - 1.

    Args:
        x: Inputs (N, *in), none of them zero.
        labels: Their classes (N,).
        classes: Number of classes C, at least 2.
        budget: alpha.

    Returns:
        The templates (N, C, *in).

    Raises:
        BadInput: When there is one class, an input is zero, a label is out of range, or the budget is negative.

    >>> optimal_templates(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), classes=2, budget=2.0)
    tensor([[[-0.6000, -0.8000],
             [ 0.6000,  0.8000]]])

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    section 5, the theorem on data set memorization.
    """
    if classes < 2:
        raise BadInput(f"classes: {classes} is less than 2; there is nothing to tell apart")
    if budget < 0:
        raise BadInput(f"budget: {budget} is negative; give at least 0")
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise BadInput(f"labels: some are not in 0..{classes - 1}; number the classes from 0")
    lengths = as_rows(x).norm(dim=1)
    if not bool((lengths > 0).all()):
        raise BadInput("x: an input is zero, and no template is collinear with it; leave it out")
    weights = x.new_full((len(x), classes), -((budget / (classes * (classes - 1))) ** 0.5))
    weights[torch.arange(len(x)), labels] = (budget * (classes - 1) / classes) ** 0.5
    directions = x / lengths.reshape(-1, *[1] * (x.dim() - 1))
    return weights.reshape(*weights.shape, *[1] * (x.dim() - 1)) * directions[:, None]
