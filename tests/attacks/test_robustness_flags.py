"""Each red flag on a model that deserves it, and none on models that do not."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.models import Linear, Masked, Smooth, images, said
from tlkeras.attacks.model import AttackModel
from tlkeras.attacks.robustness import flags_of_network, flags_of_sweep


class Random(Smooth):
    def logits(self, pixels):
        return super().logits(pixels + tf.random.normal(tf.shape(pixels), stddev=30.0))


class Softmax(Linear):
    def logits(self, pixels):
        return tf.nn.softmax(super().logits(pixels))


@pytest.mark.parametrize(
    ("model", "codes"),
    [
        (Smooth(), []),
        (Linear(5), []),
        (Random(), ["random_outputs"]),
        (Softmax(5), ["softmax_as_logits"]),
        (Masked(), ["zero_gradient"]),
    ],
)
def test_flags_of_networks(model, codes):
    pixels = images(6)
    assert [flag.code for flag in flags_of_network(AttackModel(model), pixels, said(model, pixels))] == codes


def point(method, epsilon_255, fooled, black_box=False, right=None):
    fooled = np.array(fooled, bool)
    right = len(fooled) if right is None else right
    return SimpleNamespace(method=method, epsilon_255=epsilon_255, black_box=black_box, fooled=fooled, right=right)


@pytest.mark.parametrize(
    ("points", "codes"),
    [
        ([point("pgd", 1, [0, 1]), point("pgd", 2, [1, 1])], []),
        ([point("pgd", 2, [0, 1]), point("pgd", 1, [1, 1])], ["not_monotone"]),
        ([point("pgd", 2, [0, 0]), point("square", 2, [1, 0], True)], ["black_box_beats_white_box"]),
        ([point("pgd", 2, [1, 0]), point("square", 2, [1, 0], True)], []),
        ([point("pgd", 16, [1, 0])], ["large_budget_fails"]),
        ([point("pgd", 16, [1, 1])], []),
        # What was wrong before the attack cannot be fooled: three of three, and two of three.
        ([point("pgd", 16, [1, 1, 1, 0], right=3)], []),
        ([point("pgd", 16, [1, 1, 0, 0], right=3)], ["large_budget_fails"]),
        ([point("pgd", 16, [0, 0], right=0)], []),
        ([point("square", 16, [0, 0], True)], []),
        ([], []),
    ],
)
def test_flags_of_sweeps(points, codes):
    flags = flags_of_sweep(points, "linf")
    assert [flag.code for flag in flags] == codes
    assert all(flag.words for flag in flags)
