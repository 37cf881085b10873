"""The penalty that pushes the templates of different classes towards orthogonality."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxaffine._learning.classifier import as_written, find_classifier, named_weight, unwrap
from maxaffine._learning.live import Inputs, LivePenalty, as_vectors, gradients
from maxaffine.errors import BadInput


class OrthogonalTemplates(LivePenalty):
    """A penalty for any training loop, ``loss + penalty(model, x)``, that makes the classes' templates orthogonal.

    on="classifier":  weight * sum_{c1 != c2} <W_c1, W_c2>^2      W (C, d): the live weight of the last layer
    on="maps":        weight * mean over samples of sum_{c1 != c2} cos(A[x]_c1, A[x]_c2)^2

    Since A[x]_c = W_c A_{1..L-1}[x], orthogonal rows of W push the templates towards orthogonality at next to no cost;
    the second form differentiates the templates A[x] themselves, by double backward through an extra pass over a few
    samples. It runs the model in evaluation mode (batch-norm with its running statistics, no dropout), in the
    parameters' own precision, and only on models that `capture` takes: the first call checks that.

    Products of templates shrink with the weights. Before batch-norm a layer's scale is free, and running statistics lag
    behind it, so ``on="maps"`` with products needs ``statistics="batch"`` there: without it, trainings collapsed.
    Those are the templates that the authors' public script penalizes, by the mean over all C^2 pairs of classes, its
    factor Q being ``weight=Q / C**2`` here.

    The layer is found at the first call with a model, by following the outputs back to what made them. Wrappers of
    data-parallel training and of torch.compile are looked through. Under gradient accumulation divide the sum of loss
    and penalty by the number of steps, as the loss alone.

    Args:
        weight: Factor of the penalty, lambda; finite, at least 0. It may be changed during training. The default is for
            the classifier with few classes; docs/orthogonal-templates.md has the study behind it.
        on: What is to become orthogonal.
        compare: ``"products"`` for squared inner products, ``"cosines"`` for squared cosines, which do not depend on
            the norms. None takes products for the classifier, the published form, and cosines for maps.
        layer: Path of the classifier's linear layer or 1 x 1 convolution, or of a (C, d) parameter; found by default.
        samples: Of how many samples of each batch the templates are taken (the first ones); for ``on="maps"``.
        classes: Between which classes the templates are compared, all by default; for ``on="maps"``, whose cost grows
            with their number.
        statistics: For ``on="maps"``: ``"batch"`` lets batch-norm layers that are in training mode use the statistics
            of the samples that count, through which the slopes are taken too: A[x]_c is then the gradient, at x, of the
            sum of the logits c over those samples. ``"running"`` does not mix samples.

    Raises:
        BadInput: An argument has a wrong value.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
        >>> with torch.no_grad():
        ...     _ = model[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [3, 0, 4, 0]]))
        >>> x = torch.rand(2, 2, 2)
        >>> OrthogonalTemplates(0.5)(model, x).item(), OrthogonalTemplates(0.5, on="maps")(model, x).item()
        (9.0, 0.36...)

    Source: the orthogonality penalty of Balestriero and Baraniuk, "A Spline Theory of Deep Networks" (ICML 2018) and
    "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576), and their public script
    (github.com/RandallBalestriero/OMASO).
    """

    def __init__(
        self,
        weight: float = 1.0,
        on: str = "classifier",
        *,
        compare: str | None = None,
        layer: str | None = None,
        samples: int = 16,
        classes: Sequence[int] | None = None,
        statistics: str = "running",
    ) -> None:
        super().__init__(weight, samples)
        if on not in ("classifier", "maps"):
            raise BadInput(f"on: {on!r} is neither 'classifier' nor 'maps'; choose one")
        if compare not in (None, *_MEASURES):
            raise BadInput(f"compare: {compare!r} is neither 'products' nor 'cosines'; choose one")
        if classes is not None and not 2 <= len(set(classes)) == len(classes):
            raise BadInput(f"classes: {classes} are not two or more different classes; name each once")
        if on == "maps" and layer is not None or on == "classifier" and classes is not None:
            raise BadInput('on: layer= belongs to "classifier" and classes= to "maps"; leave out the other one')
        if statistics not in ("running", "batch") or on == "classifier" and statistics == "batch":
            raise BadInput(f"statistics: {statistics!r} is neither 'running' nor, for on=\"maps\", 'batch'; choose one")
        self.on = on
        self.compare = compare or ("products" if on == "classifier" else "cosines")
        self.layer = layer
        self.classes = None if classes is None else tuple(classes)
        self.statistics = statistics

    def __call__(self, model: nn.Module, x: Any = None) -> Tensor:
        """Compute the penalty, differentiable in the model's parameters.

        Args:
            model: The classifier in training, wrapped or not; its mode and its buffers stay as they are.
            x: The batch: a tensor (N, ...), a tuple of positional inputs or a mapping of keyword inputs. For the
                classifier only the first call needs it, and none where `layer` is given.

        Returns:
            A scalar, in float32 at least.

        Raises:
            BadInput: The classifier cannot be found, or the inputs or the outputs do not fit.
            NotPiecewiseAffine: ``on="maps"`` and the model has no templates.
        """
        if not isinstance(model, nn.Module):
            raise BadInput(f"model: expected a torch.nn.Module, got {type(model).__name__}; give the model itself")
        module = unwrap(model)
        if self.on == "classifier":
            return self._measure(named_weight(module, self._classifier(module, x)))
        if x is None:
            raise BadInput('x: on="maps" takes the templates at the inputs; call penalty(model, x)')
        inputs = self._first(module, x, 'Let it be differentiable from the inputs on, or use on="classifier"')
        rows = as_written(_rows, module, inputs, self.classes, self.statistics == "batch")
        return self._measure(rows).mean()

    def __repr__(self) -> str:
        return f"OrthogonalTemplates({self.weight}, on={self.on!r}, compare={self.compare!r}, layer={self.layer!r})"

    def _measure(self, rows: Tensor) -> Tensor:
        # Entering the context costs as much as the penalty on a small classifier.
        if not torch.is_autocast_enabled(rows.device.type):
            return self.weight * _MEASURES[self.compare](rows)
        with torch.autocast(rows.device.type, enabled=False):
            return self.weight * _MEASURES[self.compare](rows)

    def _classifier(self, module: nn.Module, x: Any) -> str:
        if self.layer is not None:
            return self.layer
        path = self._recall(module)
        if path is None:
            if x is None:
                raise BadInput(
                    'x: without inputs the classifier cannot be found; pass x once, or name it by layer="..."'
                )
            path = find_classifier(module, x)
            self._remember(module, path)
        return path


def _rows(model: nn.Module, inputs: Inputs, classes: Sequence[int] | None, batch_statistics: bool) -> Tensor:
    """The rows A[x]_c by autograd, (n, C, D) over all floating-point inputs, differentiable where recorded."""

    # Samples mix in batch statistics alone, so the gradient of a class's sum over them holds the template of each.
    def wanted(logits: Tensor) -> list[Tensor]:
        totals = logits.sum(0)
        return [totals[c] for c in _choose(logits, classes)]

    rows = gradients(model, inputs, wanted, batch_statistics)
    return torch.stack([as_vectors(row) for row in rows], dim=1)


def _choose(logits: Tensor, classes: Sequence[int] | None) -> Sequence[int]:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise BadInput(
            f"model: its outputs have shape {tuple(logits.shape)}, not (N, C) with two or more classes; pool or "
            "flatten them in the model"
        )
    if classes is None:
        return range(logits.shape[1])
    if wrong := [c for c in classes if not 0 <= c < logits.shape[1]]:
        raise BadInput(f"classes: {wrong} are not among the model's {logits.shape[1]} classes; count them from 0")
    return classes


def squared_products(rows: Tensor) -> Tensor:
    """Sum of the squared inner products of different rows of (..., C, D), in float32 at least."""
    return _SumOfPairs.apply(_at_least_float32(rows))


def squared_cosines(rows: Tensor) -> Tensor:
    """Sum of the squared cosines of different rows of (..., C, D), in float32 at least; zero rows count nothing."""
    return _SumOfPairs.apply(directions(rows))


def directions(rows: Tensor) -> Tensor:
    """Rows (..., D) of length one, in float32 at least; rows of zeros stay, and pass no gradient."""
    rows = _at_least_float32(rows)
    alive = (rows != 0).any(-1, keepdim=True)
    # The norm of a row of zeros has no second derivative, so such a row is taken out before the division.
    rows = torch.where(alive, rows, 1.0)
    # Cosines do not change with the scale, nor do their derivatives: it keeps the squares of tiny and huge rows finite.
    return F.normalize(rows / rows.detach().abs().amax(-1, keepdim=True), dim=-1) * alive


def _at_least_float32(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


class _SumOfPairs(torch.autograd.Function):
    """sum_{c1 != c2} g_c1c2^2 of G = R R^T, with its gradient 4 (G - diag G) R made from the same products."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        products = _products(rows)
        ctx.save_for_backward(rows, 4 * products @ rows if ctx.needs_input_grad[0] else None)
        return products.square().sum((-2, -1))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        rows, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives it has to depend on the rows
            gradient = 4 * _products(rows) @ rows
        return grad_outputs[0][..., None, None] * gradient


def _products(rows: Tensor) -> Tensor:
    """The inner products of different rows, zero on the diagonal."""
    products = rows @ rows.mT
    products.diagonal(dim1=-2, dim2=-1).zero_()
    return products


_MEASURES = {"products": squared_products, "cosines": squared_cosines}
