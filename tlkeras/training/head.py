"""Training the head that was asked for on stored features, as a Keras model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.mlp import fit_mlp, linear_model
from tlkeras.heads.search import search_linear
from tlkeras.progress import Reporter
from tlkeras.training.config import TrainConfig

MLP_EPOCHS = 100  # at most: it stops when validation has not improved for some


@dataclass(frozen=True)
class Head:
    """A trained head.

    model: Keras, features float32 ``[N, D]`` → logits ``[N, K]``. description: plain values for ``run.json``.
    held_out_logits ``[M, K]``, held_out_labels ``[M]``: what heads that had not seen those images said of them,
    from which the temperature is fitted. held_out_rows: int64 ``[M]``, which images those are, counted through train,
    then validation; None where they are validation.
    """

    model: Any
    description: dict[str, Any]
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    held_out_rows: np.ndarray | None = None


def train_head(
    config: TrainConfig, images: LabelledImages, groups: np.ndarray, features: np.ndarray, reporter: Reporter
) -> Head:
    """Train a head on the train and validation rows of ``features`` (float32 ``[N, D]``, aligned with ``images``).

    The linear head is refitted on both after its strength is chosen; the MLP needs validation to know when to
    stop and is trained on train only.
    """
    chosen = {name: np.flatnonzero(images.splits == name) for name in ("train", "validation")}
    rows = {name: (features[indices], images.labels[indices]) for name, indices in chosen.items()}
    class_count = len(images.class_names)
    if config.head.kind == "mlp":
        return _mlp(config, rows, class_count, reporter)
    (train_X, train_y), (val_X, val_y) = rows["train"], rows["validation"]
    result = search_linear(
        unit_rows(train_X),
        train_y,
        unit_rows(val_X),
        val_y,
        class_count,
        seed=config.seed,
        groups=groups[np.concatenate([chosen["train"], chosen["validation"]])],
    )
    trained = Head(
        model=linear_model(result.head),
        description={"kind": "linear", "strength": result.strength, "curve": result.curve},
        held_out_logits=result.held_out_logits,
        held_out_labels=result.held_out_labels,
        held_out_rows=result.held_out_indices,
    )
    reporter.say(f"     head  linear, L2 strength C = {result.strength:.1e}, chosen in {result.seconds:.1f} s")
    return trained


def _mlp(
    config: TrainConfig, rows: dict[str, tuple[np.ndarray, np.ndarray]], class_count: int, reporter: Reporter
) -> Head:
    with reporter.step("mlp head", "epochs") as progress:
        model, history = fit_mlp(
            *rows["train"],
            *rows["validation"],
            class_count,
            config=config.head,
            epochs=MLP_EPOCHS,
            seed=config.seed,
            progress=progress,
        )
    features, labels = rows["validation"]
    return Head(
        model=model,
        description={**asdict(config.head), "curve": history},
        held_out_logits=head_logits(model, features),
        held_out_labels=labels,
    )


def head_logits(head: Any, features: np.ndarray, batch_size: int = 4096) -> np.ndarray:
    """Logits float32 ``[N, K]`` of a Keras head for features ``[N, D]``, in inference mode."""
    parts = [head(features[at : at + batch_size], training=False) for at in range(0, len(features), batch_size)]
    return np.concatenate([np.asarray(part) for part in parts])
