"""What each method says of the parts of an input: slopes, of the frozen map or another, times what is taken away."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only

from .networks import Subject, swiglu

IG_STEPS = 32
# The first factor of every SwiGLU, which does not carry by itself.
SILU = {"reader.blocks.*.mul": "self"}
# What is said of every network; the other carrier where there is a choice, AttnLRP where there is attention.
METHODS: Mapping[str, str] = {
    "frozen": "frozen map",
    "silu": "frozen map, SiLU carries",
    "gradient": "gradient × input, or tangent",
    "length": "length of the gradient",
    "integrated": "integrated gradients",
    "attnlrp": "AttnLRP",
}
Said = dict[str, dict[str, Tensor]]


def cotangents(model: nn.Module, x: Tensor, outputs: Tensor) -> Tensor:
    """What is explained, (N, C): one logit of each input less the mean of all, as a softmax sees it."""
    with torch.no_grad():
        count = model(x[:1]).shape[1]
    return F.one_hot(outputs, count).to(x.dtype) - 1 / count


def slopes(name: str, subject: Subject, u: Tensor) -> dict[str, Tensor]:
    """By method, what multiplies each entry of each input, (N, *in), wherever that does not depend on a baseline."""
    found = {"frozen": frozen(subject.model, subject.x, u), "gradient": gradient(subject.model, subject.x, u)}
    if name.startswith("swiglu"):
        found["silu"] = frozen(subject.model, subject.x, u, SILU)
    if name != "convnext":
        found["attnlrp"] = gradient(with_rules(subject.model), subject.x, u)
    return found


def attributions(
    subject: Subject, u: Tensor, multipliers: Mapping[str, Tensor], baselines: Mapping[str, Tensor]
) -> Said:
    """By method and baseline, a number for each part of each input, (N, P)."""
    said: Said = {method: {} for method in METHODS if method in multipliers or method in ("length", "integrated")}
    for baseline, absent in baselines.items():
        lost = subject.x - absent
        for method, factors in multipliers.items():
            said[method][baseline] = subject.sums(factors * lost)
        said["length"][baseline] = subject.sums(multipliers["gradient"] ** 2).sqrt()
        said["integrated"][baseline] = subject.sums(integrated(subject.model, subject.x, u, absent) * lost)
    return said


def frozen(model: nn.Module, x: Tensor, u: Tensor, carrier: Mapping[str, str] | None = None) -> Tensor:
    """The rows u^T A of the frozen map, (N, *in)."""
    return only(ma.capture(model, x, smooth="frozen", carrier=carrier).affine_map(x).rmv(u)).detach()


def gradient(model: nn.Module, x: Tensor, u: Tensor) -> Tensor:
    """u^T J by autograd, (N, *in)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad((model(x) * u).sum(), x)[0]


def integrated(model: nn.Module, x: Tensor, u: Tensor, absent: Tensor) -> Tensor:
    """The mean of u^T J on the way from a baseline, (N, *in), by captum."""
    found = IntegratedGradients(lambda z, v: (model(z) * v).sum(1), multiply_by_inputs=False)
    return found.attribute(x, absent, additional_forward_args=u, n_steps=IG_STEPS, internal_batch_size=256).detach()


def with_rules(model: nn.Module, queries: float = 0.25, values: float = 0.5) -> nn.Module:
    """A copy with the outputs of a network and the gradients that AttnLRP prescribes, without its gamma rule.

    With no share for the queries and the keys and all for the values it is CP-LRP (A. Ali et al., ICML 2022).

    Source: R. Achtibat et al., AttnLRP, ICML 2024, section 3.3, as gradients.
    """
    model = copy.deepcopy(model)
    for module in [*model.modules()]:
        if isinstance(module, nn.LayerNorm):
            module.forward = _norm(module)  # pyright: ignore[reportAttributeAccessIssue]
        elif isinstance(module, nn.MultiheadAttention):
            attend = _attention(module.forward, queries, values)
            module.forward = attend  # pyright: ignore[reportAttributeAccessIssue]
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation = _gated if module.activation is swiglu else _identity(module.activation)
    return model


def _share(u: Tensor, part: float) -> Tensor:
    """The value itself, with a part of its gradient."""
    return part * u + (1 - part) * u.detach()


def _identity(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # All that comes to a unit goes on to its one input, so the slope is value over input.
    def identity(u: Tensor) -> Tensor:
        apart = torch.where(u.abs() < 1e-9, 1e-9, u)
        return (function(apart) / apart).detach() * u

    return identity


def _gated(u: Tensor) -> Tensor:
    # The gate by the identity rule, then one half of what comes to the product to each factor.
    gate, up = u.chunk(2, -1)
    return _share(_identity(F.silu)(gate) * up, 0.5)


def _norm(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    def normalize(u: Tensor) -> Tensor:
        deviation = (u.var(-1, correction=0, keepdim=True) + norm.eps).sqrt().detach()
        return norm.weight * (u - u.mean(-1, keepdim=True)) / deviation + norm.bias

    return normalize


def _attention(forward: Callable[..., object], queries: float, values: float) -> Callable[..., object]:
    # Each product halves what goes to its factors: weights times values, and before the softmax queries times keys. The
    # rest of these ways is linear, or its own gradient as the softmax is, so the shares can be taken where they begin.
    def attend(query: Tensor, key: Tensor, value: Tensor, **options: object) -> object:
        return forward(_share(query, queries), _share(key, queries), _share(value, values), **options)

    return attend
