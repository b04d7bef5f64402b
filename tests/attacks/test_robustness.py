"""The sweep on a trained classifier of two kinds of pictures, and on a network whose answer is known beforehand."""

import dataclasses
import json

import numpy as np
import pytest

from tlkeras.attacks.attacker import Attacker
from tlkeras.attacks.robustness import WORST, RobustnessConfig, measure, robustness
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def attacker(run_folder):
    return Attacker(run_folder)


@pytest.fixture(scope="module")
def measured(attacker, photo_folder):
    config = RobustnessConfig(
        methods=("fgsm", "pgd", "deepfool", "square"),
        corruptions=("noise", "rotation"),
        epsilons_255=(4, 16, 96),
        steps=8,
        images=8,
    )
    return robustness(attacker.target, open_dataset(photo_folder), config)


def test_the_sweep_has_every_method_and_budget(measured):
    assert measured.clean.accuracy == 1.0
    assert [(p.method, p.epsilon_255) for p in measured.attacks] == [
        (method, epsilon) for method in ("fgsm", "pgd", "deepfool", "square", WORST) for epsilon in (4, 16, 96)
    ]
    for point in measured.attacks:
        low, high = point.interval
        assert 0 <= low <= point.accuracy <= high <= 1
        assert point.accuracy == 1 - point.fooled.sum() / measured.images
    by = {(p.method, p.epsilon_255): p for p in measured.attacks}
    for epsilon in (4, 16, 96):
        singles = [by[m, epsilon].fooled for m in ("fgsm", "pgd", "deepfool", "square")]
        np.testing.assert_array_equal(by[WORST, epsilon].fooled, np.logical_or.reduce(singles))
    # On a network whose gradients say little the black box may win, but then it is said.
    white = {e: np.logical_or.reduce([by[m, e].fooled for m in ("fgsm", "pgd", "deepfool")]) for e in (4, 16, 96)}
    beaten = any(by["square", epsilon].fooled.sum() > white[epsilon].sum() for epsilon in white)
    assert beaten == any(flag.code == "black_box_beats_white_box" for flag in measured.flags)
    # What is smallest for DeepFool grows with the budget without another attack.
    counts = [by["deepfool", epsilon].fooled.sum() for epsilon in (4, 16, 96)]
    assert counts == sorted(counts)
    assert by[WORST, 96].fooled.sum() >= max(by[WORST, 4].fooled.sum(), 4)


def test_corruptions_are_measured_at_five_severities(measured):
    assert [(p.corruption, p.severity) for p in measured.corruptions] == [
        (name, severity) for name in ("noise", "rotation") for severity in (1, 2, 3, 4, 5)
    ]
    assert all(0 <= p.interval[0] <= p.accuracy <= p.interval[1] <= 1 for p in measured.corruptions)


def test_it_is_plain_json_with_all_parameters(measured):
    described = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert described["parameters"]["pgd"]["steps"] == 8
    assert described["parameters"]["fgsm"]["steps"] == 1
    assert described["attacks"][0]["right_before"] == 8


def test_wrong_images_do_not_count_as_fooled(attacker, photo_folder):
    from tlkeras.attacks.robustness import chosen_images
    from tlkeras.progress import Silent

    config = RobustnessConfig(methods=("pgd",), corruptions=(), epsilons_255=(64,), images=6)
    pixels, labels = chosen_images(attacker.target, open_dataset(photo_folder), config, Silent())
    wrong = labels.copy()
    wrong[:2] = 1 - wrong[:2]
    found = measure(attacker, pixels, wrong, config)
    assert found.clean.accuracy == pytest.approx(4 / 6)
    (point,) = found.attacks
    assert point.right == 4
    assert not point.fooled[:2].any()
    assert point.accuracy == (4 - point.fooled.sum()) / 6


def test_defaults_follow_the_norm():
    linf, l2 = RobustnessConfig(), RobustnessConfig(norm="l2")
    assert "square" in linf.attacks
    assert "square" not in l2.attacks
    assert linf.budgets_255 == (0.5, 1, 2, 4, 8, 16)
    assert min(l2.budgets_255) > 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ("pdg",)}, "did you mean 'pgd'"),
        ({"corruptions": ("blurr",)}, "did you mean 'blur'"),
        ({"methods": (), "corruptions": ()}, "nothing is left"),
        ({"epsilons_255": ()}, "at least one epsilon"),
        ({"epsilons_255": (0.0,)}, "above 0"),
        ({"norm": "l7"}, "unknown norm"),
        ({"methods": ("square",), "norm": "l2"}, "attacks in linf"),
        ({"images": 0}, "at least one image"),
    ],
)
def test_bad_configurations_are_one_line(options, words):
    with pytest.raises(ConfigError, match=words):
        RobustnessConfig(**options)


def test_data_of_other_classes_or_for_another_loss_is_refused(attacker, photo_folder, tmp_path):
    dataset = open_dataset(photo_folder)
    strange = dataclasses.replace(dataset, class_names=("blue", "violet"))
    with pytest.raises(ConfigError, match="unknown class 'violet'"):
        robustness(attacker.target, strange)
    with pytest.raises(ConfigError, match="3 classes"):
        robustness(attacker.target, dataset, RobustnessConfig(methods=("apgd-dlr",), images=4))
    empty = [str(photo_folder / "orange" / "empty.jpg"), str(photo_folder / "blue" / "cut.jpg")]
    broken = dataset.subset([dataset.paths.index(path) for path in empty])
    with pytest.raises(DataError, match="can be read"):
        robustness(attacker.target, broken)
