"""Tiny models to attack; the smallest adversarial change of the linear ones is known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

SIDE = 12


class Linear:
    """Logits that are linear in the pixels, ``[N, SIDE, SIDE, 3]`` → ``[N, K]``."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.weights = random.normal(0, 0.002, (SIDE * SIDE * 3, classes)).astype(np.float32)

    def logits(self, pixels: Any) -> Any:
        return tf.reshape(pixels - 128.0, [-1, self.weights.shape[0]]) @ self.weights

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        """Images of all classes in turn, some ten pixel units from a boundary and far from 0 and 255."""
        random = np.random.default_rng([seed, 5])
        classes = np.arange(count) % self.weights.shape[1]
        others = (self.weights.sum(axis=1)[:, None] - self.weights) / (self.weights.shape[1] - 1)
        towards = np.sign(self.weights - others)[:, classes].T.reshape(count, SIDE, SIDE, 3)
        strength = random.uniform(8, 14, (count, 1, 1, 1))
        return np.rint(128 + strength * towards + random.normal(0, 4, towards.shape)).astype(np.uint8)

    def smallest(self, image: np.ndarray, norm: str, target: int | None = None) -> float:
        """The smallest change that reaches the nearest other class, or ``target``: gap over the dual norm."""
        logits = np.asarray(self.logits(image[None].astype(np.float32)))[0]
        label = int(logits.argmax())
        order = 1 if norm == "linf" else 2
        rivals = [k for k in range(len(logits)) if k != label] if target is None else [target]
        return min(
            float((logits[label] - logits[k]) / np.linalg.norm(self.weights[:, k] - self.weights[:, label], order))
            for k in rivals
        )


class Smooth:
    """Two layers with a smooth bend between them: curved boundaries, and gradients that are no constants."""

    def __init__(self, classes: int = 5, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.first = random.normal(0, 0.02, (SIDE * SIDE * 3, 24)).astype(np.float32)
        self.second = random.normal(0, 2.0, (24, classes)).astype(np.float32)

    def logits(self, pixels: Any) -> Any:
        return tf.tanh(tf.reshape(pixels - 128.0, [-1, self.first.shape[0]]) @ self.first / 4) @ self.second

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        return images(count, seed)


class Masked:
    """The same answers as ``Smooth``, but rounding on the way hides the gradient."""

    def __init__(self) -> None:
        self.inner = Smooth()

    def logits(self, pixels: Any) -> Any:
        return self.inner.logits(tf.round(pixels / 4.0) * 4.0)

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        return images(count, seed)


def images(count: int, seed: int = 0, spread: float = 12.0) -> np.ndarray:
    """Noisy grey images uint8 ``[count, SIDE, SIDE, 3]``."""
    random = np.random.default_rng([seed, 77])
    return np.rint(128 + random.normal(0, spread, (count, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)


def said(model: Any, pixels: np.ndarray) -> np.ndarray:
    """The model's most probable classes, int ``[N]``."""
    return np.asarray(model.logits(pixels.astype(np.float32))).argmax(axis=1)
