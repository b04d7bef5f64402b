"""Attacks on a real network and real photos, which are not part of the project."""

import numpy as np
import pytest

from tlkeras.adversarial import Attacker, smallest_epsilon
from tlkeras.adversarial.attacks import make


@pytest.fixture(scope="module")
def attacker(assets):
    patch = pytest.MonkeyPatch()
    patch.setenv("KERAS_HOME", str(assets / "keras"))
    yield Attacker("mobilenet_0.25")
    patch.undo()


@pytest.mark.slow
def test_the_lessons_dog_becomes_a_siamese_cat(attacker, assets):
    photo = assets / "photos" / "lesson" / "dog-from-unsplash.jpg"
    result = smallest_epsilon(attacker, photo, make("pgd", epsilon_255=4), to="Siamese cat")
    assert result.success.all()
    assert result.linf_255[0] == result.attack["epsilon_255"] <= 4
    assert result.class_names[result.probabilities_after[0].argmax()] == "Siamese_cat"


@pytest.mark.slow
def test_photos_become_random_classes(attacker, assets):
    files = sorted((assets / "photos" / "imagenet" / "one_per_class").glob("*.jpg"))[:24]
    labels = [attacker.target.class_index(file.name.split("_")[0]) for file in files]
    wanted = (np.array(labels) + np.random.default_rng(0).integers(1, 1000, len(labels))) % 1000
    result = attacker.attack(files, make("pgd", epsilon_255=4), to=wanted, labels=labels)
    assert 6 <= result.attacked.sum() < 24  # the network is wrong on four in ten
    assert result.success_rate == 1.0
