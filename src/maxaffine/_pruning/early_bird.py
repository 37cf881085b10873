"""When the partition of a network in training has settled: the spline early bird."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._capture import capture
from maxaffine._codes import Codes, code_changes
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

THRESHOLD = 0.16
EPOCHS = 3
_BATCH = 256


class EarlyBird:
    r"""Says after each epoch whether the partition has settled, so that pruning need not wait for the last epoch.

    The signs at every batch-norm output on fixed inputs (of a network without batch-norm: the pieces of its
    activations) are compared with those of the last three epochs. It has settled when

    .. math:: \max_{e' = e-3, ..., e-1} \; \mathrm{mean}_l \; d_l(e, e') < 0.16,

    d_l the share of signs of layer l, over inputs and units, that are another at both epochs. Inputs may be real, or a
    random canvas (:meth:`canvas`). The signs of three epochs are kept in memory, a bit each.

    Args:
        x: Fixed inputs as the network takes them; a tensor is run in batches. Copied.
        threshold: Largest mean share of changed signs that counts as settled.
        epochs: Earlier epochs that each is compared with.

    Attributes:
        distances: For each epoch its mean share of changed signs against each epoch kept, the latest last.
        settled_at: The first epoch, counted from 1, after which it had settled; None before.

    Raises:
        BadInput: For a threshold outside (0, 1], no epochs, or empty inputs.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> bird = EarlyBird(EarlyBird.canvas((2,), 64))
        >>> [bird.record(model) for _ in range(4)]  # nothing is trained, so nothing changes
        [False, False, False, True]

    Source: You et al., "Max-Affine Spline Insights Into Deep Network Pruning" (TMLR 2022).
    """

    def __init__(self, x: Any, threshold: float = THRESHOLD, epochs: int = EPOCHS) -> None:
        if not 0 < threshold <= 1:
            raise BadInput(f"threshold: expected a share in (0, 1], got {threshold!r}")
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise BadInput(f"epochs: expected a whole number of at least 1, got {epochs!r}")
        tensors = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
        if not tensors or any(not leaf.numel() for leaf in tensors):
            raise BadInput("x: it holds no input; give some, or EarlyBird.canvas(shape, samples)")
        self.x = tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, x)
        self.threshold, self.epochs = threshold, epochs
        self.distances: list[tuple[float, ...]] = []
        self.settled_at: int | None = None
        self._kept: deque[Codes] = deque(maxlen=epochs)

    @staticmethod
    def canvas(shape: Sequence[int], samples: int, seed: int = 0) -> Tensor:
        """Random inputs, normal with mean 0 and variance 1: (samples, *shape), for data that is scaled so."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(samples, *shape, generator=generator)

    def record(self, model: nn.Module) -> bool:
        """Compare the network as it is now with the last epochs; it is run in evaluation mode, and left as it was.

        Args:
            model: The network, the same one or one of the same architecture as before.

        Returns:
            Whether the partition has settled, now or before.

        Raises:
            BadInput: It has other layers than before, or its outputs are not finite.
            NotPiecewiseAffine: It has no batch-norm, and no exact piecewise-affine form either.
        """  # noqa: DOC502
        signs = self._signs(model)
        if self._kept and (before := set(self._kept[-1])) != (now := set(signs)):
            raise BadInput(f"model: its layers are {sorted(now)}, but {sorted(before)} before; start a new EarlyBird")
        found = [code_changes(old, signs) for old in self._kept]
        self.distances.append(tuple(float(torch.stack([*one.values()]).mean()) for one in found))
        self._kept.append(signs)
        full = len(found) == self.epochs and max(self.distances[-1]) < self.threshold
        if full and self.settled_at is None:
            self.settled_at = len(self.distances)
        return self.settled_at is not None

    def _signs(self, model: nn.Module) -> Codes:
        parts = self.x.split(_BATCH) if isinstance(self.x, Tensor) else [self.x]
        with evaluating(model), torch.random.fork_rng(devices=[]):
            norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
            if norms:
                return Codes.concat([_at_norms(model, norms, part) for part in parts])
            net = capture(model, parts[0])
            return Codes.concat([net.codes(part) for part in parts])

    def __repr__(self) -> str:
        said = "not settled" if self.settled_at is None else f"settled after epoch {self.settled_at}"
        return f"EarlyBird({len(self.distances)} epochs, {said})"


def _at_norms(model: nn.Module, norms: Mapping[str, nn.Module], x: Any) -> Codes:
    """The signs at the output of every batch-norm, for one batch."""
    seen: dict[str, list[Tensor]] = {name: [] for name in norms}

    def looking(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen[name].append(output.detach() > 0)

        return look

    handles = [module.register_forward_hook(looking(name)) for name, module in norms.items()]
    try:
        with torch.no_grad():
            x = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, x)
            found = model(**x) if isinstance(x, dict) else model(*x) if isinstance(x, tuple | list) else model(x)
    finally:
        for handle in handles:
            handle.remove()
    if not all(bool(leaf.isfinite().all()) for leaf in tree_leaves(found) if isinstance(leaf, Tensor)):
        raise BadInput("model: its outputs are not finite, so its signs say nothing; the training has diverged")
    # A module that is called several times has signs at each call.
    named = {f"{n}#{k}" if k else n: one for n, all_of in seen.items() for k, one in enumerate(all_of)}
    return Codes.from_tensors({name: (signs, 2) for name, signs in named.items()})
