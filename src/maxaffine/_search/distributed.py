"""The same work on many machines: Ray's actors that hold the network, and one search task per file of the store."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._codes import Codes
from maxaffine._progress import progress_bar
from maxaffine._search.checks import Weights, positive, require_rows, switching_weights
from maxaffine._search.encode import BATCH_SIZE, Encoded, Inputs, Work
from maxaffine._search.nearest import Neighbors
from maxaffine._search.store import CodeStore, merge, search_store
from maxaffine.errors import BadInput, MaxAffineError

# Rows of one commit: what a killed run computes again.
COMMIT_ROWS = 1 << 20


class Encoder:
    """An actor: it holds the network, and writes what it encodes to the store's place itself."""

    def __init__(self, make: Callable[[], SplineNetwork], store: CodeStore, work: Work, threads: int) -> None:
        torch.set_num_threads(threads)
        self.store, self.net, self.work = store, make(), work
        self.store.require(self.net, "net")

    def encode(self, batches: list[int]) -> list[Any]:
        """Encode some batches, by their numbers, into files that are no part of the store yet."""
        return self.store.write_files([self.work.encode(self.net, self.store, batch) for batch in batches])


def encode_with_ray(
    make: Callable[[], SplineNetwork],
    inputs: Inputs,
    store: CodeStore,
    *,
    workers: int,
    address: str | None = None,
    batch_size: int = BATCH_SIZE,
    first_id: int = 0,
    threads: int = 1,
    commit_rows: int = COMMIT_ROWS,
    progress: bool | None = None,
) -> Encoded:
    """Write the codes of all inputs into a store, as `encode` does, by several processes on one or many machines.

    The batches are those of `encode`, so the rows are the same to the last bit where the machines compute alike; only
    their order in the store differs. A run that was killed goes on after its last commit.

    Args:
        make: Makes the network, in each worker; a function that can be sent there, e.g.
            ``functools.partial(maxaffine.capture, model, example)``.
        inputs: As for `encode`; image files must have the same paths on every machine.
        store: Where the codes go, under a path or address that every machine reaches.
        workers: Actors, each with a copy of the network.
        address: Of the cluster, ``auto`` on one of its machines; by default a local Ray is started, and ended.
        batch_size: As for `encode`; keep it for the codes to be the same to the last bit.
        first_id: As for `encode`.
        threads: torch's threads, and Ray's CPUs, of each worker.
        commit_rows: Rows that are committed together.
        progress: As for `encode`.

    Returns:
        How many inputs were encoded and how many were there.

    Raises:
        BadInput: As `encode`, or if another argument is not valid.
        MaxAffineError: If Ray is not installed, or a worker failed.
        DataError: If the store cannot be written.

    Source: as `encode`.
    """
    for name, value in (("workers", workers), ("threads", threads), ("commit_rows", commit_rows)):
        positive(name, value)
    store.require(make(), "make")
    work = Work.find(inputs, store, batch_size, first_id, progress)
    batches, total, left = work.batches(), len(inputs), int(work.missing.sum())
    with (
        ray_cluster(address, workers * threads) as ray,
        workers_errors(ray),
        progress_bar(progress, "encoding", unit="input", total=total, initial=total - left) as bar,
    ):
        from ray.util import ActorPool

        # The inputs lie once on each machine. A worker that dies is started again, and its task with it.
        actor, shared = ray.remote(num_cpus=threads, max_restarts=3, max_task_retries=3)(Encoder), ray.put(work)
        pool = ActorPool([actor.remote(make, store, shared, threads) for _ in range(workers)])
        # Several tasks for each worker and commit, so that none waits long for the slowest.
        together = min(len(batches), max(1, commit_rows // batch_size))
        tasks = [batches[run] for run in slices(len(batches), -(-together // (8 * workers)))]
        files: list[Any] = []
        for found in pool.map_unordered(lambda encoder, task: encoder.encode.remote(task), tasks):
            files += found
            bar.update(sum(file.num_rows for file in found))
            if sum(file.num_rows for file in files) >= commit_rows:
                store.commit(files)
                files = []
        store.commit(files)
    return Encoded(left, total - left)


def search_with_ray(
    store: CodeStore,
    codes: Codes,
    k: int,
    weights: Weights | None = None,
    *,
    workers: int,
    address: str | None = None,
    threads: int = 1,
    progress: bool | None = None,
) -> Neighbors:
    """Find the k nearest rows of a store: each file is searched by one task, and what they find is merged.

    The result is that of `search_store`, to the last bit.

    Args:
        store: The store, under a path or address that every machine reaches.
        codes: As for `search_store`.
        k: As for `search_store`.
        weights: As for `search_store`.
        workers: CPUs of a local Ray, divided by ``threads``.
        address: Of a cluster; by default a local Ray is started, and ended.
        threads: Threads, and Ray's CPUs, of each task.
        progress: Whether to show a progress bar.

    Returns:
        The neighbors.

    Raises:
        BadInput: As `search_store`.
        MaxAffineError: If Ray is not installed, or a task failed.
        DataError: If the store is damaged.
    """
    positive("threads", threads)
    require_rows(k, len(store), "store")
    # Settled once, or every task would read the whole store for it.
    shares, left_out = switching_weights(weights, store.operators, store.unswitched)
    shares = dict.fromkeys(store.operators, 1.0) if shares is None else shares
    with ray_cluster(address, positive("workers", workers) * threads) as ray:
        queries, task = ray.put(codes), ray.remote(num_cpus=threads)(search_store)
        options = {"threads": threads, "progress": False}
        tasks = [task.remote(store, queries, k, shares, files=[number], **options) for number in store.files()]
        with workers_errors(ray):
            found = [ray.get(task) for task in progress_bar(progress, "searching", iterable=tasks, unit="file")]
    return merge(found, codes.batch, k, left_out)


@contextmanager
def ray_cluster(address: str | None, cpus: int) -> Iterator[Any]:
    """Connect to a cluster, or start Ray here with CPUs enough; afterwards things are as they were."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MaxAffineError(f"the engine ray needs {error.name}; pip install 'maxaffine[distributed]'") from error
    running = ray.is_initialized()
    if not running:
        local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **local)
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < cpus:
            # Ray would wait for the others without an end.
            raise BadInput(f"workers x threads = {cpus}, but Ray has {there} CPUs; give fewer")
        yield ray
    finally:
        if not running:
            ray.shutdown()


@contextmanager
def workers_errors(ray: Any) -> Iterator[None]:
    """Turn the failure of a worker into the error that it met."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(getattr(error, "cause", None), MaxAffineError) else None
        if cause is not None:
            raise cause from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MaxAffineError(f"a worker failed: {lines[-1]}") from error
