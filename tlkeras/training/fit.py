"""The steps from labelled images, files or stored features, to a calibrated classifier."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkeras import backbones
from tlkeras.data.audit import Audit, require_clean
from tlkeras.data.dataset import LabelledImages, plural
from tlkeras.data.splits import split
from tlkeras.data.verdicts import Verdict
from tlkeras.errors import ConfigError, printable
from tlkeras.evaluation.calibration import expected_calibration_error
from tlkeras.features.source import Features, FeatureSource
from tlkeras.heads.logits import fit_temperature, softmax, temperature_warning
from tlkeras.heads.search import UNEVEN
from tlkeras.heads.train import Head
from tlkeras.progress import LOADING, Reporter
from tlkeras.trained import ClassifierConfig, TrainedClassifier
from tlkeras.training.config import TrainConfig
from tlkeras.training.head import can_cross, fit_head
from tlkeras.training.source import Data, StoredImages, ahead_of, audited, features_of, in_effect, source_for

if TYPE_CHECKING:
    from tlkeras.fine_tuning.course import FineTuning
    from tlkeras.fine_tuning.start import Start


@dataclass(frozen=True)
class Calibration:
    """Temperature, and the expected calibration error on held-out images (0..1) before and after it."""

    temperature: float
    ece_before: float
    ece_after: float
    images: int


@dataclass(frozen=True)
class Fitted:
    """A trained classifier and everything that was seen on the way.

    ``images`` has a split for every kept image; ``verdicts`` and ``features`` are aligned with it.
    ``fine_tuning`` says what came of it, None when it was not asked for; ``frozen`` is the classifier that it started
    from, the same as ``classifier`` where that was kept. ``features`` and ``head`` are the frozen network's.
    ``seconds``: time of each step.
    """

    classifier: TrainedClassifier
    audit: Audit
    images: LabelledImages
    verdicts: tuple[Verdict, ...]
    features: Features
    head: Head
    calibration: Calibration
    seconds: dict[str, float]
    frozen: TrainedClassifier
    fine_tuning: FineTuning | None = None


def fit(
    config: TrainConfig,
    data: Data,
    reporter: Reporter,
    *,
    hold_out_test: bool = True,
    state_folder: Path | None = None,
    how_to_resume: str = "",
) -> Fitted:
    """Train a classifier on frozen features, and fine-tune it where that is asked for.

    ``data``: labelled files, or stored features, which bring some options with them (``in_effect``). Images of the
    test split are kept out of everything. With ``hold_out_test=False`` no test split is made where the data has none.

    Where none is there nor made, all images teach a frozen classifier, and each is judged by a head that had seen
    neither it nor its copies (``head.crossing``). A part is held out where a ``test_fraction`` asks for it, for
    fine-tuning, and where the features do not fit in memory.

    ``state_folder``, ``how_to_resume``: see ``tlkeras.fine_tuning.course.fine_tune``.

    Raises: DataError, ConfigError, WeightsError, StorageError: what is wrong, in one line; InterruptedRunError.
    """
    clock = Clock()
    config = in_effect(config, data)
    if config.fine_tune is not None and (config.fine_tune.devices or config.fine_tune.mixed_precision):
        from tlkeras.fine_tuning.tuner import check_devices

        check_devices(config.fine_tune)  # before minutes are spent on the photos
    # Weights that are not there are found out before minutes are spent on the photos.
    backbones.resolve(backbones.get(config.backbone), config.weights, top=False)
    prepared = in_background(lambda: _prepared(config, convert=not isinstance(data, StoredImages)))
    with ahead_of(data, prepared.result, config.side_px, config.fit) as ahead:
        checked = audited(data, reporter, ahead)
        if config.strict:
            require_clean(checked)
        verdicts = tuple(checked.kept_verdicts)
        reporter.say(checked.summary())
        clock.stop("audit")

        with reporter.step(LOADING):
            source = prepared.result()
        clock.stop("network")
        crossed = _crosses(config, checked.kept, source.spaces[0].feature_size, hold_out_test)
        images = split(
            checked.kept,
            checked.groups,
            validation_fraction=None if crossed else config.validation_fraction,
            test_fraction=config.test_share if hold_out_test and not crossed else None,
            seed=config.seed,
            keys=[verdict.sha256 for verdict in verdicts],
        )
        features = features_of(data, checked, source, reporter, ahead)
    clock.stop("features")

    if warning := uneven_words(images):
        reporter.say(warning)
    keys = [verdict.sha256 for verdict in verdicts] if crossed else None
    head = fit_head(config, images, checked.groups, features, reporter, crossed_by=keys)
    temperature = fit_temperature(head.held_out_logits, head.held_out_labels)
    if warning := temperature_warning(temperature):
        reporter.say(warning)
    calibration = _calibration(head.held_out_logits, head.held_out_labels, temperature)
    described = ClassifierConfig(
        backbone=config.backbone,
        size_px=config.side_px,
        fit=config.fit,
        mirror=config.mirror,
        head=head.config,
        class_names=images.class_names,
        temperature=temperature,
        backbone_sha256=source.backbone.sha256,
    )
    classifier = TrainedClassifier(described, source.backbone, head.weights)
    clock.stop("head")
    fitted = Fitted(
        classifier, checked, images, verdicts, features, head, calibration, clock.seconds, frozen=classifier
    )
    if config.fine_tune is None:
        return fitted
    tuned = _fine_tuned(config, fitted, reporter, state_folder, how_to_resume)
    clock.stop("fine-tune")
    return tuned


def _crosses(config: TrainConfig, images: LabelledImages, feature_size: int, hold_out_test: bool) -> bool:
    """Whether all images teach and all are judged, see ``fit``."""
    asked = hold_out_test and config.test_fraction is not None
    if config.fine_tune is not None or asked or (images.splits == "test").any():
        return False
    if not can_cross(config, len(images), feature_size, len(images.class_names)):
        return False
    if config.validation_fraction != TrainConfig.validation_fraction:
        raise ConfigError(
            "no validation photos are split off where every photo is judged by heads that had not seen it",
            received=f"--validation-fraction {config.validation_fraction:g}",
            next_step="Leave it out, or give --test-fraction too.",
        )
    return True


def uneven_words(images: LabelledImages) -> str:
    """What to say of classes of very different size, and what to do; nothing where they are not."""
    counts = {name: count for name, count in images.class_counts().items() if count}
    small, large = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[large] <= UNEVEN * counts[small]:
        return ""
    return (
        f"warning: '{printable(large)}' has {plural(counts[large], 'photo')}, '{printable(small)}' {counts[small]:,}: "
        f"accuracy says little of '{printable(small)}'. Add photos of small classes, and look at macro F1 and at each "
        "class; --balance classes makes all count the same, none leaves them as they are"
    )


def _fine_tuned(
    config: TrainConfig, fitted: Fitted, reporter: Reporter, folder: Path | None, how_to_resume: str
) -> Fitted:
    from tlkeras.fine_tuning.course import fine_tune

    assert config.fine_tune is not None
    start = starting_point(fitted, config.seed, refit=config.fine_tune.refit)
    result = fine_tune(start, config.fine_tune, reporter=reporter, folder=folder, how_to_resume=how_to_resume)
    reporter.say(
        f"     kept  {'the frozen' if result.kept_frozen else 'the fine-tuned'} network: {result.contest.reason}"
    )
    if result.classifier is None or result.logits is None:
        return replace(fitted, fine_tuning=result)
    temperature = result.classifier.config.temperature
    return replace(
        fitted,
        classifier=result.classifier,
        calibration=_calibration(result.logits, start.validation.labels, temperature),
        fine_tuning=result,
    )


def starting_point(fitted: Fitted, seed: int, *, refit: bool = False) -> Start:
    """The frozen classifier as fine-tuning starts from it; ``refit``: whether the fine-tuned one is refitted too."""
    from tlkeras.fine_tuning.start import Photos, Start, logits_on_validation, starting_weights

    images, features = fitted.images, fitted.features.matrix
    photos = {}
    for name in ("train", "validation"):
        rows = np.flatnonzero(images.splits == name)
        photos[name] = Photos(tuple(fitted.verdicts[row] for row in rows), images.labels[rows])
    backbone = fitted.frozen.backbone.arrays.values()
    return Start(
        described=fitted.frozen.config,
        weights=(*backbone, *starting_weights(fitted.head, images, features)),
        refit_weights=(*backbone, *fitted.head.weights),
        **photos,
        strength=fitted.head.description.get("strength"),
        frozen_logits=logits_on_validation(
            fitted.head, images, fitted.audit.groups, features, seed=seed, refitted=not refit
        ),
        seed=seed,
    )


class Clock:
    """Seconds between calls, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        """The time since the last call was spent on ``name``."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now


def _prepared(config: TrainConfig, *, convert: bool) -> FeatureSource:
    """Everything that needs no image: to convert a network takes seconds, and so does importing what does that."""
    source = source_for(config)
    if convert:
        source.prepare()
    return source


def in_background(work: Callable[[], FeatureSource]) -> Future[FeatureSource]:
    """Start ``work`` beside what follows. The thread does not outlive an interrupted program, as a pool's would."""
    future: Future[FeatureSource] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        # Whatever it is, it is raised where the result is asked for.
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _calibration(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Calibration:
    def error(with_temperature: float) -> float:
        return float(expected_calibration_error(softmax(logits, with_temperature), labels))

    return Calibration(temperature, error(1.0), error(temperature), len(labels))
