"""Slopes of smooth networks with their gates held: the library against a loop of autograd.grad on detached modules.

The peer is what a user would write by hand: the library's ConvNeXt and vision transformer again, over the same weights,
with the statistics of every norm, the gate of every GELU and the weights of every attention detached, and one call of
autograd.grad for each output. Both are timed in turn in one process on one thread; memory is the median of processes of
their own, for it differs between them by how the heap is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine import _models as models

from .measure import Failure, in_fresh_process, interleaved, peak_extra_memory

OUTPUTS, BATCH = 10, 16
PROCESSES = 3
SUBJECTS = {"convnext": "ConvNeXt, 28 px", "vit": "ViT, 28 px"}


def norm(layer: nn.LayerNorm, u: Tensor) -> Tensor:
    """Layer norm, its standard deviation detached."""
    spread = u.detach().var(-1, keepdim=True, correction=0)
    return (u - u.mean(-1, keepdim=True)) * torch.rsqrt(spread + layer.eps) * layer.weight + layer.bias


def gelu(u: Tensor) -> Tensor:
    """Phi(u*) u."""
    return u * torch.special.ndtr(u.detach())


def attention(part: nn.MultiheadAttention, u: Tensor) -> Tensor:
    """Attention to itself, its weights detached: queries and keys carry nothing."""
    query, key, value = nn.functional.linear(u, part.in_proj_weight, part.in_proj_bias).chunk(3, -1)
    query, key, value = (item.unflatten(-1, (part.num_heads, -1)).transpose(1, 2) for item in (query, key, value))
    mixed = nn.functional.scaled_dot_product_attention(query.detach(), key.detach(), value)
    return part.out_proj(mixed.transpose(1, 2).flatten(-2))


def detached(module: nn.Module, x: Tensor) -> Tensor:
    """What a module of the two networks gives, its gates detached."""
    if isinstance(module, nn.LayerNorm):  # over the channels of a pixel too
        return norm(module, x.movedim(1, -1)).movedim(-1, 1) if x.dim() == 4 else norm(module, x)
    if isinstance(module, nn.GELU):
        return gelu(x)
    if isinstance(module, nn.TransformerEncoderLayer):
        x = x + attention(module.self_attn, norm(module.norm1, x))
        return x + module.linear2(gelu(module.linear1(norm(module.norm2, x))))
    if isinstance(module, nn.Sequential):
        for part in module:
            x = detached(part, x)
        return x
    if hasattr(module, "body"):  # a block of a ConvNeXt
        return x + module.get_parameter("scale") * detached(module.get_submodule("body"), x)
    return module(x)


def loop(model: nn.Module, x: Tensor) -> Tensor:
    """(N, C, *in): one gradient for each output."""
    x = x.clone().requires_grad_()
    logits = detached(model, x)
    rows = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=k < OUTPUTS - 1)[0] for k in range(OUTPUTS)]
    return torch.stack(rows, 1)


def held(net: ma.SplineNetwork, x: Tensor) -> Tensor:
    """(N, C, *in): the slopes of the captured network."""
    return torch.as_tensor(net.affine_map(x).slopes)


def contestants(name: str) -> dict[str, Callable[[], Tensor]]:
    """Both ways on one network, whose parameters need no gradient."""
    torch.manual_seed(0)
    model = models.build(name, (1, 28, 28), OUTPUTS, seed=0).eval().requires_grad_(False)
    x = torch.rand(BATCH, 1, 28, 28)
    net = ma.capture(model, x[:2], smooth="frozen")
    return {"detached": lambda: loop(model, x), "held": lambda: held(net, x)}


def memory_of(name: str, way: str) -> float:
    """Extra MiB of one call, after a first."""
    run = contestants(name)[way]
    run()
    return peak_extra_memory(run)


def time_both(name: str, rounds: int) -> dict[str, float]:
    """CPU seconds at the median, their ratio round by round, and how far the slopes are apart."""
    runs = contestants(name)
    one, two = runs["detached"](), runs["held"]()
    timings = interleaved(runs, rounds)
    seconds = {f"{way} seconds": sorted(timing.cpu)[len(timing.cpu) // 2] for way, timing in timings.items()}
    apart = float((one - two).abs().max() / one.abs().max())
    return seconds | {"ratio": timings["held"].ratio(timings["detached"]), "error": apart}


def compare(rounds: int) -> list[dict[str, Any]]:
    """A row for each network."""
    rows = []
    for name, title in SUBJECTS.items():
        timed = in_fresh_process(time_both, name, rounds)
        ways = ("detached", "held")
        memory = {way: [in_fresh_process(memory_of, name, way) for _ in range(PROCESSES)] for way in ways}
        for found in (timed, *memory["detached"], *memory["held"]):
            if isinstance(found, Failure):
                raise RuntimeError(f"{name}: {found.reason}")
        rows.append({"title": title, **timed} | {f"{way} MiB": median(memory[way]) for way in ways})
    return rows
