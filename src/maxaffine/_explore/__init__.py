"""The explorer: a page on this machine on which a network is asked about its inputs, at once and exactly."""

from maxaffine._explore.explorer import TRAIN_LIMIT, Explorer
from maxaffine._explore.serving import require, serve
