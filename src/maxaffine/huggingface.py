"""The early bird as a callback of Hugging Face's Trainer (extra `huggingface`)."""

from maxaffine._pruning.transformers import EarlyBirdTrainerCallback

__all__ = ["EarlyBirdTrainerCallback"]
