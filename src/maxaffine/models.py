"""Small reference networks, their training and their weights."""

from maxaffine._models import accuracy, build, load_model, r2, save_weights, train

__all__ = ["accuracy", "build", "load_model", "r2", "save_weights", "train"]
