"""The early bird as a Lightning callback (extra ``lightning``)."""

from lightning.pytorch import Callback, LightningModule, Trainer

from maxaffine._pruning.early_bird import EarlyBird
from maxaffine.errors import BadInput


class EarlyBirdCallback(Callback):
    """Stops a training of Lightning when the partition has settled, as `maxaffine.pruning.EarlyBird` says.

    Args:
        bird: The early bird, on fixed inputs of the module.
        module: Path inside the LightningModule of the network; empty for the LightningModule itself.
        stop: Whether to stop; else ``bird.settled_at`` alone says when it would have.

    Example:
        >>> from maxaffine.pruning import EarlyBird
        >>> EarlyBirdCallback(EarlyBird(EarlyBird.canvas((2,), 8)), module="net").bird
        EarlyBird(0 epochs, not settled)

    Source: that of the early bird.
    """

    def __init__(self, bird: EarlyBird, module: str = "", stop: bool = True) -> None:
        self.bird, self.module, self.stop = bird, module, stop

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and ask the trainer to stop."""
        try:
            network = pl_module.get_submodule(self.module)
        except AttributeError as error:
            raise BadInput(f"module: the LightningModule has no {self.module!r} ({error}); name a part") from error
        if self.bird.record(network) and self.stop:
            trainer.should_stop = True
