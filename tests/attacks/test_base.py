"""One table: every attack against every tiny model, targeted and not, in every norm it knows."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.models import Linear, Masked, Smooth, images, said
from tlkeras.attacks import FGSM, norms
from tlkeras.attacks.attacker import METHODS, make
from tlkeras.attacks.model import AttackModel, Goal
from tlkeras.errors import ConfigError, DataError

MODELS = {"linear": lambda: Linear(5), "two classes": lambda: Linear(2), "smooth": Smooth, "masked": Masked}
CASES = [
    (method, norm, model, targeted)
    for method, kind in METHODS.items()
    for norm in kind.norms
    for model in MODELS
    for targeted in (False, True)
]
# Enough for any method to succeed somewhere, in each norm.
EPSILON_255 = {"linf": 16.0, "l2": 300.0}
STEPS = {"square": 30, "cw": 60, "deepfool": 20}


@pytest.fixture(scope="module")
def models():
    return {name: AttackModel(make_model()) for name, make_model in MODELS.items()}


def options(method, norm):
    budget = {} if METHODS[method].minimal else {"epsilon_255": EPSILON_255[norm]}
    return {"norm": norm, **budget, "steps": STEPS.get(method, METHODS[method].steps)}


@pytest.mark.parametrize(("method", "norm", "name", "targeted"), CASES)
def test_every_attack_on_every_model(models, method, norm, name, targeted):
    model = models[name]
    attack = make(method, **options(method, norm))
    pixels = model.model.images(5)
    labels = said(model.model, pixels)
    classes = 2 if name == "two classes" else 5
    goal = Goal(labels, (labels + 1) % classes if targeted else None)
    try:
        attack.check(classes, targeted)
    except ConfigError as error:
        assert classes == 2 and "apgd-ce" in str(error)  # noqa: PT017, PT018 (either is right)
        return
    found = attack.run(model, pixels, goal, batch_size=3)
    assert found.adversarial.dtype == np.uint8
    assert found.adversarial.shape == pixels.shape
    # Success is what the model says of the bytes, and the bytes lie in the ball.
    after = np.asarray(model.logits(found.adversarial.astype(np.float32)))
    np.testing.assert_array_equal(found.success, goal.reached(after))
    assert norms.inside(found.adversarial, pixels, norm, attack.radius_255).all()
    assert (found.steps >= 1).all()
    assert (found.steps <= attack.steps).all()
    if name in ("linear", "two classes") and method != "square":
        assert found.success.all(), f"{found.success.sum()} of {len(pixels)}"
        assert found.raw_success.all()
    if norm == "linf" or method == "deepfool":
        same = attack.run(model, pixels, goal, batch_size=3)
        np.testing.assert_array_equal(same.adversarial, found.adversarial)


BOUNDED = [(method, norm) for method, kind in METHODS.items() if not kind.minimal for norm in kind.norms]


@pytest.mark.parametrize(("method", "norm"), BOUNDED)
def test_budgets_below_the_closed_form_fail_and_above_it_succeed(models, method, norm):
    # With two classes every loss points straight at the boundary; DLR has no meaning there.
    name = "linear" if method == "apgd-dlr" else "two classes"
    model = models[name]
    pixels = model.model.images(4, seed=1)
    labels = said(model.model, pixels)
    steps = {"fgsm": 1, "square": 300}.get(method, 30)
    for index, image in enumerate(pixels):
        smallest = model.model.smallest(image, norm)
        # Among five classes the loss does not point straight at the nearest; random search only comes near.
        enough = smallest * (3 if method == "square" else 1.15 if name == "linear" else 1.001)
        # L∞ budgets act as whole numbers, because the result is rounded to 8 bits.
        below = np.ceil(smallest) - 1 if norm == "linf" else 0.98 * smallest
        above = np.ceil(enough) if norm == "linf" else 1.03 * enough
        one, goal = pixels[index : index + 1], Goal(labels[index : index + 1])
        assert make(method, norm=norm, epsilon_255=above, steps=steps).run(model, one, goal).success.all()
        assert not make(method, norm=norm, epsilon_255=below, steps=steps).run(model, one, goal).success.any()


@pytest.mark.parametrize(("method", "norm"), [("deepfool", "l2"), ("deepfool", "linf"), ("cw", "l2")])
@pytest.mark.parametrize(("name", "targeted"), [("linear", False), ("two classes", True)])
def test_minimal_attacks_find_the_closed_form(models, method, norm, name, targeted):
    model = models[name]
    pixels = model.model.images(5, seed=3)
    labels = said(model.model, pixels)
    goal = Goal(labels, 1 - labels if targeted else None)
    found = make(method, norm=norm).run(model, pixels, goal)
    assert found.success.all()
    length = norms.distances(found.adversarial, pixels)[f"{norm}_255"]
    smallest = np.array([model.model.smallest(image, norm) for image in pixels])
    # Below is impossible; above, rounding to 8 bits costs a little (in L∞ up to one whole number).
    assert (length >= smallest - 1e-3).all()
    assert (length <= (smallest + 1.01 if norm == "linf" else 1.06 * smallest)).all(), length / smallest


def test_the_gradients_are_those_of_finite_differences():
    import keras

    from tests.networks import small_network
    from tlkeras import backbones
    from tlkeras.attacks.model import FullSize, attack_model
    from tlkeras.target import Target

    network = small_network(32)
    features = network.output
    keras.utils.set_random_seed(1)
    logits = keras.layers.Dense(4)(features)
    target = Target("tiny", "mobilenet_0.25", keras.Model(network.input, logits), tuple("abcd"), 32, "crop")
    assert backbones.application(target.network)
    random = np.random.default_rng(0)
    for full_size, shape in ((False, (32, 32)), (True, (47, 61))):
        model = attack_model(target, full_size=full_size)
        assert isinstance(model.scorer, FullSize if full_size else Target)
        pixels = random.uniform(20, 235, (2, *shape, 3)).astype(np.float32)
        labels = np.asarray(model.logits(pixels)).argmax(axis=1).astype(np.int32)
        for loss in ("margin",) if full_size else ("ce", "dlr"):
            _, value, gradient = model.gradient(pixels, Goal(labels), loss)
            direction = np.asarray(gradient)
            direction = direction / np.linalg.norm(direction.reshape(2, -1), axis=1).reshape(2, 1, 1, 1)
            step = 0.02
            ahead = np.asarray(model.gradient(pixels + step * direction, Goal(labels), loss)[1])
            behind = np.asarray(model.gradient(pixels - step * direction, Goal(labels), loss)[1])
            slope = (ahead - behind) / (2 * step)
            expected = (np.asarray(gradient) * direction).sum(axis=(1, 2, 3))
            np.testing.assert_allclose(slope, expected, rtol=0.05)
            assert np.isfinite(np.asarray(value)).all()


def test_images_that_are_done_leave_the_batch():
    model = AttackModel(Linear(5))
    pixels = model.model.images(8)
    goal = Goal(said(model.model, pixels))
    attack = make("pgd", epsilon_255=16.0, steps=40)
    found = attack.run(model, pixels, goal)
    assert found.success.all()
    quick, all_steps = model.gradient_images, 8 * 40
    assert quick == found.steps.sum() < all_steps / 3
    whole = dataclasses.replace(attack, stop_early=False).run(model, pixels, goal)
    assert model.gradient_images - quick == all_steps

    def margins(images):
        return goal.margin(np.asarray(model.logits(images.astype(np.float32))))

    # All steps made, the result lies further beyond the boundary.
    assert (margins(whole.adversarial) >= margins(found.adversarial)).all()


def test_batches_of_any_size_find_alike_and_nothing_is_traced_twice():
    model = AttackModel(Smooth())
    pixels = model.model.images(7)
    goal = Goal(said(model.model, pixels))
    attack = make("pgd", epsilon_255=8.0)
    found = [attack.run(model, pixels, goal, batch_size=size) for size in (1, 3, 7)]
    for other in found[1:]:
        np.testing.assert_array_equal(other.success, found[0].success)
        # Random starts hang on the image, not on its batch; sums may round otherwise.
        assert (other.adversarial != found[0].adversarial).mean() < 0.02
    assert {function.experimental_get_tracing_count() for function in model._compiled.values()} == {1}


def test_restarts_help_where_one_start_fails():
    model = AttackModel(Smooth(seed=5))
    pixels = images(24, seed=9)
    goal = Goal(said(model.model, pixels))
    few, many = (
        make("pgd", norm="l2", epsilon_255=8.0, steps=2, restarts=restarts).run(model, pixels, goal).success.sum()
        for restarts in (1, 8)
    )
    assert 0 < few < many


def test_apgd_is_no_worse_than_pgd_and_the_black_box_no_better():
    model = AttackModel(Smooth(seed=5))
    pixels = images(24, seed=9)
    goal = Goal(said(model.model, pixels))

    def fooled(method, **options):
        return make(method, **options).run(model, pixels, goal).success.sum()

    for epsilon_255 in (5.0, 9.0):
        budget = {"norm": "l2", "epsilon_255": epsilon_255, "steps": 20}
        assert 0 < fooled("pgd", **budget) <= fooled("apgd-ce", **budget) < 24
    assert fooled("square", epsilon_255=1.0, steps=60) < fooled("pgd", epsilon_255=1.0)


@pytest.mark.parametrize(("steps", "epsilons"), [(1, 0.5), (5, 0.5), (25, 0.5), (50, 1.0), (100, 2.0), (1000, 2.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_step_of_apgd_is_the_papers_from_100_steps_on(norm, steps, epsilons):
    attack = make("apgd-ce", norm=norm, epsilon_255=3.0, steps=steps)
    assert attack.first_length_255 == pytest.approx(3.0 * epsilons)


def test_of_several_ends_the_strongest_counts():
    model = AttackModel(Smooth(seed=5))
    pixels = images(6, seed=9)
    goal = Goal(said(model.model, pixels))
    strong = make("pgd", epsilon_255=16.0).run(model, pixels, goal)
    assert strong.success.any()

    class Recalls(FGSM):
        def ends(self, state):
            return (*super().ends(state), tf.constant(strong.adversarial, tf.float32), state["pixels"])

    # Nothing succeeds on the way: its one step goes nowhere.
    found = Recalls(epsilon_255=16.0, step_255=1e-6).run(model, pixels, goal)
    np.testing.assert_array_equal(found.success, strong.success)
    np.testing.assert_array_equal(found.adversarial[strong.success], strong.adversarial[strong.success])


def test_another_seed_starts_elsewhere():
    model = AttackModel(Smooth())
    pixels = images(3)
    goal = Goal(said(model.model, pixels))
    one, two = (make("pgd", epsilon_255=2.0, steps=1, seed=seed).run(model, pixels, goal) for seed in (0, 1))
    assert (one.adversarial != two.adversarial).any()


def test_no_images_and_strange_parameters():
    model = AttackModel(Linear(3))
    empty = make("pgd").run(model, images(0), Goal(np.zeros(0)))
    assert empty.adversarial.shape == (0, 12, 12, 3)
    with pytest.raises(DataError, match=r"lie in 0\.\.2"):
        Goal(np.array([3])).check(3)
    with pytest.raises(DataError, match="as many target classes"):
        Goal(np.array([1, 2]), np.array([1]))


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("pdg", {}, "did you mean 'pgd'"),
        ("pgd", {"epsilon_255": 0}, "above 0"),
        ("pgd", {"epsilon_255": 300}, "at most 255"),
        ("pgd", {"epsilon_255": float("nan")}, "above 0"),
        ("pgd", {"norm": "l3"}, "unknown norm"),
        ("pgd", {"steps": 0}, "at least 1"),
        ("pgd", {"seed": -1}, "seed"),
        ("pgd", {"candidates": 3}, "unknown option of pgd"),
        ("pgd", {"step_255": 0}, "above 0"),
        ("fgsm", {"steps": 4}, "one step"),
        ("square", {"norm": "l2"}, "attacks in linf"),
        ("deepfool", {"epsilon_255": 4}, "no budget"),
        ("deepfool", {"restarts": 3}, "no random start"),
        ("cw", {"norm": "linf"}, "attacks in l2"),
        ("cw", {"searches": 0}, "searches"),
        ("cw", {"confidence": -1}, "margin in logits"),
    ],
)
def test_bad_parameters_are_one_line(method, options, words):
    with pytest.raises(ConfigError, match=words):
        make(method, **options)


def test_all_parameters_are_shown_and_are_json():
    for method in METHODS:
        attack = make(method)
        shown = attack.to_json()
        json.dumps(shown, allow_nan=False)
        assert shown["method"] == method
        for field in dataclasses.fields(attack):
            assert field.name in shown
            assert f"{field.name}=" in repr(attack)


def test_the_page_lists_the_attacks_that_there_are():
    page = (Path(__file__).parents[2] / "docs" / "adversarial.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .* \| ([^|]+) \|$", page, re.MULTILINE))
    signs = {"linf": "L∞", "l2": "L2"}
    assert rows == {name: ", ".join(signs[norm] for norm in kind.norms) for name, kind in METHODS.items()}
