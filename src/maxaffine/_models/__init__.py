"""Small reference networks, their training, and the safe loading of a user's own model."""

from .checkpoint import SUFFIXES, save_weights
from .loading import EXPORTED, load_model
from .networks import FACTORIES, Normalized, build, cnn, mlp, mobilenet, resnet18
from .standardized import Standardized, standardized
from .training import Epoch, accuracy, explained, r2, train
