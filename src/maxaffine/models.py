"""Small reference networks, their training and their weights."""

from maxaffine._models import accuracy, build, load_model, save_weights, train

__all__ = ["accuracy", "build", "load_model", "save_weights", "train"]
