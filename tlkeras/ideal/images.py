"""Ideal images: from noise, by gradient ascent, what a network sees most clearly as a class, a channel or a layer.

They are shown side by side (``sheet``), on the way from noise (``film_strip``, ``film``), and as ``curves``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.backbones.layers import check_layer, layer_rows
from tlkeras.errors import ConfigError
from tlkeras.ideal import IdealConfig
from tlkeras.ideal.ascent import Climb, rounded
from tlkeras.ideal.objectives import Channel, LayerNorm, Objective
from tlkeras.ideal.presets import Preset, preset
from tlkeras.images.arrays import gif_bytes, through_png
from tlkeras.progress import Reporter, Silent
from tlkeras.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_CLASS = -1
MAX_STRIP_ROWS = 12
STRIP_COLUMNS = 8
GIF_SECONDS = 4.0
MAX_CURVES = 10


@dataclass(frozen=True)
class IdealImages:
    """Ideal images and how they came to be; N images, K classes, F frames.

    labels: what each image shows. classes: int64 ``[N]``, the class that it was made for, or -1.
    images: uint8 ``[N, S, S, 3]``, as PNG files hold them.
    film: uint8 ``[N, F, S, S, 3]`` after ``film_steps``, int64 ``[F]``; noise first, the image last.
    values: float32 ``[N, steps]``, the objective before each step.
    probabilities: float32 ``[N, K]`` of the image files, read back; ``unrounded``: before rounding and saving.
    """

    target: Target
    config: IdealConfig
    preset: Preset
    labels: tuple[str, ...]
    classes: np.ndarray
    images: np.ndarray
    film: np.ndarray
    film_steps: np.ndarray
    values: np.ndarray
    probabilities: np.ndarray
    unrounded: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def clipped_share(self) -> float:
        """The share of pixel values at 0 or 255; garish images have many."""
        return float(np.mean((self.images == 0) | (self.images == 255)))

    def rank(self, probabilities: np.ndarray) -> np.ndarray:
        """The place of each image's class in ``[N, K]`` probabilities, 0 for the first; int64 ``[N]``."""
        own = probabilities[np.arange(len(self)), self.classes]
        return (probabilities > own[:, None]).sum(axis=1)

    def seen_by(self, other: Target) -> dict[str, Any]:
        """What another network sees in the image files, as plain values: structure convinces it, noise does not.

        For each image its ``top`` classes there and, where the other network has a class of the same name, the place
        ``rank`` (1 is first) and the ``probability`` of that class; ``first``, ``top_5``: the shares of such images.
        """
        probabilities = other.probabilities(np.stack([other.load(image) for image in self.images]))
        same = _same_classes(self.target, other)
        rows, ranks = [], []
        for index, row in enumerate(probabilities):
            answer: dict[str, Any] = {"top": other.ranked(row)}
            k = same.get(int(self.classes[index]))
            if k is not None:
                ranks.append(int((row > row[k]).sum()) + 1)
                answer |= {"rank": ranks[-1], "probability": round(float(row[k]), 6)}
            rows.append(answer)
        shares = {
            name: round(sum(rank <= places for rank in ranks) / len(ranks), 6) if ranks else None
            for name, places in (("first", 1), ("top_5", 5))
        }
        return {"network": other.name, **shares, "images": rows}

    def to_json(self) -> dict[str, Any]:
        """Plain values: what was asked for and what came out."""
        return {
            "network": self.target.name,
            "mode": self.config.mode,
            "config": asdict(self.config),
            "preset": self.preset.to_json(),
            "clipped_share": round(self.clipped_share, 6),
            "images": [self._row(index) for index in range(len(self))],
        }

    def _row(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = {"label": self.labels[index]}
        if (k := int(self.classes[index])) != NO_CLASS:
            row |= {
                "class": k,
                "probability": round(float(self.probabilities[index, k]), 6),
                "probability_before_rounding": round(float(self.unrounded[index, k]), 6),
            }
        row["objective"] = [round(float(value), 5) for value in self.values[index, [0, -1]]]
        return {**row, "top": self.target.ranked(self.probabilities[index])}


def ideal_images(
    target: Target,
    classes: Sequence[str | int] = (),
    config: IdealConfig = IdealConfig(),
    *,
    reporter: Reporter | None = None,
) -> IdealImages:
    """What ``target`` sees most clearly as each of ``classes`` (names, WordNet ids or numbers).

    Raises: ConfigError for an unknown class or an impossible option.
    """
    if not classes:
        raise ConfigError("name at least one class", next_step="For example 'zebra'.")
    indices = [index for text in classes for index in [target.class_index(text)] * config.count]
    chosen = preset(target, config.mode, steps=config.steps, tv=config.tv)
    labels = [target.class_names[index] for index in indices]
    return maximise(
        target, chosen.class_objective(target, target.folded.network), indices, labels, config, reporter=reporter
    )


def ideal_layer_images(
    target: Target,
    layer: str,
    channel: int | None = None,
    config: IdealConfig = IdealConfig(),
    *,
    reporter: Reporter | None = None,
) -> IdealImages:
    """What excites one channel of an inner layer, or with ``channel=None`` the whole layer (DeepDream's objective).

    Activations have no common scale against which to weigh the total variation: it counts only where ``config.tv``
    gives its weight.

    Raises: ConfigError for a layer or a channel that the network does not have.
    """
    row = check_layer(target.network, layer)
    if channel is not None and not 0 <= channel < row.shape[-1]:
        raise ConfigError(f"channels of '{layer}' are numbered 0..{row.shape[-1] - 1}", received=channel)
    objective: Objective = LayerNorm(layer) if channel is None else Channel(layer, channel)
    label = layer if channel is None else f"{layer} {channel}"
    if config.tv is None:
        config = replace(config, tv=0.0)
    classes, labels = [NO_CLASS] * config.count, [label] * config.count
    return maximise(target, objective, classes, labels, config, reporter=reporter)


def maximise(
    target: Target,
    objective: Objective,
    classes: Sequence[int],
    labels: Sequence[str],
    config: IdealConfig,
    *,
    reporter: Reporter | None = None,
) -> IdealImages:
    """Images that maximise any objective, minus the preset's total variation; one for each of ``classes``.

    ``classes``: what each image is to become, -1 for an objective without a class.
    """
    chosen = preset(target, config.mode, steps=config.steps, tv=config.tv)
    objective = chosen.with_variation(objective)
    # A layer that is looked at may have been folded away.
    is_there = set(objective.layers) <= {row.name for row in layer_rows(target.folded.network)}
    climbed = target.folded if is_there else target
    climb = Climb(climbed, objective, chosen.held, chosen.transforms, chosen.ascent)
    steps = chosen.ascent.steps
    # Frames lie close together at first, where most happens.
    moments = np.unique(np.rint(steps * np.linspace(0, 1, min(config.frames, steps + 1)) ** 2).astype(np.int64))
    films, values, last = [], [], []
    with (reporter or Silent()).step("ideal", "image-steps") as progress:
        for start in range(0, len(classes), config.batch_size):
            batch = list(classes[start : start + config.batch_size])
            climb.start([config.seed + start + place for place in range(len(batch))], [max(k, 0) for k in batch])
            frames, curve = [rounded(climb.pixels())], []
            for moment in moments[1:]:
                curve.append(climb.advance(int(moment) - climb.step))
                frames.append(rounded(climb.pixels()))
                progress(steps * start + climb.step * len(batch), steps * len(classes))
            last.append(climb.pixels())
            films.append(np.stack(frames, axis=1))
            values.append(np.concatenate(curve).T)
    pixels = np.concatenate(last)
    images = through_png(rounded(pixels))
    return IdealImages(
        target=target,
        config=config,
        preset=chosen,
        labels=tuple(labels),
        classes=np.array(classes, np.int64),
        images=images,
        film=np.concatenate(films),
        film_steps=moments,
        values=np.concatenate(values),
        probabilities=target.probabilities(images),
        unrounded=target.probabilities(pixels),
    )


def _same_classes(maker: Target, other: Target) -> dict[int, int]:
    """Which class of the other network is which of the maker's; two may share a name, never a WordNet id."""
    ours = maker.wordnet_ids if maker.wordnet_ids and other.wordnet_ids else maker.class_names
    theirs = other.wordnet_ids if maker.wordnet_ids and other.wordnet_ids else other.class_names
    index = {name: k for k, name in enumerate(theirs)}
    return {k: index[name] for k, name in enumerate(ours) if name in index}


def sheet(ideal: IdealImages) -> Figure:
    """All images with what they show and the probability that the network gives the saved file."""
    from matplotlib.figure import Figure

    count = len(ideal)
    columns = min(count, max(math.ceil(math.sqrt(count)), 4))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.2 * columns, 2.45 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for index, axis in zip(range(count), axes.flat, strict=False):
        axis.imshow(ideal.images[index])
        title = ideal.labels[index].replace("_", " ")
        if (k := ideal.classes[index]) >= 0:
            title += f"  {ideal.probabilities[index, k]:.3f}"
        axis.set_title(title, fontsize=9)
    return figure


def film_strip(ideal: IdealImages) -> Figure:
    """Moments of the way from noise to the image, a row for each image (the first twelve)."""
    from matplotlib.figure import Figure

    rows = min(len(ideal), MAX_STRIP_ROWS)
    moments = len(ideal.film_steps)
    chosen = np.unique(np.rint(np.linspace(0, moments - 1, min(STRIP_COLUMNS, moments))).astype(int))
    # Headings stand in the first row only.
    figure = Figure(figsize=(1.6 * len(chosen), 1.6 * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, len(chosen), squeeze=False)
    for row in range(rows):
        for column, moment in enumerate(chosen):
            axis = axes[row, column]
            axis.imshow(ideal.film[row, moment])
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"step {ideal.film_steps[moment]}", fontsize=9)
        axes[row, 0].set_ylabel(ideal.labels[row].replace("_", " "), fontsize=9)
    return figure


def curves(ideal: IdealImages) -> Figure:
    """The objective at each step, for the first ten images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    for index in range(min(len(ideal), MAX_CURVES)):
        values = ideal.values[index]
        axis.plot(np.arange(len(values)), values, linewidth=1.2, label=ideal.labels[index].replace("_", " "))
    axis.set(xlabel="step", ylabel="objective", title=f"{ideal.target.name}, mode {ideal.config.mode}")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return figure


def film(ideal: IdealImages) -> bytes:
    """The way from noise as an animated GIF, the images side by side (the first eight)."""
    shown = ideal.film[:8]
    frames = np.concatenate(list(shown), axis=2) if len(shown) <= 4 else _two_rows(shown)
    return gif_bytes(frames, seconds=GIF_SECONDS)


def _two_rows(shown: np.ndarray) -> np.ndarray:
    half = -(-len(shown) // 2)
    if len(shown) % 2:
        shown = np.concatenate([shown, np.full_like(shown[:1], 255)])
    rows = [np.concatenate(list(part), axis=2) for part in (shown[:half], shown[half:])]
    return np.concatenate(rows, axis=1)
