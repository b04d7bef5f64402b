"""Pictures of ideal images: all side by side, the way from noise as a strip and as a GIF, and the curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tlkeras.images.arrays import gif_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tlkeras.ideal.images import IdealImages

MAX_STRIP_ROWS = 12
STRIP_COLUMNS = 8
GIF_SECONDS = 4.0
MAX_CURVES = 10


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
