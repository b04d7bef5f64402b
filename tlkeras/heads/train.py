"""Train the head that was asked for on stored features: linear, an MLP, or the best that a search finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlkeras.errors import DataError
from tlkeras.heads.auto import Rows, linear_result, search_heads
from tlkeras.heads.config import HeadConfig, HeadSearch, head_logits
from tlkeras.heads.crossing import Crossing
from tlkeras.heads.folds import assign_folds
from tlkeras.heads.linear import NOT_CONVERGED, LinearHead
from tlkeras.heads.logits import fit_temperature
from tlkeras.heads.mlp import EPOCHS, NotTriedError, fit_mlp, mlp_out_of_fold
from tlkeras.heads.search import HeadResult
from tlkeras.progress import Reporter


@dataclass(frozen=True)
class Head:
    """A trained head.

    weights: in the order of ``head_layout``. config: its architecture.
    description: plain values for ``run.json``; ``search`` in it is the table of a head search.
    held_out_logits ``[M, K]``, held_out_labels ``[M]``: what heads that had not seen those images said of them,
    from which the temperature is fitted. held_out_rows: int64 ``[M]``, which images those are, counted through train,
    then validation; None where they are validation, or a sample of it.
    unseen: the linear head before it was fitted on validation too, where features were read in batches.
    crossing: who judged the held-out images, where every image was in turn by heads and choices that had not seen it.
    """

    weights: tuple[np.ndarray, ...]
    config: HeadConfig
    description: dict[str, Any]
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    held_out_rows: np.ndarray | None = None
    unseen: LinearHead | None = None
    crossing: Crossing | None = None


def train_head(
    wanted: HeadConfig | HeadSearch,
    train: Rows,
    validation: Rows,
    class_count: int,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    crossed: bool = False,
    balance: str = "none",
    reporter: Reporter,
) -> Head:
    """Train a head on features and labels of train and validation.

    The linear head is refitted on both after its strength is chosen; the MLP needs validation to know when to
    stop and is trained on train only. A search tries both kinds and trains the better one. ``groups``: int64
    ``[train + validation]``, images of one group share a fold.

    ``crossed``: all images are in ``train``, none in validation. Each is judged by a head that had not seen it, and
    the head is trained on all; an MLP for as many epochs as was best in the middle one of the folds.
    ``balance``: of the linear head, see ``search_linear``.

    Raises: DataError, ConfigError: as ``search_linear`` and ``fit_mlp``.
    """
    if isinstance(wanted, HeadSearch):
        return _searched(wanted, train, validation, class_count, seed, groups, crossed, reporter)
    if wanted.kind == "mlp":
        if crossed:
            return _crossed_mlp(wanted, train, class_count, seed, groups, reporter)
        return _mlp(wanted, train, validation, class_count, seed, reporter)
    result = linear_result(train, validation, class_count, seed, groups, crossed, balance)
    evenly = ", every class counting the same" * (result.balance == "classes")
    reporter.say(f"     head  linear, L2 strength C = {result.strength:.1e}, chosen in {result.seconds:.1f} s{evenly}")
    return _linear(result, reporter)


def _linear(result: HeadResult, reporter: Reporter) -> Head:
    if not result.converged:
        reporter.say(NOT_CONVERGED)
    return Head(
        weights=result.head.arrays,
        config=HeadConfig(),
        description={
            "kind": "linear",
            "strength": result.strength,
            "balance": result.balance,
            "curve": result.curve,
            "converged": result.converged,
        },
        held_out_logits=result.held_out_logits,
        held_out_labels=result.held_out_labels,
        held_out_rows=result.held_out_indices,
        crossing=result.crossing,
    )


def _mlp(config: HeadConfig, train: Rows, validation: Rows, class_count: int, seed: int, reporter: Reporter) -> Head:
    with reporter.step("mlp head", "epochs") as progress:
        model, history = fit_mlp(
            *train, *validation, class_count, config=config, epochs=EPOCHS, seed=seed, progress=progress
        )
    return Head(
        weights=tuple(model.get_weights()),
        config=config,
        description={**asdict(config), "curve": history},
        held_out_logits=head_logits(model, validation[0]),
        held_out_labels=validation[1],
    )


def _crossed_mlp(
    config: HeadConfig, rows: Rows, class_count: int, seed: int, groups: np.ndarray | None, reporter: Reporter
) -> Head:
    """An MLP fitted on all images, and what MLPs fitted without a fold said of it.

    Raises: DataError where the images are too few to tell when to stop.
    """
    folds = assign_folds(rows[1], seed, groups=groups)
    try:
        with reporter.step("mlp heads", "folds") as progress:
            made, epochs = mlp_out_of_fold(config, *rows, folds, class_count, groups, seed=seed, progress=progress)
    except NotTriedError:
        raise DataError(
            "an MLP needs two different images of a class to tell when to stop",
            received=f"{len(folds)} images",
            next_step="Add photos, or take --head linear.",
        ) from None
    held_out = np.flatnonzero(folds >= 0)
    logits, labels, of = made[held_out], rows[1][held_out], folds[held_out]
    temperatures = [fit_temperature(logits[of != fold], labels[of != fold]) for fold in range(int(of.max()) + 1)]
    # How much an MLP hangs on its images is not known: as much as can be.
    crossing = Crossing(of, np.array(temperatures), instability=1.0)
    head = _mlp_on_all(config, rows, class_count, seed, epochs, reporter)
    return replace(head, held_out_logits=logits, held_out_labels=labels, held_out_rows=held_out, crossing=crossing)


def _mlp_on_all(config: HeadConfig, rows: Rows, class_count: int, seed: int, epochs: int, reporter: Reporter) -> Head:
    with reporter.step("mlp head", "epochs") as progress:
        model, _ = fit_mlp(*rows, None, None, class_count, config=config, epochs=epochs, seed=seed, progress=progress)
    weights, nothing = tuple(model.get_weights()), np.zeros((0, class_count), np.float32)
    return Head(weights, config, {**asdict(config), "epochs": epochs}, nothing, rows[1][:0])


def _searched(
    search: HeadSearch,
    train: Rows,
    validation: Rows,
    class_count: int,
    seed: int,
    groups: np.ndarray | None,
    crossed: bool,
    reporter: Reporter,
) -> Head:
    found = search_heads(
        train,
        validation,
        class_count,
        budget_s=search.budget_s,
        seed=seed,
        groups=groups,
        crossed=crossed,
        reporter=reporter,
    )
    judged = sum(candidate.log_loss is not None for candidate in found.candidates)
    tried = f"{judged} of {len(found.candidates)} candidates tried in {found.seconds:.1f} s"
    reporter.say(f"     head  {tried}: {found.reason}")
    if found.chosen.kind == "linear":
        head = _linear(found.linear, reporter)
    elif crossed:
        head = _mlp_on_all(found.chosen, train, class_count, seed, found.epochs, reporter)
    else:
        head = _mlp(found.chosen, train, validation, class_count, seed, reporter)
    if crossed:
        head = replace(head, held_out_rows=found.linear.held_out_indices, crossing=found.crossing)
    if crossed or found.chosen.kind != "linear":
        # More images than validation has, and none of them decided when to stop.
        head = replace(head, held_out_logits=found.held_out_logits, held_out_labels=found.held_out_labels)
    return replace(head, description={**head.description, "search": found.to_json(search.budget_s)})
