"""The penalty as a Lightning callback (extra ``lightning``); so it is not imported with its room."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from maxaffine._learning.centroid_alignment import CentroidAlignment
from maxaffine._learning.orthogonal_templates import OrthogonalTemplates
from maxaffine.errors import BadInput


class OrthogonalTemplatesCallback(Callback):
    """Adds `OrthogonalTemplates` or `CentroidAlignment` to the loss of a LightningModule that optimizes by itself.

    loss = training_step(batch)  +  penalty(model, inputs of the batch)

    The sum takes the loss's way through Lightning, so precision plugins, strategies and gradient accumulation treat
    both alike. ``training_step`` is wrapped while the model is fitted and is the module's own again afterwards.

    Args:
        penalty: The penalty.
        module: Path inside the LightningModule of the classifier; empty for the LightningModule itself, whose forward
            then gives the logits.
        inputs: What the classifier takes, out of a batch; by default the first item of a sequence, or the batch.
        log_as: Name under which the penalty is logged; None logs nothing.

    Example:
        >>> OrthogonalTemplatesCallback(OrthogonalTemplates(0.1), module="net").log_as
        'orthogonal_templates'

    Source: the penalty's own; Lightning's callbacks cannot change the loss, hence the wrapper.
    """

    def __init__(
        self,
        penalty: OrthogonalTemplates | CentroidAlignment,
        module: str = "",
        inputs: Callable[[Any], Any] | None = None,
        log_as: str | None = "orthogonal_templates",
    ) -> None:
        self.penalty = penalty
        self.module = module
        self.inputs = _first if inputs is None else inputs
        self.log_as = log_as
        self._wrapper: Callable[..., Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the training step; refuse a module that optimizes by hand, or has no such part."""
        if not pl_module.automatic_optimization:
            raise BadInput(
                "pl_module: it optimizes by hand, where nothing uses the loss that training_step returns; add "
                "penalty(model, x) to the loss in training_step instead"
            )
        try:
            classifier = pl_module.get_submodule(self.module)
        except AttributeError as error:
            raise BadInput(f"module: the LightningModule has no {self.module!r} ({error}); name a part") from error
        step = pl_module.training_step

        @functools.wraps(step)
        def with_penalty(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            if result is None:
                return None
            batch = args[0] if args else kwargs["batch"]
            value = self.penalty(classifier, self.inputs(batch))
            if self.log_as is not None:
                pl_module.log(self.log_as, value.detach())
            return _add(result, value)

        # An attribute of the instance stands before the method of its class. What the instance had of its own comes
        # back after the fit, be it nothing.
        own = {name: pl_module.__dict__[name] for name in ("training_step",) if name in pl_module.__dict__}
        vars(with_penalty).update(own=own, finished=False)
        pl_module.__dict__["training_step"] = self._wrapper = with_penalty

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the training step back."""
        self._restore(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the training step back."""
        self._restore(pl_module)

    def _restore(self, pl_module: LightningModule) -> None:
        if self._wrapper is None:
            return
        vars(self._wrapper)["finished"] = True
        self._wrapper = None
        # Of several such callbacks the first one ends first, while its wrapper is still inside the others'.
        while getattr(step := pl_module.__dict__.get("training_step"), "finished", False):
            del pl_module.__dict__["training_step"]
            pl_module.__dict__.update(vars(step)["own"])


def _first(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple | list) else batch


def _add(result: Any, value: Tensor) -> Any:
    """The result of a training step with the penalty in its loss; other entries stay."""
    if isinstance(result, Mapping):
        return {**result, "loss": result["loss"] + value}
    return result + value
