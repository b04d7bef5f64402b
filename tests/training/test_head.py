"""How much memory heads and measurements take: what was allowed, however many images and classes there are."""

import tracemalloc

import numpy as np
import pytest

from tlkeras.backbones.frozen import Frozen
from tlkeras.data.dataset import LabelledImages
from tlkeras.errors import ConfigError
from tlkeras.features.source import Extraction, Features, cut
from tlkeras.heads.config import HeadConfig
from tlkeras.heads.search import search_linear
from tlkeras.progress import Silent
from tlkeras.trained import ClassifierConfig, TrainedClassifier
from tlkeras.training.config import TrainConfig
from tlkeras.training.head import BYTES_AN_IMAGE, bytes_in_memory, fit_head
from tlkeras.training.measure import measure_features


def drawn(count, size, classes, validation=0.2):
    """Images of classes that overlap, a share of them for validation, and their features, given in batches."""
    random = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % classes
    vectors = 1.5 * random.standard_normal((count, size), np.float32)
    vectors += random.standard_normal((classes, size), np.float32)[labels]

    def read(rows, most):
        return ((part, vectors[part]) for part in cut(rows, most))

    names = tuple(f"{number:03d}" for number in range(classes))
    splits = np.where(random.random(count) < validation, "validation", "train")
    images = LabelledImages("drawn", "drawn", names, tuple(map(str, range(count))), labels, splits)
    return images, Features(count, size, read, Extraction(0, count, (), None, None, 0.0))


def peak_bytes(work):
    """What ``work`` gives, and the most bytes that it held."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("count", "size", "classes", "validation"),
    [(2500, 192, 3, 0.1), (2500, 192, 3, 0.5), (1000, 64, 150, 0.2)],
    ids=["folds", "validation", "many classes"],
)
def test_what_a_search_in_memory_takes_is_known_before(count, size, classes, validation):
    images, features = drawn(count, size, classes, validation=validation)
    train, held_out = (np.flatnonzero(images.splits == name) for name in ("train", "validation"))

    def work():
        rows = [(features.matrix[chosen], images.labels[chosen]) for chosen in (train, held_out)]
        return search_linear(*rows[0], *rows[1], classes, seed=0)

    _, peak = peak_bytes(work)
    stated = bytes_in_memory(count, size, classes, folds=len(held_out) < 1000)
    assert 0.25 * stated < peak < stated


def test_a_head_in_batches_keeps_within_what_it_may_take():
    count, size, classes, budget = 4000, 64, 60, 0.03e9
    images, features = drawn(count, size, classes)
    config = TrainConfig("tlkeras_tiny", memory_gb=(budget + BYTES_AN_IMAGE * count) / 1e9)
    assert bytes_in_memory(count, size, classes, folds=False) > budget
    head, peak = peak_bytes(lambda: fit_head(config, images, np.arange(count), features, Silent()))
    assert head.description["streamed"]
    assert peak < budget
    # Every row of validation is held out, by a head that had not seen it.
    assert len(head.held_out_labels) == (images.splits == "validation").sum()
    right = head.held_out_logits.argmax(axis=1) == head.held_out_labels
    whole = fit_head(TrainConfig("tlkeras_tiny"), images, np.arange(count), features, Silent())
    assert right.mean() == pytest.approx(
        (whole.held_out_logits.argmax(axis=1) == whole.held_out_labels).mean(), abs=0.02
    )


@pytest.mark.parametrize(("options", "words"), [({}, "takes 0.0.* GB"), ({"head": HeadConfig("mlp")}, "kind mlp")])
def test_what_does_not_fit_is_told_before_anything_is_read(options, words):
    images, features = drawn(200, 64, 40)
    features.__dict__["read"] = None
    with pytest.raises(ConfigError, match=words):
        fit_head(TrainConfig("tlkeras_tiny", memory_gb=0.001, **options), images, np.arange(200), features, Silent())


def test_measuring_holds_no_table_of_probabilities():
    count, size, classes = 24_000, 16, 400
    images, features = drawn(count, size, classes)
    weights = np.random.default_rng(2).normal(size=(size, classes)).astype(np.float32)
    config = ClassifierConfig("tlkeras_tiny", 32, "crop", False, HeadConfig(), images.class_names, 1.3, "")
    backbone = Frozen("tlkeras_tiny", 32, "", held={})
    classifier = TrainedClassifier(config, backbone, (weights, np.zeros(classes, np.float32)))
    rows = np.arange(0, count, 2)
    measurement, peak = peak_bytes(lambda: measure_features(classifier, images, features, rows))
    assert peak < 8 * len(rows) * classes * 2
    assert measurement.evaluation.images == len(rows)
    np.testing.assert_array_equal(measurement.answers.labels, images.labels[rows])
