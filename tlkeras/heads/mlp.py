"""A multilayer perceptron trained on stored features."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.config import HeadConfig, build_mlp, head_logits
from tlkeras.heads.folds import assign_folds, out_of_fold
from tlkeras.heads.linear import check_training_rows
from tlkeras.heads.logits import log_loss_and_accuracy

if TYPE_CHECKING:
    import keras

_DEFAULT = HeadConfig("mlp")
EPOCHS = 100
# Of the images that a fold trains on, one in so many decides when to stop: the fold itself only judges.
_STOPPING_FOLDS = 8


class NotTriedError(Exception):
    """Why there is nothing by an MLP."""


def fit_mlp(
    train_X: np.ndarray,
    train_y: np.ndarray,
    val_X: np.ndarray | None,
    val_y: np.ndarray | None,
    class_count: int,
    *,
    config: HeadConfig = _DEFAULT,
    epochs: int = EPOCHS,
    patience: int = 10,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    batch_size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Train an MLP with AdamW until the validation log loss has not improved for ``patience`` epochs.

    Without validation (None) it trains for all ``epochs`` and keeps the last, and there are no rows.

    Features float [N, D], labels int [N]. Returns the network, features [N, D] → logits [N, K], with the weights of
    its best epoch, and a row per epoch: ``epoch`` (from 1), ``loss`` (training, with dropout), ``log_loss`` (nats) and
    ``accuracy`` (0..1) on validation. ``progress`` is called with (epochs done, ``epochs``). The same seed gives the
    same weights on the same machine; Keras's, NumPy's and Python's global random states are set from it.

    Raises:
        DataError: features and labels that do not fit each other, or no validation images.
        ConfigError: an option out of range.
    """
    import keras

    for name, value in {"epochs": epochs, "patience": patience, "batch_size": batch_size}.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1", received=value)
    for name, rate, lowest in (("learning_rate", learning_rate, 1e-12), ("weight_decay", weight_decay, 0.0)):
        if not lowest <= rate < np.inf:
            raise ConfigError(f"{name} must be a finite number from {lowest:g}", received=rate)
    train_X, train_y = check_training_rows(train_X, train_y, class_count)
    if val_X is not None and val_y is not None:
        val_X, val_y = check_training_rows(val_X, val_y, class_count)
        if train_X.shape[1] != val_X.shape[1]:
            raise DataError(
                "train and validation need the same number of features",
                received=f"{train_X.shape[1]} and {val_X.shape[1]}",
            )
    keras.utils.set_random_seed(seed)
    mean, variance = train_X.mean(axis=0, dtype=np.float64), train_X.var(axis=0, dtype=np.float64)
    # A constant column would otherwise be magnified a thousandfold as soon as it varies.
    variance[variance < 1e-10] = 1.0
    model = build_mlp(config, train_X.shape[1], class_count, mean=mean, variance=variance)
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history: list[dict[str, float]] = []
    watch = None if val_X is None or val_y is None else _watch(model, val_X, val_y, patience, history)
    # Batch normalisation cannot train on a last batch of one image: its variance is zero.
    kept = len(train_y) - (
        1 if config.batch_norm and len(train_y) > batch_size and len(train_y) % batch_size == 1 else 0
    )
    model.fit(
        train_X[:kept],
        train_y[:kept],
        batch_size=batch_size,
        epochs=epochs,
        shuffle=True,
        verbose=0,
        callbacks=[*([] if watch is None else [watch]), *_tell(progress, epochs)],
    )
    if watch is not None:
        model.set_weights(watch.best_weights)
    return model, history


def mlp_out_of_fold(
    config: HeadConfig,
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    class_count: int,
    groups: np.ndarray | None,
    *,
    seed: int,
    until: float = np.inf,
    progress: Callable[[int, int], None] = lambda done, most: None,
) -> tuple[np.ndarray, int]:
    """Logits float32 [N, K] of an MLP for every held-out image, by trainings that have not seen its fold.

    Features float [N, D], labels, ``folds`` and ``groups`` int [N]. ``until``: no training begins after that time. Also
    the middle one of the epochs at which they were best, for a training on all images.

    Raises:
        NotTriedError: why there are none.
    """
    if int(folds.max(initial=-1)) < 0:
        raise NotTriedError("not tried: no image can be held out")
    best: list[int] = []

    def answer(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
        if time.perf_counter() > until:
            raise NotTriedError("stopped: no time left")
        inner = assign_folds(labels[kept], seed, folds=_STOPPING_FOLDS, groups=None if groups is None else groups[kept])
        learn, stop = kept[inner != 0], kept[inner == 0]
        if not len(stop):
            raise NotTriedError("not tried: too few images to tell when to stop")
        rows = (features[learn], labels[learn], features[stop], labels[stop])
        model, history = fit_mlp(*rows, class_count, config=config, epochs=EPOCHS, seed=seed)
        best.append(1 + int(np.argmin([row["log_loss"] for row in history])) if history else EPOCHS)
        progress(len(best), int(folds.max()) + 1)
        return head_logits(model, features[out])

    return out_of_fold(folds, class_count, answer), sorted(best)[len(best) // 2]


def _watch(
    model: keras.Model, val_X: np.ndarray, val_y: np.ndarray, patience: int, history: list[dict[str, float]]
) -> keras.callbacks.Callback:
    """Early stopping that scores validation exactly, without a second input pipeline."""
    import keras

    class Watch(keras.callbacks.Callback):
        best_epoch = 0
        best_weights = model.get_weights()
        best = np.inf

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            found = log_loss_and_accuracy(head_logits(model, val_X), val_y)
            history.append({"epoch": epoch + 1, "loss": float((logs or {})["loss"]), **found})
            if found["log_loss"] < self.best:
                self.best, self.best_epoch, self.best_weights = found["log_loss"], epoch + 1, model.get_weights()
            elif epoch + 1 - self.best_epoch >= patience:
                model.stop_training = True

    return Watch()


def _tell(progress: Callable[[int, int], None] | None, epochs: int) -> list[keras.callbacks.Callback]:
    import keras

    if progress is None:
        return []
    return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress(epoch + 1, epochs))]
