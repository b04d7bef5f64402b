"""The head search takes what is better beyond the noise, and tells everything it tried."""

import json

import numpy as np
import pytest

from tests.heads.test_linear import clusters
from tests.heads.test_mlp import rings
from tlkeras.heads import linear
from tlkeras.heads import mlp as mlps_module
from tlkeras.heads.auto import search_heads
from tlkeras.heads.config import HeadConfig, HeadSearch, head_from_json, head_named
from tlkeras.heads.neighbours import vote
from tlkeras.heads.train import train_head
from tlkeras.progress import Silent

SMALL = (HeadConfig("mlp", (64,), 0.1), HeadConfig("mlp", (96,), 0.1))


@pytest.fixture
def quick_mlp(monkeypatch):
    """In place of an MLP what sees as much in a moment: the votes of neighbours. Tells what each training was given."""
    given = []

    def fit(train_X, train_y, val_X, val_y, class_count, **_):
        given.append((len(train_y), len(val_y)))
        return lambda features: vote(train_X, train_y, features, class_count, 9), []

    monkeypatch.setattr(mlps_module, "fit_mlp", fit)
    monkeypatch.setattr(mlps_module, "head_logits", lambda model, features: model(features))
    return given


def search(features, labels, classes, *, budget_s=600.0, mlps=SMALL, cut=0.2):
    """Enough validation images by default, so that there is one fold and one training a candidate."""
    at = int(cut * len(labels))
    train, validation = (features[:at], labels[:at]), (features[at:], labels[at:])
    return search_heads(train, validation, classes, budget_s=budget_s, seed=0, reporter=Silent(), mlps=mlps)


@pytest.fixture(scope="module")
def curved():
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(mlps_module, "EPOCHS", 22)
        return search(*rings(1700, 0), 2, cut=0.4)


def test_an_mlp_is_taken_where_it_is_needed(curved):
    assert curved.chosen in SMALL
    assert curved.held_out_logits.shape == (1020, 2)
    assert np.mean(curved.held_out_logits.argmax(axis=1) == curved.held_out_labels) > 0.9


def test_everything_tried_is_told(curved):
    told = json.loads(json.dumps(curved.to_json(9.0), allow_nan=False))
    assert [row["name"] for row in told["candidates"]] == [
        "linear",
        "1-NN",
        "5-NN",
        "20-NN",
        "mlp 64, dropout 0.1",
        "mlp 96, dropout 0.1",
    ]
    assert all(row["seconds"] >= 0 and row["log_loss"] > 0 for row in told["candidates"])
    by_name = {row["name"]: row for row in told["candidates"]}
    # Neighbours see the rings too; they are a check and have nothing that could be shipped.
    assert by_name["5-NN"]["config"] is None
    assert by_name["linear"]["accuracy"] < 0.7 < by_name[told["chosen"]]["accuracy"]


def test_the_linear_head_stays_where_an_mlp_is_no_better(quick_mlp):
    # Labels that nothing tells: whatever is tried, nothing gains more than the noise.
    features = np.random.default_rng(0).normal(size=(1300, 12)).astype(np.float32)
    found = search(features, np.arange(1300) % 3, 3, mlps=SMALL[:1])
    assert found.chosen == HeadConfig()
    np.testing.assert_array_equal(found.held_out_logits, found.linear.held_out_logits)
    assert "linear" in found.reason or "simpler" in found.reason


def test_few_images_are_judged_in_folds(quick_mlp):
    found = search(*rings(60, 0), 2, cut=0.8, mlps=SMALL[:1])
    assert len(found.held_out_labels) == 60
    assert {c.name: c.note for c in found.candidates}["mlp 64, dropout 0.1"] == ""
    assert len(found.held_out_logits) == 60
    # Of the 48 images outside of a fold, an eighth tells when to stop.
    assert quick_mlp == [(42, 6)] * 5


def test_no_time_leaves_the_linear_head_and_says_so():
    found = search(*rings(300, 0), 2, budget_s=1e-6)
    assert found.chosen == HeadConfig()
    assert [c.note for c in found.candidates if c.config in SMALL] == ["not tried: no time left"] * 2


def test_one_image_a_class_can_be_searched():
    found = search(np.eye(3, dtype=np.float32), np.arange(3), 3, cut=1.0)
    assert found.chosen == HeadConfig()


@pytest.mark.parametrize(("steps", "converged"), [(1, False), (1000, True)])
def test_a_linear_head_that_stopped_short_is_told(steps, converged, monkeypatch):
    monkeypatch.setattr(linear, "_MAX_STEPS", steps)
    features, labels = clusters(120, 10, 3)
    said = []
    reporter = Silent()
    reporter.say = said.append
    head = train_head(
        HeadConfig(), (features[:90], labels[:90]), (features[90:], labels[90:]), 3, seed=0, reporter=reporter
    )
    assert head.description["converged"] is converged
    assert (linear.NOT_CONVERGED in said) is not converged


def test_names_and_plain_values():
    assert head_named("auto", budget_s=5.0, units=(3,)) == HeadSearch(budget_s=5.0)
    assert head_named("mlp", units=(3,), budget_s=5.0) == HeadConfig("mlp", (3,))
    for head in (HeadSearch(budget_s=7.0), HeadConfig("mlp", (3, 2))):
        from dataclasses import asdict

        assert head_from_json(json.loads(json.dumps(asdict(head)))) == head


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: head_named("knn"), "known are linear, mlp, auto"),
        (lambda: HeadSearch(budget_s=0), "more than 0 seconds"),
        (lambda: HeadSearch("mlp"), "unknown head search"),
    ],
)
def test_refuses(call, words):
    from tlkeras.errors import ConfigError

    with pytest.raises(ConfigError, match=words):
        call()
