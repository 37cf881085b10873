"""Slopes of ten outputs: every contestant in turn against the floor, then the memory of each on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from .contestants import AGREE_WITH, CONTESTANTS, FLOORS, REFERENCE
from .floors import peaks, work
from .measure import Failure, Timing, describe, in_fresh_process, interleaved, peak_extra_memory
from .networks import OUTPUTS, SUBJECTS

FORWARD = "plain forward pass"


@dataclass
class Timed:
    """What one process found out about all contestants on one network."""

    work: dict[str, float]
    peaks: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)


def compare(network: str, rounds: int) -> dict[str, Any]:
    """A row for each contestant on one network, and what the floor needs at least, ready for JSON."""
    memories = {name: in_fresh_process(memory_of, network, name) for name in CONTESTANTS}
    failures = {name: memory.reason for name, memory in memories.items() if isinstance(memory, Failure)}
    timed = in_fresh_process(time_all, network, rounds, [name for name in CONTESTANTS if name not in failures])
    if isinstance(timed, Failure):
        raise RuntimeError(f"{network}: {timed.reason}")
    failures |= timed.failures
    rows = []
    for name in (*FLOORS, FORWARD, *CONTESTANTS):
        row: dict[str, Any] = {"name": name}
        if name in failures:
            row["failure"] = failures[name]
        else:
            row |= asdict(timed.timings[name]) | {"ratio": timed.timings[name].ratio(timed.timings[REFERENCE])}
            row |= {"memory_mib": memories.get(name), "error": timed.errors.get(name)}
        rows.append(row)
    subject = SUBJECTS[network]
    return {"title": subject.title, "batch": subject.batch, "work": timed.work, "peaks": timed.peaks, "rows": rows}


def memory_of(network: str, name: str) -> float:
    """Extra MiB of one call, after a first one has loaded what it needs and made what the contestant keeps."""
    model, inputs = SUBJECTS[network].build()
    run = CONTESTANTS[name](model, inputs, OUTPUTS)
    run()
    return peak_extra_memory(run)


def time_all(network: str, rounds: int, names: list[str]) -> Timed:
    """Interleaved timings of the floors, the plain forward pass and the named contestants, and how well they agree."""
    model, inputs = SUBJECTS[network].build()
    found = Timed(work(model, inputs, OUTPUTS), peaks())
    runs: dict[str, Callable[[], object]] = {name: make(model, inputs, OUTPUTS) for name, make in FLOORS.items()}
    runs[FORWARD] = torch.no_grad()(lambda: model(inputs))
    expected = CONTESTANTS[AGREE_WITH](model, inputs, OUTPUTS)()
    for name in names:
        run = CONTESTANTS[name](model, inputs, OUTPUTS)
        try:
            found.errors[name] = relative_error(run(), expected)
        except (RuntimeError, MemoryError) as error:
            found.failures[name] = describe(error)
        else:
            runs[name] = run
    found.timings = interleaved(runs, rounds)
    return found


def relative_error(slopes: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest slope."""
    return float((slopes - expected).abs().max() / expected.abs().max())
