"""What each training trick is worth on one fixed task: writes the table of docs/training-tricks.md.

    python -m tools.tricks_table [--seeds 3] [--per-class 200] [--out docs/training-tricks.md]

The task needs no download: drawn animals of the demo, features of tlkeras_tiny (96 px), an MLP of 256 units on them.
Per class of 200 pictures 60 train, 20 validate and 120 test, which no choice sees. Every trick is switched on or off
alone, all else as in ``tlkeras train --head mlp``, and differences are taken seed by seed. Optimisers get the best of
several learning rates, chosen on validation, so that none suffers from another's rate.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS, PATIENCE, BATCH = 100, 10, 64
# What stands between them in the page is written anew.
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
TRAIN_SHARE, VALIDATION_SHARE = 0.3, 0.1


@dataclass(frozen=True)
class Recipe:
    """One training of a head; the defaults are those of ``tlkeras train --head mlp``.

    optimiser: adamw, adam, sgd, momentum, nesterov, rmsprop, adagrad. rates: of which validation chooses one.
    schedule: constant, cosine, steps (a tenth at each third). average: "", "ema" (decay 0.9) or "soup" (best three
    epochs). start: glorot, he, large (deviation 1) or zeros. inputs: standardised, or raw. features: pretrained, random
    (weights), or scaled (pixels 0..1 where 0..255 are expected). units: hidden layers; none is the linear head.
    """

    optimiser: str = "adamw"
    rates: tuple[float, ...] = (1e-3,)
    weight_decay: float = 1e-2
    clip_norm: float | None = None
    schedule: str = "constant"
    average: str = ""
    start: str = "glorot"
    inputs: str = "standardised"
    features: str = "pretrained"
    units: tuple[int, ...] = (256,)
    dropout: float = 0.3
    batch_norm: bool = True
    patience: int = PATIENCE


BASE = Recipe()
_RATES = (1e-3, 1e-2, 1e-1)
_FAST = Recipe(optimiser="sgd", rates=(3.0,), batch_norm=False)
# Trick, what is done, how, and how it is controlled here. Rows are compared with the row BASE, or with ``against``.
Row = tuple[str, str, Recipe, str, Recipe]
_SCALING = "nothing to set: preprocessing is inside the network, and arrays in 0..1 are refused"
_HEAD_START = "the layers' own (Glorot); the fine-tuned network starts from the trained head"
_OPTIMISER = "fine-tuning and heads take AdamW"
_ONLY_HERE = "none"
_DECAY, _CLIP = "`--weight-decay` of `--fine-tune`", "`--clip-norm` of `--fine-tune`"
_STOP = "`--patience` of `--fine-tune`; heads always stop"
_CLIPPED, _HOT = replace(_FAST, clip_norm=1.0), replace(BASE, rates=(1e-2,))
ROWS: tuple[Row, ...] = (
    ("input scaling", "pixels 0..1 into a network that takes 0..255", replace(BASE, features="scaled"), _SCALING, BASE),
    ("input scaling", "features not standardised", replace(BASE, inputs="raw"), "standardised inside the head", BASE),
    ("initialisation", "backbone with random weights", replace(BASE, features="random"), "`--weights none`", BASE),
    ("initialisation", "He instead of Glorot", replace(BASE, start="he"), _HEAD_START, BASE),
    ("initialisation", "normal, deviation 1", replace(BASE, start="large"), _HEAD_START, BASE),
    ("initialisation", "all zeros", replace(BASE, start="zeros"), _HEAD_START, BASE),
    ("batch normalisation", "off", replace(BASE, batch_norm=False), "`--no-batch-norm`", BASE),
    ("dropout", "0", replace(BASE, dropout=0.0), "`--dropout 0`", BASE),
    ("dropout", "0.6", replace(BASE, dropout=0.6), "`--dropout 0.6`", BASE),
    ("early stopping", f"off: {EPOCHS} epochs, last weights", replace(BASE, patience=0), _STOP, BASE),
    ("weight decay", "0", replace(BASE, weight_decay=0.0), _DECAY, BASE),
    ("weight decay", "0.3", replace(BASE, weight_decay=0.3), _DECAY, BASE),
    ("model averaging", "EMA of the weights", replace(BASE, average="ema"), "`--ema` of `--fine-tune`", BASE),
    ("model averaging", "mean of the best 3 epochs", replace(BASE, average="soup"), _ONLY_HERE, BASE),
    *(
        ("optimiser", name, replace(BASE, optimiser=name.split()[0], rates=_RATES, weight_decay=0.0), option, BASE)
        for name, option in (
            ("adamw", _OPTIMISER),
            ("adam", "AdamW with `--weight-decay 0`"),
            ("sgd", _ONLY_HERE),
            ("momentum 0.9", _ONLY_HERE),
            ("nesterov 0.9", _ONLY_HERE),
            ("rmsprop", _ONLY_HERE),
            ("adagrad", _ONLY_HERE),
        )
    ),
    ("clipping", "gradient length 1", replace(BASE, clip_norm=1.0), _CLIP, BASE),
    ("clipping", "gradient length 1, SGD at a rate of 3, no batch norm", _CLIPPED, _CLIP, _FAST),
    ("rate schedule", "cosine", replace(BASE, schedule="cosine"), "fine-tuning: always", BASE),
    ("rate schedule", "a tenth at each third", replace(BASE, schedule="steps"), _ONLY_HERE, BASE),
    ("rate schedule", "cosine, rate 0.01", replace(_HOT, schedule="cosine"), "`--learning-rate`", _HOT),
    ("architecture", "linear head", replace(BASE, units=()), "`--head linear`, the default", BASE),
    ("architecture", "32 units", replace(BASE, units=(32,)), "`--units 32`", BASE),
    ("architecture", "1024 units", replace(BASE, units=(1024,)), "`--units 1024`", BASE),
    ("architecture", "256 and 128 units", replace(BASE, units=(256, 128)), "`--units 256,128`, or `--head auto`", BASE),
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Features float32 [N, D] by kind, labels int [N], and the indices of train, validation and test."""

    features: dict[str, np.ndarray]
    labels: np.ndarray
    parts: dict[str, np.ndarray]
    class_count: int

    def rows(self, kind: str, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of a part."""
        return self.features[kind][self.parts[part]], self.labels[self.parts[part]]


def make_task(per_class: int) -> Task:
    """Draw the pictures and compute their features in three ways."""
    import tensorflow as tf

    from tlkeras import backbones
    from tlkeras.backbones.network import random_twin
    from tlkeras.data.demo import CLASSES, demo_folder
    from tlkeras.data.pipeline import pixel_batches
    from tools.demo_difficulty import pictures

    paths, labels = pictures(demo_folder(per_class=per_class))
    row = backbones.get("tlkeras_tiny")
    files = [str(path) for path in paths]
    # Spread over the classes: from these the random network takes the statistics of its batch normalisation.
    some = next(pixel_batches(files[:: len(files) // 32], row.size_px, "crop", batch_size=32))[1]
    networks = {"pretrained": backbones.build(row), "random": random_twin(row.name, some)}
    runs = {kind: tf.function(network, reduce_retracing=True) for kind, network in networks.items()}
    features = {kind: np.empty((len(paths), row.feature_size), np.float32) for kind in (*networks, "scaled")}
    for indices, pixels in pixel_batches(files, row.size_px, "crop"):
        for kind, run in runs.items():
            features[kind][indices] = run(pixels, training=False)
        features["scaled"][indices] = runs["pretrained"](pixels / 255.0, training=False)
    rng = np.random.default_rng(0)
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for label in range(len(CLASSES)):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum([round(TRAIN_SHARE * len(members)), round(VALIDATION_SHARE * len(members))])
        for name, chosen in zip(parts, np.split(members, cuts), strict=True):
            parts[name].append(chosen)
    return Task(features, labels, {name: np.concatenate(chosen) for name, chosen in parts.items()}, len(CLASSES))


def optimiser_of(recipe: Recipe, steps: int) -> Any:
    """The Keras optimiser of a recipe at its first rate, to which others can be assigned where the rate is constant."""
    from keras import optimizers

    rate = recipe.rates[0]
    schedule: Any = rate
    if recipe.schedule == "cosine":
        schedule = optimizers.schedules.CosineDecay(rate, steps)
    elif recipe.schedule == "steps":
        thirds = [steps // 3, 2 * steps // 3]
        schedule = optimizers.schedules.PiecewiseConstantDecay(thirds, [rate, rate / 10, rate / 100])
    make: dict[str, Callable[[], Any]] = {
        "adamw": lambda: optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm),
        "adam": lambda: optimizers.Adam(schedule),
        "sgd": lambda: optimizers.SGD(schedule, global_clipnorm=recipe.clip_norm),
        "momentum": lambda: optimizers.SGD(schedule, momentum=0.9),
        "nesterov": lambda: optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        "rmsprop": lambda: optimizers.RMSprop(schedule),
        "adagrad": lambda: optimizers.Adagrad(schedule),
    }
    return make[recipe.optimiser]()


class Trainer:
    """One recipe, built and traced once, that can be trained from the start again with any rate and seed."""

    def __init__(self, task: Task, recipe: Recipe) -> None:
        import keras
        import tensorflow as tf

        from tlkeras.heads.config import HeadConfig, build_mlp

        self.recipe = recipe
        train_X, train_y = task.rows(recipe.features, "train")
        self.validation = task.rows(recipe.features, "validation")
        self.count = len(train_y)
        self.steps = -(-self.count // BATCH)
        mean, variance = train_X.mean(axis=0, dtype=np.float64), train_X.var(axis=0, dtype=np.float64)
        variance[variance < 1e-10] = 1.0
        stored = (mean, variance) if recipe.inputs == "standardised" else (0 * mean, 0 * variance + 1)
        config = HeadConfig("mlp", recipe.units, recipe.dropout, recipe.batch_norm)
        self.model = build_mlp(config, train_X.shape[1], task.class_count, mean=stored[0], variance=stored[1])
        self.optimiser = optimiser_of(recipe, EPOCHS * self.steps)
        self.optimiser.build(self.model.trainable_variables)
        self.averaged = [tf.Variable(value) for value in self.model.get_weights()]
        self.fresh = [variable.numpy() for variable in (*self.model.variables, *self.optimiser.variables)]
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        rows, labels = tf.constant(train_X), tf.constant(train_y)

        @tf.function
        def epoch(order: Any) -> None:
            for step in tf.range(self.steps):
                with tf.GradientTape() as tape:
                    logits = self.model(tf.gather(rows, order[step]), training=True)
                    loss = loss_of(tf.gather(labels, order[step]), logits)
                gradients = tape.gradient(loss, self.model.trainable_variables)
                self.optimiser.apply(gradients, self.model.trainable_variables)
                for mean, now in zip(self.averaged, self.model.weights, strict=True):
                    mean.assign_add(0.1 * (now - mean))

        self._epoch = epoch
        self._logits = tf.function(lambda rows: self.model(rows, training=False), reduce_retracing=True)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Logits float32 [N, K] of features [N, D] by the weights trained last."""
        return np.asarray(self._logits(rows))

    def run(self, rate: float, seed: int) -> float:
        """Train; returns the validation log loss in nats of the weights that are left, infinite when it diverged."""
        rng = np.random.default_rng(seed)
        self._reset(rate, rng, seed)
        best: list[tuple[float, int, list[np.ndarray]]] = []
        for epoch in range(EPOCHS):
            # The last batch is filled up with the first pictures.
            self._epoch(np.resize(rng.permutation(self.count), (self.steps, BATCH)))
            own = self.model.get_weights()
            if self.recipe.average == "ema":
                self.model.set_weights([variable.numpy() for variable in self.averaged])
            score = log_loss(self.logits(self.validation[0]), self.validation[1])
            best.append((score, epoch, self.model.get_weights()))
            self.model.set_weights(own)
            if not self.recipe.patience:
                del best[:-1]
                continue
            best.sort(key=lambda entry: entry[:2])
            del best[3:]
            if epoch - best[0][1] >= self.recipe.patience or not np.isfinite(score):
                break
        weights = best[0][2]
        if self.recipe.average == "soup":
            weights = [np.mean(parts, axis=0) for parts in zip(*(entry[2] for entry in best), strict=True)]
        self.model.set_weights(weights)
        return log_loss(self.logits(self.validation[0]), self.validation[1])

    def _reset(self, rate: float, rng: np.random.Generator, seed: int) -> None:
        for variable, value in zip((*self.model.variables, *self.optimiser.variables), self.fresh, strict=True):
            variable.assign(np.array([seed, 0], np.uint32) if "seed" in variable.name else value)
        if self.recipe.schedule == "constant":
            self.optimiser.learning_rate = rate
        for layer in self.model.layers:
            if not hasattr(layer, "kernel"):
                continue
            inputs, outputs = layer.kernel.shape
            deviation = {
                "glorot": (2 / (inputs + outputs)) ** 0.5,
                "he": (2 / inputs) ** 0.5,
                "large": 1.0,
                "zeros": 0.0,
            }
            layer.kernel.assign(deviation[self.recipe.start] * rng.normal(size=layer.kernel.shape))
        for mean, now in zip(self.averaged, self.model.weights, strict=True):
            mean.assign(now)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss in nats; infinite for logits that are not finite."""
    from tlkeras.heads.logits import log_losses

    return float(log_losses(logits, labels).mean()) if np.isfinite(logits).all() else float("inf")


def accuracies(task: Task, recipe: Recipe, seeds: int) -> list[float]:
    """Accuracy, 0..1, on the test for each seed, at the rate that validation likes best."""
    from tlkeras.heads.linear import unit_rows
    from tlkeras.heads.search import search_linear

    test_X, test_y = task.rows(recipe.features, "test")
    if not recipe.units:
        (train_X, train_y), (val_X, val_y) = (task.rows(recipe.features, part) for part in ("train", "validation"))
        trained = (unit_rows(train_X), train_y, unit_rows(val_X), val_y, task.class_count)
        heads = [search_linear(*trained, seed=seed).head for seed in range(seeds)]
        return [_share(head.logits(unit_rows(test_X)), test_y) for head in heads]
    trainer = Trainer(task, recipe)
    found = []
    for seed in range(seeds):
        made = [(trainer.run(rate, seed), _share(trainer.logits(test_X), test_y)) for rate in recipe.rates]
        found.append(min(made, key=lambda result: result[0])[1])
    return found


def _share(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((np.nan_to_num(logits).argmax(axis=1) == labels).mean())


def table(rows: Sequence[Row], measured: dict[Recipe, list[float]]) -> list[str]:
    """The table in Markdown: accuracy with its deviation over seeds, and the effect with its own, seed by seed."""
    lines = [
        "| trick | what was done | accuracy | effect, points | beyond the noise | option |",
        "|---|---|---|---|---|---|",
        f"| – | as `tlkeras train --head mlp` does it | {_spread(measured[BASE], '%')} | | | |",
    ]
    for trick, what, recipe, option, against in rows:
        effect = np.array(measured[recipe]) - np.array(measured[against])
        # Twice the standard error of the mean over seeds; two photos of the test at least.
        noise = 2 * effect.std(ddof=1) / np.sqrt(len(effect))
        sure = abs(effect.mean()) > max(noise, _FLOOR)
        of = "" if against == BASE else f" (without: {100 * np.mean(measured[against]):.1f} %)"
        lines.append(
            f"| {trick} | {what} | {_spread(measured[recipe], '%')}{of} | {_spread(effect, '', '+')} | "
            f"{'yes' if sure else 'no'} | {option} |"
        )
    return lines


# Effects below this share of the test are called noise whatever the seeds say: three seeds may agree by chance.
_FLOOR = 0.01


def _spread(values: Sequence[float] | np.ndarray, unit: str, sign: str = "") -> str:
    return f"{100 * np.mean(values):{sign}.1f} {unit}".strip() + f" ± {100 * np.std(values, ddof=1):.1f}"


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/training-tricks.md"))
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    task = make_task(options.per_class)
    recipes = list(dict.fromkeys([BASE, *(recipe for row in ROWS for recipe in (row[4], row[2]))]))
    measured: dict[Recipe, list[float]] = {}
    for number, recipe in enumerate(recipes, 1):
        measured[recipe] = accuracies(task, recipe, options.seeds)
        print(f"{number} of {len(recipes)}: {_spread(measured[recipe], '%')}  {recipe}", flush=True)
    counts = ", ".join(f"{len(task.parts[name])} for {name}" for name in task.parts)
    words = f"{len(task.labels)} pictures ({counts}), {options.seeds} seeds: `python -m tools.tricks_table`."
    before, _, after = options.out.read_text().partition(BEGIN)
    lines = [BEGIN, "", words, "", *table(ROWS, measured), "", END]
    options.out.write_text(before + "\n".join(lines) + after.partition(END)[2])


if __name__ == "__main__":
    main()
