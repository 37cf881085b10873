"""Work that goes on while the page is used: in a thread, with progress, and ended when nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from maxaffine.errors import MaxAffineError

T = TypeVar("T")
Tell = Callable[[float, str], None]
INTERNAL = "an error inside maxaffine; the terminal that runs it shows where"


class Ended(Exception):
    """Raised within the work of a job that was cancelled."""


class Job(Generic[T]):
    """One piece of work in a thread of its own.

    Args:
        work: What is done. It calls its argument from time to time with the share done and a few words; that call
            raises `Ended` when the job was cancelled.

    Attributes:
        state: ``running``, ``done``, ``failed`` or ``cancelled``; work that was cancelled may still return what it has.
        share: How much is done, in [0, 1].
        words: What is being done, or why it failed.
    """

    def __init__(self, work: Callable[[Tell], T]) -> None:
        self.state = "running"
        self.share = 0.0
        self.words = ""
        self._result: list[T] = []
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def result(self) -> T | None:
        """What the work returned, None until then."""
        return self._result[0] if self._result else None

    def cancel(self) -> None:
        """End the work at its next step; nothing happens where it has ended already."""
        self._cancelled.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, that many seconds at most, and say whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _tell(self, share: float, words: str) -> None:
        if self._cancelled.is_set():
            raise Ended
        self.share, self.words = share, words

    def _run(self, work: Callable[[Tell], T]) -> None:
        # Whatever else is raised reaches the thread's hook, which prints it; the page must not wait forever.
        state, words = "failed", INTERNAL
        try:
            self._result.append(work(self._tell))
            state, words = ("cancelled", "cancelled") if self._cancelled.is_set() else ("done", "")
        except Ended:
            state, words = "cancelled", "cancelled"
        except MaxAffineError as error:
            words = str(error)
        finally:
            self.words = words
            self.state = state


class Desk(Generic[T]):
    """Jobs by key, of which one runs at a time: a new one ends the others, and the last few results are kept.

    Args:
        keep: How many jobs are kept.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._jobs: dict[Hashable, Job[T]] = {}
        self._lock = threading.Lock()

    def ask(self, key: Hashable, work: Callable[[Tell], T]) -> Job[T]:
        """The job of a key, begun where there is none or it was cancelled."""
        with self._lock:
            job = self._jobs.pop(key, None)
            for other in self._jobs.values():
                other.cancel()
            if job is None or job.state in ("cancelled", "failed"):
                job = Job(work)
            self._jobs[key] = job
            while len(self._jobs) > self._keep:
                del self._jobs[next(iter(self._jobs))]
            return job

    def find(self, key: Hashable) -> Job[T] | None:
        """The job of a key, if it is kept."""
        with self._lock:
            return self._jobs.get(key)

    def close(self, seconds: float = 0.0) -> bool:
        """End all jobs, wait that many seconds for each at most, and say whether they have ended."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        return all([job.wait(seconds) for job in jobs])
