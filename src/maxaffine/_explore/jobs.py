"""Work that goes on while the page is used: in a thread, with progress, and ended when nobody waits for it any more."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from maxaffine.errors import MaxAffineError

T = TypeVar("T")
Tell = Callable[[float, str], None]
INTERNAL = "an error inside maxaffine; the terminal that runs it shows where"


class Ended(Exception):
    """Raised within the work of a job that was cancelled."""


class Job(Generic[T]):
    """One piece of work in a thread of its own, which is given a function that it tells how far it is."""

    def __init__(self, work: Callable[[Tell], T]) -> None:
        self.state = "running"  # then done, failed or cancelled; work that was cancelled may still return what it has
        self.share = 0.0  # of the work that is done
        self.words = ""  # what is being done, or why it failed
        self.result: T | None = None  # what the work returned
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End the work at its next step, by an exception from the call that tells how far it is."""
        self._cancelled.set()

    @property
    def status(self) -> dict[str, Any]:
        """How far it is, for the page."""
        return {"state": self.state, "share": self.share, "words": self.words}

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
            self.result = work(self._tell)
            state, words = ("cancelled", "cancelled") if self._cancelled.is_set() else ("done", "")
        except Ended:
            state, words = "cancelled", "cancelled"
        except MaxAffineError as error:
            words = str(error)
        finally:
            # Whoever sees the new state finds the words and the result that belong to it.
            self.words = words
            self.state = state


class Desk(Generic[T]):
    """Jobs by key, of which one runs at a time: a new one ends the others, and the last few results are kept."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._jobs: dict[Hashable, Job[T]] = {}
        self._lock = threading.Lock()

    def ask(self, key: Hashable, work: Callable[[Tell], T]) -> Job[T]:
        """The job of a key, begun where there is none or it was cancelled."""
        with self._lock:
            # Taken out and put back at the end: the jobs are in the order in which they were last asked for.
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
