"""The networks of the study, trained here, and the inputs that they are asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine as ma
from examples.smooth_networks import byte
from examples.smooth_networks.measuring import kept
from maxaffine.data import DataSet, load

NAMES = ("vit", "convnext", "gpt", "swiglu-gpt")
TITLES = {"vit": "ViT", "convnext": "ConvNeXt", "gpt": "GPT", "swiglu-gpt": "GPT, SwiGLU"}
SHAPE, CLASSES, PATCH = (1, 28, 28), 10, 4
SEEDS = (0, 1, 2)
GARMENTS, EPOCHS, STEPS = 12_000, 4, 700
INPUTS = 64  # held-out garments or contexts that every network is asked about
BLUR = 9  # side of the box that blurs an image, in pixels


@dataclass(frozen=True)
class Subject:
    """A network, inputs, and the parts of an input that attributions speak of.

    Attributes:
        model: From inputs to logits, in eval mode.
        x: Inputs (N, *in).
        labels: What is right for each, (N,).
        baselines: What stands for an absent part, by its name, each (N, *in).
        sums: From numbers per entry (N, *in) to their sums over each part (N, P).
        spread: From one number per part (N, P) to one per entry, as far as it broadcasts to (N, *in).
        quality: Share of right answers, over all that was held out.
    """

    model: nn.Module
    x: Tensor
    labels: Tensor
    baselines: dict[str, Tensor]
    sums: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor], Tensor]
    quality: float


class SwiGluGpt(byte.Gpt):
    """The byte-level GPT with SwiGLU in place of GELU, at the same number of weights."""

    def __init__(self) -> None:
        super().__init__()
        # A layer that is built with GELU would compute it on its fast path, whatever its activation is afterwards.
        blocks = [
            nn.TransformerEncoderLayer(
                byte.WIDTH, byte.HEADS, 16 * byte.WIDTH // 3, 0.0, swiglu, batch_first=True, norm_first=True
            )
            for _ in range(byte.BLOCKS)
        ]
        for block in blocks:
            block.linear2 = nn.Linear(8 * byte.WIDTH // 3, byte.WIDTH)
        self.reader.blocks = nn.ModuleList(blocks)


def swiglu(u: Tensor) -> Tensor:
    """The second half of the entries, gated by SiLU of the first."""
    gate, up = u.chunk(2, -1)
    return F.silu(gate) * up


def subject(name: str, seed: int, weights: Path, *, trained: bool = True) -> Subject:
    """One network, trained unless its weights are there, or as it was before its training."""
    file = weights / f"{name}-{seed}.safetensors"
    if name in ("vit", "convnext"):
        build = partial(ma.models.build, name, SHAPE, CLASSES, seed=seed)
        return _images(kept(build, partial(_learn, seed=seed), file, seed) if trained else build().eval())
    build = byte.Gpt if name == "gpt" else SwiGluGpt
    if trained:
        return _contexts(kept(build, partial(byte.learn, steps=STEPS, seed=seed), file, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _contexts(build().eval())


@cache
def _garments() -> DataSet:
    return load("fashion-mnist")


def _learn(model: nn.Module, seed: int) -> None:
    ma.models.train(model, _garments().train.take(slice(0, GARMENTS)), epochs=EPOCHS, seed=seed, progress=False)


def _images(model: nn.Module) -> Subject:
    garments = _garments()
    x, side = garments.test.inputs[:INPUTS], SHAPE[1] // PATCH
    baselines = {
        "black": torch.zeros_like(x),
        "the mean garment": garments.train.inputs[:GARMENTS].mean(0).expand_as(x),
        "blurred": F.avg_pool2d(x, BLUR, 1, BLUR // 2),
    }
    return Subject(
        model,
        x,
        garments.test.labels[:INPUTS],
        baselines,
        sums=lambda values: values.unflatten(3, (side, PATCH)).unflatten(2, (side, PATCH)).sum((1, 3, 5)).flatten(1),
        spread=lambda parts: parts.view(-1, 1, side, side).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3),
        quality=ma.models.accuracy(model, garments.test),
    )


def _contexts(model: byte.Gpt) -> Subject:
    known, rest = byte.text()
    starts = torch.linspace(0, len(rest) - byte.CONTEXT - 1, INPUTS).long()
    pieces = rest[starts[:, None] + torch.arange(byte.CONTEXT + 1)]
    whole = rest[: len(rest) // (byte.CONTEXT + 1) * (byte.CONTEXT + 1)].view(-1, byte.CONTEXT + 1)
    with torch.no_grad():
        x = model.table(pieces[:, :-1])
        vectors = {
            "zero": torch.zeros(byte.WIDTH),
            "the mean byte": known.bincount(minlength=256) / len(known) @ model.table.weight,
            "a space": model.table.weight[ord(" ")],
        }
        right = torch.cat([model(part[:, :-1]).argmax(2) == part[:, 1:] for part in whole.split(64)])
    return Subject(
        byte.Next(model.reader).eval(),
        x,
        pieces[:, -1],
        {name: vector.detach().expand_as(x) for name, vector in vectors.items()},
        sums=lambda values: values.sum(2),
        spread=lambda parts: parts[:, :, None],
        quality=float(right.float().mean()),
    )
