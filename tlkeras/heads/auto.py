"""Search for the best head within a time budget: ``--head auto``.

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

import numpy as np

from tlkeras.heads.config import HeadConfig
from tlkeras.heads.crossing import Crossing
from tlkeras.heads.folds import held_out_folds, out_of_fold
from tlkeras.heads.linear import unit_rows
from tlkeras.heads.logits import fit_temperature, log_losses
from tlkeras.heads.mlp import NotTriedError, mlp_out_of_fold
from tlkeras.heads.neighbours import vote
from tlkeras.heads.search import HeadResult, search_linear
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

Rows = tuple[np.ndarray, np.ndarray]  # features float32 [N, D], labels int [N]


def linear_result(
    train: Rows,
    validation: Rows,
    class_count: int,
    seed: int,
    groups: np.ndarray | None,
    crossed: bool,
    balance: str = "none",
) -> HeadResult:
    """The linear head of ``search_linear`` on features as they come, which are made of unit length first."""
    rows = (unit_rows(train[0]), train[1], unit_rows(validation[0]), validation[1])
    return search_linear(*rows, class_count, seed=seed, groups=groups, crossed=crossed, balance=balance)


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

    ``chosen``: the head to train; an MLP on all images for so many ``epochs``. ``linear``: the linear head, trained.
    ``held_out_logits`` float32 [M, K] of the chosen head, for ``held_out_labels`` [M]. ``reason``: why it was chosen,
    in words. ``crossing``: where every fold got the head that the images of the others chose, its folds;
    ``held_out_logits`` are then of these.
    """

    chosen: HeadConfig
    linear: HeadResult
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    candidates: tuple[Candidate, ...]
    reason: str
    seconds: float
    epochs: int
    crossing: Crossing | None

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
    crossed: bool = False,
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
    linear = linear_result(train, validation, class_count, seed, groups, crossed)
    features, labels = (np.concatenate([one, other]) for one, other in zip(train, validation, strict=True))
    # The very folds of the linear search.
    held_out = linear.held_out_indices
    folds = held_out_folds(labels, len(train[1]), seed, groups=groups)
    if linear.crossing is not None:
        folds[held_out] = linear.crossing.folds
    tried = [_judged("linear", HeadConfig(), linear.held_out_logits, labels[held_out], time.perf_counter() - began)]
    logits = {0: linear.held_out_logits}
    if len(held_out):
        tried += _neighbours(features, labels, folds, held_out, class_count)
    slowest, epochs = 0.0, {0: 0}
    with reporter.step("heads", "candidates") as progress:
        for number, config in enumerate(mlps):
            name, started = name_of(config), time.perf_counter()
            # The candidate itself, and one training more if it is chosen.
            expected = slowest * (1 + 1 / max(int(folds.max()) + 1, 1))
            if started - began + expected > budget_s:
                tried.append(Candidate(name, config, None, None, 0.0, "not tried: no time left"))
                continue
            note = ""
            try:
                made, epochs[len(tried)] = mlp_out_of_fold(
                    config, features, labels, folds, class_count, groups, seed=seed, until=began + budget_s
                )
            except NotTriedError as why:
                note = str(why)
            seconds = time.perf_counter() - started
            slowest = max(slowest, seconds)
            progress(number + 1, len(mlps))
            if note:
                tried.append(Candidate(name, config, None, None, seconds, note))
                continue
            logits[len(tried)] = made[held_out]
            tried.append(_judged(name, config, made[held_out], labels[held_out], seconds))
    best, reason = _choice(tried, logits, labels[held_out])
    chosen = tried[best].config
    assert chosen is not None  # k-NN has no logits among which one is chosen
    answers, crossing = logits[best], linear.crossing
    if crossing is not None:
        answers, crossing = _crossed(tried, logits, labels[held_out], crossing)
    return HeadSearchResult(
        chosen=chosen,
        linear=linear,
        held_out_logits=answers,
        held_out_labels=labels[held_out],
        candidates=tuple(tried),
        reason=reason,
        seconds=time.perf_counter() - began,
        epochs=epochs[best],
        crossing=crossing,
    )


def _crossed(
    tried: Sequence[Candidate], logits: dict[int, np.ndarray], labels: np.ndarray, crossing: Crossing
) -> tuple[np.ndarray, Crossing]:
    """For each fold the logits of the candidate that the images of the other folds choose, and its temperature."""
    answers, temperatures = logits[0].copy(), crossing.temperatures.copy()
    for fold in range(len(temperatures)):
        others, out = crossing.folds != fold, crossing.folds == fold
        best, _ = _choice(tried, {index: made[others] for index, made in logits.items()}, labels[others])
        if best:
            answers[out] = logits[best][out]
            temperatures[fold] = fit_temperature(logits[best][others], labels[others])
    return answers, replace(crossing, temperatures=temperatures)


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
    best = min(others, key=lambda index: float(_losses(logits[index], labels).mean()))
    gain = _losses(logits[0], labels) - _losses(logits[best], labels)
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("inf")
    words = f"{tried[best].name} lowers the linear head's log loss by {gain.mean():.4f} ± {error:.4f} nats"
    if gain.mean() > error:
        return best, words
    if gain.mean() <= 0:
        return 0, f"no MLP has a lower log loss than the linear head (the best: {-gain.mean():+.4f} nats)"
    return 0, f"{words}: within one standard error, so the simpler head"
