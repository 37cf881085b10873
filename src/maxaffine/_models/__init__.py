"""Small reference networks, their training, and the safe loading of a user's own model.

Every network is a plain ``nn.Module`` that gives logits, without a softmax. All but the smooth ``vit`` and
``convnext`` are piecewise affine in eval mode.
"""

from __future__ import annotations

from .checkpoint import SUFFIXES, save_weights
from .convex import input_convex
from .convnext import convnext
from .loading import load_model
from .measuring import LabeledData, accuracy
from .mobile import mobilenet
from .normalized import Normalized
from .plain import cnn, mlp
from .recurrent import relu_rnn
from .registry import FACTORIES, build
from .residual import resnet, resnet18
from .training import Epoch, TrainingResult, train
from .vit import vit

__all__ = [
    "FACTORIES",
    "SUFFIXES",
    "Epoch",
    "LabeledData",
    "Normalized",
    "TrainingResult",
    "accuracy",
    "build",
    "cnn",
    "convnext",
    "input_convex",
    "load_model",
    "mlp",
    "mobilenet",
    "relu_rnn",
    "resnet",
    "resnet18",
    "save_weights",
    "train",
    "vit",
]
