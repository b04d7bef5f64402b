"""What an attack is after, image by image, and the losses on logits that lead there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.errors import ConfigError, DataError, unknown

Tensor = Any
# No class: the target of an image whose attack is untargeted.
ANY = -1
_FAR = 1e9


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
