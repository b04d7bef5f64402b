import numpy as np
import pytest
import tensorflow as tf

from tlkeras.attacks.model import LOSSES, Goal, check_loss
from tlkeras.errors import ConfigError

LOGITS = np.array([[4.0, 1.0, 0.5, -2.0], [0.0, 3.0, 2.5, 1.0]], np.float32)
LABELS = np.array([0, 2], np.int32)
TARGETS = np.array([2, 3], np.int32)


@pytest.mark.parametrize(
    ("name", "targets", "expected"),
    [
        ("margin", None, [1 - 4, 3 - 2.5]),
        ("margin", TARGETS, [0.5 - 4, 1 - 3]),
        ("dlr", None, [(1 - 4) / (4 - 0.5), (3 - 2.5) / (3 - 1)]),
        ("dlr", TARGETS, [(0.5 - 4) / (4 - (0.5 - 2) / 2), (1 - 3) / (3 - (1 + 0) / 2)]),
        ("ce", None, [-np.log(np.exp(4) / np.exp(LOGITS[0]).sum()), -np.log(np.exp(2.5) / np.exp(LOGITS[1]).sum())]),
        ("ce", TARGETS, [np.log(np.exp(0.5) / np.exp(LOGITS[0]).sum()), np.log(np.exp(1) / np.exp(LOGITS[1]).sum())]),
    ],
)
def test_losses_by_hand(name, targets, expected):
    got = LOSSES[name](tf.constant(LOGITS), LABELS, targets)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_goals_by_hand():
    untargeted, targeted = Goal(LABELS), Goal(LABELS, TARGETS)
    np.testing.assert_array_equal(untargeted.reached(LOGITS), [False, True])
    np.testing.assert_allclose(untargeted.margin(LOGITS), [-3, 0.5])
    np.testing.assert_array_equal(untargeted.worth_attacking(LOGITS), [True, False])
    np.testing.assert_array_equal(targeted.reached(LOGITS), [False, False])
    np.testing.assert_allclose(targeted.margin(LOGITS), [-3.5, -2])
    one = targeted.of(np.array([1]))
    assert one.labels.tolist() == [2]
    assert one.targets.tolist() == [3]
    assert not Goal([0], [0]).worth_attacking(LOGITS[:1]).any()


@pytest.mark.parametrize(
    ("name", "classes", "targeted", "words"),
    [("dlr", 2, False, "3 classes"), ("dlr", 3, True, "4 classes"), ("cee", 9, False, "did you mean 'ce'")],
)
def test_losses_that_cannot_be_computed(name, classes, targeted, words):
    with pytest.raises(ConfigError, match=words):
        check_loss(name, classes, targeted)
    check_loss("dlr", 4, True)
