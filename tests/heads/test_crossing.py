"""Every image is judged by heads, and by choices of strength and temperature, that had not seen it nor its group."""

import numpy as np
import pytest

from tests.heads.test_linear import clusters
from tests.heads.test_mlp import rings
from tlkeras.errors import DataError
from tlkeras.evaluation.metrics import Answers, evaluate_answers
from tlkeras.heads import folds as folds_module
from tlkeras.heads import mlp
from tlkeras.heads.config import HeadConfig, HeadSearch
from tlkeras.heads.folds import assign_folds, crossing_folds
from tlkeras.heads.linear import rotate
from tlkeras.heads.logits import fit_temperature, softmax
from tlkeras.heads.search import _search, fit_linear, search_linear
from tlkeras.heads.train import train_head
from tlkeras.progress import Silent


def crossed(features, labels, classes, **options):
    return search_linear(features, labels, None, None, classes, seed=0, crossed=True, **options)


@pytest.mark.parametrize("count", [3, 5], ids="{} folds".format)
def test_nothing_of_a_fold_reaches_its_answers(count):
    features, labels = clusters(150, 12, 3, distance=0.5)
    folds = np.arange(150) % count
    other = np.where(folds == 1, (labels + 1) % 3, labels)
    one, two = (
        _search(rotate(features), shown, folds, 3, (0.001, 0.01, 0.1), nested=True) for shown in (labels, other)
    )
    np.testing.assert_array_equal(one.logits[folds == 1], two.logits[folds == 1])
    assert one.temperatures[1] == two.temperatures[1]
    # All other folds learnt from it.
    assert (one.logits[folds == 0] != two.logits[folds == 0]).any()


def test_the_head_is_that_of_all_images_and_each_has_one_answer():
    features, labels = clusters(600, 10, 3)
    found = crossed(features, labels, 3)
    np.testing.assert_array_equal(found.held_out_indices, np.arange(600))
    assert np.bincount(found.crossing.folds).tolist() == [120] * 5
    assert found.crossing.repeats == 1
    on_all = fit_linear(features, labels, 3, found.strength)
    np.testing.assert_allclose(found.head.logits(features), on_all.logits(features), atol=1e-2)
    plain = search_linear(features, labels, None, None, 3, seed=0)
    assert found.strength == plain.strength
    # Nested or not makes little difference: the strength is one number, chosen on hundreds of images.
    assert np.mean(found.held_out_logits.argmax(1) == labels) == pytest.approx(
        np.mean(plain.held_out_logits.argmax(1) == labels), abs=0.02
    )


def test_labels_that_nothing_tells_are_guessed_and_copies_do_not_help():
    features = np.tile(np.random.default_rng(0).normal(size=(60, 100)), (2, 1)).astype(np.float32)
    labels, groups = np.tile(np.arange(60) % 3, 2), np.tile(np.arange(60), 2)
    shares = [
        np.mean(crossed(features, labels, 3, groups=of, strengths=[1.0]).held_out_logits.argmax(1) == labels)
        for of in (None, groups)
    ]
    assert shares[0] > 0.7 > 0.5 > shares[1]


@pytest.mark.parametrize(
    ("counts", "folds", "repeats"),
    [
        ((400, 400), 5, 1),
        ((100, 100), 10, 1),
        ((600, 12), 10, 1),
        ((60, 12), 10, 1),
        ((60, 8), 10, 3),
        ((3, 3), 6, 3),
        ((1, 1), 0, 1),
    ],
)
def test_small_classes_get_more_folds_and_several_dealings(counts, folds, repeats):
    dealt = crossing_folds(np.repeat(np.arange(len(counts)), counts), 0)
    assert [len(dealt), int(dealt[0].max()) + 1] == [repeats, folds]


@pytest.mark.parametrize("counts", [(1, 1), (1, 30), (2, 2), (3, 3), (1, 2, 20), (0, 20, 20)], ids=str)
def test_tiny_and_uneven_classes(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32)
    features[np.arange(len(labels)), labels] += 6
    found = crossed(features, labels, len(counts))
    judged = [row for row, label in enumerate(labels) if counts[label] > 1]
    assert found.held_out_indices.tolist() == judged
    assert (found.crossing is None) == (not judged)
    assert np.isfinite(found.head.weights).all()
    assert (np.abs(found.held_out_logits).max(axis=1, initial=0) > 0).all()


@pytest.fixture
def quick_mlp(monkeypatch):
    """In place of an MLP one that remembers what it was trained on, and on how many epochs."""
    from tlkeras.heads import train
    from tlkeras.heads.neighbours import vote

    given = []

    def fit(train_X, train_y, val_X, val_y, class_count, epochs, **_):
        given.append((len(train_y), 0 if val_y is None else len(val_y), epochs))
        history = [{"log_loss": abs(epoch - 6)} for epoch in range(9)]

        class Model:
            def get_weights(self):
                return []

            def __call__(self, features):
                return vote(train_X, train_y, features, class_count, 9)

        return Model(), history

    for module in (mlp, train):
        monkeypatch.setattr(module, "fit_mlp", fit)
        monkeypatch.setattr(module, "head_logits", lambda model, features: model(features), raising=False)
    return given


@pytest.mark.parametrize(
    ("wanted", "instability"), [(HeadConfig("mlp"), 1.0), (HeadSearch(budget_s=600), None)], ids=["mlp", "auto"]
)
def test_an_mlp_learns_from_all_images_for_as_long_as_was_best_without_a_fold(wanted, instability, quick_mlp):
    features, labels = rings(600, 0)
    none = features[:0], labels[:0]
    head = train_head(wanted, (features, labels), none, 2, seed=0, crossed=True, reporter=Silent())
    assert head.config.kind == "mlp"
    assert quick_mlp[:5] == [(420, 60, 100)] * 5
    assert quick_mlp[-1] == (600, 0, 7)
    np.testing.assert_array_equal(head.held_out_rows, np.arange(600))
    assert len(head.crossing.temperatures) == 5
    assert instability in (None, head.crossing.instability)
    assert np.mean(head.held_out_logits.argmax(1) == labels) > 0.8


def test_an_mlp_on_one_image_a_class_is_refused():
    rows = np.eye(3, dtype=np.float32), np.arange(3)
    with pytest.raises(DataError, match="two different images"):
        train_head(HeadConfig("mlp"), rows, (rows[0][:0], rows[1][:0]), 3, seed=0, crossed=True, reporter=Silent())


def test_the_interval_holds_the_true_accuracy_of_the_head_on_all_images(monkeypatch):
    """A cheap version of benchmarks/crossing.py: of 60 data sets 95 % should hold it, and a plain interval does not."""
    monkeypatch.setattr(folds_module, "_MORE_FOLDS", 6)
    held = {"as it is": 0, "without": 0}
    means = np.zeros((2, 48))
    means[[0, 1], [0, 1]] = 1.5
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels, unseen = np.arange(60) % 2, np.arange(3000) % 2
        features, new = (random.normal(size=(len(of), 48)) + means[of] for of in (labels, unseen))
        found = crossed(features, labels, 2, strengths=[0.01])
        true = np.mean(found.head.logits(new).argmax(1) == unseen)
        answers = Answers.of(softmax(found.held_out_logits), labels)
        for name, instability in (("as it is", found.crossing.instability), ("without", 0.0)):
            low, high = evaluate_answers(answers, ("a", "b"), instability=instability).accuracy_interval
            held[name] += low <= true <= high
    assert held["without"] < 54 <= held["as it is"], held


def test_the_temperature_of_all_is_that_of_answers_not_seen():
    features, labels = clusters(200, 20, 3, distance=0.4)
    found = crossed(features, labels, 3)
    assert fit_temperature(found.held_out_logits, labels) == pytest.approx(found.crossing.temperatures.mean(), rel=0.5)
    assert (assign_folds(labels, 0, folds=10)[found.held_out_indices] == found.crossing.folds).all()
