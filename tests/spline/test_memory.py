"""No operator returns a tensor that outgrows what the documentation promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from maxaffine._capture import max_affine_form
from maxaffine._spline import MaxAffineSpline


class LargestResult(TorchDispatchMode):
    """Remembers the largest tensor that any operator returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize("method", ["forward", "codes", "vq_matrix", "soft"])
def test_a_spline_never_holds_batch_x_units_x_pieces_x_inputs(method: str) -> None:
    spline = MaxAffineSpline(torch.randn(5, 3, 50), torch.randn(5, 3))
    with LargestResult() as largest:
        getattr(spline, method)(torch.randn(40, 50), *([0.5] if method == "soft" else []))
    assert 40 * 5 * 3 <= largest.numel <= 40 * 50


@pytest.mark.parametrize("layer", [nn.Linear(90, 300), nn.Linear(300, 90)])
def test_no_intermediate_of_a_form_outgrows_its_slopes(layer: nn.Linear) -> None:
    """The eye among them has the shorter side; capture itself looks at a few dozen samples."""
    with LargestResult() as largest:
        form = max_affine_form(nn.Sequential(layer, nn.ReLU()), (layer.in_features,))
    assert largest.numel == form.slopes.numel() == 2 * 300 * 90
