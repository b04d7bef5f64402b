import io

import numpy as np
import pytest
from PIL import Image

from tlkeras.attacks.attacker import AttackResult
from tlkeras.attacks.norms import distances
from tlkeras.attacks.plots import amplification, figure_of_attack, figure_of_robustness, figure_of_transfer
from tlkeras.attacks.robustness import Accuracy, AttackPoint, CorruptionPoint, Robustness
from tlkeras.attacks.transfer import TransferMatrix
from tlkeras.images.arrays import figure_bytes


def result(count, targets=None):
    random = np.random.default_rng(0)
    original = random.integers(0, 256, (count, 40, 60, 3)).astype(np.uint8)
    adversarial = np.clip(original + random.integers(-4, 5, original.shape), 0, 255).astype(np.uint8)
    probabilities = random.dirichlet(np.ones(5), count).astype(np.float32)
    yes = np.ones(count, bool)
    return AttackResult(
        "net", {"method": "pgd", "norm": "linf", "epsilon_255": 4.0, "steps": 20}, tuple("abcde"), ("",) * count,
        original, adversarial, np.zeros(count, np.int32), targets, yes, yes, yes, probabilities, probabilities[::-1],
        steps=np.ones(count, int), seconds=1.0, **distances(adversarial, original),
    )  # fmt: skip


@pytest.mark.parametrize(("largest_255", "factor"), [(1, 100), (4, 30), (8, 10), (16, 5), (100, 1), (250, 1), (0, 100)])
def test_the_change_is_amplified_by_a_round_factor_that_fits(largest_255, factor):
    assert amplification(largest_255) == factor


def test_figures_are_drawn_and_say_what_they_show():
    targets = np.array([1, 2], np.int32)
    figures = {
        "attack": (figure_of_attack(result(2, targets)), ["change × 30", "pgd, L∞, ε = 4", "→ 2 classes"]),
        "transfer": (
            figure_of_transfer(
                TransferMatrix(("one", "two"), np.full((2, 2), 9), np.array([[9, 4], [3, 8]]), None, (), ())
            ),
            ["4 of 9", "made against"],
        ),
        "robustness": (figure_of_robustness(some_robustness()), ["Under attack", "noise", "square"]),
    }
    for figure, words in figures.values():
        picture = np.asarray(Image.open(io.BytesIO(figure_bytes(figure))).convert("L"))
        assert picture.std() > 5
        shown = " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
        for word in words:
            assert word in shown


def test_at_most_some_images_are_drawn():
    assert len(figure_of_attack(result(12), most=3).axes) == 9


def some_robustness():
    none = np.zeros(4, bool)
    points = [
        AttackPoint(1 - 0.2 * k, (0.5, 1.0), method, method == "square", 2.0**k, 4, none, none, 3.0)
        for method in ("pgd", "square")
        for k in range(3)
    ]
    corruptions = [CorruptionPoint(0.9 - 0.1 * k, (0.2, 1.0), "noise", k + 1) for k in range(5)]
    return Robustness("net", 4, "linf", Accuracy(1.0, (0.6, 1.0)), tuple(points), tuple(corruptions), (), {})
