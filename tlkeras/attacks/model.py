"""The compiled network that attacks ask: logits, and gradients of a loss on them with respect to the pixels."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tlkeras.attacks.goals import LOSSES
from tlkeras.backbones.folding import fold_batch_norm
from tlkeras.images import graph
from tlkeras.target import Target

Tensor = Any
# A network that rounds inside hides its gradient; that is reported, not crashed on.
_ZERO = tf.UnconnectedGradients.ZERO


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
    forward_images, gradient_images: how many images have gone through, for figures of cost.
    """

    def __init__(self, model: Differentiable, scorer: Differentiable | None = None) -> None:
        self.model = model
        self.scorer = scorer or model
        self.forward_images = 0
        self.gradient_images = 0
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits float32 ``[N, K]`` of pixels float32 ``[N, H, W, 3]`` in 0..255."""
        self.forward_images += int(pixels.shape[0])
        return self._function(("logits",), pixels)(tf.convert_to_tensor(pixels, tf.float32))

    def gradient(self, pixels: Tensor, labels: Any, targets: Any | None, loss: str) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, K]``, loss ``[N]`` and its gradient ``[N, H, W, 3]``, each image by itself.

        ``loss``: one of ``goals.LOSSES``; ``labels``, ``targets``: int32 ``[N]``, or no targets.
        """
        self.gradient_images += int(pixels.shape[0])
        function = self._function(("gradient", loss, targets is not None), pixels)
        return function(pixels, labels, labels if targets is None else targets)

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
