"""AttnLRP as the study computes it, against the library LXT: ``pip install --no-deps lxt==2.1``, then run this module.

What LXT calls efficient needs torchvision and an older transformers; its explicit functions need torch alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .__main__ import WEIGHTS
from .attributions import cotangents, frozen, gradient, with_rules
from .networks import subject


def main() -> None:
    """Compare on the ViT, from its tokens on, in double precision."""
    one = subject("vit", 0, WEIGHTS)
    patches, *rest = one.model.double().children()
    tokens, tail = patches(one.x.double()).detach(), nn.Sequential(*rest)
    u = cotangents(tail, tokens, one.labels)
    peer = relevance(tail, tokens, u).sum(2)
    ours = (gradient(with_rules(tail), tokens, u) * tokens).sum(2)
    print(f"AttnLRP, per token: |ours - LXT| / |LXT| = {_apart(ours, peer):.1e}")
    held = gradient(with_rules(tail, queries=0.0, values=1.0), tokens, u)
    print(f"CP-LRP against the frozen map: {_apart(held, frozen(tail, tokens, u)):.1e}")


def relevance(tail: nn.Sequential, tokens: Tensor, u: Tensor) -> Tensor:
    """What LXT's functions propagate to the entries of the tokens, (N, T, width)."""
    functional = import_module("lxt.explicit.functional")
    leaf = tokens.clone().requires_grad_()
    t = leaf
    *blocks, norm, _, head = list[Any](tail)
    for block in blocks:
        t = _block(block, t)
    t = functional.mean(functional.layer_norm(t, norm.weight, norm.bias, norm.eps), 1, False)
    logits = functional.linear_epsilon(t, head.weight, head.bias)
    return torch.autograd.grad(logits, leaf, logits.detach() * u)[0]


def _block(block: Any, t: Tensor) -> Tensor:
    functional, rules = import_module("lxt.explicit.functional"), import_module("lxt.explicit.rules")
    attention, count = block.self_attn, t.shape[0]

    def heads(n: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.linear_epsilon(n, weight, bias).view(count, -1, attention.num_heads, attention.head_dim)

    n = functional.layer_norm(t, block.norm1.weight, block.norm1.bias, block.norm1.eps)
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (heads(n, w, b).transpose(1, 2) for w, b in zip(weights, biases, strict=True))
    scores = functional.mul2(functional.matmul(q, k.transpose(2, 3)), attention.head_dim**-0.5)
    mixed = functional.matmul(functional.softmax(scores, -1), v).transpose(1, 2).flatten(2)
    t = functional.add2(t, functional.linear_epsilon(mixed, attention.out_proj.weight, attention.out_proj.bias))
    n = functional.layer_norm(t, block.norm2.weight, block.norm2.bias, block.norm2.eps)
    units = rules.identity(F.gelu, functional.linear_epsilon(n, block.linear1.weight, block.linear1.bias))
    return functional.add2(t, functional.linear_epsilon(units, block.linear2.weight, block.linear2.bias))


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


if __name__ == "__main__":
    main()
