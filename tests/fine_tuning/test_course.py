"""Fine-tuning: what moves and what stays, who is kept, and that a run can be stopped at any step."""

import os
import signal
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tlkeras import backbones
from tlkeras.backbones.layers import blocks
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, DataError, InterruptedRunError, OutOfMemoryError
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.fine_tuning.course import fine_tune
from tlkeras.fine_tuning.loop import NOT_FINITE, SHARES
from tlkeras.fine_tuning.start import Start
from tlkeras.fine_tuning.state import TuningState
from tlkeras.fine_tuning.tuner import Tuner
from tlkeras.heads.config import HeadConfig
from tlkeras.progress import Silent
from tlkeras.trained import TrainedClassifier
from tlkeras.training.config import TrainConfig
from tlkeras.training.fit import fit, starting_point

TWO_EPOCHS = FineTuneConfig(epochs=2, batch_size=16, refit=False)  # three steps each


@pytest.fixture(scope="module")
def started(photo_folder, small_weights, tmp_path_factory):
    """Makes starting points; told that the frozen classifier knows nothing, so that fine-tuning is kept."""
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("start_cache")))

    def make(**options):
        network = {"weights": str(small_weights), "size_px": 32, "engine": "tensorflow"}
        config = TrainConfig("mobilenet_0.25", **network, test_fraction=0.15, **options)
        point = starting_point(fit(config, open_dataset(photo_folder), Silent()), 0)
        return replace(point, frozen_logits=np.zeros_like(point.frozen_logits))

    yield make
    cache.undo()


@pytest.fixture(scope="module")
def start(started):
    return started()


@pytest.fixture(scope="module")
def tuned(start):
    return fine_tune(start, TWO_EPOCHS, reporter=Silent())


def statistics(network):
    """Indices of moving statistics among the weights, which Keras names so."""
    return {index for index, variable in enumerate(network.weights) if variable.name.startswith("moving_")}


def moved(start, network):
    pairs = zip(start.weights, network.get_weights(), strict=True)
    return {index for index, (before, after) in enumerate(pairs) if not np.array_equal(before, after)}


def test_everything_learns_but_the_statistics(start, tuned):
    network = tuned.classifier.network
    kept = statistics(network)
    assert len(kept) == 54
    # Normalisation in inference mode: what it was pretrained with is what it still uses.
    assert moved(start, network) == set(range(len(network.weights))) - kept


def test_what_it_tells(start, tuned):
    assert not tuned.kept_frozen
    assert [row["epoch"] for row in tuned.history] == [1, 2]
    assert tuned.steps == 6
    assert tuned.refit == ()
    assert tuned.history[-1]["blocks"] == 5
    assert tuned.augmentation == "light"
    plain = tuned.to_json()
    assert plain["kept"] == "fine-tuned"
    assert {"frozen", "best", "averaged", "blend 0.5"} <= {row["name"] for row in plain["contest"]["entries"]}
    assert plain["contest"]["winner"] in ("best", "averaged", "last", *(f"blend {share:g}" for share in SHARES))


def test_the_classifier_is_what_was_judged_and_survives_saving(start, tuned, tmp_path):
    paths = [verdict.path for verdict in start.validation.verdicts]
    pixels = np.stack([tuned.classifier.fitted(path) for path in paths])
    # It was judged on pixels rounded to whole numbers, which a random network answers a little otherwise.
    np.testing.assert_allclose(tuned.classifier.logits(np.rint(pixels)), tuned.logits, atol=1e-2)
    folder = tuned.classifier.save(tmp_path / "tuned")
    loaded = TrainedClassifier.load(folder)
    np.testing.assert_array_equal(loaded.predict(paths), tuned.classifier.predict(paths))
    # Features are stored by this hash: those of the pretrained network are never taken for this one's.
    assert loaded.config.backbone_sha256 == backbones.weights_sha256(loaded.network.get_layer("backbone"))
    assert loaded.config.backbone_sha256 != start.described.backbone_sha256


def test_the_same_seed_gives_the_same_weights(start, tuned):
    again = fine_tune(start, TWO_EPOCHS, reporter=Silent())
    for one, other in zip(tuned.classifier.network.get_weights(), again.classifier.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [{**row, "seconds": 0} for row in again.history] == [{**row, "seconds": 0} for row in tuned.history]


def test_what_won_is_trained_once_more_on_all_photos(start, tuned, monkeypatch):
    """The same course, as far as its weights are needed, over train and validation, from the head fitted on both."""
    drawn = []
    batches = Start.batches
    monkeypatch.setattr(Start, "batches", lambda self, *a: (drawn.append(self), batches(self, *a))[1])
    result = fine_tune(start, replace(TWO_EPOCHS, refit=True), reporter=Silent())
    # Only what does not depend on the luck of one course can be repeated in another.
    names = {"frozen", "last", "averaged", *(f"blend {share:g}" for share in SHARES)}
    assert {entry.name for entry in result.contest.entries} == names
    first, last = drawn
    assert len(first.train) == len(start.train)
    assert len(last.train) == len(start.train) + len(start.validation)
    assert len(last.validation) == 0
    frozen = [np.array_equal(a, b) for a, b in zip(first.weights, last.weights, strict=True)]
    assert frozen == [True] * (len(frozen) - 2) + [False] * 2  # only the head's kernel and bias differ
    assert [row["log_loss"] for row in result.refit] == [None] * len(result.refit)
    assert result.steps > tuned.steps
    assert result.classifier.config.temperature == result.contest.entry(result.contest.winner).temperature


class Stopper:
    """A reporter that sends this process a signal when so many steps are done."""

    def __init__(self, step, number):
        self.at = step
        self.number = number

    def say(self, text):
        pass

    @contextmanager
    def step(self, name, unit="images"):
        def advance(done, total):
            if name == "fine-tune" and done == self.at:
                os.kill(os.getpid(), self.number)

        yield advance


@pytest.mark.parametrize(
    ("step", "number"),
    [
        pytest.param(2, signal.SIGTERM, id="within an epoch"),
        pytest.param(3, signal.SIGINT, id="at its end", marks=pytest.mark.slow),
        pytest.param(5, signal.SIGTERM, id="in the last", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_as_one_that_was_not(step, number, start, tuned, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRunError, match=f"after step {step} of 6 and saved. Say this") as stopped:
        fine_tune(start, TWO_EPOCHS, reporter=Stopper(step, number), folder=tmp_path, how_to_resume="Say this.")
    assert stopped.value.exit_code == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert TuningState.load(tmp_path)[0].step == step
    resumed = fine_tune(start, TWO_EPOCHS, reporter=Silent(), folder=tmp_path)
    for one, other in zip(
        tuned.classifier.network.get_weights(), resumed.classifier.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert resumed.contest == tuned.contest
    # Only what the state refers to is left.
    wanted = {row["file"] for rows in TuningState.load(tmp_path)[0].kept.values() for row in rows}
    assert {path.name for path in tmp_path.glob("epoch-*")} == wanted


def test_other_photos_are_not_resumed(start, tmp_path):
    with pytest.raises(InterruptedRunError):
        fine_tune(start, TWO_EPOCHS, reporter=Stopper(1, signal.SIGTERM), folder=tmp_path)
    fewer = replace(start.train, verdicts=start.train.verdicts[1:], labels=start.train.labels[1:])
    with pytest.raises(DataError, match="some are new, gone or changed"):
        fine_tune(replace(start, train=fewer), TWO_EPOCHS, reporter=Silent(), folder=tmp_path)


@pytest.mark.parametrize("count", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_only_the_last_blocks_learn(count, start, monkeypatch):
    monkeypatch.setattr("tlkeras.fine_tuning.course.NEEDED_ERRORS", -1e9)  # what moved is seen in the one that is kept
    config = FineTuneConfig(epochs=1, batch_size=16, unfreeze=count, augment="off", ema=0.0)
    network = fine_tune(start, config, reporter=Silent()).classifier.network
    found = blocks(network)
    learning = {id(v) for block in found[len(found) - count :] for v in block.variables}
    learning |= {id(v) for v in network.get_layer("head").weights}
    expected = {index for index, v in enumerate(network.weights) if id(v) in learning} - statistics(network)
    assert moved(start, network) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"mirror": True}, {"head": HeadConfig("mlp", (8,))}], ids=["mirror", "mlp head with dropout"]
)
def test_every_kind_of_classifier_can_be_fine_tuned(options, started):
    start = started(**options)
    config = FineTuneConfig(epochs=2, batch_size=16, learning_rate=1e-4, augment="light")
    one, other = (fine_tune(start, config, reporter=Silent()).classifier for _ in range(2))
    for mine, theirs in zip(one.network.get_weights(), other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # Normalisations keep their statistics in the head as well.
    assert not moved(start, one.network) & statistics(one.network)


class Listener(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_a_loss_that_is_no_number_stops_it_and_keeps_what_was_good(start, monkeypatch):
    calls = []
    step = Tuner.step

    def failing(self, *arguments, **options):
        calls.append(1)
        return step(self, *arguments, **{**options, "rate": float("nan") if len(calls) > 4 else options["rate"]})

    monkeypatch.setattr(Tuner, "step", failing)
    listener = Listener()
    result = fine_tune(start, replace(TWO_EPOCHS, epochs=4), reporter=listener)
    assert result.stopped == NOT_FINITE
    (line,) = [line for line in listener.lines if "not finite" in line]
    assert "what epoch 1 left is used" in line
    assert "--learning-rate below 0.0003" in line
    assert not result.kept_frozen
    assert np.isfinite(result.logits).all()
    assert len(result.history) == 1

    calls[:] = [1] * 5  # wrong from the first step on
    result = fine_tune(start, TWO_EPOCHS, reporter=listener)
    assert result.kept_frozen
    assert "no fine-tuned network" in result.contest.reason


@pytest.mark.parametrize(("batch", "words"), [(16, "--batch-size 8"), (1, "--size")])
def test_too_little_memory_names_what_may_fit(batch, words, start, monkeypatch):
    def full(self):
        def step(*arguments):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

        return step

    monkeypatch.setattr(Tuner, "_compiled", full)
    with pytest.raises(OutOfMemoryError, match=f"does not hold batches of {batch}.*{words}"):
        fine_tune(start, FineTuneConfig(epochs=1, batch_size=batch), reporter=Silent())


def test_devices_and_precision_that_are_not_there(start):
    with pytest.raises(ConfigError, match="unknown device 'gpu:7'"):
        fine_tune(start, FineTuneConfig(devices=("gpu:7",)), reporter=Silent())
    with pytest.raises(ConfigError, match=r"needs a GPU.*Leave out --mixed-precision"):
        fine_tune(start, FineTuneConfig(mixed_precision=True), reporter=Silent())


def test_mixed_precision_keeps_weights_in_full(start, monkeypatch):
    monkeypatch.setattr("tlkeras.fine_tuning.tuner._has_bfloat16", lambda: True)
    tuner = Tuner(start.described, start.weights, FineTuneConfig(mixed_precision=True), 0)
    assert {variable.dtype for variable in tuner.network.weights} == {"float32"}
    assert tuner.network.get_layer("head").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    losses = [tuner.step(tf.constant(pixels), tf.one_hot([0, 1, 0, 1], 2), rate=1e-3, decay=0.9) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert tuner.logits(pixels).dtype == np.float32


def test_without_validation_the_frozen_network_is_kept(start):
    nothing = replace(start.validation, verdicts=(), labels=start.validation.labels[:0])
    result = fine_tune(
        replace(start, validation=nothing, frozen_logits=start.frozen_logits[:0]), TWO_EPOCHS, reporter=Silent()
    )
    assert result.kept_frozen
