"""Timing of contestants in turn, and peak memory of one contestant in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

MEMORY_LIMIT = 12 * 2**30
MIB = 2**20


@dataclass(frozen=True)
class Failure:
    """Why something could not be measured."""

    reason: str


@dataclass(frozen=True)
class Timing:
    """Seconds of each round."""

    cpu: list[float]
    wall: list[float]

    def ratio(self, other: Timing) -> float:
        """Median over the rounds of this CPU time over the other's in the same round."""
        return median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))


def one_thread() -> None:
    """One thread, and a bounded address space: running out of memory is then an error and spares the machine."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new interpreter; an error there, or its death, comes back as a `Failure`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=one_thread) as pool:
        try:
            return pool.submit(_attempt, function, *arguments).result()
        except BrokenProcessPool:
            return Failure("the process was killed")


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        # Described here: not every exception survives the way between processes.
        return Failure(describe(error))


def describe(error: Exception) -> str:
    """Out of memory by its name, any other error by its first line."""
    message = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in message:
        return f"out of memory at {MEMORY_LIMIT // 2**30} GiB"
    return f"{type(error).__name__}: {message.splitlines()[0][:120] if message else ''}"


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int, seconds: float = 20) -> dict[str, Timing]:
    """Time every contestant once per round, each round starting with the next of them, after one untimed round.

    Args:
        runs: What to call, by name.
        rounds: Rounds at least, and a tenth of the rounds at most.
        seconds: After this long no round beyond the least number begins.

    Returns:
        The timings, by name.
    """
    names = list(runs)
    for name in names:
        runs[name]()
    timings = {name: Timing([], []) for name in names}
    begin = time.perf_counter()
    for done in range(10 * rounds):
        if done >= rounds and time.perf_counter() - begin > seconds:
            break
        gc.collect()
        for name in names[done % len(names) :] + names[: done % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            result = runs[name]()
            timings[name].cpu.append(time.process_time() - cpu)
            timings[name].wall.append(time.perf_counter() - wall)
            del result
    return timings


def peak_extra_memory(run: Callable[[], Any]) -> float:
    """MiB that a call adds, at its highest, to what the process holds before it, its result included."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    # ru_maxrss never falls; writing 5 resets the high-water mark, so that earlier peaks hide nothing.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    run()
    return (_status_kib("VmHWM") - before) * 1024 / MIB


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
