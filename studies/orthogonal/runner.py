"""Runs what is not yet finished of the grid, until the time is up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from studies.store import open_store

from .grid import SCRIPT, Run, runs
from .outcomes import judge
from .tasks import scaled, task
from .training import trained


def run_all(path: Path, only: Sequence[str], budget_minutes: float | None) -> int:
    """Run the trainings that are not in the file yet, in the order of the grid; how many are left."""
    torch.set_num_threads(1)
    end = None if budget_minutes is None else time.monotonic() + 60 * budget_minutes
    wanted = [run for run in runs() if _chosen(run, only)]
    if not wanted:
        raise SystemExit(f"no run of the grid has the entries {' '.join(only)}; see studies/orthogonal/grid.py")
    with open_store(path) as store:
        waiting = [run for run in wanted if run.key() not in store]
        with tqdm(total=len(wanted), initial=len(wanted) - len(waiting), unit="run", smoothing=0.05) as bar:
            for count, run in enumerate(waiting):
                if end is not None and time.monotonic() > end:
                    return len(waiting) - count
                bar.set_description(describe(run))
                begin = time.process_time()
                data = task(run.cell.task, run.cell.size, run.seed)
                data = scaled(data) if run.cell.recipe == SCRIPT else data
                outcomes = judge(trained(run, data), data)
                store.add(run.key(), outcomes, time.process_time() - begin)
                bar.update()
    return 0


def describe(run: Run) -> str:
    """One line on a run."""
    norm = "with" if run.cell.batch_norm else "without"
    form = " ".join(filter(None, (run.form.on, run.form.compare, f"{run.form.weight:g}")))
    cell = f"{run.cell.task} {run.cell.model} {run.cell.size} {norm} batch-norm, recipe {run.cell.recipe}"
    return f"{cell}, {form}, seed {run.seed}"


def _chosen(run: Run, only: Sequence[str]) -> bool:
    entries = {str(value) for value in run.key().values()} | {f"{name}={value}" for name, value in run.key().items()}
    return all(word in entries for word in only)
