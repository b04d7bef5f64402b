"""Who is kept: a table of cases, and that noise does not win."""

import numpy as np
import pytest

from tlkeras.fine_tuning.course import FROZEN, contest

LABELS = np.arange(200) % 2


def logits(margin, wrong=0, noise=0.0, seed=0):
    """Two-class logits: ``margin`` for the right class, for the first ``wrong`` photos for the other one."""
    random = np.random.default_rng(seed)
    signs = np.where(np.arange(len(LABELS)) < wrong, -1.0, 1.0)
    towards = (2 * LABELS - 1) * signs * (margin + noise * random.normal(size=len(LABELS)))
    return np.stack([-towards / 2, towards / 2], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("frozen", "tuned", "winner", "words"),
    [
        (logits(2, wrong=40), logits(2, wrong=10), "best", "is better"),
        (logits(2, wrong=10), logits(2, wrong=40), FROZEN, "more of 200 validation photos wrong"),
        (logits(2, wrong=20), logits(2, wrong=20), FROZEN, "not clearly better"),
        # As many right, and only more confident: temperatures make both alike.
        (logits(2, wrong=20), logits(4, wrong=20), FROZEN, "not clearly better"),
    ],
    ids=["better", "worse", "equal", "only louder"],
)
def test_who_is_kept(frozen, tuned, winner, words):
    result = contest(frozen, {"best": tuned}, LABELS)
    assert result.winner == winner
    assert words in result.reason
    assert result.entries[0].name == FROZEN


def test_the_best_of_several_stands_for_fine_tuning():
    result = contest(logits(2, wrong=40), {"best": logits(2, wrong=20), "averaged": logits(2, wrong=10)}, LABELS)
    assert result.winner == "averaged"
    assert result.entry("averaged").accuracy == 0.95


def test_noise_seldom_wins():
    """Networks that are as good as the frozen one, but err elsewhere: the best of three is rarely kept."""
    kept = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        entries = []
        for _ in range(4):
            rows = logits(2, noise=1.0, seed=int(random.integers(1 << 30)))
            wrong = random.random(len(LABELS)) < 0.15
            rows[wrong] = rows[wrong][:, ::-1]
            entries.append(rows)
        result = contest(entries[0], dict(zip("abc", entries[1:], strict=True)), LABELS)
        kept += result.winner != FROZEN
    # The best of three is better than the frozen one three times in four, though all are equal.
    assert kept <= 24


@pytest.mark.parametrize(("candidates", "words"), [({}, "no fine-tuned"), ({"best": logits(2)[:1]}, "too few")])
def test_too_little_to_tell(candidates, words):
    result = contest(logits(2)[:1], candidates, LABELS[:1])
    assert result.winner == FROZEN
    assert words in result.reason
