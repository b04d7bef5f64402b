"""Presets suit the mode and the family of the network, and give way to what the user wants."""

from dataclasses import replace

import pytest

from tests.networks import small_network
from tlkeras import backbones
from tlkeras.errors import ConfigError
from tlkeras.ideal.objectives import ClassLogit, ClassLogProbability, StrangeStatistics, Sum
from tlkeras.ideal.presets import preset
from tlkeras.target import Target


def target_of(network):
    return Target("network", "", network, ("a",), 32, "crop")


@pytest.fixture(scope="module")
def normalised():
    return target_of(small_network(32))


@pytest.fixture(scope="module")
def plain():
    return target_of(backbones.build("vgg16", "none", size_px=32))


def kinds(objective):
    """The classes of all that is added up in an objective."""
    if isinstance(objective, Sum):
        return {kind for _, part in objective.parts for kind in kinds(part)}
    return {type(objective)}


def test_a_network_with_batch_normalisation_is_held_to_its_statistics(normalised):
    chosen = preset(normalised, "fourier")
    assert chosen.transforms.window < 1
    assert kinds(chosen.class_objective(normalised)) == {ClassLogit, ClassLogProbability, StrangeStatistics}


def test_a_family_without_is_made_smoother_instead(normalised, plain):
    chosen, other = preset(plain, "fourier"), preset(normalised, "fourier")
    assert kinds(chosen.class_objective(plain)) == {ClassLogit, ClassLogProbability}
    assert chosen.tv > other.tv
    assert chosen.held.decay > other.held.decay
    assert chosen.ascent == other.ascent


def test_a_family_with_a_preset_of_its_own_gets_it(normalised):
    own = preset(replace(normalised, backbone="efficientnet_lite0"), "fourier")
    other = preset(replace(normalised, backbone="mobilenet_v2"), "fourier")
    assert other == preset(normalised, "fourier")
    assert own.ascent.rate < other.ascent.rate
    assert own.transforms.noise_255 > other.transforms.noise_255


def test_the_plain_loop_climbs_the_logit_alone(normalised):
    assert kinds(preset(normalised, "pixels").class_objective(normalised)) == {ClassLogit}


def test_what_the_user_wants_goes_before(normalised):
    chosen = preset(normalised, "fourier", steps=7, tv=0.0)
    assert chosen.ascent.steps == 7
    assert chosen.with_variation(ClassLogit()) == ClassLogit()
    with pytest.raises(ConfigError, match="did you mean 'pixels'"):
        preset(normalised, "pixel")
