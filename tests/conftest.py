"""What every test runs under: checked types, one thread, fixed seeds, and (in CI) no silent skips."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
import torch

from tests.export import prepare_once
from tests.hints import check_hints

# Before the first import of maxaffine.
check_hints()

# Two OpenMP threads on a busy machine can be ten times slower than one.
torch.set_num_threads(1)
# Also in every process that a test starts: there, threads that wait for work spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Half the time of a capture that goes PyTorch's own way, as one in twenty does.
prepare_once()

# A shell that starts a job in the background leaves Ctrl-C ignored, also for what the job starts; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of one network of the zoo follow one another, so that one process captures it, and once."""
    zoo = sys.modules.get("tests.zoo")  # it takes seconds to import, for nothing where no test has
    if zoo is None:
        return
    place_of = {case: place for place, case in enumerate(zoo.ZOO)}

    def place(item: pytest.Item) -> int:
        given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        return next((place_of[value] for value in given if isinstance(value, zoo.Case)), len(place_of))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Leave what lives to the end of the run out of garbage collection, and collect the rest less often.

    A quarter of the time of every capture goes into it otherwise.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when something was skipped although MAXAFFINE_NO_SKIPS says that everything is installed.

    A skip whose reason names CUDA is accepted: no install step can bring an accelerator.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("MAXAFFINE_NO_SKIPS") or reporter is None:
        return
    reports = reporter.stats.get("skipped", [])
    silent = [f"{report.nodeid}: {report.longrepr[2]}" for report in reports if "CUDA" not in report.longrepr[2]]
    if silent:
        reporter.write_line("\nskipped although MAXAFFINE_NO_SKIPS is set:\n  " + "\n  ".join(silent), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
