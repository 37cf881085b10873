"""The user's things are after capture as they were before: after success and after every kind of failure."""

from __future__ import annotations

import gc
import logging
import random
import subprocess
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maxaffine as ma
from tests.zoo.networks import Net


class Busy(nn.Module):
    """A network with everything that could be disturbed: modes, hooks, buffers, gradients, attributes of its own."""

    def __init__(self, ending: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(3))
        self.ending = ending
        self.calls, self.history, self.cache = 0, [1, 2], {"a": torch.ones(2)}
        self.recent, self.kinds = deque([1], maxlen=3), {float}
        self.inner = [nn.Linear(2, 2)]  # not registered

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        self.history.append(self.calls)
        self.cache["last"] = x
        self.recent.append(2)
        self.kinds.add(int)
        self.last = x
        self.drawn = float(torch.rand(1, device="cpu").numel()) + random.random() + np.random.rand()
        return self.ending(self.head(self.body(x)))


def raising(x: Tensor) -> Tensor:
    raise KeyError("the user's own mistake")


ENDINGS: dict[str, tuple[Callable[[Tensor], Any], type[ma.MaxAffineError] | None]] = {
    "success": (lambda x: x.relu(), None),
    "refusal": (lambda x: x.tanh(), ma.NotPiecewiseAffine),
    "mixing": (lambda x: x - x.mean(0), ma.NotPiecewiseAffine),
    "randomness": (lambda x: F.dropout(x), ma.NotPiecewiseAffine),
    "mistake": (raising, ma.CaptureError),
    "control_flow": (lambda x: x if x.sum() > 0 else -x, ma.CaptureError),
    "fixed_batch": (lambda x: x.view(2, 3).relu(), ma.CaptureError),
    "no_tensor": (lambda x: (x, "a"), ma.CaptureError),
}


def numbers(seed: int) -> Tensor:
    return torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))


def plus_one(module: nn.Module, args: Any, output: Any) -> Any:
    return output + 1


def prepared(ending: Callable[[Tensor], Any]) -> Busy:
    """A module in mixed modes with gradients, a frozen parameter and a hook of every kind."""
    module = Busy(ending)
    module.train()
    module.body.eval()
    module.head.bias.requires_grad_(False)
    F.relu(module.head(module.body(numbers(0)))).sum().backward()
    module.head.register_forward_hook(plus_one)
    module.body.register_forward_pre_hook(lambda m, args: None)
    module.head.register_full_backward_hook(lambda m, i, o: None)
    module.register_state_dict_pre_hook(lambda *args: None)
    next(module.parameters()).register_hook(lambda g: g)
    return module


HOOKS = [name for name, value in vars(nn.Module()).items() if "hook" in name and isinstance(value, dict)]


def state(module: Busy, example: Tensor) -> dict[str, Any]:
    """Everything of the user's that must not change; tensors by value and by identity."""
    parts = list(module.modules())
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        "tensors": {name: (id(tensor), tensor.detach().clone().tolist()) for name, tensor in tensors.items()},
        "versions": {name: tensor._version for name, tensor in tensors.items()},
        "grads": {
            name: None if p.grad is None else (id(p.grad), p.grad.tolist()) for name, p in module.named_parameters()
        },
        "requires_grad": [tensor.requires_grad for tensor in tensors.values()],
        "types": [type(tensor) for tensor in tensors.values()],
        "modes": [part.training for part in parts],
        "parts": [id(part) for part in parts],
        "attributes": [sorted(vars(part)) for part in parts],
        "hooks": [[(name, list(vars(part)[name].items())) for name in HOOKS] for part in parts],
        "own": (module.calls, list(module.history), sorted(module.cache), list(module.recent), set(module.kinds)),
        "identities": [id(item) for item in (module.history, module.cache, module.recent, module.kinds)],
        "methods": [(getattr(part.forward, "__func__", None), type(part)) for part in parts],
        "example": (id(example), example.tolist(), example.requires_grad, example._version, example.grad),
    }


def surroundings() -> dict[str, Any]:
    """Settings of the process (but Python's random state, which the type checks of these tests draw from)."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "anomaly": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "logging": {name: _logger(name) for name in ["", "torch", "torch.export", *_noisy()]},
        "warnings": list(warnings.filters),
        "python_dispatch": torch._C._len_torch_dispatch_stack(),
        "functions": torch._C._len_torch_function_stack(),
    }


def _noisy() -> list[str]:
    return ["torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor", "torch._dynamo"]


def _logger(name: str) -> tuple[int, bool, bool, list[logging.Handler]]:
    logger = logging.getLogger(name)
    return logger.level, logger.disabled, logger.propagate, list(logger.handlers)


@pytest.mark.parametrize("name", ENDINGS)
def test_nothing_has_changed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ending, error = ENDINGS[name]
    module, example = prepared(ending), numbers(1)
    ma.capture(nn.ReLU(), example)  # PyTorch's own set-up at its first trace
    before, around = state(module, example), surroundings()
    with nullcontext() if error is None else pytest.raises(error):
        ma.capture(module, example)
    assert state(module, example) == before
    assert surroundings() == around
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["success", "refusal", "mistake"])
def test_settings_of_the_users_own_are_kept(name: str) -> None:
    """Whatever the settings were, not only the defaults."""
    ending, error = ENDINGS[name]
    module, example = prepared(ending), numbers(1).requires_grad_()
    threads = torch.get_num_threads()
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    try:
        torch.use_deterministic_algorithms(True)
        logger.disabled = True
        with torch.no_grad():
            before, around = state(module, example), surroundings()
            with nullcontext() if error is None else pytest.raises(error):
                ma.capture(module, example)
            assert state(module, example) == before and surroundings() == around
    finally:
        torch.use_deterministic_algorithms(False)
        logger.disabled = False
    assert torch.get_num_threads() == threads


def test_the_random_state_of_python_is_kept() -> None:
    script = """
        import random, torch, maxaffine as ma

        class Drawing(torch.nn.Module):
            def forward(self, x):
                random.random()
                return x.relu() if self.training else x.tanh()

        before, x, module = random.getstate(), torch.ones(2, 3), Drawing()
        net = ma.capture(module, x)
        net.codes(x), net.affine_map(x).slopes
        try:
            ma.capture(module.eval(), x)
        except ma.NotPiecewiseAffine:
            print(random.getstate() == before)
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_an_inplace_module_leaves_the_example_alone() -> None:
    example = numbers(1)
    kept = example.clone()
    net = ma.capture(Net(lambda m, x: x.mul_(2).relu_()), example)
    assert torch.equal(example, kept)
    assert torch.equal(net(example), (2 * kept).relu()) and torch.equal(example, kept)
    for entry in (net.affine_map, net.codes):
        entry(example)
        assert torch.equal(example, kept)
    amap = net.affine_map(example)
    assert all(item is not None for item in (amap.mv(example), amap(example), amap.slopes, amap.offset_contributions()))
    assert torch.equal(example, kept)


def test_outputs_are_the_callers_own() -> None:
    """An output that is the input, or a parameter, may be written to without harm to the network."""
    module = Net(lambda m, x: (x, m.c.expand(x.shape[0], -1), x.view(-1, 2, 3)), c=torch.ones(3))
    example = numbers(1)
    net = ma.capture(module, example)
    kept = example.clone()
    constants = net(example)[1]
    constants.clone().add_(1)
    with torch.no_grad():
        dict(module.named_buffers())["c"].zero_()
    assert torch.equal(net(example)[1], torch.ones(2, 3)) and torch.equal(example, kept)


def test_parameters_are_copied() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).eval()
    x = numbers(1)
    net, before = ma.capture(module, x), module(x)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    assert torch.equal(net(x), before)


def test_the_module_is_let_go() -> None:
    """A network keeps no reference to the module it was captured from."""
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    net, alive = ma.capture(module, numbers(1)), weakref.ref(module)
    del module
    gc.collect()
    assert alive() is None and len(net.operators) == 2


def test_training_goes_on_afterwards() -> None:
    """Capture in the middle of training leaves no trace in it."""

    def train(capture: bool) -> list[Tensor]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(module.parameters())
        for _ in range(4):
            loss = module(torch.randn(5, 6)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if capture:
                ma.capture(module.eval(), numbers(1)).verify(module, numbers(2))
                module.train()
            optimizer.step()
        return list(module.state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))
