"""State that a module keeps from call to call: refused by name where it reaches the output, else let be."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._network import changed_attributes, copy_module
from tests.zoo.networks import Net

X = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CALLS = [0]


@dataclass
class Kept:
    count: int = 0
    items: list[Any] = field(default_factory=list)


class Shared(nn.Module):
    """Keeps something in its class."""

    calls = 0
    seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        Shared.calls += 1
        self.seen.append(1)
        return x * Shared.calls


def net(function: Callable[..., Any], **parts: Any) -> nn.Module:
    return Net(function, **({"a": nn.Linear(3, 3)} | parts)).double()


def hidden(m: Any, x: Tensor) -> Tensor:
    m.h = m.a(x) if m.h is None else 0.5 * m.h + m.a(x)
    return m.h.relu()


def first_output(m: Any, x: Tensor) -> Tensor:
    m.h = m.a(x).relu() if m.h is None else m.h
    return m.h


def counted(factor: Callable[[int], int]) -> Callable[..., Tensor]:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.n, m.log = m.n + 1, [*m.log, m.n]
        return m.a(x).relu() * factor(m.n)

    return forward


def in_closure() -> Callable[..., Tensor]:
    n = 0

    def function(x: Tensor) -> Tensor:
        nonlocal n
        n += 1
        return x * n

    return function


def globally(m: Any, x: Tensor) -> Tensor:
    CALLS[0] += 1
    return m.a(x) * CALLS[0]


def in_part(m: Any, x: Tensor) -> Tensor:
    m.a.calls = getattr(m.a, "calls", 0) + 1
    return m.a(x) * m.a.calls


def new_weight(m: Any, x: Tensor) -> Tensor:
    m.a.weight = nn.Parameter(m.a.weight * 0.5)
    return m.a(x)


OUTSIDE = "something outside of its attributes"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "hidden_state": (lambda: net(hidden, h=None), "'h'"),
    "first_output_for_ever": (lambda: net(first_output, h=None), "'h'"),
    "every_second_time": (lambda: net(counted(lambda n: n % 2), n=0, log=[]), "'n'"),
    "every_seventh_time": (lambda: net(counted(lambda n: n % 7 == 0), n=0, log=[]), "'n'"),
    "every_hundredth_time": (lambda: net(counted(lambda n: n % 100 == 0), n=0, log=[]), "'n'"),
    "from_the_thousandth_on": (lambda: net(counted(lambda n: n > 1000), n=0, log=[]), "'n'"),
    "length_of_a_list": (lambda: net(lambda m, x: (m.l.append(1), m.a(x) * len(m.l))[1], l=[]), "'l'"),
    "nested": (lambda: net(lambda m, x: (m.d["a"].append(x), m.a(x) * len(m.d["a"]))[1], d={"a": []}), "'d'"),
    "in_an_object": (
        lambda: net(lambda m, x: (setattr(m.k, "count", m.k.count + 1), m.a(x) * m.k.count)[1], k=Kept()),
        "'k'",
    ),
    "hardly_moving": (lambda: net(lambda m, x: (setattr(m, "s", m.s + 1e-9), m.a(x) * m.s)[1], s=1.0), "'s'"),
    "in_a_closure": (lambda: net(lambda m, x: m.f(x), f=in_closure()), "'f'"),
    "in_a_part": (lambda: net(in_part), "'a.calls'"),
    "a_new_weight": (lambda: net(new_weight), "'a.weight'"),
    "random_numbers_of_its_own": (
        lambda: net(lambda m, x: m.a(x) * float(m.r.random()), r=np.random.default_rng(0)),
        "'r'",
    ),
    "in_its_class": (Shared, OUTSIDE),
    "global": (lambda: net(globally), OUTSIDE),
    "the_time": (lambda: net(lambda m, x: m.a(x) * time.perf_counter()), OUTSIDE),
    "an_iterator": (lambda: net(lambda m, x: m.a(x) * next(m.i), i=itertools.cycle([1.0, -1.0])), OUTSIDE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_state_that_reaches_the_output(name: str) -> None:
    build, words = REFUSED[name]
    with pytest.raises(ma.CaptureError, match=f"its output depends on .*{words}.*one input.*Cure: make what it keeps"):
        ma.capture(build(), X)


def test_only_what_reaches_the_output_is_named() -> None:
    with pytest.raises(ma.CaptureError, match="earlier calls in 'h', so"):
        ma.capture(net(lambda m, x: (setattr(m, "n", m.n + 1), hidden(m, x))[1], h=None, n=0), X)


def logging(m: Any, x: Tensor) -> Tensor:
    m.n, m.last = m.n + 1, x
    m.log.append(x.shape)
    m.k.items.append(x)
    m.cache = x if m.cache is None else torch.cat([m.cache, x])
    return m.a(x).relu()


def prepared(m: Any, x: Tensor) -> Tensor:
    if m.w is None:
        m.w = m.a.weight @ m.a.weight
    return (x @ m.w).relu()


def with_a_lock(m: Any, x: Tensor) -> Tensor:
    with m.k:
        m.n += 1
    return m.a(x).relu()


def with_part(function: Callable[..., Any], name: str, make: Callable[[Any], Any]) -> nn.Module:
    """A module that holds something made from its own layer."""
    module = net(function)
    setattr(module, name, make(module.get_submodule("a")))
    return module


ALLOWED: dict[str, Callable[[], nn.Module]] = {
    "logs_and_a_cache": lambda: net(logging, n=0, log=[], k=Kept(), last=None, cache=None),
    "computed_once": lambda: net(prepared, w=None),
    "under_a_lock": lambda: net(with_a_lock, k=threading.Lock(), n=0),
    "set_anew": lambda: net(lambda m, x: (setattr(m, "h", m.a(x)), m.h.relu())[1], h=None),
    "a_result_of_a_computation": lambda: with_part(lambda m, x: x @ m.w, "w", lambda a: a.weight @ a.weight),
    "a_method_of_its_own": lambda: with_part(lambda m, x: m.w(x), "w", lambda a: a.forward),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_state_that_does_not(name: str) -> None:
    """And neither capture nor verify leaves anything in it."""
    module = ALLOWED[name]()
    before = copy_module(module, ())
    network = ma.capture(module, X)
    assert network.verify(module, X).exact and changed_attributes(before, module) == []
    assert torch.equal(network(X), module(X))
    assert changed_attributes(before, module) or name.startswith("a_")


def test_classes_are_put_back() -> None:
    with pytest.raises(ma.CaptureError):
        ma.capture(Shared(), X)
    assert (Shared.calls, Shared.seen) == (0, [])


class Fussy(nn.Module):
    """Knows itself by identity, so that no copy of it runs."""

    known: dict[int, float] = {}

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3).double()
        self.known[id(self)] = 2.0

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return self.a(x).relu() * self.known[id(self)]


def test_a_module_whose_copy_does_not_run_is_traced_itself() -> None:
    module = Fussy()
    names = set(vars(module))
    network = ma.capture(module, X)
    assert network.verify(module, X).exact and set(vars(module)) == names
    with torch.no_grad():
        expected = module(X)
        module.a.weight.zero_()
    assert torch.equal(network(X), expected)
