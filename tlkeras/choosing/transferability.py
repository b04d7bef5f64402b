"""Whether pretrained features are worth something on the data at hand: LogME, neighbours, distance, and a verdict.

*LogME* (You, Liu, Wang and Long 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning") tells
how well features fit the labels, without training anything: each class against the rest is a Bayesian linear
regression of 0/1 on the features, with a prior precision α for the weights and a noise precision β. The evidence
p(y | F), maximised over both, punishes features that need large weights, so it cannot be overfitted as training
accuracy can. The paper climbs by a fixed point, which can take thousands of steps or stop early; here the best β for a
given ratio α / β is written down, and the ratio is searched along a line.

*The shift of statistics* tells how far photos are from those of the pretraining. Batch normalisation keeps the mean and
the variance of every channel over them. Where other photos have other statistics there, the network sees something
unlike what it learned from (Li et al. 2016, "Revisiting Batch Normalization For Practical Domain Adaptation"). No
pretraining photo is needed to measure that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.optimize

from tlkeras.backbones import application
from tlkeras.backbones.network import PREPROCESS_NAME
from tlkeras.evaluation.metrics import paired_interval
from tlkeras.heads.linear import check_training_rows
from tlkeras.heads.neighbours import nearest

if TYPE_CHECKING:
    import keras

    from tlkeras.choosing.measure import Measured

NEIGHBOURS = 10
# Share of the random twin's errors that pretraining takes away. Measured on breeds, flowers, steel and cats against
# dogs with networks that suit them: 0.6 to 0.99.
_WELL, _BADLY = 0.5, 0.15
# Nats per channel; see ``statistics_shift`` for what was measured.
_NEAR, _FAR = 0.04, 0.12
# A larger input is worth a try where photos have this many times the pixels, along a side, that the network sees.
_LARGER = 1.25
_SIZE_STEP_PX = 32
# How far from the largest eigenvalue the ratio is searched.
_DECADES = 8
# Below this share of the largest eigenvalue there is rounding only.
_RANK_SHARE = 1e-12
_TINY = 1e-30


@dataclass(frozen=True)
class Transferability:
    """What the pretraining of a network is worth on the photos.

    ``verdict``: "well", "partly" or "badly". ``gain`` and its 95 % ``interval``, -1..1: accuracy of the linear probe
    on pretrained features less that on the random twin's, on the same photos. ``errors_removed``: share of the twin's
    errors that are gone. ``distance``: "near", "between", "far", or None for a network that does not tell.
    ``words``: all of it, and what helps where features transfer badly.
    """

    verdict: str
    gain: float
    interval: tuple[float, float]
    errors_removed: float
    distance: str | None
    words: str


def logme(features: np.ndarray, labels: np.ndarray, class_count: int) -> float:
    """The LogME score, in nats per image and class, of features float [N, D] for labels int [N].

    Higher is better, and only scores on the same images can be compared. Classes without images are left out.

    Raises:
        DataError: features and labels that do not fit each other or are not finite.
        ConfigError: fewer than two classes.
    """
    features, labels = check_training_rows(features, labels, class_count)
    wide = features.astype(np.float64)
    count, size = wide.shape
    gram = wide @ wide.T if count <= size else wide.T @ wide
    values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    kept = values > _RANK_SHARE * max(float(values[-1]), 1e-30)
    values, vectors = values[kept], vectors[:, kept]
    left = vectors if count <= size else (wide @ vectors) / np.sqrt(values)
    scores = []
    for label in np.unique(labels):
        target = (labels == label).astype(np.float64)
        scores.append(_evidence(values, left.T @ target, float(target @ target), count) / count)
    return float(np.mean(scores))


def _evidence(values: np.ndarray, projected: np.ndarray, square: float, count: int) -> float:
    """The largest log evidence of one target.

    ``values`` [R]: eigenvalues of FᵀF; ``projected`` [R]: the target on the left singular vectors; ``square``: its
    squared length. What lies outside of those vectors cannot be explained.
    """
    outside = max(square - float(projected @ projected), 0.0)
    squares = np.square(projected)

    def negative(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        # yᵀ (I + F Fᵀ / ratio)⁻¹ y; the best β is count over it.
        misfit = float(squares @ (ratio / (ratio + values))) + outside
        log_determinant = float(np.log1p(values / ratio).sum())
        return 0.5 * (count * np.log(2 * np.pi * max(misfit, _TINY) / count) + count + log_determinant)

    middle = np.log(values[-1]) if len(values) else 0.0
    grid = np.linspace(middle - _DECADES * np.log(10), middle + _DECADES * np.log(10), 20 * _DECADES + 1)
    best = int(np.argmin([negative(place) for place in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = scipy.optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return -float(found.fun)


def label_agreement(
    features: np.ndarray, labels: np.ndarray, class_count: int, *, k: int = NEIGHBOURS, groups: np.ndarray | None = None
) -> float:
    """Share, 0..1, of the ``k`` nearest other images that have an image's own label, averaged over the images.

    ``features`` float [N, D], ``labels`` int [N]. ``groups`` int [N]: copies, which are never neighbours. By chance
    it is the sum of the squared shares of the classes.

    Raises:
        ConfigError, DataError: as ``nearest`` and ``check_training_rows``.
    """
    features, labels = check_training_rows(features, labels, class_count)
    own = np.arange(len(labels)) if groups is None else np.asarray(groups)
    found = nearest(features, features, k, query_groups=own, row_groups=own)
    there = found >= 0
    same = (labels[found] == labels[:, None]) & there
    return float(same.sum() / max(int(there.sum()), 1))


def statistics_shift(network: keras.Model, pixels: np.ndarray) -> float | None:
    """Distance, in nats per channel, of photos from the pretraining of ``network``; None without batch normalisation.

    ``network``: from ``backbones.build``, pixels → features. ``pixels``: float32 ``[n, S, S, 3]`` in 0..255.

    For each channel that a batch normalisation sees, the Kullback-Leibler divergence of a Gaussian with the photos'
    mean and variance from one with the stored statistics; the median over the channels of a layer, averaged over the
    layers. 0: the very statistics of the pretraining. Measured with MobileNets: ImageNet photos 0.003, pets and flowers
    0.01 to 0.03, drawn animals 0.05, close-ups of steel 0.2 to 0.3, noise 0.3 to 0.7.
    """
    import keras

    inner = application(network)
    layers = [layer for layer in inner.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not layers:
        return None
    moments = []
    for layer in layers:
        axes = tuple(range(len(layer.input.shape) - 1))
        moments.append((keras.ops.mean(layer.input, axis=axes), keras.ops.var(layer.input, axis=axes)))
    # The preprocessing stands before the application in the outer network.
    preprocessed = [layer.output for layer in network.layers if layer.name == PREPROCESS_NAME] or [network.input]
    before = keras.Model(network.input, preprocessed[0])
    statistics = keras.Model(inner.input, moments)(before(pixels, training=False), training=False)
    return float(np.mean([_divergence(layer, *found) for layer, found in zip(layers, statistics, strict=True)]))


def _divergence(layer: keras.layers.BatchNormalization, mean: object, variance: object) -> float:
    stored = np.asarray(layer.moving_variance, np.float64) + layer.epsilon
    ratio = (np.asarray(variance, np.float64) + layer.epsilon) / stored
    offset = np.square(np.asarray(mean, np.float64) - np.asarray(layer.moving_mean, np.float64)) / stored
    # The median: a few dead channels, whose stored variance is nearly zero, would drown all others.
    return float(np.median(0.5 * (ratio + offset - 1 - np.log(ratio))))


def transferability(measured: Measured, median_side_px: float, *, seed: int = 0) -> Transferability:
    """Judge a measured network; ``median_side_px``: the shorter side of the middle photo.

    No measurable gain over the random twin counts as badly, however accurate both are.
    """
    pretrained, random = measured.probe, measured.random
    gain = pretrained.accuracy - random.accuracy
    interval = paired_interval(pretrained.right, random.right, seed=seed)
    removed = gain / max(1 - random.accuracy, 1e-9)
    verdict = "well" if removed >= _WELL else "partly"
    if interval[0] <= 0 or removed < _BADLY:
        verdict = "badly"
    distance = None
    if measured.shift is not None:
        distance = "near" if measured.shift < _NEAR else "far" if measured.shift > _FAR else "between"
    sentences = [
        _opening(measured, verdict, removed),
        f"Of the 10 nearest neighbours {100 * pretrained.agreement:.0f} % have the same class, with random weights "
        f"{100 * random.agreement:.0f} %.",
    ]
    if distance is not None:
        sentences.append(_seen(distance, measured.shift or 0.0, verdict))
    if verdict != "well" or distance == "far":
        sentences.append(_help(measured.size_px, median_side_px, verdict))
    return Transferability(verdict, gain, interval, removed, distance, " ".join(sentences))


def _opening(measured: Measured, verdict: str, removed: float) -> str:
    name, own, random = measured.name, 100 * measured.probe.accuracy, 100 * measured.random.accuracy
    figures = f"a linear head gets {own:.1f} % on the pretrained features of {name}, {random:.1f} % with random weights"
    if verdict == "well":
        return f"Yes: {figures}; pretraining takes away {100 * removed:.0f} % of the errors."
    if verdict == "partly":
        return f"In part: {figures}; pretraining takes away {100 * removed:.0f} % of the errors."
    return f"No: {figures}; what the network learned in its pretraining hardly helps here."


def _seen(distance: str, shift: float, verdict: str) -> str:
    figure = f"({shift:.3f} nats per channel between the statistics of both)"
    if distance == "near":
        return f"To the network the photos look like those of its pretraining {figure}."
    if distance == "between":
        return f"To the network the photos look somewhat unlike those of its pretraining {figure}."
    though = ", yet its features tell the classes apart" if verdict == "well" else ""
    return f"To the network the photos are far from those of its pretraining {figure}{though}."


def _help(size_px: int, median_side_px: float, verdict: str) -> str:
    larger = int(min(median_side_px, 2 * size_px) // _SIZE_STEP_PX * _SIZE_STEP_PX)
    size = ""
    if median_side_px >= _LARGER * size_px and larger > size_px:
        sizes = f"the photos have about {median_side_px:.0f} px, the network sees {size_px}"
        size = f"a larger input (--size {larger}: {sizes})"
    deeper = "fine-tuning deeper (--fine-tune 10 --unfreeze all)"
    if verdict == "well":
        return f"What may still help: {' or '.join(filter(None, [deeper, size]))}."
    words = f"What helps: {' and '.join(filter(None, [deeper, size]))}."
    if verdict == "badly":
        words += " If that does not help either, see whether people can tell the classes apart in these photos."
    return words
