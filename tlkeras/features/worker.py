"""One worker of a large job: a network that is loaded once, and pieces of work that become shards.

The same worker runs in this process and in every actor of a cluster. Images are read and decoded by threads of its own
while the network is busy with those before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.backbones.frozen import Frozen
from tlkeras.backbones.tensors import Arrays, tensors_sha256
from tlkeras.data.audit import first_verdict
from tlkeras.data.containers import parquet_rows, tfrecord_rows
from tlkeras.data.dataset import split_named
from tlkeras.data.pipeline import BATCH_SIZE, BATCHES_AHEAD, in_batches, in_order
from tlkeras.data.remote import is_remote, read_image
from tlkeras.data.verdicts import Content, content_of
from tlkeras.data.work import Work
from tlkeras.engines import Runner
from tlkeras.errors import ImageError, WeightsError
from tlkeras.features.shards import Rows, Shard, write_shard
from tlkeras.graphs import adopt
from tlkeras.images.decode import decode
from tlkeras.images.resize import fit_to_square
from tlkeras.predictor import Predictor
from tlkeras.trained import ClassifierConfig, TrainedClassifier


@dataclass(frozen=True)
class Job:
    """What every worker needs to know; plain values, so that it can be sent.

    to: folder of the shards. kind: ``features`` or ``predictions``. space: recipe, see ``FeatureSpace``.
    classifier: for predictions. threads: for the network's engine; None for every core. readers: threads that read and
    decode.
    """

    to: str
    kind: str
    space: dict[str, Any]
    classifier: ClassifierConfig | None = None
    engine: str = "auto"
    threads: int | None = None
    readers: int = 2


@dataclass(frozen=True)
class FinishedShard:
    """A finished piece: its place in the plan, its shard, who computed it, and how long it took.

    cpu_seconds: of all cores together. peak_mb: the most memory that the process has held.
    """

    number: int
    shard: Shard
    engine: str
    seconds: float
    worker: str
    peak_mb: float
    cpu_seconds: float


@dataclass(frozen=True)
class Broadcast:
    """What is sent to a cluster once for all its workers.

    backbone: its weights. head: the classifier's, for predictions. graph: see ``tlkeras.graphs.pack``; to convert the
    network, each worker would need seconds and some 700 MB.
    """

    backbone: Arrays
    head: tuple[np.ndarray, ...]
    graph: tuple[bytes, bytes] | None = None

    def unpacked(self, space: dict[str, Any]) -> Frozen:
        """The backbone on the machine that it was sent to.

        Raises: WeightsError when it is not the one of ``space``.
        """
        if tensors_sha256(self.backbone) != space["weights_sha256"]:
            raise WeightsError("a worker has other weights than those that were sent", next_step="Start again.")
        made = Frozen(space["backbone"], space["size_px"], space["weights_sha256"], held=self.backbone)
        if self.graph is not None:
            adopt(made, self.graph)
        return made


class Worker:
    """Turns work into shards. ``backbone``: that of the job's space. ``head``: the classifier's, for predictions."""

    def __init__(self, job: Job, backbone: Frozen, head: Sequence[np.ndarray] = ()) -> None:
        self.job = job
        space = job.space
        options: dict[str, Any] = {"engine": job.engine, "threads": job.threads}
        self._compute: Callable[[np.ndarray], np.ndarray]
        if job.classifier is None:
            self._runner = Runner(backbone, precision=space["precision"], **options)
            self._compute, self._size = self._runner, backbone.feature_size
        else:
            predictor = Predictor(TrainedClassifier(job.classifier, backbone, head), **options)
            self._runner = predictor.features
            self._compute, self._size = predictor.of_pixels, len(job.classifier.class_names)

    @property
    def engine(self) -> str:
        """The engine's name; empty before the first image."""
        return self._runner.engine.name if self._runner.engine else ""

    def timed(self, number: int, shard: Callable[[], Shard], process: str) -> FinishedShard:
        """The piece of that number, which ``shard`` makes, with what it took."""
        import resource

        started, cpu = time.perf_counter(), time.process_time()
        made = shard()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return FinishedShard(number, made, self.engine, seconds, process, peak_mb, cpu)

    def run(self, work: Work, name: str) -> Shard:
        """Compute one shard and write it under ``name``.

        Raises: StorageError when something cannot be read or written now; DataError for a damaged container.
        """
        rows = Rows()
        # What waits for an answer over the network does not need a core.
        readers = self.job.readers + (6 if work.files and is_remote(work.files[0][0]) else 0)
        looked = in_order(
            lambda image: self._look(*image), _images(work), threads=readers, ahead=BATCHES_AHEAD * BATCH_SIZE
        )
        for (texts, width, height), answer in in_batches(self._compute, looked):
            rows.add(texts, width, height, answer)
        names = self.job.classifier.class_names if self.job.classifier else ()
        return write_shard(self.job.to, rows, self.job.kind, self._size, name, names)

    def _look(self, path: str, label: str, split: str, load: Callable[[], bytes]) -> Any:
        key, square = "", None
        try:
            data = load()
            key = hashlib.sha256(data).hexdigest()
            image = decode(data)
            content = content_of(image)
            square = fit_to_square(image.pixels, self.job.space["size_px"], self.job.space["fit"])
        except ImageError as error:
            content = Content(reason=error.reason, detail=str(error))
        verdict = first_verdict(path, label, split, key, content)
        texts = {name: value for name, value in dataclasses.asdict(verdict).items() if isinstance(value, str)}
        texts["key"] = key
        return (texts, verdict.width, verdict.height), square


def _images(work: Work) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    if work.kind == "files":
        for path, label, split in work.files:
            yield path, label, split, lambda path=path: read_image(path)  # type: ignore[misc]
        return
    if work.kind == "tfrecord":
        for path, label, split, data in tfrecord_rows(work.container, work.split, work.class_names):
            yield path, label, split, lambda data=data: data  # type: ignore[misc]
        return
    columns = (work.image, work.label, work.split)
    rows = parquet_rows(work.container, columns, work.class_names, range(work.first, work.last))
    for number, (data, label, split) in enumerate(rows):
        path = f"{work.container}#{work.first}:{number}"
        yield path, label, split_named(split) or split, lambda data=data: _given(data)  # type: ignore[misc]


def _given(data: bytes | None) -> bytes:
    if not data:
        raise ImageError("empty", "the row holds no bytes", received="nothing")
    return data


def one_thread() -> None:
    """Leave one core to this process: TensorFlow and the libraries below it; call before anything is imported."""
    libraries = ("OMP", "OPENBLAS", "MKL", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
    os.environ.update({f"{name}{'' if name.startswith('TF') else '_NUM'}_THREADS": "1" for name in libraries})
