"""One worker of a large job: a network that is loaded once, and pieces of work that become shards.

The same worker runs in this process and in every actor of a cluster. Images are read and decoded by threads of its own
while the network is busy with those before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.data.audit import first_verdict
from tlkeras.data.containers import missing_bytes, parquet_rows, tfrecord_rows
from tlkeras.data.dataset import split_named
from tlkeras.data.pipeline import BATCH_SIZE, BATCHES_AHEAD, in_batches, in_order
from tlkeras.data.remote import is_remote, read_image
from tlkeras.data.verdicts import Content, content_of
from tlkeras.data.work import Work
from tlkeras.engines import Runner, adopt
from tlkeras.errors import ImageError, WeightsError
from tlkeras.features.shards import Rows, Shard, write_shard
from tlkeras.images.decode import decode
from tlkeras.images.resize import fit_to_square
from tlkeras.predictor import Predictor
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network


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
    seconds: float = 0.0
    worker: str = ""
    peak_mb: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Broadcast:
    """What is sent to a cluster once for all its workers.

    weights: the network's. converted: the network as an engine takes it; to do that, each worker would need seconds
    and some 700 MB.
    """

    weights: list[np.ndarray]
    converted: bytes | None = None


def weights_of(network: Any) -> list[np.ndarray]:
    """The weights of a network in order, to be sent to workers."""
    return [np.asarray(variable.numpy()) for variable in network.weights]


class Worker:
    """Turns work into shards. ``weights``: of the backbone, or of the whole classifier for predictions.

    ``converted``: see ``Broadcast``.

    Raises: WeightsError when the network here is not the one that was sent.
    """

    def __init__(self, job: Job, weights: list[np.ndarray], converted: bytes | None = None) -> None:
        self.job = job
        space = job.space
        if converted is not None:
            adopt(space["weights_sha256"], space["size_px"], converted)
        if job.classifier is None:
            self.network = backbones.build(space["backbone"], "none", size_px=space["size_px"])
        else:
            self.network = build_network(job.classifier)
        _assign(self.network, weights)
        backbone = self.network if job.classifier is None else self.network.get_layer("backbone")
        if backbones.weights_sha256(backbone) != space["weights_sha256"]:
            raise WeightsError("a worker's network has other weights than those that were sent",
                               next_step="Install the same versions of keras and tlkeras everywhere.")  # fmt: skip
        options: dict[str, Any] = {"engine": job.engine, "threads": job.threads}
        self._compute: Callable[[np.ndarray], np.ndarray]
        if job.classifier is None:
            self._runner = Runner(
                lambda: self.network, space["weights_sha256"], precision=space["precision"], **options
            )
            self._compute, self._size = self._runner, int(self.network.output_shape[-1])
        else:
            predictor = Predictor(TrainedClassifier(job.classifier, self.network), **options)
            self._runner = predictor.features
            self._compute, self._size = predictor.of_pixels, len(job.classifier.class_names)

    @property
    def engine(self) -> str:
        """The engine's name; empty before the first image."""
        return self._runner.engine.name if self._runner.engine else ""

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
        raise missing_bytes()
    return data


def _assign(network: Any, weights: list[np.ndarray]) -> None:
    if [tuple(variable.shape) for variable in network.weights] != [weight.shape for weight in weights]:
        raise WeightsError("the weights that were sent do not fit the network that is built here",
                           next_step="Install the same versions of keras and tlkeras everywhere.")  # fmt: skip
    for variable, weight in zip(network.weights, weights, strict=True):
        variable.assign(weight)


def one_thread() -> None:
    """Leave one core to this process: TensorFlow and the libraries below it; call before anything runs."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
