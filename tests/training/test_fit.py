"""Training steps: what is asked for is what comes out, and nothing of the test is seen before the end."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.pictures import tinted
from tlkeras.data import pipeline, verdicts
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.config import HeadConfig, head_logits
from tlkeras.heads.logits import fit_temperature, softmax
from tlkeras.images.decode import decode
from tlkeras.progress import Silent
from tlkeras.run_facts import read_run, trained_on
from tlkeras.trained import TrainedClassifier
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import fit, in_background, uneven_words
from tlkeras.training.measure import measure, with_class_names
from tlkeras.training.run import joined, train


@pytest.fixture(scope="module")
def config(small_weights):
    return TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow")


def made(class_names, splits):
    labels = np.arange(len(splits)) % len(class_names)
    return LabelledImages("x", "x", class_names, tuple(map(str, range(len(splits)))), labels, np.array(splits))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("head", [HeadConfig(), HeadConfig("mlp", (8,))], ids=["linear", "mlp"])
def test_the_network_is_features_then_head(mirror, head, config, photo_folder):
    fitted = fit(replace(config, mirror=mirror, head=head, test_fraction=0.15), open_dataset(photo_folder), Silent())
    paths = list(fitted.images.paths[:6])
    classifier = fitted.classifier
    pixels = np.stack([classifier.fitted(path) for path in paths])
    logits = head_logits(classifier.head, fitted.features.matrix[:6])
    # From stored features or from pixels: the same answer, the mirrored view included.
    np.testing.assert_allclose(classifier.logits(pixels), logits, rtol=1e-3, atol=1e-3)
    if mirror:
        np.testing.assert_allclose(classifier.logits(pixels[:, :, ::-1]), logits, rtol=1e-3, atol=1e-3)
    temperature = classifier.config.temperature
    np.testing.assert_allclose(classifier.predict(paths), softmax(logits, temperature), atol=1e-4)
    assert temperature == fitted.calibration.temperature
    assert not any(variable.trainable for variable in classifier.network.get_layer("backbone").variables)


def test_test_images_take_no_part_in_training(config, photo_folder):
    dataset = open_dataset(photo_folder)
    config = replace(config, test_fraction=0.15)
    one = fit(config, dataset, Silent())
    test = one.images.splits == "test"
    assert test.any()
    # Wrong labels on the test images, which are told by their paths: nothing but the test may change.
    wrong = np.array([path in {p for p, t in zip(one.images.paths, test, strict=True) if t} for path in dataset.paths])
    labels = np.where(wrong, 1 - dataset.labels, dataset.labels)
    splits = np.array(
        [dict(zip(one.images.paths, one.images.splits, strict=True)).get(p, "train") for p in dataset.paths]
    )
    other = fit(config, replace(dataset, labels=labels, splits=splits), Silent())
    for mine, theirs in zip(one.classifier.head.get_weights(), other.classifier.head.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert one.classifier.config.temperature == other.classifier.config.temperature


def test_every_photo_teaches_and_every_photo_judges(config, photo_folder, tmp_path):
    run = train(config, photo_folder, out=tmp_path / "run")
    facts = read_run(run.folder)
    assert facts.run["images"] == {"train": 60, "validation": 0, "test": 0}
    assert facts.run["measured"] == "each of the 60 photos was judged by a head that had not seen it"
    assert len({one.path for one in facts.predictions}) == facts.metrics["images"] == 60
    assert facts.metrics["folds"] == len(run.fitted.head.crossing.temperatures) == 10
    assert facts.measured_on == "photos, each judged by a head that had not seen it"
    assert set(trained_on(run.folder).values()) == {"train"}
    assert len(trained_on(run.folder)) == 60
    # The head is that of all photos, and its temperature that of answers to photos not seen.
    head = run.fitted.head
    assert run.fitted.calibration.images == 60
    assert run.fitted.classifier.config.temperature == fit_temperature(head.held_out_logits, head.held_out_labels)
    with pytest.raises(DataError, match=r"took part in training; received 60 images.*metrics\.json"):
        measure(run.fitted.classifier, open_dataset(photo_folder), trained_on=trained_on(run.folder))


def test_folds_hang_on_the_content_alone(config, photo_folder):
    dataset = open_dataset(photo_folder)
    order = np.random.default_rng(0).permutation(len(dataset))
    one, other = (fit(config, data, Silent()) for data in (dataset, dataset.subset(order)))
    folds = [
        dict(zip(np.array(fitted.images.paths)[fitted.head.held_out_rows], fitted.head.crossing.folds, strict=True))
        for fitted in (one, other)
    ]
    assert folds[0] == folds[1]


@pytest.mark.parametrize(
    ("options", "held_out"),
    [({"test_fraction": 0.2}, 12), ({"memory_gb": 0.0008}, 8)],
    ids=["asked for", "too large for memory"],
)
def test_a_part_is_held_out_where_it_must_be(options, held_out, config, photo_folder):
    fitted = fit(replace(config, **options), open_dataset(photo_folder), Silent())
    assert (fitted.images.splits == "test").sum() == held_out
    assert fitted.head.crossing is None


def test_no_validation_is_split_off_where_all_photos_judge(config, photo_folder):
    with pytest.raises(ConfigError, match=r"--validation-fraction 0\.3.*--test-fraction"):
        fit(replace(config, validation_fraction=0.3), open_dataset(photo_folder), Silent())


def test_run_directory_tells_how_it_came_about(config, photo_folder, tmp_path):
    run = train(replace(config, test_fraction=0.15), photo_folder, out=tmp_path / "run")
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["config"]["seed"] == 0
    assert described["images"]["test"] == run.measurement.evaluation.images
    assert described["environment"]["tensorflow"]
    assert described["calibration"]["images"] > 0
    audited = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert {image["reason"] for image in audited["images"] if image["status"] == "rejected"} == {"empty", "truncated"}
    with pytest.raises(ConfigError, match="stays as it is"):
        train(config, photo_folder, out=tmp_path / "run")


def test_runs_get_free_names(config, photo_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [str(train(config, photo_folder).folder) for _ in range(2)]
    assert folders == ["runs/tinted-mobilenet_0.25-1", "runs/tinted-mobilenet_0.25-2"]


def test_judging_finds_the_features_of_training(config, photo_folder, tmp_path):
    train(config, photo_folder, out=tmp_path / "run")
    measurement = measure(TrainedClassifier.load(tmp_path / "run"), open_dataset(photo_folder), engine="tensorflow")
    assert measurement.features.extraction.computed == 0
    assert measurement.evaluation.accuracy == 1.0


def test_a_new_photo_is_decoded_once(config, photo_folder, monkeypatch):
    counts = Counter()

    def counting(data, *limits):
        counts[data] += 1
        return decode(data, *limits)

    for module in (verdicts, pipeline):
        monkeypatch.setattr(module, "decode", counting)
    fitted = fit(config, open_dataset(photo_folder), Silent())
    assert set(counts.values()) == {1}
    extraction = fitted.features.extraction
    assert (extraction.computed, extraction.reused) == (len(fitted.images), 0)
    assert extraction.engine is not None
    # In the audit or afterwards, by whichever engine: the same vectors.
    again = fit(config, open_dataset(photo_folder), Silent())
    assert again.features.extraction.computed == 0
    np.testing.assert_array_equal(again.features.matrix, fitted.features.matrix)


def test_one_photo_more_costs_one_pass(config, tmp_path):
    for name, tint in (("blue", (40, 90, 200)), ("orange", (220, 140, 50))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            tinted(tint, number).save(tmp_path / "data" / name / f"{number}.png")
    assert fit(config, open_dataset(tmp_path / "data"), Silent()).features.extraction.computed == 20
    tinted((40, 90, 200), 77).save(tmp_path / "data" / "blue" / "new.png")
    (tmp_path / "data" / "blue" / "0.png").rename(tmp_path / "data" / "blue" / "renamed.png")
    assert fit(config, open_dataset(tmp_path / "data"), Silent()).features.extraction.computed == 1


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((9, 3), ""),
        ((10, 3), "'a' has 10 photos, 'b' 3: .*Add photos of small classes.*--balance classes"),
        ((4, 4), ""),
    ],
)
def test_classes_of_very_different_size_are_told(counts, words):
    labels = np.repeat([0, 1], counts)
    images = LabelledImages("x", "x", ("a", "b"), tuple(map(str, range(len(labels)))), labels, np.full(len(labels), ""))
    said = uneven_words(images)
    assert bool(said) == bool(words)
    assert re.search(words, said)


def test_classes_are_matched_by_name():
    images = with_class_names(made(("dog", "cat"), [""] * 4), ("cat", "dog", "owl"))
    assert images.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(DataError, match="received 'ant'"):
        with_class_names(made(("ant", "cat"), [""] * 2), ("cat", "dog"))


def test_two_data_sets_as_train_and_test():
    both = joined(made(("cat", "dog"), ["", "", ""]), made(("dog", "cat"), ["", ""]))
    assert both.splits.tolist() == ["train"] * 3 + ["test"] * 2
    assert both.labels.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(DataError, match="has a test split already"):
        joined(made(("cat", "dog"), ["train", "test"]), made(("cat", "dog"), ["", ""]))


def test_what_goes_wrong_in_the_background_is_told_where_its_result_is_asked_for():
    def failing():
        raise ConfigError("no such thing")

    with pytest.raises(ConfigError, match="no such thing"):
        in_background(failing).result(timeout=10)
