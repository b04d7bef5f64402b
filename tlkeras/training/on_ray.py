"""Fine-tuning on several machines: Ray Train starts the workers, TensorFlow's MultiWorkerMirroredStrategy joins them.

Every worker sees its share of each global batch. The gradients are summed over all, so that two workers take the steps
that one would take with the whole batch. ``Model.fit`` cannot be used there with Keras 3, hence a step of our own. The
state is written to shared storage; when a worker dies, Ray Train starts all again and they go on from there.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.cluster import connected
from tlkeras.data.remote import exists, is_remote, join, read_file, read_image, write_whole
from tlkeras.data.work import Plan, plan
from tlkeras.errors import ClusterError, ConfigError, DataError, ImageError
from tlkeras.progress import Reporter, Silent
from tlkeras.trained import TrainedClassifier, build_network, config_from_json

STATE_FILE = "state.npz"
HISTORY_FILE = "history.json"


@dataclass(frozen=True)
class DistributedConfig:
    """Options of fine-tuning on a cluster.

    workers: processes, ``cores`` each. batch_size: the global one, which the workers share. learning_rate: of Adam.
    save_steps: the state is written this often. failures: how many deaths of workers are survived. seed: of the order.
    """

    workers: int = 2
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-5
    save_steps: int = 50
    failures: int = 5
    cores: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("workers", "epochs", "batch_size", "save_steps", "cores"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is a whole number from 1", received=getattr(self, name))
        if self.batch_size % self.workers:
            raise ConfigError(
                "the global batch is a multiple of the workers",
                received=f"{self.batch_size} for {self.workers} workers",
            )
        if not 0 < self.learning_rate < 1:
            raise ConfigError("learning_rate lies between 0 and 1", received=self.learning_rate)


@dataclass(frozen=True)
class Distributed:
    """What came of it: losses (nats) of all steps, how often it started (1: nobody died), the classifier's folder."""

    losses: tuple[float, ...]
    starts: int
    classifier: Path
    seconds: float


def fine_tune_on_ray(
    run: str | Path,
    data: str,
    storage: str,
    out: str | Path,
    *,
    on: str = "auto",
    env: Sequence[str] = (),
    config: DistributedConfig | None = None,
    reporter: Reporter | None = None,
) -> Distributed:
    """Fine-tune all layers of a saved classifier on the images of ``data`` (see ``tlkeras.data.work.plan``).

    ``storage``: a folder that every machine reaches (``s3://…``, NFS); the state lies there, and the same call goes on
    from it. ``out``: where the fine-tuned classifier is saved, on this machine. Batch normalisation keeps its
    statistics.

    Raises: ConfigError, DataError, ClusterError, StorageError, ClassifierError.
    """
    from tlkeras.features.worker import weights_of

    config = config or DistributedConfig()
    reporter = reporter or Silent()
    if on.startswith("ray://"):
        raise ConfigError(
            "Ray Train is started on the cluster itself",
            received=f"'{on}'",
            next_step="Run this there, with on='auto'.",
        )
    if Path(out).exists():
        raise ConfigError(f"'{out}' exists already and stays as it is", next_step="Choose another --out.")
    started = time.perf_counter()
    classifier = TrainedClassifier.load(run)
    images = labelled(plan(data), classifier.class_names)
    if len(images) < config.batch_size:
        raise DataError("there are fewer images than a batch takes", received=f"{len(images)} of {config.batch_size}")
    described = json.loads(json.dumps(asdict(classifier.config)))
    folder = storage.rstrip("/") if is_remote(storage) else str(Path(storage).expanduser().absolute())
    steps = len(images) // config.batch_size * config.epochs
    with connected(on, env) as ray:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer

        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < config.workers * config.cores:
            raise ClusterError(
                f"{config.workers} workers need {config.workers * config.cores} cores",
                received=f"{cores} in the cluster",
            )
        reporter.say(f"{len(images):,} images, {steps:,} steps on {config.workers} workers")
        weights = ray.put(weights_of(classifier.network))
        trainer = TensorflowTrainer(
            _worker,
            train_loop_config={
                "config": asdict(config),
                "classifier": described,
                "weights": [weights],
                "images": images,
                "folder": folder,
                "steps": steps,
            },
            scaling_config=ScalingConfig(num_workers=config.workers, resources_per_worker={"CPU": config.cores}),
            run_config=RunConfig(
                storage_path=join(folder, "ray"), failure_config=FailureConfig(max_failures=config.failures)
            ),
        )
        trainer.fit()
    state = json.loads(read_file(join(folder, HISTORY_FILE)))
    if len(state["losses"]) != steps:
        raise ClusterError("the workers stopped early", received=f"{len(state['losses'])} of {steps} steps")
    arrays = _read_arrays(join(folder, STATE_FILE))
    for number, variable in enumerate(classifier.network.weights):
        variable.assign(arrays[f"w{number:05d}"])
    from dataclasses import replace

    from tlkeras import backbones

    sha256 = backbones.weights_sha256(classifier.network.get_layer("backbone"))
    tuned = TrainedClassifier(replace(classifier.config, backbone_sha256=sha256), classifier.network)
    tuned.save(out)
    return Distributed(tuple(state["losses"]), state["starts"], Path(out), time.perf_counter() - started)


def labelled(planned: Plan, class_names: Sequence[str]) -> list[tuple[str, int]]:
    """Paths and labels of the training images of a plan, test and validation left out.

    Raises: DataError for containers, images without a class, and classes that the classifier does not know.
    """
    number_of = {name: number for number, name in enumerate(class_names)}
    found = []
    for work in planned.works:
        if work.kind != "files":
            raise DataError("fine-tuning reads image files", received=f"the container '{work.container}'")
        for path, label, split in work.files:
            if split in ("", "train"):
                if label not in number_of:
                    raise DataError("every image has one of the classifier's classes", received=f"'{label}', '{path}'")
                found.append((path, number_of[label]))
    return found


def batch_rows(step: int, images: int, batch_size: int, seed: int) -> np.ndarray:
    """Which images the global batch of a step holds, int64 ``[batch_size]``; the order is new in every epoch."""
    each = images // batch_size
    order = np.random.default_rng([seed, step // each]).permutation(images)
    at = step % each * batch_size
    return order[at : at + batch_size]


def _worker(given: dict[str, Any]) -> None:
    """What every worker runs: read the state, train its share of each batch, let the first one write the state."""
    import ray
    import tensorflow as tf
    from ray import train

    config = DistributedConfig(**given["config"])
    described = config_from_json({"format": "tlkeras-classifier", "format_version": 2, **given["classifier"]}, Path())
    context = train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        network = build_network(described)
        optimiser = Adam(network.trainable_weights, config.learning_rate)
    state = State(given["folder"], network, optimiser)
    losses = state.load(ray.get(given["weights"][0]), first=rank == 0)

    def gradients(pixels: Any, labels: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            logits = network(pixels, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_sum(loss) / config.batch_size
        return loss, tape.gradient(loss, [variable.value for variable in network.trainable_weights])

    @tf.function
    def step(pixels: Any, labels: Any) -> Any:
        def one(pixels: Any, labels: Any) -> Any:
            loss, found = gradients(pixels, labels)
            everywhere = tf.distribute.get_replica_context()
            found = everywhere.all_reduce(tf.distribute.ReduceOp.SUM, found)
            optimiser.apply(found)
            return everywhere.all_reduce(tf.distribute.ReduceOp.SUM, loss)

        return strategy.experimental_local_results(strategy.run(one, args=(pixels, labels)))[0]

    share = config.batch_size // workers
    read = Reader(given["images"], described.size_px, described.fit)
    for number in range(len(losses), given["steps"]):
        rows = batch_rows(number, len(given["images"]), config.batch_size, config.seed)
        pixels, labels = read(rows[rank * share : (rank + 1) * share])
        losses.append(float(step(tf.constant(pixels), tf.constant(labels))))
        if rank == 0 and ((number + 1) % config.save_steps == 0 or number + 1 == given["steps"]):
            state.save(losses)
    train.report({"loss": losses[-1]})


class Adam:
    """Adam (Kingma & Ba 2015) inside replicas, where Keras 3's own cannot be used; gradients are sums over them."""

    def __init__(self, variables: Sequence[Any], rate: float) -> None:
        import tensorflow as tf

        self._variables = [variable.value for variable in variables]
        self._rate = rate
        self.slots = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in self._variables for _ in range(2)]
        self.steps = tf.Variable(0.0, trainable=False)
        self.slots.append(self.steps)

    def apply(self, gradients: Sequence[Any]) -> None:
        """One step."""
        import tensorflow as tf

        count = self.steps + 1.0
        self.steps.assign(count)
        rate = self._rate * tf.sqrt(1.0 - tf.pow(0.999, count)) / (1.0 - tf.pow(0.9, count))
        for number, (variable, gradient) in enumerate(zip(self._variables, gradients, strict=True)):
            mean, square = self.slots[2 * number], self.slots[2 * number + 1]
            new_mean = 0.9 * mean + 0.1 * gradient
            new_square = 0.999 * square + 0.001 * tf.square(gradient)
            mean.assign(new_mean)
            square.assign(new_square)
            variable.assign(variable - rate * new_mean / (tf.sqrt(new_square) + 1e-7))


class State:
    """Weights, the optimiser's memory and the losses so far, in a folder that all workers reach."""

    def __init__(self, folder: str, network: Any, optimiser: Adam) -> None:
        self.folder = folder
        self.network = network
        self.optimiser = optimiser

    def load(self, weights: Sequence[np.ndarray], *, first: bool) -> list[float]:
        """Take what is stored, or ``weights`` at the very start; returns the losses of the steps that were taken."""
        losses: list[float] = []
        self.starts = 1
        slots: list[np.ndarray] = []
        if exists(join(self.folder, STATE_FILE)):
            arrays = _read_arrays(join(self.folder, STATE_FILE))
            weights = [arrays[f"w{number:05d}"] for number in range(len(weights))]
            slots = [arrays[f"s{number:05d}"] for number in range(len(self.optimiser.slots))]
            losses = [float(loss) for loss in arrays["losses"]]
            self.starts = int(arrays["starts"]) + 1
        for variable, value in zip(self.network.weights, weights, strict=True):
            variable.assign(value)
        for slot, value in zip(self.optimiser.slots, slots, strict=False):
            slot.assign(value)
        if first:
            self.save(losses)
        return losses

    def save(self, losses: Sequence[float]) -> None:
        """Write everything as one file, whole or not at all, and the losses for people."""
        arrays = {f"w{number:05d}": np.asarray(v.numpy()) for number, v in enumerate(self.network.weights)}
        arrays |= {f"s{number:05d}": np.asarray(v.numpy()) for number, v in enumerate(self.optimiser.slots)}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, losses=np.array(losses), starts=np.array(self.starts), **arrays)
        write_whole(join(self.folder, STATE_FILE), buffer.getvalue())
        history = {"losses": list(losses), "starts": self.starts}
        write_whole(join(self.folder, HISTORY_FILE), json.dumps(history).encode())


class Reader:
    """Reads, decodes and fits images by threads."""

    def __init__(self, images: Sequence[tuple[str, int]], size_px: int, fit: str) -> None:
        self.images, self.size_px, self.fit = images, size_px, fit

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels float32 ``[n, S, S, 3]`` in 0..255 and labels int32 ``[n]``.

        Raises: DataError that names an image which cannot be decoded.
        """
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            squares = list(pool.map(self._square, rows))
        return np.stack(squares), np.array([self.images[row][1] for row in rows], np.int32)

    def _square(self, row: int) -> np.ndarray:
        from tlkeras.data.pipeline import fitted_pixels

        path = self.images[row][0]
        try:
            return fitted_pixels(read_image(path), self.size_px, self.fit)
        except ImageError as error:
            raise DataError(f"'{path}' cannot be used ({error.rule})", next_step="'tlkeras audit' lists all.") from None


def _read_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(read_file(name)), allow_pickle=False) as arrays:
        return dict(arrays)
