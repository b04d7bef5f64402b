"""Training the head that was asked for on stored features, as a Keras model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlkeras.data.dataset import LabelledImages
from tlkeras.heads.config import HeadConfig, HeadSearch
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.mlp import fit_mlp, head_logits, linear_model
from tlkeras.heads.search import HeadResult, search_linear
from tlkeras.progress import Reporter
from tlkeras.training.config import TrainConfig
from tlkeras.training.head_search import EPOCHS, search_heads

Rows = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Head:
    """A trained head.

    model: Keras, features float32 ``[N, D]`` → logits ``[N, K]``. config: its architecture.
    description: plain values for ``run.json``; ``search`` in it is the table of a head search.
    held_out_logits ``[M, K]``, held_out_labels ``[M]``: what heads that had not seen those images said of them,
    from which the temperature is fitted. held_out_rows: int64 ``[M]``, which images those are, counted through train,
    then validation; None where they are validation.
    """

    model: Any
    config: HeadConfig
    description: dict[str, Any]
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    held_out_rows: np.ndarray | None = None


def train_head(
    config: TrainConfig, images: LabelledImages, groups: np.ndarray, features: np.ndarray, reporter: Reporter
) -> Head:
    """Train a head on the train and validation rows of ``features`` (float32 ``[N, D]``, aligned with ``images``).

    The linear head is refitted on both after its strength is chosen; the MLP needs validation to know when to
    stop and is trained on train only. A search tries both kinds and trains the better one.
    """
    chosen = {name: np.flatnonzero(images.splits == name) for name in ("train", "validation")}
    rows = {name: (features[indices], images.labels[indices]) for name, indices in chosen.items()}
    class_count = len(images.class_names)
    together = groups[np.concatenate([chosen["train"], chosen["validation"]])]
    if isinstance(config.head, HeadSearch):
        return _searched(config, config.head, rows, class_count, together, reporter)
    if config.head.kind == "mlp":
        return _mlp(config.head, rows, class_count, config.seed, reporter)
    (train_X, train_y), (val_X, val_y) = rows["train"], rows["validation"]
    result = search_linear(
        unit_rows(train_X), train_y, unit_rows(val_X), val_y, class_count, seed=config.seed, groups=together
    )
    reporter.say(f"     head  linear, L2 strength C = {result.strength:.1e}, chosen in {result.seconds:.1f} s")
    return _linear(result)


def _linear(result: HeadResult) -> Head:
    return Head(
        model=linear_model(result.head),
        config=HeadConfig(),
        description={"kind": "linear", "strength": result.strength, "curve": result.curve},
        held_out_logits=result.held_out_logits,
        held_out_labels=result.held_out_labels,
        held_out_rows=result.held_out_indices,
    )


def _searched(
    config: TrainConfig, search: HeadSearch, rows: Rows, class_count: int, groups: np.ndarray, reporter: Reporter
) -> Head:
    found = search_heads(
        rows["train"],
        rows["validation"],
        class_count,
        budget_s=search.budget_s,
        seed=config.seed,
        groups=groups,
        reporter=reporter,
    )
    judged = sum(candidate.log_loss is not None for candidate in found.candidates)
    tried = f"{judged} of {len(found.candidates)} candidates tried in {found.seconds:.1f} s"
    reporter.say(f"     head  {tried}: {found.reason}")
    if found.chosen.kind == "linear":
        head = _linear(found.linear)
    else:
        head = _mlp(found.chosen, rows, class_count, config.seed, reporter)
        # More images than validation has, and none of them decided when to stop.
        head = replace(head, held_out_logits=found.held_out_logits, held_out_labels=found.held_out_labels)
    return replace(head, description={**head.description, "search": found.to_json(search.budget_s)})


def _mlp(head: HeadConfig, rows: Rows, class_count: int, seed: int, reporter: Reporter) -> Head:
    with reporter.step("mlp head", "epochs") as progress:
        model, history = fit_mlp(
            *rows["train"],
            *rows["validation"],
            class_count,
            config=head,
            epochs=EPOCHS,
            seed=seed,
            progress=progress,
        )
    features, labels = rows["validation"]
    return Head(
        model=model,
        config=head,
        description={**asdict(head), "curve": history},
        held_out_logits=head_logits(model, features),
        held_out_labels=labels,
    )
