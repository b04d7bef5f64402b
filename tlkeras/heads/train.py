"""Train the head that was asked for on stored features, or search for the best one within a time budget.

The search tries the linear path, MLPs, and k-NN as a check. Every candidate is judged by the same held-out images:
validation where it is large, else all images in turn, in folds. Heads are compared by the held-out log loss after a
temperature, since every classifier gets one. An MLP must be better than the linear head by more than one standard
error of the difference over the images (the rule of Breiman, Friedman, Olshen and Stone 1984): within the noise, the
simpler head is taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tlkeras.heads.config import HeadConfig, HeadSearch, head_logits
from tlkeras.heads.linear import NOT_CONVERGED, LinearHead, unit_rows
from tlkeras.heads.logits import fit_temperature, log_losses
from tlkeras.heads.mlp import fit_mlp
from tlkeras.heads.search import HeadResult, assign_folds, held_out_folds, out_of_fold, search_linear, vote
from tlkeras.progress import Reporter

# From the quickest to the slowest; what the budget does not reach is left out at the end.
MLPS: tuple[HeadConfig, ...] = (
    HeadConfig("mlp", (128,)),
    HeadConfig("mlp", (256,)),
    HeadConfig("mlp", (256,), dropout=0.6),
    HeadConfig("mlp", (512,)),
    HeadConfig("mlp", (256, 128)),
)
NEIGHBOURS = (1, 5, 20)
EPOCHS = 100
# Of the images that a fold trains on, one in so many decides when to stop: the fold itself only judges.
_STOPPING_FOLDS = 8

Rows = tuple[np.ndarray, np.ndarray]  # features float32 [N, D], labels int [N]


@dataclass(frozen=True)
class Head:
    """A trained head.

    weights: in the order of ``head_layout``. config: its architecture.
    description: plain values for ``run.json``; ``search`` in it is the table of a head search.
    held_out_logits ``[M, K]``, held_out_labels ``[M]``: what heads that had not seen those images said of them,
    from which the temperature is fitted. held_out_rows: int64 ``[M]``, which images those are, counted through train,
    then validation; None where they are validation, or a sample of it.
    unseen: the linear head before it was fitted on validation too, where features were read in batches.
    """

    weights: tuple[np.ndarray, ...]
    config: HeadConfig
    description: dict[str, Any]
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    held_out_rows: np.ndarray | None = None
    unseen: LinearHead | None = None


def train_head(
    wanted: HeadConfig | HeadSearch,
    train: Rows,
    validation: Rows,
    class_count: int,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    reporter: Reporter,
) -> Head:
    """Train a head on features and labels of train and validation.

    The linear head is refitted on both after its strength is chosen; the MLP needs validation to know when to
    stop and is trained on train only. A search tries both kinds and trains the better one. ``groups``: int64
    ``[train + validation]``, images of one group share a fold.

    Raises: DataError, ConfigError: as ``search_linear`` and ``fit_mlp``.
    """
    if isinstance(wanted, HeadSearch):
        return _searched(wanted, train, validation, class_count, seed, groups, reporter)
    if wanted.kind == "mlp":
        return _mlp(wanted, train, validation, class_count, seed, reporter)
    result = _linear_result(train, validation, class_count, seed, groups)
    reporter.say(f"     head  linear, L2 strength C = {result.strength:.1e}, chosen in {result.seconds:.1f} s")
    return _linear(result, reporter)


def _linear_result(train: Rows, validation: Rows, class_count: int, seed: int, groups: np.ndarray | None) -> HeadResult:
    return search_linear(
        unit_rows(train[0]), train[1], unit_rows(validation[0]), validation[1], class_count, seed=seed, groups=groups
    )


def _linear(result: HeadResult, reporter: Reporter) -> Head:
    if not result.converged:
        reporter.say(NOT_CONVERGED)
    return Head(
        weights=result.head.arrays,
        config=HeadConfig(),
        description={
            "kind": "linear",
            "strength": result.strength,
            "curve": result.curve,
            "converged": result.converged,
        },
        held_out_logits=result.held_out_logits,
        held_out_labels=result.held_out_labels,
        held_out_rows=result.held_out_indices,
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


def _searched(
    search: HeadSearch,
    train: Rows,
    validation: Rows,
    class_count: int,
    seed: int,
    groups: np.ndarray | None,
    reporter: Reporter,
) -> Head:
    found = search_heads(
        train, validation, class_count, budget_s=search.budget_s, seed=seed, groups=groups, reporter=reporter
    )
    judged = sum(candidate.log_loss is not None for candidate in found.candidates)
    tried = f"{judged} of {len(found.candidates)} candidates tried in {found.seconds:.1f} s"
    reporter.say(f"     head  {tried}: {found.reason}")
    if found.chosen.kind == "linear":
        head = _linear(found.linear, reporter)
    else:
        head = _mlp(found.chosen, train, validation, class_count, seed, reporter)
        # More images than validation has, and none of them decided when to stop.
        head = replace(head, held_out_logits=found.held_out_logits, held_out_labels=found.held_out_labels)
    return replace(head, description={**head.description, "search": found.to_json(search.budget_s)})


@dataclass(frozen=True)
class Candidate:
    """One head that was tried, or that there was no time for.

    ``config`` is None for k-NN, which is a check and never shipped. ``log_loss`` (nats, after a temperature) and
    ``accuracy`` (0..1) are those of held-out images, None where ``note`` says why there are none.
    """

    name: str
    config: HeadConfig | None
    log_loss: float | None
    accuracy: float | None
    seconds: float
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """Plain values for the run."""
        return {**asdict(self), "config": None if self.config is None else asdict(self.config)}


@dataclass(frozen=True)
class HeadSearchResult:
    """What the search found.

    ``chosen``: the head to train. ``linear``: the linear head, trained. ``held_out_logits`` float32 [M, K] of the
    chosen head, for ``held_out_labels`` [M]. ``reason``: why it was chosen, in words.
    """

    chosen: HeadConfig
    linear: HeadResult
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    candidates: tuple[Candidate, ...]
    reason: str
    seconds: float

    def to_json(self, budget_s: float) -> dict[str, object]:
        """Plain values for the run."""
        return {
            "budget_s": budget_s,
            "seconds": round(self.seconds, 3),
            "held_out_images": len(self.held_out_labels),
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "chosen": name_of(self.chosen),
            "reason": self.reason,
        }


def name_of(config: HeadConfig) -> str:
    """A head in a few words: ``linear``, ``mlp 256-128, dropout 0.3``."""
    if config.kind == "linear":
        return "linear"
    return f"mlp {'-'.join(map(str, config.units))}, dropout {config.dropout:g}"


def search_heads(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    class_count: int,
    *,
    budget_s: float,
    seed: int,
    groups: np.ndarray | None = None,
    reporter: Reporter,
    mlps: Sequence[HeadConfig] = MLPS,
) -> HeadSearchResult:
    """Try heads on features float32 [N, D] with labels int [N] until ``budget_s`` seconds are over.

    ``groups`` int [train + validation] numbers images that share a fold. The linear path is always tried, so the
    result is never worse than without a search; an MLP is begun only when it, and its final training, fit into the
    budget by what the one before took. Same seed, same figures; how many candidates there is time for depends on the
    machine.

    Raises:
        DataError, ConfigError: as ``search_linear`` and ``fit_mlp``.
    """
    began = time.perf_counter()
    linear = _linear_result(train, validation, class_count, seed, groups)
    features, labels = (np.concatenate([one, other]) for one, other in zip(train, validation, strict=True))
    # The very folds of the linear search.
    folds = held_out_folds(labels, len(train[1]), seed, groups=groups)
    held_out = linear.held_out_indices
    tried = [_judged("linear", HeadConfig(), linear.held_out_logits, labels[held_out], time.perf_counter() - began)]
    logits = {0: linear.held_out_logits}
    if len(held_out):
        tried += _neighbours(features, labels, folds, held_out, class_count)
    slowest = 0.0
    with reporter.step("heads", "candidates") as progress:
        for number, config in enumerate(mlps):
            name, started = name_of(config), time.perf_counter()
            # The candidate itself, and one training more if it is chosen.
            expected = slowest * (1 + 1 / max(int(folds.max()) + 1, 1))
            if started - began + expected > budget_s:
                tried.append(Candidate(name, config, None, None, 0.0, "not tried: no time left"))
                continue
            made, note = _mlp_out_of_fold(
                config, features, labels, folds, class_count, groups, seed=seed, until=began + budget_s
            )
            seconds = time.perf_counter() - started
            slowest = max(slowest, seconds)
            progress(number + 1, len(mlps))
            if made is None:
                tried.append(Candidate(name, config, None, None, seconds, note))
                continue
            logits[len(tried)] = made[held_out]
            tried.append(_judged(name, config, made[held_out], labels[held_out], seconds))
    best, reason = _choice(tried, logits, labels[held_out])
    chosen = tried[best].config
    assert chosen is not None  # k-NN has no logits among which one is chosen
    return HeadSearchResult(
        chosen=chosen,
        linear=linear,
        held_out_logits=logits[best],
        held_out_labels=labels[held_out],
        candidates=tuple(tried),
        reason=reason,
        seconds=time.perf_counter() - began,
    )


def _neighbours(
    features: np.ndarray, labels: np.ndarray, folds: np.ndarray, held_out: np.ndarray, class_count: int
) -> Iterator[Candidate]:
    def answer(kept: np.ndarray, out: np.ndarray, k: int) -> np.ndarray:
        return vote(features[kept], labels[kept], features[out], class_count, k)

    for k in NEIGHBOURS:
        started = time.perf_counter()
        made = out_of_fold(folds, class_count, partial(answer, k=k))
        yield _judged(
            f"{k}-NN", None, made[held_out], labels[held_out], time.perf_counter() - started, "a check, never shipped"
        )


def _mlp_out_of_fold(
    config: HeadConfig,
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    class_count: int,
    groups: np.ndarray | None,
    *,
    seed: int,
    until: float,
) -> tuple[np.ndarray | None, str]:
    """Logits [N, K] of an MLP for every held-out image, by trainings that have not seen its fold; or None and why."""
    if int(folds.max()) < 0:
        return None, "not tried: no image can be held out"

    def answer(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
        if time.perf_counter() > until:
            raise _NotTriedError("stopped: no time left")
        inner = assign_folds(labels[kept], seed, folds=_STOPPING_FOLDS, groups=None if groups is None else groups[kept])
        learn, stop = kept[inner != 0], kept[inner == 0]
        if not len(stop):
            raise _NotTriedError("not tried: too few images to tell when to stop")
        rows = (features[learn], labels[learn], features[stop], labels[stop])
        model, _ = fit_mlp(*rows, class_count, config=config, epochs=EPOCHS, seed=seed)
        return head_logits(model, features[out])

    try:
        return out_of_fold(folds, class_count, answer), ""
    except _NotTriedError as why:
        return None, str(why)


class _NotTriedError(Exception):
    """Why a candidate has no figures."""


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each image, float64 [M], after the temperature that fits best."""
    return log_losses(logits, labels, fit_temperature(logits, labels))


def _judged(
    name: str, config: HeadConfig | None, logits: np.ndarray, labels: np.ndarray, seconds: float, note: str = ""
) -> Candidate:
    if not len(labels):
        return Candidate(name, config, None, None, seconds, "no image can be held out")
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    return Candidate(name, config, float(_losses(logits, labels).mean()), accuracy, round(seconds, 3), note)


def _choice(tried: Sequence[Candidate], logits: dict[int, np.ndarray], labels: np.ndarray) -> tuple[int, str]:
    """The index of the candidate to train, and why."""
    others = [index for index in logits if index > 0]
    if not others:
        return 0, "nothing but the linear head could be judged"
    best = min(others, key=lambda index: tried[index].log_loss or 0.0)
    gain = _losses(logits[0], labels) - _losses(logits[best], labels)
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("inf")
    words = f"{tried[best].name} lowers the linear head's log loss by {gain.mean():.4f} ± {error:.4f} nats"
    if gain.mean() > error:
        return best, words
    if gain.mean() <= 0:
        return 0, f"no MLP has a lower log loss than the linear head (the best: {-gain.mean():+.4f} nats)"
    return 0, f"{words}: within one standard error, so the simpler head"
