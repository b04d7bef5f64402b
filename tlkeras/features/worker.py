"""One worker of a large job: a network that is loaded once, and pieces of work that become shards.

The same worker runs in this process and in every actor of a cluster. Images are read and decoded by threads of its own
while the network is busy with those before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.data.audit import first_verdict
from tlkeras.data.containers import missing_bytes, parquet_rows, tfrecord_rows
from tlkeras.data.dataset import split_named
from tlkeras.data.remote import is_remote, read_image
from tlkeras.data.verdicts import Content, content_of
from tlkeras.data.work import Work
from tlkeras.errors import ImageError, WeightsError
from tlkeras.features.engines import Engine, adopt, open_engine
from tlkeras.features.shards import Rows, Shard, write_shard
from tlkeras.images.decode import decode
from tlkeras.trained import ClassifierConfig, TrainedClassifier, build_network

BATCH_SIZE = 32
# Batches of decoded images that wait at most, for the network or for their turn: 19 MB each at 224 px.
BATCHES_AHEAD = 3

# Images on which a worker's engine is compared with Keras; TensorFlow keeps the memory that it took for them.
VERIFIED = 8


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
class Done:
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
class Parcel:
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

    ``converted``: see ``Parcel``.

    Raises: WeightsError when the network here is not the one that was sent.
    """

    def __init__(self, job: Job, weights: list[np.ndarray], converted: bytes | None = None) -> None:
        import tensorflow as tf

        from tlkeras.images.graph import fit_to_square

        self.job = job
        space = job.space
        if converted is not None:
            adopt(space["weights_sha256"], space["size_px"], converted)
        if job.classifier is None:
            self.network = backbones.build(space["backbone"], "none", size_px=space["size_px"])
        else:
            self.network = build_network(job.classifier)
        _assign(self.network, weights)
        self.backbone = self.network if job.classifier is None else self.network.get_layer("backbone")
        if backbones.weights_sha256(self.backbone) != space["weights_sha256"]:
            raise WeightsError("a worker's network has other weights than those that were sent",
                               next_step="Install the same versions of keras and tlkeras everywhere.")  # fmt: skip
        self.classifier = TrainedClassifier(job.classifier, self.network) if job.classifier else None
        self._engine: Engine | None = None
        size, fit = int(space["size_px"]), str(space["fit"])
        self._fit = tf.function(
            lambda pixels: fit_to_square(pixels, size, fit), input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)]
        )

    @property
    def engine(self) -> str:
        """The engine's name; empty before the first image."""
        return self._engine.name if self._engine else ""

    def run(self, work: Work, name: str, progress: Callable[[int], None] = lambda images: None) -> Shard:
        """Compute one shard and write it under ``name``; ``progress`` is called with the images of each batch.

        Raises: StorageError when something cannot be read or written now; DataError for a damaged container.
        """
        rows = Rows()
        squares: list[np.ndarray] = []
        at: list[int] = []
        size = self.backbone.output_shape[-1]
        if self.classifier is not None:
            size = len(self.classifier.class_names)
        for texts, width, height, square in self._decoded(work):
            row = rows.add(texts, width, height)
            if square is not None:
                at.append(row)
                squares.append(square)
            if len(squares) == BATCH_SIZE:
                self._answer(rows, at, squares)
                progress(BATCH_SIZE)
                at, squares = [], []
        if squares:
            self._answer(rows, at, squares)
            progress(len(squares))
        names = self.classifier.class_names if self.classifier else ()
        return write_shard(self.job.to, rows, self.job.kind, size, name, names)

    def _answer(self, rows: Rows, at: list[int], squares: list[np.ndarray]) -> None:
        pixels = np.stack(squares)
        if self._engine is None:
            space = self.job.space
            self._engine = open_engine(
                self.backbone,
                space["weights_sha256"],
                pixels[:VERIFIED],
                name=self.job.engine,
                precision=space["precision"],
                threads=self.job.threads,
            )
        answers = self._engine.run(pixels)
        if self.classifier is not None:
            if self.classifier.config.mirror:
                answers = (answers + self._engine.run(np.ascontiguousarray(pixels[:, :, ::-1]))) / np.float32(2)
            logits = np.asarray(self.classifier.head(answers, training=False))
            answers = self.classifier.probabilities(logits)
        for row, answer in zip(at, answers, strict=True):
            rows.answers[row] = answer

    def _decoded(self, work: Work) -> Iterator[tuple[dict[str, str], int, int, np.ndarray | None]]:
        """What is known of each image, its size, and its pixels where it can be used; in the order of the work."""
        waiting: deque[Future[Any]] = deque()
        # What waits for an answer over the network does not need a core.
        readers = self.job.readers + (6 if work.files and is_remote(work.files[0][0]) else 0)
        pool = ThreadPoolExecutor(readers, thread_name_prefix="decode")
        try:
            for path, label, split, load in _images(work):
                waiting.append(pool.submit(self._look, path, label, split, load))
                if len(waiting) >= BATCHES_AHEAD * BATCH_SIZE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _look(self, path: str, label: str, split: str, load: Callable[[], bytes]) -> Any:
        key, square = "", None
        try:
            data = load()
            key = hashlib.sha256(data).hexdigest()
            image = decode(data)
            content = content_of(image)
            square = self._fit(image.pixels).numpy()
        except ImageError as error:
            content = Content(reason=error.reason, detail=str(error))
        verdict = first_verdict(path, label, split, key, content)
        texts = {name: value for name, value in dataclasses.asdict(verdict).items() if isinstance(value, str)}
        texts["key"] = key
        return texts, verdict.width, verdict.height, square


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
