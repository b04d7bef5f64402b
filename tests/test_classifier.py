"""ImageClassifier: scikit-learn's feel, whatever form the images have."""

from pathlib import Path

import numpy as np
import pytest

from tests.pictures import encode, tinted
from tlkeras import ImageClassifier
from tlkeras.errors import ClassifierError, ConfigError, DataError, ImageError

BLUE, ORANGE = (40, 90, 200), (220, 140, 50)


@pytest.fixture(scope="module")
def options(small_weights):
    return {"backbone": "mobilenet_0.25", "weights": str(small_weights), "size_px": 32, "engine": "tensorflow"}


@pytest.fixture(scope="module")
def classifier(run_folder):
    return ImageClassifier.load(run_folder)


def test_fit_predict_score_on_a_folder(options, photo_folder):
    classifier = ImageClassifier(**options)
    assert classifier.fit(photo_folder) is classifier
    assert classifier.classes_.tolist() == ["blue", "orange"]
    assert classifier.score(photo_folder, include_seen=True) == 1.0
    assert classifier.fitted_.audit.counts()["rejected"] == 2
    # Nothing is held out for a test that nobody asked for.
    assert not (classifier.fitted_.images.splits == "test").any()


@pytest.mark.parametrize(
    "form", [lambda image: image, lambda image: encode(image, "PNG"), np.asarray], ids=["pillow", "bytes", "array"]
)
def test_fit_on_images_in_memory(form, options):
    images = [form(tinted(tint, seed)) for tint in (BLUE, ORANGE) for seed in range(12)]
    labels = ["sea"] * 12 + ["sun"] * 12
    classifier = ImageClassifier(**options).fit(images, labels)
    assert classifier.predict(images).tolist() == labels
    assert classifier.score(images, labels, include_seen=True) == 1.0


def test_photos_in_memory_with_whole_numbers_for_classes(options, tmp_path):
    images = [tinted(tint, seed) for tint in (BLUE, ORANGE) for seed in range(8)]
    labels = [10] * 8 + [2] * 8
    classifier = ImageClassifier(**options).fit(images, np.array(labels))
    assert classifier.classes_.tolist() == [2, 10]
    assert classifier.trained.class_names == ("2", "10")
    for found in (classifier, ImageClassifier.load(classifier.save(tmp_path / "saved"))):
        assert found.predict(images).tolist() == labels
    # One class, and copies: every image that is given counts.
    few = classifier.evaluate([images[0]] * 7 + [images[1]] * 3, [10] * 10, include_seen=True)
    assert (few.images, few.accuracy) == (10, 1.0)
    # What took part in training is left out unless asked for, whatever form it has.
    with pytest.warns(UserWarning, match=r"2 images took part in training .*left out"):
        assert classifier.evaluate([images[0], np.asarray(images[9]), tinted(BLUE, 99)], [10, 2, 10]).images == 1
    with pytest.raises(DataError, match="all of these images took part in training"):
        classifier.score(images, labels)
    # What was in memory can be fine-tuned on, and checks an export.
    assert all(Path(path).is_file() for path in classifier.fitted_.images.paths)
    assert classifier._seen.paths == classifier.fitted_.audit.dataset.paths
    with pytest.raises(DataError, match="at least one image"):
        classifier.evaluate([], [])


def test_every_way_to_name_images(classifier, photo_folder):
    folder = photo_folder / "orange"
    good = sorted(str(path) for path in folder.glob("[0-9]*.jpg"))
    assert set(classifier.predict(str(folder / "[0-9]*.jpg"))) == {"orange"}
    assert classifier.predict(good[0]).tolist() == ["orange"]
    assert classifier.predict_proba(good[:3]).shape == (3, 2)
    assert classifier.predict(np.stack([np.asarray(tinted(BLUE, 1))] * 2)).tolist() == ["blue", "blue"]
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        classifier.predict(folder)
    with pytest.raises(DataError, match="no such image file"):
        classifier.predict("absent.jpg")


def test_save_and_load(classifier, photo_folder, tmp_path):
    again = ImageClassifier.load(classifier.save(tmp_path / "saved"))
    files = [str(path) for path in sorted((photo_folder / "blue").glob("0*.jpg"))]
    np.testing.assert_array_equal(again.predict_proba(files), classifier.predict_proba(files))


def test_before_training(options):
    with pytest.raises(ClassifierError, match="not trained yet"):
        ImageClassifier(**options).predict("x.jpg")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "mobilnet_v2"}, "did you mean 'mobilenet_v2'"),
        ({"sise_px": 3}, "did you mean 'size_px'"),
        ({"size_px": 9}, "32 px and more"),
        ({"fit": "cropp"}, "did you mean 'crop'"),
        ({"validation_fraction": 0.9}, "validation_fraction"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ConfigError, match=words):
        ImageClassifier(**options)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([b"x", b"y"], None, "need labels"),
        ([b"x", b"y"], ["a"], "one label for each image"),
        ([b"x", b"y"], ["a", "a"], "at least two classes"),
        ([], [], "at least two classes"),
    ],
)
def test_wrong_data(images, labels, words, options):
    with pytest.raises(DataError, match=words):
        ImageClassifier(**options).fit(images, labels)


def test_a_loaded_run_knows_what_it_was_trained_on(run_folder, photo_folder, tmp_path):
    classifier = ImageClassifier.load(run_folder)
    with pytest.warns(UserWarning, match="took part in training"):
        left = classifier.evaluate(photo_folder).images
    assert 0 < left < classifier.evaluate(photo_folder, include_seen=True).images == 60
    # A classifier without its run knows nothing of them.
    bare = ImageClassifier.load(classifier.save(tmp_path / "bare"))
    assert bare.evaluate(photo_folder).images == 60


def test_evaluating_on_unknown_classes(classifier):
    with pytest.raises(DataError, match=r"received 'green'. It knows blue, orange"):
        classifier.evaluate([tinted(BLUE, 1), tinted(ORANGE, 1)], ["blue", "green"])
