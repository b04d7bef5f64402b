"""The one predictor: from images to a classifier's probabilities, decoding beside the network.

Whoever asks a classifier about photos (``predict``, ``evaluate``, a worker of ``predict --to``, an export's check) asks
here: backbone on its engine, views averaged, head, temperature. The head runs in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.data.pipeline import BATCH_SIZE, BATCHES_AHEAD, fitted_image, in_batches, in_order
from tlkeras.engines import Runner
from tlkeras.errors import ImageError
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.logits import softmax

if TYPE_CHECKING:
    from tlkeras.heads.config import HeadConfig
    from tlkeras.trained import TrainedClassifier


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
        self._head = head_in_numpy(config.head, classifier.head_weights)
        self.features = Runner(classifier.backbone, config.views, engine=engine, threads=threads, images=images)

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

        decoded = in_order(load, images, ahead=BATCHES_AHEAD * batch_size)
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
