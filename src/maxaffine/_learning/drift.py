"""Recording, while a network is being trained, how the codes of fixed inputs change: how soon they settle."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from maxaffine._capture import capture
from maxaffine._codes import Codes, Drift, code_drift
from maxaffine._learning.classifier import unwrap
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

_BATCH = 256


class CodeDrift:
    """Records the codes of the same inputs whenever it is given the network, and measures how far they moved.

    d_l(e, e') = mean over the inputs n of #{k : q_l(x_n)_k at e != q_l(x_n)_k at e'} / K_l

    Record once before the training and once after every epoch; the moment's number is then the epoch's. The packed
    codes of every moment are kept in memory: inputs x bits per input / 8 bytes each.

    Args:
        x: Fixed inputs of the network, as `capture` takes them, on the device of the model; a tensor is encoded in
            batches. Copied.
        operators: Names of the operators to follow; all by default.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> drift = CodeDrift(torch.randn(8, 2))
        >>> drift.record(model)
        >>> with torch.no_grad():
        ...     _ = model[0].weight.neg_(), model[0].bias.neg_()
        >>> drift.record(model)
        >>> drift.result().steps  # every unit of every input has changed sides
        tensor([[1.]], dtype=torch.float64)

    Source: the early settling of the partition in You et al., "Max-Affine Spline Insights Into Deep Network Pruning"
    (TMLR 2022), there of pruning masks, here of the codes themselves.
    """

    def __init__(self, x: Any, operators: Sequence[str] | None = None) -> None:
        self.x = x.detach().clone() if isinstance(x, Tensor) else x
        self.operators = operators
        self.moments: list[Codes] = []

    def record(self, model: nn.Module) -> None:
        """Keep the codes that the network has now; it is encoded in evaluation mode, and left as it was.

        Args:
            model: The network, the same one or one of the same architecture as before.

        Raises:
            BadInput: It has other operators than before.
            NotPiecewiseAffine: Some operator has no exact piecewise-affine form.
        """  # noqa: DOC502
        module = unwrap(model)
        batches = self.x.split(_BATCH) if isinstance(self.x, Tensor) else ()
        # Captured anew at every moment: a captured network has copies of the weights, and these move on.
        with evaluating(module):
            net = capture(module, batches[0] if batches else self.x)
            codes = net.codes(iter(batches) if batches else self.x, operators=self.operators, progress=False)
        if self.moments and (before := _layout(self.moments[0])) != (now := _layout(codes)):
            raise BadInput(f"model: its operators are {now}, but {before} when recording began; start a new CodeDrift")
        self.moments.append(codes)

    def result(self, progress: bool | None = None) -> Drift:
        """The distances between all the moments recorded so far.

        Args:
            progress: Whether to show a progress bar; by default when it takes over two seconds.

        Returns:
            The distances; refused with BadInput before the second moment.
        """
        return code_drift(self.moments, progress)

    def __repr__(self) -> str:
        return f"CodeDrift({len(self.moments)} moments recorded)"


def _layout(codes: Codes) -> dict[str, tuple[tuple[int, ...], int]]:
    return {name: (packed.units, packed.pieces) for name, packed in codes.items()}
