"""Features or predictions of any number of images, as Parquet shards, here or on a cluster, in one and the same way."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.backbones.frozen import Frozen, frozen
from tlkeras.backbones.table import OWN_FIT
from tlkeras.backbones.tensors import tensors_sha256
from tlkeras.backbones.weights import NONE
from tlkeras.cluster import HERE, LOCAL, Place, check_address, connected
from tlkeras.data.dataset import Left, found_json
from tlkeras.data.remote import is_remote
from tlkeras.data.work import ROWS_A_SHARD, Plan, Work, plan, recipe_of
from tlkeras.engines import prepare
from tlkeras.errors import ConfigError
from tlkeras.features.shards import Shard, begin, describe_shard, finish
from tlkeras.features.store import FeatureSpace, link_shards
from tlkeras.features.worker import Broadcast, FinishedShard, Job, Worker
from tlkeras.graphs import pack
from tlkeras.images.resize import check_fit
from tlkeras.progress import Reporter, Silent
from tlkeras.trained import TrainedClassifier, versions


@dataclass(frozen=True)
class Bulk:
    """A finished job.

    images: rows in all, rejected ones included. computed, reused: shards that were made now and found finished.
    first_seconds: until every worker had made its first shard, start-up included; images_a_second: from then on,
    0 where that was the end. busy: the share of that time, 0..1, in which a worker had a shard at hand.
    workers: of each process that computed, images, peak memory (MB), seconds, and images and seconds of processor time
    after its first shard. left_out: what was found beside the images.
    """

    to: str
    kind: str
    images: int
    rejected: int
    computed: int
    reused: int
    engine: str | None
    seconds: float
    first_seconds: float
    images_a_second: float
    busy: float
    workers: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: tuple[Left, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), **found_json(self.images, self.left_out)}


def extract_to(
    data: str,
    to: str,
    *,
    backbone: str,
    weights: str = "pretrained",
    size_px: int | None = None,
    fit: str = OWN_FIT,
    engine: str = "auto",
    precision: str = "fp32",
    place: Place = HERE,
    rows_a_shard: int = ROWS_A_SHARD,
    data_dir: str | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
    class_from_name: bool = False,
    classes_at: int | None = None,
) -> Bulk:
    """Push every image of ``data`` (see ``tlkeras.data.work.plan``) through a frozen backbone, into shards at ``to``.

    ``to``: a new folder, or one that the same call began and did not finish: finished shards are not computed again.
    Where it lies on this disk, the feature store of this machine finds the vectors there from then on.
    ``class_from_name``, ``classes_at``: how folders are read.

    Raises: ConfigError, DataError, WeightsError, StorageError, ClusterError.
    """
    _check(place, rows_a_shard)
    row = backbones.get(backbone)
    fit = row.fit_asked(fit)
    check_fit(fit, size_px or row.size_px)
    backbones.resolve(row, weights, top=False)
    planned = plan(
        data, rows_a_shard=rows_a_shard, data_dir=data_dir, class_from_name=class_from_name, classes_at=classes_at
    )
    if weights == NONE:
        import keras

        keras.utils.set_random_seed(seed)
    made = frozen(backbone, weights, size_px)
    space = FeatureSpace.of(made, fit=fit, precision=precision)
    job = Job(_full(to), "features", asdict(space), engine=engine)
    bulk = _run(job, made, (), planned, {}, place, reporter or Silent())
    if not is_remote(job.to):
        link_shards(space, Path(job.to))
    return bulk


def predict_to(
    classifier: TrainedClassifier,
    data: str | Sequence[str],
    to: str,
    *,
    engine: str = "auto",
    place: Place = HERE,
    rows_a_shard: int = ROWS_A_SHARD,
    reporter: Reporter | None = None,
) -> Bulk:
    """Classify every image of ``data``, into shards at ``to``; see ``extract_to``.

    Raises: ConfigError, DataError, StorageError, ClusterError.
    """
    _check(place, rows_a_shard)
    planned = plan(data, rows_a_shard=rows_a_shard, need_layout=False)
    config = classifier.config
    backbone, head = classifier.backbone, classifier.head_weights
    space = FeatureSpace.of(backbone, fit=config.fit)
    job = Job(_full(to), "predictions", asdict(space), classifier=config, engine=engine)
    network = {f"{index:04d}": values for index, values in enumerate((*backbone.arrays.values(), *head))}
    described = {"classifier": json.loads(json.dumps(asdict(config))), "network_sha256": tensors_sha256(network)}
    return _run(job, backbone, head, planned, described, place, reporter or Silent())


def _check(place: Place, rows_a_shard: int) -> None:
    if rows_a_shard < 1:
        raise ConfigError("--rows is a whole number from 1", received=rows_a_shard)
    check_address(place.on)


def _full(to: str) -> str:
    return to.rstrip("/") if is_remote(to) else str(Path(to).expanduser().absolute())


def _run(
    job: Job,
    backbone: Frozen,
    head: Sequence[np.ndarray],
    planned: Plan,
    described: dict[str, Any],
    place: Place,
    reporter: Reporter,
) -> Bulk:
    started = time.perf_counter()
    for line in planned.report():
        reporter.say(line)
    recipe = recipe_of([job.kind, job.space, described])
    names = [work.name(number, recipe) for number, work in enumerate(planned.works)]
    task = {"kind": job.kind, "space": job.space, **described, "data": planned.name, "plan": recipe_of(names)}
    if place.on != LOCAL and job.to.startswith("memory://"):
        raise ConfigError("memory:// is one process's own", received=f"--to {job.to} --on {place.on}")
    finished = begin(job.to, task)
    shards: dict[int, Shard] = {
        number: describe_shard(job.to, name) for number, name in enumerate(names) if name in finished
    }
    todo = [(number, names[number], work) for number, work in enumerate(planned.works) if number not in shards]
    reused = len(shards)
    if reused:
        reporter.say(f"{reused:,} of {len(names):,} shards are finished already")
    tally = _Tally(started)
    if todo:
        total = planned.images or sum(shard.rows for shard in shards.values())
        with reporter.step(job.kind) as progress, _computing(job, backbone, head, todo, place) as results:
            for done in results:
                shards[done.number] = done.shard
                tally.note(done)
                rows = sum(shard.rows for shard in shards.values())
                progress(rows, max(total, rows))
    ordered = [shards[number] for number in range(len(names))]
    finish(job.to, job.kind, ordered, {**task, "recipe": recipe, "versions": versions()})
    return Bulk(
        job.to,
        job.kind,
        images=sum(shard.rows for shard in ordered),
        rejected=sum(shard.rejected for shard in ordered),
        computed=len(todo),
        reused=reused,
        engine=tally.engine,
        seconds=round(time.perf_counter() - started, 3),
        first_seconds=round(tally.first, 3),
        images_a_second=round(tally.rate, 2),
        busy=round(tally.busy, 3),
        workers=tally.workers,
        left_out=planned.left_out,
    )


@contextlib.contextmanager
def _computing(
    job: Job,
    backbone: Frozen,
    head: Sequence[np.ndarray],
    todo: list[tuple[int, str, Work]],
    place: Place,
) -> Iterator[Iterator[FinishedShard]]:
    if place.on == LOCAL:
        yield _here(job, backbone, head, todo)
        return
    from tlkeras.features.on_ray import run_on_ray

    prepare(backbone, name=job.engine)
    broadcast = Broadcast(dict(backbone.arrays), tuple(head), pack(backbone))
    with connected(place.on, place.env) as ray:
        yield run_on_ray(ray, replace(job, threads=1, readers=1), broadcast, todo, place.actors)


def _here(
    job: Job, backbone: Frozen, head: Sequence[np.ndarray], todo: list[tuple[int, str, Work]]
) -> Iterator[FinishedShard]:
    worker = Worker(job, backbone, head)
    for number, name, work in todo:
        yield worker.timed(number, partial(worker.run, work, name), "local")


class _Tally:
    """Who computed what, and how fast once all have started."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.engine: str | None = None
        self.workers: dict[str, dict[str, float]] = {}
        self._events: list[tuple[float, str, int, float]] = []

    def note(self, done: FinishedShard) -> None:
        """A piece is finished."""
        self._events.append((time.perf_counter() - self.started, done.worker, done.shard.rows, done.seconds))
        self.engine = self.engine or done.engine or None
        if done.worker not in self.workers:
            # A worker's first piece waits for its engine, and is not counted in what an image costs.
            self.workers[done.worker] = {
                "images": 0,
                "peak_mb": 0.0,
                "seconds": 0.0,
                "later_images": 0,
                "later_cpu_seconds": 0.0,
            }
        elif done.cpu_seconds:
            self.workers[done.worker]["later_images"] += done.shard.rows
            self.workers[done.worker]["later_cpu_seconds"] += done.cpu_seconds
        known = self.workers[done.worker]
        known["images"] += done.shard.rows
        known["seconds"] = round(known["seconds"] + done.seconds, 3)
        known["peak_mb"] = max(known["peak_mb"], round(done.peak_mb, 1))

    @property
    def first(self) -> float:
        """Seconds until every worker had finished its first piece."""
        firsts: dict[str, float] = {}
        for at, worker, *_ in self._events:
            firsts.setdefault(worker, at)
        return max(firsts.values(), default=0.0)

    @property
    def rate(self) -> float:
        """Images a second from then on; 0 where there were too few pieces to tell."""
        after = [(at, rows) for at, _, rows, _ in self._events if at > self.first]
        return sum(rows for _, rows in after) / (after[-1][0] - self.first) if after else 0.0

    @property
    def busy(self) -> float:
        """Share of that time in which a worker did not wait for work."""
        after = [(at, min(seconds, at - self.first)) for at, _, _, seconds in self._events if at > self.first]
        whole = (after[-1][0] - self.first) * len(self.workers) if after else 0.0
        return sum(seconds for _, seconds in after) / whole if whole else 0.0
