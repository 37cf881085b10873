"""What a network sees of images at every depth, and the distances between what it sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import maxaffine as ma

MEAN = "mean"


@dataclass(frozen=True)
class Seen:
    """A batch of images as one network sees it.

    Attributes:
        images: (N, C, H, W).
        codes: Codes of the chosen operators.
        features: Output of each chosen operator, (N, units).
        logits: (N, classes).
    """

    images: Tensor
    codes: ma.Codes
    features: dict[str, Tensor]
    logits: Tensor


class Views:
    """The view of one network.

    Args:
        model: A classifier in evaluation mode.
        images: Some images for the capture.
        operators: Names of the piecewise-affine operators to look at; all by default.
    """

    def __init__(self, model: nn.Module, images: Tensor, operators: list[str] | None = None) -> None:
        self.model = model
        self.net = ma.capture(model, images[:2])
        records = {record.name: record for record in self.net.operators if record.pieces > 1}
        self.operators = list(records) if operators is None else operators
        self.titles = {name: f"{name} ({records[name].kind})" for name in self.operators}
        self._modules = {name: model.get_submodule(records[name].module_path) for name in self.operators}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Seen:
        """Look at some images."""
        features: dict[str, Tensor] = {}

        def keep(name: str) -> RemovableHandle:
            def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
                features[name] = output.flatten(1).clone()

            return self._modules[name].register_forward_hook(hook)

        hooks = [keep(name) for name in self.operators]
        logits = self.model(images)
        for hook in hooks:
            hook.remove()
        return Seen(images, self.net.codes(images, self.operators), features, logits)


def distances(a: Seen, b: Seen) -> Iterator[tuple[str, Tensor]]:
    """Every distance between two batches, one after the other."""
    yield "pixels", euclidean(a.images.flatten(1), b.images.flatten(1))
    total: Tensor | None = None
    for name in a.codes:
        found = ma.codes.code_distance(a.codes[name], b.codes[name])
        total = found if total is None else total + found
        yield f"code|{name}", found
        left, right = a.features[name], b.features[name]
        products = left @ right.T
        squares = left.square().sum(1)[:, None], right.square().sum(1)[None]
        yield f"l2|{name}", (squares[0] + squares[1] - 2 * products).clamp(min=0).sqrt()
        yield f"cosine|{name}", 1 - products / (squares[0] * squares[1]).clamp(min=1e-20).sqrt()
    if total is not None and len(a.codes) > 1:
        yield f"code|{MEAN}", total / len(a.codes)


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances."""
    return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
