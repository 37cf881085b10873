"""The study of noise on initial states: networks side by side, tables from records, going on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from studies.recurrent import __main__ as command
from studies.recurrent import training
from studies.recurrent.tables import all_tables, draw, interval
from studies.recurrent.tasks import TASKS
from studies.recurrent.training import SEEDS, TREATMENTS, IdentityNetwork, Run, SideBySide
from studies.store import records


def networks() -> list[IdentityNetwork]:
    torch.manual_seed(0)
    found = [IdentityNetwork(2, 5, 3) for _ in range(3)]
    for one in found:
        for weights in one.parameters():
            torch.nn.init.normal_(weights)
    return found


def test_side_by_side() -> None:
    """Each network answers its part of the input, and its gradient is the one that it has alone, clipped by itself."""
    alone, x = networks(), torch.randn(12, 6, 2)
    together = SideBySide(alone)
    outputs = together(x, torch.zeros(12, 5))
    for place, (network, part) in enumerate(zip(alone, x.split(4), strict=True)):
        assert_close(outputs[4 * place : 4 * place + 4], network(part))
        assert_close(together.alone(place)(part), network(part))
    (3 * outputs.square().mean()).backward()
    training._clip(together)
    for place, (network, part) in enumerate(zip(alone, x.split(4), strict=True)):
        network(part).square().mean().backward()
        own = [network.head.weight.grad, *(item.grad for item in network.rnn.parameters())]
        norm = torch.cat([item.flatten() for item in [*own[:4], network.head.bias.grad] if item is not None]).norm()
        assert together.recurrent.grad is not None and network.weights["weight_hh_l0"].grad is not None
        expected = network.weights["weight_hh_l0"].grad.T * (training.CLIPPED / norm).clamp(max=1)
        assert_close(together.recurrent.grad[place], expected, rtol=1e-4, atol=1e-6)


def made(path: Path) -> list[dict]:
    """Records of all runs, made up: noise of 0.1 adds two points of accuracy."""
    with command.open_store(path) as store:
        for run in training.runs():
            for seed in SEEDS:
                gain = 0.02 * (run.treatment == "noise 0.1") + 0.001 * seed * (run.treatment == "noise 0.3")
                outcome = {"test_accuracy": 0.5 + gain + 0.01 * seed, "test_loss": 0.1, "train_loss": 0.05}
                outcome |= dict.fromkeys(("second_order", "held"), 0.01) | {"network": 0.04, "crossing": 0.03}
                for when in ("begin", "end"):
                    outcome |= {f"{when}_regions_{place:g}": 10 * place + 1 for place in training.PLACES}
                store.add(run.settings(seed), outcome, 1.0)
    return records(path)


def test_tables(tmp_path: Path) -> None:
    """Paired differences decide where they agree, and what is not finished says so."""
    found = made(tmp_path / "runs.jsonl")
    tables = all_tables(found)
    assert "| digits by pixel, T = 64 (accuracy, %) | 52.0 | **+2.0 [+2.0, +2.0]** |" in tables["gains"]
    assert "0.05 / 0.1" in tables["fit"] and "75% to 75%" in tables["effects"]
    assert "| digits by pixel, T = 64, after training | 1 | 2 |" in tables["regions"]
    assert interval(np.array([1.0, -1.0, 0.5, np.nan])) == "+0.2 [-2.4, +2.8]"
    assert interval(np.array([1.0])) == "not run"
    part = [record for record in found if record["run"]["treatment"] in ("none", "noise 0.1")]
    assert "not run" in all_tables(part)["gains"]
    draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of which a seed is missing is done again, others are not; all treatments and tasks are there."""
    path, done = tmp_path / "runs.jsonl", []
    made(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")

    def outcomes(run: Run) -> list[dict[str, float]]:
        done.append(run)
        return [{"test_loss": 1.0}] * len(SEEDS)

    monkeypatch.setattr(command, "outcomes", outcomes)
    assert command.main(["--runs", str(path)]) == 0
    assert [(run.task, run.treatment) for run in done] == [(list(TASKS)[-1], list(TREATMENTS)[-1])]
    assert len(records(path)) == len(lines)
