import pytest

from tests.choosing.measured import measured
from tlkeras.choosing.transfer import transfer


@pytest.mark.parametrize(
    ("hits", "random", "shift", "verdict", "distance", "said", "unsaid"),
    [
        (390, 150, 0.01, "well", "near", ["Yes: ", "look like those"], ["helps", "may still help"]),
        (396, 160, 0.25, "well", "far", ["Yes: ", "far from", "yet its features", "may still help: fine-tuning"], []),
        (220, 130, 0.07, "partly", "between", ["In part: ", "somewhat unlike", "What helps: fine-tuning deeper"], []),
        (104, 100, 0.40, "badly", "far", ["No: ", "far from", "What helps", "people can tell"], ["yet its features"]),
        # Both are good: pretraining brings nothing all the same.
        (390, 388, None, "badly", None, ["No: ", "What helps"], ["nats"]),
        (90, 120, 0.01, "badly", "near", ["No: "], []),
    ],
)
def test_words_follow_the_figures(hits, random, shift, verdict, distance, said, unsaid):
    found = transfer(measured("net", hits, 1.0, random=random, shift=shift), 230.0)
    assert (found.verdict, found.distance) == (verdict, distance)
    assert all(words in found.words for words in said)
    assert not any(words in found.words for words in unsaid)
    assert found.gain == pytest.approx((hits - random) / 400)


@pytest.mark.parametrize(
    ("side", "advice"), [(500.0, "--size 448"), (320.0, "--size 320"), (230.0, None), (96.0, None)]
)
def test_a_larger_input_is_advised_only_where_the_photos_have_it(side, advice):
    words = transfer(measured("net", 110, 1.0), side).words
    assert ("--size" in words) == (advice is not None)
    assert advice is None or advice in words
