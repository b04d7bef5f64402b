"""What attacks ask: the compiled network, its logits and the gradients of a loss on them; and what they are after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tlkeras.backbones.folding import fold_batch_norm
from tlkeras.errors import ConfigError, DataError, unknown
from tlkeras.images import graph
from tlkeras.target import Target

Tensor = Any
_FAR = 1e9
# A network that rounds inside hides its gradient; that is reported, not crashed on.
_ZERO = tf.UnconnectedGradients.ZERO


@dataclass(frozen=True)
class Goal:
    """For each of N images the class it has and, for a targeted attack, the class it shall get.

    labels: int32 ``[N]``. targets: int32 ``[N]``, or None for an attack after any other class.
    """

    labels: np.ndarray
    targets: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int32))
        if self.targets is not None:
            object.__setattr__(self, "targets", np.asarray(self.targets, np.int32))
            if self.targets.shape != self.labels.shape:
                raise DataError(
                    f"{len(self.labels)} images need as many target classes", received=list(self.targets.shape)
                )

    @property
    def targeted(self) -> bool:
        """Whether the images shall become classes that were chosen."""
        return self.targets is not None

    def of(self, rows: np.ndarray) -> Goal:
        """The same for some of the images."""
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])

    def reached(self, logits: np.ndarray) -> np.ndarray:
        """Where the most probable class is the one wanted, bool ``[N]``, of logits ``[N, K]``."""
        best = logits.argmax(axis=1)
        return best == self.targets if self.targets is not None else best != self.labels

    def margin(self, logits: np.ndarray) -> np.ndarray:
        """How far logits ``[N, K]`` are beyond the boundary, float32 ``[N]``; negative before it."""
        rows = np.arange(len(logits))
        goal = self.labels if self.targets is None else self.targets
        others = logits.copy()
        others[rows, goal] = -np.inf
        lead = logits[rows, goal] - others.max(axis=1)
        return lead if self.targeted else -lead

    def worth_attacking(self, logits: np.ndarray) -> np.ndarray:
        """Images that are right to begin with and not where they shall go, bool ``[N]``."""
        right = logits.argmax(axis=1) == self.labels
        return right & ~self.reached(logits)

    def check(self, classes: int) -> None:
        """Raise DataError unless labels and targets are among ``classes`` classes."""
        for noun, values in (("labels", self.labels), ("target classes", self.targets)):
            if values is not None and len(values) and not (values.min() >= 0 and values.max() < classes):
                raise DataError(f"{noun} lie in 0..{classes - 1}", received=f"{values.min()}..{values.max()}")


# Losses: (logits [N, K], labels [N], targets [N] or None) -> [N], larger is nearer to the goal.
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return tf.gather(logits, classes, batch_dims=1)


def _best_other(logits: Tensor, classes: Tensor) -> Tensor:
    return tf.reduce_max(logits - _FAR * tf.one_hot(classes, tf.shape(logits)[1]), axis=1)


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Cross-entropy of the label, or minus that of the target class (Goodfellow et al. 2015)."""
    of = tf.nn.sparse_softmax_cross_entropy_with_logits
    return of(labels=labels, logits=logits) if targets is None else -of(labels=targets, logits=logits)


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Difference of logits across the boundary (Carlini & Wagner 2017, f6 without its cut)."""
    if targets is None:
        return _best_other(logits, labels) - _of(logits, labels)
    return _of(logits, targets) - _best_other(logits, targets)


def logit_ratio(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Difference of Logits Ratio, DLR (Croce & Hein 2020, equations 6 and 7): blind to the logits' scale.

    Needs three classes, and four when targeted. The paper's targeted form compares the target with the label alone,
    because there any wrong class counts as success. Here the target itself is wanted, so it is compared with the
    best other class, whichever that is: else the loss grows without bound while a third class wins.
    """
    ranked = tf.nn.top_k(logits, 3 if targets is None else 4).values
    lead = margin(logits, labels, targets)
    if targets is None:
        return lead / (ranked[:, 0] - ranked[:, 2] + 1e-12)
    return lead / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": logit_ratio}


def check_loss(name: str, classes: int, targeted: bool) -> None:
    """Raise ConfigError unless there is a loss of that name and it can be computed over ``classes`` classes."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    needed = 4 if targeted else 3
    if name == "dlr" and classes < needed:
        words = "targeted" if targeted else "untargeted"
        raise ConfigError(
            f"the {words} DLR loss needs at least {needed} classes", received=classes, next_step="Take apgd-ce."
        )


class Differentiable(Protocol):
    """Whatever can be attacked: pixels float32 ``[N, H, W, 3]`` in 0..255 → logits ``[N, K]``, differentiable."""

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits of pixels."""


class FullSize:
    """A target that takes photos at their own size: the resize becomes part of what is differentiated."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits ``[N, K]`` of photos float32 ``[N, H, W, 3]`` in 0..255, all of one size."""
        return self.target.logits(graph.fit_to_square(pixels, self.target.size_px, self.target.fit))

    def seen(self, height: int, width: int) -> np.ndarray:
        """Which pixels of a photo of that size the network sees at all, bool ``[H, W, 1]``; a crop leaves some out."""
        photo = tf.zeros([height, width, 3])
        with tf.GradientTape() as tape:
            tape.watch(photo)
            total = tf.reduce_sum(graph.fit_to_square(photo, self.target.size_px, self.target.fit))
        return np.asarray(tape.gradient(total, photo))[..., :1] > 0


class AttackModel:
    """A model compiled once for each kind of question, whatever the number of images; nothing is traced twice.

    model: what gradients are taken of. scorer: what plain logits, and with them success, are taken of; the model
    itself by default. They may differ where one is a quicker form of the other.
    gradient_images: how many gradients were taken, for figures of cost.
    """

    def __init__(self, model: Differentiable, scorer: Differentiable | None = None) -> None:
        self.model = model
        self.scorer = scorer or model
        self.gradient_images = 0
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits float32 ``[N, K]`` of pixels float32 ``[N, H, W, 3]`` in 0..255."""
        return self._function(("logits",), pixels)(tf.convert_to_tensor(pixels, tf.float32))

    def gradient(self, pixels: Tensor, goal: Goal, loss: str) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, K]``, loss ``[N]``, one of ``LOSSES``, and its gradient ``[N, H, W, 3]``, image by image."""
        self.gradient_images += int(pixels.shape[0])
        function = self._function(("gradient", loss, goal.targeted), pixels)
        return function(pixels, goal.labels, goal.labels if goal.targets is None else goal.targets)

    def logit_gradients(self, pixels: Tensor, classes: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits ``[N, K]`` and the gradients ``[N, C, H, W, 3]`` of those of ``classes``, int32 ``[N, C]``."""
        count = classes.shape[1]
        self.gradient_images += int(pixels.shape[0]) * count
        return self._function(("jacobian", count), pixels)(pixels, classes)

    def _function(self, question: tuple[Any, ...], pixels: Tensor) -> Any:
        height_width = tuple(pixels.shape[1:])
        key = (*question, height_width)
        if key not in self._compiled:
            spec = tf.TensorSpec([None, *height_width], tf.float32)
            self._compiled[key] = self._build(question, spec)
        return self._compiled[key]

    def _build(self, question: tuple[Any, ...], spec: tf.TensorSpec) -> Any:
        kind, *details = question
        if kind == "logits":
            return tf.function(self.scorer.logits, input_signature=[spec], autograph=False)
        if kind == "gradient":
            name, targeted = details
            vector = tf.TensorSpec([None], tf.int32)

            def loss_and_gradient(pixels: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(pixels)
                    logits = self.model.logits(pixels)
                    loss = LOSSES[name](logits, labels, targets if targeted else None)
                return logits, loss, tape.gradient(loss, pixels, unconnected_gradients=_ZERO)

            return tf.function(loss_and_gradient, input_signature=[spec, vector, vector], autograph=False)
        (count,) = details

        def gradients(pixels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
            with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
                tape.watch(pixels)
                logits = self.model.logits(pixels)
                chosen = tf.unstack(tf.gather(logits, classes, batch_dims=1), count, axis=1)
            return logits, tf.stack([tape.gradient(one, pixels, unconnected_gradients=_ZERO) for one in chosen], axis=1)

        chosen_classes = tf.TensorSpec([None, count], tf.int32)
        return tf.function(gradients, input_signature=[spec, chosen_classes], autograph=False)


def attack_model(target: Target, *, full_size: bool = False) -> AttackModel:
    """The model of a target: gradients of it with batch normalisation folded, success as it is itself.

    With ``full_size`` it takes photos of any size.
    """
    quick = dataclasses.replace(target, network=fold_batch_norm(target.network))
    return AttackModel(FullSize(quick), FullSize(target)) if full_size else AttackModel(quick, target)
