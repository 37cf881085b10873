"""The early bird as a callback of Hugging Face's Trainer (extra ``huggingface``)."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from maxaffine._pruning.early_bird import EarlyBird


class EarlyBirdTrainerCallback(TrainerCallback):
    """Stops a training of Hugging Face's Trainer when the partition has settled, as `maxaffine.pruning.EarlyBird` says.

    Args:
        bird: The early bird, on fixed inputs of the model; of a model that takes them by name, a dict.
        stop: Whether to stop; else ``bird.settled_at`` alone says when it would have.

    Example:
        >>> from maxaffine.pruning import EarlyBird
        >>> EarlyBirdTrainerCallback(EarlyBird({"pixel_values": EarlyBird.canvas((1, 8, 8), 8)})).bird
        EarlyBird(0 epochs, not settled)

    Source: that of the early bird.
    """

    def __init__(self, bird: EarlyBird, stop: bool = True) -> None:
        self.bird, self.stop = bird, stop

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **others: Any,
    ) -> None:
        """Compare, and ask the trainer to stop."""
        if model is not None and self.bird.record(model) and self.stop:
            control.should_training_stop = True
