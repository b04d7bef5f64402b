"""One face for ImageNet networks and trained classifiers: classes by any of their names, logits, probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import photo
from tlkeras.backbones import imagenet
from tlkeras.errors import ClassifierError, ConfigError
from tlkeras.target import load_target
from tlkeras.trained import TrainedClassifier

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def imagenet_target():
    return load_target("mobilenet_0.25", weights="none", size_px=32)


@pytest.fixture(scope="module")
def run_target(run_folder):
    return load_target(run_folder)


def test_the_table_of_classes_is_that_of_keras(assets):
    with (assets / "keras/models/imagenet_class_index.json").open() as stream:
        theirs = json.load(stream)
    ours = zip(imagenet.wordnet_ids(), imagenet.class_names(), strict=True)
    assert [list(row) for row in ours] == [theirs[str(index)] for index in range(1000)]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("zebra", 340),
        ("Zebra", 340),
        ("siamese cat", 284),
        ("Siamese_cat", 284),
        ("SIAMESE-CAT", 284),
        ("n02123597", 284),
        ("284", 284),
        (284, 284),
        ("golden retriever", 207),
        ("n03126707", 517),  # the machine; "crane" alone could be the bird
    ],
)
def test_a_class_by_name_id_or_number(imagenet_target, text, index):
    assert imagenet_target.class_index(text) == index


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("zebbra", "did you mean 'zebra'?"),
        ("siamese", "did you mean 'Siamese_cat'?"),
        ("terrier", "'Bedlington_terrier'"),
        ("crane", "2 classes are called 'crane': 134 (n02012849), 517 (n03126707)"),
        ("1000", "0..999"),
        ("-1", "0..999"),
        ("", "unknown class ''"),
        ("qqqqqq", "known are tench"),
    ],
)
def test_an_unknown_class_is_answered_with_the_nearest(imagenet_target, text, words):
    with pytest.raises(ConfigError) as raised:
        imagenet_target.class_index(text)
    assert words in str(raised.value)


def test_a_run_has_its_own_classes_and_temperature(run_target, run_folder):
    classifier = TrainedClassifier.load(run_folder)
    assert run_target.class_names == classifier.class_names
    assert run_target.class_index("ORANGE") == 1
    with pytest.raises(ConfigError, match="did you mean 'orange'"):
        run_target.class_index("organge")
    image = photo(50, 40)
    pixels = run_target.load(image)[None]
    np.testing.assert_array_equal(pixels[0], classifier.fitted(image))
    np.testing.assert_allclose(run_target.probabilities(pixels), classifier.predict([image]), atol=1e-6)
    assert run_target.ranked(run_target.probabilities(pixels)[0], 2)[0]["label"] in ("blue", "orange")


def test_probabilities_do_not_depend_on_the_batch_nor_the_type(imagenet_target):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    whole = imagenet_target.probabilities(pixels)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(imagenet_target.probabilities(pixels.astype(float), batch_size=2), whole, atol=1e-6)
    with pytest.raises(ConfigError, match=r"\[N, 32, 32, 3\]; received \[32, 32, 3\]"):
        imagenet_target.probabilities(pixels[0])


def test_logits_have_gradients_with_respect_to_the_pixels(run_target):
    pixels = tf.constant(run_target.load(photo(40, 40))[None])
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        logit = run_target.logits(pixels)[0, 0]
    gradient = tape.gradient(logit, pixels).numpy()
    # Along the gradient the logit grows as the gradient says.
    step = 1e-2 / np.abs(gradient).max()
    difference = run_target.logits(pixels + step * gradient)[0, 0] - logit
    assert float(difference) == pytest.approx(step * float((gradient**2).sum()), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ("mobilnet_v2", {}, ConfigError, "did you mean 'mobilenet_v2'?"),
        ("no/such/run", {}, ConfigError, "unknown network 'no/such/run'"),
        (HERE, {}, ClassifierError, "has no classifier.json"),
        (HERE, {"size_px": 64}, ConfigError, "brings its own weights and size"),
        ("vgg16", {"size_px": 64, "weights": "none"}, ConfigError, "takes 224 px only"),
    ],
)
def test_what_is_no_network_is_refused(arguments, options, error, words):
    with pytest.raises(error) as raised:
        load_target(arguments, **options)
    assert words in str(raised.value)
