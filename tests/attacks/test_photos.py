"""Attacks on a real network and real photos, which are not part of the project."""

from functools import cache

import numpy as np
import pytest

from tlkeras.attacks import Attacker, smallest_epsilon
from tlkeras.attacks.attacker import make


@pytest.fixture(scope="module")
def attackers(assets):
    """By the network's name, each compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(assets / "keras"))
        yield cache(Attacker)


@pytest.fixture(scope="module")
def attacker(attackers):
    return attackers("mobilenet_0.25")


@pytest.mark.slow
def test_the_lessons_dog_becomes_a_siamese_cat(attacker, assets):
    photo = assets / "photos" / "lesson" / "dog-from-unsplash.jpg"
    result = smallest_epsilon(attacker, photo, up_to_255=4, to="Siamese cat")
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


def photos_that_are_right(attacker, assets, count):
    """uint8 photos that the network has right, their classes, and another class drawn for each."""
    pixels, labels = [], []
    for file in sorted((assets / "photos" / "imagenet" / "one_per_class").glob("*.jpg")):
        image, label = attacker.load([file]), attacker.target.class_index(file.name.split("_")[0])
        if attacker.scores_saved(image).argmax() == label and len(labels) < count:
            pixels.append(image[0])
            labels.append(label)
    wanted = (np.array(labels) + np.random.default_rng(0).integers(1, 1000, len(labels))) % 1000
    return np.stack(pixels), labels, wanted


# A budget of 1 is not enough for all of them, and 5 and 10 steps are few for an attack that has to find its length.
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("steps", [5, 10, 20])
@pytest.mark.parametrize(("network", "count"), [("mobilenet_0.25", 40), ("mobilenet_0.75", 12), ("mobilenet_v2", 12)])
def test_apgd_is_never_worse_than_pgd_at_equal_steps(attackers, assets, network, count, steps, loss):
    attacker = attackers(network)
    pixels, labels, wanted = photos_that_are_right(attacker, assets, count)
    for to in (wanted, None):
        plain, auto = (
            attacker.attack(pixels, make(method, epsilon_255=1, steps=steps, loss=loss), to=to, labels=labels)
            for method in ("pgd", "apgd-ce")
        )
        assert plain.attacked.sum() == len(pixels)
        assert auto.success.sum() >= plain.success.sum()
