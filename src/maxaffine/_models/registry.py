"""The reference networks by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import nn

from ..errors import BadInput
from .convex import input_convex
from .convnext import convnext
from .mobile import mobilenet
from .plain import cnn, mlp
from .randomness import seeded
from .recurrent import relu_rnn
from .residual import resnet, resnet18
from .vit import vit

FACTORIES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        factory.__name__.replace("_", "-"): factory
        for factory in (mlp, cnn, resnet, resnet18, mobilenet, input_convex, relu_rnn, vit, convnext)
    }
)


def build(
    name: str, input_shape: Sequence[int], classes: int, *, seed: int | None = None, **options: object
) -> nn.Module:
    """Build a reference network by its name, ready to be trained.

    Args:
        name: A key of `FACTORIES`; underscores and hyphens are the same.
        input_shape: Shape of one input, without the batch.
        classes: Number of logits C.
        seed: Seed of the initial weights, which leaves the global generator as it was; None draws from the latter.
        **options: Further arguments of the factory, e.g. ``widths`` of ``mlp``.

    Returns:
        Module from (N, *input_shape) to logits (N, C), piecewise affine in eval mode but for the smooth ``vit`` and
        ``convnext``.

    Raises:
        BadInput: There is no such network or no such option, or the network does not take such inputs.

    >>> build("mlp", (1, 8, 8), 10, seed=0, widths=(32,))[1]
    Linear(in_features=64, out_features=32, bias=True)
    """
    factory = FACTORIES.get(name.replace("_", "-"))
    if factory is None:
        close = difflib.get_close_matches(name, FACTORIES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "choose one of these"
        raise BadInput(f"name: there is no network {name!r} among {', '.join(FACTORIES)}; {hint}")
    if classes < 1:
        raise BadInput(f"classes: {classes} is less than 1; give the number of logits")
    known = list(inspect.signature(factory).parameters)[2:]
    if unknown := sorted(options.keys() - known):
        raise BadInput(f"{unknown[0]}: {name} takes no such option; its options are {', '.join(known) or 'none'}")
    if seed is None:
        return factory(input_shape, classes, **options)
    with seeded(seed, torch.device("cpu")):
        return factory(input_shape, classes, **options)
