"""Pieces of work on a Ray cluster: Ray Data hands them to a pool of actors that load the network once each.

An actor writes its shards itself, so that nothing but names travels. Ray starts actors again that die and repeats
their pieces; a piece whose shard is there already is not computed twice.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from tlkeras.data.remote import exists, join
from tlkeras.data.work import Work
from tlkeras.errors import ClusterError, TlkerasError
from tlkeras.features.shards import Shard, describe_shard
from tlkeras.features.worker import Broadcast, FinishedShard, Job, Worker, one_thread

# A piece that has ended its actor this often is not tried again: it would do so for ever.
ATTEMPTS = 5
# Pieces that wait at an actor for their turn, so that none is idle between two; a dead actor's go to others.
PIECES_AN_ACTOR = 2
MOST_BLOCKS = 20_000
POLL_SECONDS = 1.0


class ShardActor:
    """The actor: a worker with one thread, since there are as many actors as cores."""

    def __init__(self, job: Job, broadcast: Any, attempts: Any) -> None:
        import ray

        one_thread()
        self.job = job
        self.attempts = attempts
        sent = ray.get(broadcast) if isinstance(broadcast, ray.ObjectRef) else broadcast
        self.worker = Worker(job, sent.unpacked(job.space), sent.head)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Compute the pieces of one batch; errors of ours come back as rows, one line each, not as tracebacks."""
        answers = []
        for number, name, work in zip(batch["number"], batch["name"], batch["work"], strict=True):
            process = f"{os.uname().nodename}:{os.getpid()}"
            try:
                done: FinishedShard | TlkerasError = self.worker.timed(
                    int(number), partial(self._shard, work, str(name)), process
                )
            except TlkerasError as error:
                done = error
            answers.append(done)
        return {"done": objects(answers)}

    def _shard(self, work: Work, name: str) -> Shard:
        # Whoever computed it before this actor was started again has left a whole file or none.
        if exists(join(self.job.to, f"{name}.parquet")):
            return describe_shard(self.job.to, name)
        import ray

        if ray.get(self.attempts.begin.remote(name)) > ATTEMPTS:
            raise ClusterError(
                f"{ATTEMPTS} workers have ended on the same piece of work",
                received=f"{work.container or work.files[0][0]} …",
                next_step="Look whether memory suffices; fewer --actors or smaller --rows need less.",
            )
        return self.worker.run(work, name)


class Attempts:
    """Counts, for the whole cluster, how often each piece was begun."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """One more; returns how many."""
        self.counts[name] += 1
        return self.counts[name]


def run_on_ray(
    ray: Any, job: Job, broadcast: Broadcast, works: Sequence[tuple[int, str, Work]], actors: int | None
) -> Iterator[FinishedShard]:
    """Compute pieces ``(number, name of the shard, work)`` on a connected cluster; yields them as they are finished.

    ``actors``: by default one for each core that the cluster has now.

    Raises: the error of ours that a piece ended with; ClusterError.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < 1:
        raise ClusterError("the cluster has no core for a worker", next_step="Start machines with CPUs.")
    count = min(actors or cores, len(works))
    if ray.util.client.ray.is_connected():
        yield from _from_afar(ray, job, broadcast, works, count)
        return
    import_module("ray.data")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # It says at length that pieces of work are Python objects and no columns of numbers.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    items = [{"number": number, "name": name, "work": work} for number, name, work in works]
    pieces = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS))
    attempts = ray.remote(Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    results = pieces.map_batches(
        ShardActor,
        fn_constructor_args=(job, ray.put(broadcast), attempts),
        batch_size=1,
        batch_format="numpy",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=PIECES_AN_ACTOR),
    )
    for row in results.iter_rows():
        done = row["done"]
        if isinstance(done, TlkerasError):
            raise done
        yield done


class Conductor:
    """Runs a job from inside the cluster, since Ray Data does not work through a ``ray://`` connection."""

    def __init__(self) -> None:
        self.results: list[FinishedShard | TlkerasError] = []

    def run(self, job: Job, broadcast: Broadcast, works: list[tuple[int, str, Work]], actors: int) -> None:
        """Do it all; what is finished can be asked for meanwhile."""
        try:
            for done in run_on_ray(import_module("ray"), job, broadcast, works, actors):
                self.results.append(done)
        except TlkerasError as error:
            self.results.append(error)

    def since(self, count: int) -> list[FinishedShard | TlkerasError]:
        """What was finished after the first ``count`` pieces."""
        return self.results[count:]


def _from_afar(
    ray: Any, job: Job, broadcast: Broadcast, works: Sequence[tuple[int, str, Work]], actors: int
) -> Iterator[FinishedShard]:
    conductor = ray.remote(Conductor).options(num_cpus=0, max_concurrency=2).remote()
    ending = conductor.run.remote(job, broadcast, list(works), actors)
    seen, ended = 0, False
    while not ended:
        ended = bool(ray.wait([ending], timeout=POLL_SECONDS)[0])
        for done in ray.get(conductor.since.remote(seen)):
            seen += 1
            if isinstance(done, TlkerasError):
                raise done
            yield done
    ray.get(ending)


def objects(values: Sequence[Any]) -> np.ndarray:
    """An array of Python objects, which NumPy shall not look into."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
