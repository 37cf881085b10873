"""A model in use: captures in several threads, and training and output in another while one is captured."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._capture.export import untouched
from maxaffine._network import copy_module

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def module() -> nn.Module:
    shared = nn.ReLU()
    return nn.Sequential(nn.Linear(6, 8), shared, nn.BatchNorm1d(8), nn.Linear(8, 3), shared).eval()


def test_training_goes_on_while_the_model_is_captured() -> None:
    model = module()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    done, found = threading.Event(), set()

    def train() -> None:
        while not done.is_set():
            try:
                optimizer.zero_grad()
                output = model(X)
                output.square().sum().backward()
                optimizer.step()
                found.add(type(output))
            except Exception as error:
                found.add(repr(error))

    thread, interval = threading.Thread(target=train), sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    thread.start()
    try:
        network = ma.capture(model, X)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert found == {torch.Tensor}
    assert [record.kind for record in network.operators] == ["linear", "relu", "batch_norm", "linear", "relu"]


def test_captures_in_two_threads() -> None:
    model = module()
    verdicts: list[bool] = []
    threads = [
        threading.Thread(target=lambda: verdicts.append(ma.capture(model, X).verify(model, X).exact)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True, True]


def test_only_this_threads_output_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[bool] = []

    def tell() -> None:
        print("epoch 1")
        told.append(torch.compiler.is_exporting())

    with untouched(module()):
        print("noise")
        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
    assert capsys.readouterr().out == "epoch 1\n" and told == [False]


def test_the_network_holds_none_of_the_users_parameters() -> None:
    model = module()
    network = ma.capture(model, X)
    held = [
        item for step in network.graph.steps for item in vars(step.operator).values() if isinstance(item, torch.Tensor)
    ]
    places = {item.data_ptr() for item in model.parameters()}
    assert places.isdisjoint(item.data_ptr() for item in held if isinstance(item, torch.Tensor))


def test_a_copy_refers_to_itself_alone() -> None:
    model: Any = module()
    model.again = [model[0], {"forward": model[0].forward}]
    model[0].register_forward_hook(lambda m, args, output: torch.mul(output, 2))
    other: Any = copy_module(model)
    assert other.again[0] is other[0] and other.again[1]["forward"].__self__ is other[0] is not model[0]
    assert other[1] is other[4] and other[0].weight is model[0].weight and other[2].running_mean is not None
    assert other[2].running_mean is not model[2].running_mean and torch.equal(other(X), model(X))


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of the checks of annotations
def test_the_compiler_still_knows_when_it_compiles() -> None:
    """It tells the function that asks by its identity, which a capture replaces for a while."""
    ma.capture(nn.Linear(3, 2), torch.zeros(2, 3))
    asking = torch.compile(
        lambda x: x + 1 if torch.compiler.is_compiling() else x - 1, backend="aot_eager", fullgraph=True
    )
    assert torch.equal(asking(torch.zeros(2)), torch.ones(2))
    tables = importlib.import_module("torch._dynamo.variables.torch")
    assert {torch.compiler.is_compiling, torch.compiler.is_exporting} <= set(tables.tracing_state_functions())
