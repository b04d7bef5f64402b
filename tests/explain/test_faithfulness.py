"""Deletion and insertion against curves that can be written down, and chance against maps without meaning."""

import numpy as np
import pytest

from tlkeras.explain.faithfulness import (
    ANSWERS,
    CELLS,
    Faithfulness,
    areas,
    blurred,
    faithfulness,
    of_areas,
    order_of,
    random_orders,
    resized,
)

SIDE = 56
PIXELS = np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32)
BLACK = np.zeros_like(PIXELS)
TOP, LEFT = slice(0, 20), slice(0, 20)


def looks_at_a_corner(pixels):
    """Two classes; the first is seen as far as the upper left corner is there."""
    seen = pixels[:, TOP, LEFT].sum(axis=(1, 2, 3)) / PIXELS[TOP, LEFT].sum()
    return np.stack([seen, 1 - seen], axis=1)


def on_black(coarse):
    found = areas(looks_at_a_corner, PIXELS, BLACK, 0, [order_of(coarse), *random_orders()])
    return of_areas(found[0], found[1:])


def test_the_right_map_finds_at_once_and_loses_at_once():
    coarse = np.zeros((CELLS, CELLS))
    coarse[:5, :5] = 1
    found = on_black(coarse)
    # All 25 patches of the corner are among the first 28 of 196: after the first of seven steps all is there, or gone.
    assert found.insertion == pytest.approx(13 / 14, abs=1e-5)
    assert found.deletion == pytest.approx(1 / 14, abs=1e-5)
    assert found.better_than_chance
    assert str(found) == f"score {12 / 14:.2f}, by chance ±{found.random_score:.2f}"


def test_the_reverse_of_a_map_has_the_reverse_score():
    coarse = np.random.default_rng(1).permutation(CELLS * CELLS).reshape(CELLS, CELLS)
    there, back = on_black(coarse), on_black(-coarse)
    assert there.score == pytest.approx(-back.score, abs=1e-6)
    assert there.random_score == back.random_score


@pytest.mark.parametrize("seed", range(6))
def test_what_has_no_meaning_is_no_better_than_chance(seed):
    random = np.random.default_rng(seed)
    coarse = np.zeros((CELLS, CELLS)) if seed == 0 else random.random((3, 3))
    coarse[:2, :2] = 0
    found = faithfulness(looks_at_a_corner, PIXELS, 0, coarse)
    assert not found.better_than_chance
    assert str(found).endswith("no better than chance")


def test_an_answer_that_never_changes_is_no_reason_to_believe_a_map():
    found = faithfulness(lambda pixels: np.full((len(pixels), 2), 0.5, np.float32), PIXELS, 1, np.eye(CELLS))
    assert (found.score, found.random_score, found.better_than_chance) == (0, 0, False)


def test_so_many_answers_are_asked_for_as_is_told():
    asked = []

    def answer(pixels):
        asked.extend(pixels)
        return looks_at_a_corner(pixels)

    faithfulness(answer, PIXELS, 0, np.eye(CELLS))
    assert len(asked) == ANSWERS
    assert all(one.dtype == np.float32 for one in asked)


def test_a_map_is_read_between_its_cells():
    np.testing.assert_allclose(resized(np.array([[0.0, 1.0]]), 1, 4), [[0, 0.25, 0.75, 1]])
    np.testing.assert_allclose(resized(np.arange(28.0)[:, None], 14, 1)[:, 0], np.arange(14) * 2 + 0.5)
    assert blurred(PIXELS).std() < PIXELS.std() / 10
    assert Faithfulness(0.1, 0.6, 0.25).score == 0.5
