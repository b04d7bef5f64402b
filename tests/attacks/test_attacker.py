"""Attacks on a trained classifier from photos on: files in, adversarial files out, success after PNG and back."""

import io
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from tests.pictures import encode, photo
from tlkeras.attacks import norms
from tlkeras.attacks.attacker import Attacker, make, smallest_epsilon
from tlkeras.attacks.transfer import transfer, transfer_matrix
from tlkeras.errors import ConfigError, DataError, ImageError
from tlkeras.images.arrays import png_bytes
from tlkeras.target import Target


def random_target(name="tiny", seed=1, classes=("apple", "pear", "plum", "fig")):
    """A small random network with smooth bends, whose boundaries lie some pixel units away."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 64, offset=-2.0),
            keras.layers.Conv2D(12, 5, strides=3, activation="tanh"),
            keras.layers.Conv2D(16, 3, strides=2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(len(classes)),
        ]
    )
    return Target(name, "tiny", network, classes, 32, "crop", temperature=2.0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    paths = []
    for seed in range(4):
        paths.append(folder / f"{seed}.png")
        paths[-1].write_bytes(encode(photo(70, 50, seed=seed), "PNG"))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def attacker():
    return Attacker(random_target())


@pytest.fixture(scope="module")
def full_size():
    return Attacker(random_target(), full_size=True)


def reread(pixels):
    return np.stack([np.asarray(Image.open(io.BytesIO(png_bytes(one)))) for one in pixels])


@pytest.mark.parametrize("targeted", [False, True])
def test_success_is_what_the_saved_files_do(attacker, photos, targeted):
    target = attacker.target
    before = target.probabilities(np.rint(np.stack([target.load(path) for path in photos]))).argmax(axis=1)
    to = [int(k) for k in (before + 1) % 4] if targeted else None
    result = attacker.attack(photos, make("pgd", epsilon_255=8), to=to)
    assert result.paths == tuple(photos)
    assert result.attacked.all()
    np.testing.assert_array_equal(result.labels, before)
    after = target.probabilities(reread(result.adversarial))
    np.testing.assert_allclose(result.probabilities_after, after, atol=1e-5)
    said = after.argmax(axis=1)
    np.testing.assert_array_equal(result.success, said == np.array(to) if targeted else said != before)
    assert result.success.all()
    assert result.success_rate == 1.0
    change = result.adversarial.astype(int) - result.original
    np.testing.assert_array_equal(result.linf_255, np.abs(change).max(axis=(1, 2, 3)))
    np.testing.assert_allclose(result.l2_255, np.sqrt((change**2).sum(axis=(1, 2, 3))), rtol=1e-5)
    np.testing.assert_array_equal(result.l0_pixels, (change != 0).any(axis=3).sum(axis=(1, 2)))
    assert 0 < result.linf_255.max() <= 8
    described = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert described["success"] == 4
    assert described["attack"]["method"] == "pgd"
    assert ("target" in described["results"][0]) == targeted
    assert "pgd(norm='linf', epsilon_255=8" in repr(result)


def test_only_images_that_are_right_are_attacked(attacker, photos):
    said = attacker.attack(photos, "fgsm").labels
    wrong = (said + 1) % 4
    labels = [*(int(k) for k in said[:2]), *(int(k) for k in wrong[2:])]
    result = attacker.attack(photos, make("pgd", epsilon_255=8), labels=labels)
    np.testing.assert_array_equal(result.attacked, [True, True, False, False])
    np.testing.assert_array_equal(result.adversarial[2:], result.original[2:])
    np.testing.assert_array_equal(result.success, result.attacked)
    assert result.success_rate == 1.0  # of the two that were right
    # 8 bits hold nothing of an epsilon below 1.
    assert attacker.attack(photos, make("pgd", epsilon_255=0.5), labels=labels).success_rate == 0.0
    nothing = attacker.attack(photos, labels=[int(k) for k in wrong])
    assert nothing.success_rate is None
    # What is the wanted class already is no success of the attack.
    there = attacker.attack(photos[:1], to=int(said[0]))
    assert not there.attacked.any()


def test_the_same_seed_gives_the_same_bytes(attacker, photos):
    one, two = (attacker.attack(photos, make("pgd", epsilon_255=2, seed=5)) for _ in range(2))
    np.testing.assert_array_equal(one.adversarial, two.adversarial)


def test_full_size_changes_the_photo_itself(full_size, photos):
    result = full_size.attack(photos[:2], make("pgd", epsilon_255=8))
    assert result.original.shape == (2, 50, 70, 3)
    assert result.success.all()
    # The saved photo goes the way of any other photo.
    target = full_size.target
    fitted = np.stack([target.load(png_bytes(one)) for one in result.adversarial])
    np.testing.assert_allclose(target.probabilities(fitted), result.probabilities_after, atol=1e-4)
    # Only the middle square is seen, so only there something changes.
    change = np.abs(result.adversarial.astype(int) - result.original)
    assert not change[:, :, :8].any()
    assert not change[:, :, -8:].any()
    assert change[:, :, 12:-12].max() > 0


def test_the_smallest_epsilon_works_and_the_next_smaller_does_not(attacker, photos):
    result = smallest_epsilon(attacker, photos[0], make("pgd", steps=10), up_to_255=32)
    found = result.attack["epsilon_255"]
    assert result.success.all()
    assert found == int(found) >= 1
    if found > 1:
        assert not attacker.attack(photos[:1], make("pgd", epsilon_255=found - 1, steps=10)).success.any()
    with pytest.raises(ConfigError, match="by itself"):
        smallest_epsilon(attacker, photos[0], make("deepfool"))


@pytest.mark.parametrize(
    ("norm", "up_to_255", "first"),
    [("linf", None, 16), ("l2", None, 1530), ("linf", 0.5, 0.5), ("linf", 7.9, 7), ("l2", 0.5, 0.5)],
)
def test_no_epsilon_above_the_bound_is_tried(attacker, photos, monkeypatch, norm, up_to_255, first):
    tried = []

    def fails(images, method, **options):
        tried.append(method.epsilon_255)
        return SimpleNamespace(success=np.zeros(1, bool))

    monkeypatch.setattr(attacker, "attack", fails)
    smallest_epsilon(attacker, photos[0], make("pgd", norm=norm), up_to_255=up_to_255)
    assert tried == [first]


def test_who_fools_whom(attacker, photos):
    other = Attacker(random_target("other", seed=1))
    stranger = Attacker(random_target("stranger", seed=9))
    method = make("pgd", epsilon_255=8)
    matrix = transfer_matrix([attacker, other, stranger], photos, method)
    assert matrix.networks == ("tiny", "other", "stranger")
    assert matrix.reached is None
    # The diagonal is the attack's own success; the first two are the same network under two names.
    np.testing.assert_array_equal(np.diag(matrix.fooled), [r.success.sum() for r in matrix.results])
    assert matrix.fooled[0, 1] == matrix.fooled[0, 0]
    assert (matrix.fooled <= matrix.counted).all()
    assert json.dumps(matrix.to_json())
    verdicts = transfer(matrix.results[0], stranger.target)
    np.testing.assert_array_equal(
        verdicts.fooled,
        verdicts.right_before & (verdicts.probabilities_after.argmax(axis=1) != matrix.results[0].labels),
    )
    with pytest.raises(ConfigError, match="same classes"):
        transfer(matrix.results[0], random_target("fruit", classes=("a", "b", "c")))


def test_a_trained_classifier_is_attacked_by_its_own_class_names(run_folder, photo_folder):
    images = [str(photo_folder / "blue" / "00.jpg"), str(photo_folder / "blue" / "01.jpg")]
    result = Attacker(run_folder).attack(
        images, make("pgd", epsilon_255=96, steps=60, restarts=3), to="orange", labels=["blue", "blue"]
    )
    assert result.class_names == ("blue", "orange")
    assert result.attacked.all()
    # On random features a climb may end in a hollow: not every picture is turned on every processor.
    assert result.success.any()
    assert norms.inside(result.adversarial, result.original, "linf", 96).all()


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        ([], {}, DataError, "at least one image"),
        (["absent.png"], {}, ImageError, "no such image file"),
        ([np.zeros((4, 4))], {"to": "aple"}, ConfigError, "did you mean 'apple'"),
        ([np.zeros((4, 4))], {"to": 7}, ConfigError, r"0\.\.3"),
        ([np.zeros((4, 4))], {"labels": [0, 1]}, DataError, "1 images need as many labels"),
        ([np.full((4, 4), 0.5)], {}, ConfigError, "unscaled"),
        ([np.zeros((4, 4))], {"method": "pgdd"}, ConfigError, "unknown method"),
    ],
)
def test_bad_input_is_one_line(attacker, images, options, error, words):
    with pytest.raises(error, match=words):
        attacker.attack(images, **options)


def test_photos_of_several_sizes_are_refused_together(full_size):
    with pytest.raises(DataError, match="one size"):
        full_size.attack([np.zeros((40, 50, 3), np.uint8), np.zeros((50, 40, 3), np.uint8)])
