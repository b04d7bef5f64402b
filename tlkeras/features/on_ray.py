"""Pieces of work on a Ray cluster: Ray Data hands them to a pool of actors that load the network once each.

An actor writes its shards itself, so that nothing but names travels. Ray starts actors again that die, and gives their
pieces to others; a piece whose shard is there already is not computed twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tlkeras.data.remote import exists, join
from tlkeras.data.work import Work
from tlkeras.errors import ClusterError, TlkerasError
from tlkeras.features.shards import Shard, describe_shard
from tlkeras.features.worker import Done, Job, Worker, one_thread

# A piece that kills its actor this often is not tried again: it would kill them for ever.
RESTARTS = 12
# Pieces that wait at an actor for their turn, so that none is idle between two; a dead actor's go to others.
PIECES_AN_ACTOR = 2
MOST_BLOCKS = 20_000


class ShardActor:
    """The actor: a worker with one thread, since there are as many actors as cores."""

    def __init__(self, job: Job, weights: Any) -> None:
        import ray

        one_thread()
        self.job = job
        values = ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights
        self.worker = Worker(job, values)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Compute the pieces of one batch; errors of ours come back as rows, one line each, not as tracebacks."""
        answers = []
        for number, name, work in zip(batch["number"], batch["name"], batch["work"], strict=True):
            started = time.perf_counter()
            try:
                shard = self._shard(work, str(name))
                done: Done | TlkerasError = Done(
                    int(number),
                    shard,
                    self.worker.engine,
                    time.perf_counter() - started,
                    f"{os.uname().nodename}:{os.getpid()}",
                    peak_megabytes(),
                )
            except TlkerasError as error:
                done = error
            answers.append(done)
        return {"done": objects(answers)}

    def _shard(self, work: Work, name: str) -> Shard:
        # Whoever computed it before this actor was started again has left a whole file or none.
        if exists(join(self.job.to, f"{name}.parquet")):
            return describe_shard(self.job.to, name)
        return self.worker.run(work, name)


def peak_megabytes() -> float:
    """The most memory that this process has held, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_on_ray(
    ray: Any, job: Job, weights: Sequence[np.ndarray], works: Sequence[tuple[int, str, Work]], actors: int | None
) -> Iterator[Done]:
    """Compute pieces ``(number, name of the shard, work)`` on a connected cluster; yields them as they are finished.

    ``actors``: by default one for each core that the cluster has now.

    Raises: the error of ours that a piece ended with; ClusterError.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < 1:
        raise ClusterError("the cluster has no core for a worker", next_step="Start machines with CPUs.")
    count = min(actors or cores, len(works))
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [{"number": number, "name": name, "work": work} for number, name, work in works]
    pieces = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS))
    results = pieces.map_batches(
        ShardActor,
        fn_constructor_args=(job, ray.put(list(weights))),
        batch_size=1,
        batch_format="numpy",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=PIECES_AN_ACTOR),
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
    )
    for row in results.iter_rows():
        done = row["done"]
        if isinstance(done, TlkerasError):
            raise done
        yield done


def objects(values: Sequence[Any]) -> np.ndarray:
    """An array of Python objects, which NumPy shall not look into."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
