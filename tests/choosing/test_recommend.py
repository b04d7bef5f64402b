import pytest

from tests.choosing.measured import measured
from tlkeras.choosing.compare import pareto, recommend
from tlkeras.errors import DataError
from tlkeras.evaluation.metrics import paired_interval


@pytest.mark.parametrize(
    ("networks", "taken", "best"),
    [
        # Two of 400 photos more are noise: the quicker one.
        ([("small", 380, 1.0), ("large", 382, 9.0)], "small", "large"),
        # Forty are not.
        ([("small", 340, 1.0), ("large", 380, 9.0)], "large", "large"),
        ([("slow", 380, 5.0), ("quick", 380, 2.0)], "quick", "quick"),
        ([("middle", 379, 3.0), ("bad", 200, 0.5), ("large", 382, 9.0)], "middle", "large"),
        ([("only", 100, 1.0)], "only", "only"),
    ],
)
def test_takes_the_quickest_within_the_noise_of_the_best(networks, taken, best):
    made = recommend([measured(*network) for network in networks])
    assert (made.name, made.best) == (taken, best)
    assert made.sentence.count(".") >= 1
    assert taken in made.sentence
    assert best in made.sentence
    assert made.interval[0] <= made.difference <= made.interval[1]


def test_the_sentence_names_the_price():
    sentence = recommend([measured("small", 380, 1.0), measured("large", 382, 9.0)]).sentence
    assert "Take small: 95.0 %" in sentence
    assert "large gets 0.5 points more" in sentence
    assert "within the noise" in sentence
    assert "9.0 times as long" in sentence


def test_pairing_sees_what_two_intervals_do_not():
    # Twelve photos apart, all of them won by one side: certain, though both intervals overlap widely.
    one, other = measured("a", 380, 1.0), measured("b", 368, 1.0)
    assert other.probe.interval[1] > one.probe.interval[0]
    assert paired_interval(one.probe.right, other.probe.right)[0] > 0
    # The same accuracies with errors on other photos: no difference can be told.
    turned = measured("b", 368, 1.0, turned=200)
    assert paired_interval(one.probe.right, turned.probe.right)[0] < 0


def test_front_holds_what_nothing_beats_in_both():
    networks = [measured("a", 300, 1.0), measured("b", 290, 2.0), measured("c", 350, 3.0), measured("d", 350, 4.0)]
    assert pareto(networks) == ("a", "c")


def test_nothing_measured_is_refused():
    with pytest.raises(DataError, match="at least one"):
        recommend([])
