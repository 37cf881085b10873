"""Public names of torch.nn and its functional module that have no row, and why."""

from __future__ import annotations

import inspect

from torch import nn
from torch.nn import functional as F

# The release of PyTorch whose names the table covers; a later one may add some.
TORCH = (2, 13)

MACHINERY = "part of PyTorch's own machinery, not an operator"
NO_FORWARD = "a base class without a forward of its own"
LOSS = "a loss: its class in torch.nn has a row"
LOW_PRECISION = "it has no double precision, and which rows meet depends on their places in the batch"

EXCLUDED = (
    {f"nn.{name}": NO_FORWARD for name in ("Container", "Module", "RNNBase", "RNNCellBase")}
    | {
        f"F.{name}": MACHINERY
        for name in (
            "assert_int_or_pair",
            "boolean_dispatch",
            "handle_torch_function",
            "has_torch_function",
            "has_torch_function_unary",
            "has_torch_function_variadic",
        )
    }
    | {
        f"F.{name}": LOSS
        for name in (
            "binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss "
            "gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss linear_cross_entropy "
            "margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss "
            "nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss "
            "triplet_margin_with_distance_loss"
        ).split()
    }
    | {f"F.{name}": LOW_PRECISION for name in ("grouped_mm", "scaled_grouped_mm", "scaled_mm")}
)


def public_names() -> list[str]:
    """Every module class of torch.nn and every function of torch.nn.functional of the installed PyTorch."""
    classes = [f"nn.{name}" for name, item in vars(nn).items() if inspect.isclass(item) and issubclass(item, nn.Module)]
    functions = [f"F.{name}" for name, item in vars(F).items() if inspect.isroutine(item) and not name.startswith("_")]
    return sorted(classes + functions)
