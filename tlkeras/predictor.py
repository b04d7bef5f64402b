"""The one predictor: from images to a classifier's probabilities, decoding beside the network.

Whoever asks a classifier about photos (``predict``, ``evaluate``, a worker of ``predict --to``, an export's check) asks
here: backbone on its engine, views averaged, head, temperature. The head runs in NumPy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tlkeras.data.pipeline import fitted_image
from tlkeras.engines import Runner
from tlkeras.errors import ImageError
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.logits import softmax
from tlkeras.machine import usable_cpus

if TYPE_CHECKING:
    from tlkeras.heads.config import HeadConfig
    from tlkeras.trained import TrainedClassifier

BATCH_SIZE = 32
# Batches of decoded images that wait at most, for the network or for their turn: 19 MB each at 224 px.
BATCHES_AHEAD = 3

Known = TypeVar("Known")
Made = TypeVar("Made")


class Predictor:
    """A classifier's answers. ``engine``, ``threads``, ``images``: see ``tlkeras.engines.Runner``."""

    def __init__(
        self,
        classifier: TrainedClassifier,
        *,
        engine: str = "auto",
        threads: int | None = None,
        images: int | None = None,
    ) -> None:
        config = self._config = classifier.config
        self._head = head_in_numpy(config.head, [variable.numpy() for variable in classifier.head.weights])
        self.features = Runner(
            lambda: classifier.network.get_layer("backbone"),
            config.backbone_sha256,
            config.views,
            engine=engine,
            threads=threads,
            images=images,
        )

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float32 ``[n, K]`` of features ``[n, D]``, views averaged."""
        return softmax(self._head(features), self._config.temperature)

    def of_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float32 ``[n, K]`` of fitted pixels float32 ``[n, S, S, 3]`` in 0..255."""
        return self.of_features(self.features(pixels))

    def answers(
        self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[Any, np.ndarray | ImageError]]:
        """Each image, in order, with its probabilities float32 ``[K]``, or why it cannot be decoded.

        ``images``: each a path, the bytes of an image file, a Pillow image or an array in 0..255; see
        ``tlkeras.data.pipeline.fitted_image``. Each is decoded once.

        Raises: ConfigError for an array of another shape or range.
        """

        def load(image: Any) -> tuple[tuple[Any, ImageError | None], np.ndarray | None]:
            try:
                return (image, None), fitted_image(image, self._config.size_px, self._config.fit)
            except ImageError as error:
                return (image, error), None

        decoded = in_order(load, images, threads=min(4, 2 * usable_cpus()), ahead=BATCHES_AHEAD * batch_size)
        for (image, error), answer in in_batches(self.of_pixels, decoded, batch_size):
            if error is not None:
                yield image, error
            elif answer is not None:
                yield image, answer

    def predict(self, images: Sequence[Any], *, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Calibrated probabilities float32 ``[N, K]`` of images (see ``answers`` for what those may be).

        Raises: ImageError, naming the image, for one that cannot be decoded.
        """
        probabilities = np.empty((len(images), len(self._config.class_names)), np.float32)
        for row, (image, answer) in enumerate(self.answers(images, batch_size=batch_size)):
            if isinstance(answer, ImageError):
                raise answer.of(image, row)
            probabilities[row] = answer
        return probabilities


def head_in_numpy(config: HeadConfig, weights: Sequence[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A head's forward pass, features float ``[n, D]`` → logits float32 ``[n, K]``, from its Keras network's weights.

    It does what the networks of ``tlkeras.heads.config`` do, in whose order the weights are.
    """
    weights = [np.asarray(values, np.float32) for values in weights]
    if config.kind == "linear":
        kernel, bias = weights
        return lambda features: unit_rows(features) @ kernel + bias

    def normalised(X: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float) -> np.ndarray:
        return (X - mean) / np.sqrt(variance + np.float32(epsilon))

    def forward(features: np.ndarray) -> np.ndarray:
        left = iter(weights)
        X = normalised(np.asarray(features, np.float32), next(left), next(left), 1e-6)
        for _ in config.units:
            X = X @ next(left)
            if config.batch_norm:
                scale, shift = next(left), next(left)
                X = normalised(X, next(left), next(left), 1e-3) * scale + shift
            else:
                X = X + next(left)
            X = np.maximum(X, 0)
        return X @ next(left) + next(left)

    return forward


def in_order(work: Callable[[Known], Made], items: Iterable[Known], *, threads: int, ahead: int) -> Iterator[Made]:
    """``work(item)`` for each item, in their order, by threads that run at most ``ahead`` items in front."""
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def in_batches(
    compute: Callable[[np.ndarray], np.ndarray],
    decoded: Iterable[tuple[Known, np.ndarray | None]],
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[Known, np.ndarray | None]]:
    """What is known of each image, in order, with what ``compute`` says of its pixels ``[S, S, 3]``, None without.

    ``compute``: float32 ``[n, S, S, 3]``, n ≤ ``batch_size``, to one row for each.
    """
    waiting: list[tuple[Known, np.ndarray | None]] = []
    count = 0

    def answered() -> Iterator[tuple[Known, np.ndarray | None]]:
        squares = [square for _, square in waiting if square is not None]
        rows = iter(compute(np.stack(squares)) if squares else ())
        return ((known, None if square is None else next(rows)) for known, square in waiting)

    for known, square in decoded:
        waiting.append((known, square))
        count += square is not None
        if count == batch_size:
            yield from answered()
            waiting, count = [], 0
    yield from answered()
