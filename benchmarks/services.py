"""What else the library is timed for: codes over a plain forward pass, capture, and the import."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import nn

import maxaffine
from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine import _search as search

from .measure import Failure, Timing, in_fresh_process, interleaved, peak_extra_memory
from .networks import SUBJECTS

# Inputs of a batch, as `maxaffine encode` takes them.
BATCH = 256
ENCODED: Mapping[str, tuple[Callable[..., nn.Module], int]] = {
    "CNN 16-32-fc128": (models.cnn, 8192),
    "ResNet-18": (models.resnet18, 256),
}
IMPORT = """
import time
import torch
start = time.perf_counter()
import maxaffine
print(time.perf_counter() - start)
"""


def codes(network: str, rounds: int) -> dict[str, Any]:
    """Packed codes of a batch against the module's plain forward pass on it."""
    subject = SUBJECTS[network]
    timings = in_fresh_process(time_codes, network, rounds)
    memory = in_fresh_process(memory_of_codes, network)
    row: dict[str, Any] = {"title": subject.title, "batch": subject.batch}
    for outcome in (timings, memory):
        if isinstance(outcome, Failure):
            return row | {"failure": outcome.reason}
    ratio = timings["codes"].ratio(timings["forward"])
    return row | {name: asdict(timing) for name, timing in timings.items()} | {"ratio": ratio, "memory_mib": memory}


def time_codes(network: str, rounds: int) -> dict[str, Timing]:
    """Interleaved timings of the forward pass and of the codes."""
    model, inputs = SUBJECTS[network].build()
    net = maxaffine.capture(model, inputs)
    with torch.no_grad():
        return interleaved({"forward": lambda: model(inputs), "codes": lambda: net.codes(inputs)}, rounds)


def memory_of_codes(network: str) -> float:
    """Extra MiB of one call on the whole batch."""
    model, inputs = SUBJECTS[network].build()
    net = maxaffine.capture(model, inputs)
    net.codes(inputs[:1])
    return peak_extra_memory(lambda: net.codes(inputs))


def encoding(name: str, rounds: int) -> dict[str, Any]:
    """`maxaffine encode`, into a store on disk, against the module's plain forward pass in the same batches."""
    timings = in_fresh_process(time_encoding, name, rounds)
    row: dict[str, Any] = {"title": name, "inputs": ENCODED[name][1]}
    if isinstance(timings, Failure):
        return row | {"failure": timings.reason}
    throughput = {what: 1 / timing.ratio(timings["forward"]) for what, timing in timings.items()}
    return row | {"timings": {what: asdict(timing) for what, timing in timings.items()}, "throughput": throughput}


def time_encoding(name: str, rounds: int) -> dict[str, Timing]:
    """Interleaved timings of the forward pass, of the codes alone, and of the command's work."""
    factory, count = ENCODED[name]
    torch.manual_seed(0)
    model = factory((1, 28, 28), 10).eval()
    split = data.load("fashion-mnist").test.take(slice(0, count))
    net = maxaffine.capture(model, split.inputs[:2])
    batches = split.inputs.split(BATCH)

    def encode() -> None:
        with tempfile.TemporaryDirectory() as folder:
            search.encode(net, split, maxaffine.search.CodeStore.create(f"{folder}/codes.lance", net), progress=False)

    runs = {
        "forward": lambda: [model(batch) for batch in batches],
        "codes": lambda: [net.codes(batch) for batch in batches],
        "encode": encode,
    }
    with torch.no_grad():
        return interleaved(runs, rounds)


def capture(network: str, rounds: int) -> dict[str, Any]:
    """Seconds of the first capture in a process, which loads much of torch.export, and of the second."""
    outcomes = [in_fresh_process(time_captures, network) for _ in range(rounds)]
    row: dict[str, Any] = {"title": SUBJECTS[network].title}
    failed = [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]
    if failed:
        return row | {"failure": failed[0]}
    for which, name in enumerate(("first", "second")):
        cpu, wall = zip(*(outcome[which] for outcome in outcomes), strict=True)
        row[name] = {"cpu": cpu, "wall": wall}
    return row


def time_captures(network: str) -> list[tuple[float, float]]:
    """CPU and wall seconds of two captures of one network."""
    model, inputs = SUBJECTS[network].build()
    seconds = []
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        maxaffine.capture(model, inputs)
        seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    return seconds


def import_seconds(rounds: int) -> dict[str, Any]:
    """Wall seconds of ``import maxaffine`` after ``import torch``, in new interpreters."""
    command = [sys.executable, "-c", IMPORT]
    seconds = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)]
    return {"wall": seconds, "median": median(seconds)}
