"""The hard form: a classifier whose rows are orthogonal at every step, by construction."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from maxaffine._learning.classifier import find_classifier, named_weight, unwrap
from maxaffine.errors import BadInput


class OrthogonalRows(nn.Module):
    """The rows r_c of a weight made orthogonal in their order, W_c = r_c - sum_{j<c} <r_c, q_j> q_j (Gram-Schmidt)."""

    def forward(self, weight: Tensor) -> Tensor:
        """Leave of each row what is orthogonal to those before it: the R_cc q_c of the rows' QR decomposition."""
        # r_c = sum_{j<=c} R_jc q_j: without the parts along earlier rows the last term is left, whatever its sign.
        columns, triangle = torch.linalg.qr(weight.flatten(1).mT)
        return (columns * triangle.diagonal()).mT.reshape(weight.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return what is assigned to the weight: it becomes the rows to begin with."""
        return weight


def orthogonal_classifier(model: nn.Module, x: Any = None, *, layer: str | None = None) -> str:
    """Keep the rows of the classifier orthogonal from now on, whatever the optimizer does; their norms stay free.

    W_c = r_c - sum_{j<c} <r_c, q_j> q_j,     q_j = W_j / |W_j|

    The rows r stay the layer's parameters, so that learning rates and weight decay mean what they mean without: decay
    shortens the rows and turns none. At the beginning they are the present rows made orthogonal in their order, each
    with its present norm. ``torch.nn.utils.parametrize.remove_parametrizations`` on the layer makes the weight a plain
    one again.

    Args:
        model: A classifier with C <= d: not more classes than features of its last layer. Changed in place.
        x: Some of its inputs, to find the last layer with; not needed where `layer` is given.
        layer: Path of the ``nn.Linear`` or 1 x 1 convolution.

    Returns:
        The path of the layer.

    Raises:
        BadInput: The layer cannot be found, is parametrized already, is tied to another one, is in half precision, has
            more rows than columns or dependent rows.

    Example:
        >>> model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> orthogonal_classifier(model, torch.rand(2, 5))
        '2'
        >>> gram = model[2].weight @ model[2].weight.T
        >>> torch.allclose(gram, gram.diag().diag(), atol=1e-6)
        True

    Source: our own; the soft form is in Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning"
    (arXiv 1805.06576).
    """
    module = unwrap(model)
    if layer is None and x is None:
        raise BadInput('x: without inputs the classifier cannot be found; pass x, or name it by layer="..."')
    path = find_classifier(module, x) if layer is None else layer
    rows = named_weight(module, path).detach()
    owner = dict(module.named_modules(remove_duplicate=False)).get(path)
    weight = None if owner is None else owner.weight
    if owner is None or not isinstance(weight, nn.Parameter):
        raise BadInput(f"layer: {path!r} is not a module, or its weight is parametrized already; name a plain layer")
    if others := [name for name, other in _other_owners(module, owner) if other is weight]:
        raise BadInput(
            f"layer: the weight of {path!r} is tied to {others}, and the two would come apart; give the classifier a"
            " weight of its own, or use the penalty"
        )
    if weight.dtype not in (torch.float32, torch.float64):
        raise BadInput(
            f"layer: the weight of {path!r} is {weight.dtype}, in which rows cannot be kept orthogonal; use .float(),"
            " and autocast for mixed precision"
        )
    if rows.shape[0] > rows.shape[1] or torch.linalg.matrix_rank(rows.double()) < rows.shape[0]:
        raise BadInput(
            f"layer: the {rows.shape[0]} rows of {rows.shape[1]} numbers of {path!r} cannot be made orthogonal; widen "
            "the layer before it, use the penalty, or initialize it anew"
        )
    # The sign of R_cc turns each q_c to the side of its row: QR leaves it open.
    columns, triangle = torch.linalg.qr(rows.T)
    with torch.no_grad():
        weight.copy_((columns * triangle.diagonal().sign() * rows.norm(dim=1)).T.reshape(weight.shape))
    # From now on the parameter is what the rows are made of; it begins as the weight that it replaces.
    parametrize.register_parametrization(owner, "weight", OrthogonalRows())
    return path


def _other_owners(model: nn.Module, owner: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of all modules but one, with their paths."""
    for path, module in model.named_modules():
        if module is not owner:
            yield from module.named_parameters(prefix=path, recurse=False)
