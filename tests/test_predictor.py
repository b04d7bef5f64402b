"""The one predictor: whoever asks, the answers agree, and what cannot be decoded is answered by its reason."""

import csv
import json
import threading

import numpy as np
import pytest

from tests.networks import small_network
from tests.pictures import encode, photo
from tlkeras.backbones.frozen import of_network
from tlkeras.cli.main import main
from tlkeras.engines import Runner
from tlkeras.features.shards import ShardSet
from tlkeras.graphs import relative_difference
from tlkeras.heads.config import HeadConfig, build_head
from tlkeras.predictor import head_in_numpy, in_batches, in_order
from tlkeras.trained import TrainedClassifier


@pytest.mark.parametrize(
    "config",
    [
        HeadConfig(),
        HeadConfig("mlp", units=(7,)),
        HeadConfig("mlp", units=(8, 5), batch_norm=True, dropout=0.5),
        HeadConfig("mlp", units=(6,), batch_norm=False),
    ],
)
def test_the_head_in_numpy_says_what_keras_says(config):
    random = np.random.default_rng(0)
    head = build_head(config, 9, 4)
    for variable in head.weights:
        variable.assign(random.uniform(0.5, 1.5, variable.shape) * random.choice([1, -1], variable.shape)
                        if "variance" not in variable.name else random.uniform(0.5, 2, variable.shape))  # fmt: skip
    features = random.normal(size=(6, 9)).astype(np.float32)
    features[0] = 0
    logits = head_in_numpy(config, [variable.numpy() for variable in head.weights])(features)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, head(features, training=False), rtol=1e-4, atol=1e-5)


def test_views_are_averaged():
    network = small_network()
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    runner = Runner(of_network("mobilenet_0.25", network), ("plain", "mirrored"), engine="tensorflow")
    expected = (network(pixels).numpy() + network(pixels[:, :, ::-1]).numpy()) / 2
    assert relative_difference(runner(pixels), expected) <= 1e-4


def test_decoding_runs_in_front_and_nothing_changes_places():
    begun, seen = [], threading.Event()

    def load(item):
        begun.append(item)
        if len(begun) > 4:
            seen.set()
        return item, None if item % 3 == 1 else np.full(2, item)

    sizes = []

    def compute(pixels):
        assert seen.wait(10)  # more than this batch has been decoded
        sizes.append(len(pixels))
        return pixels.sum(axis=1)

    decoded = in_order(load, range(11), threads=2, ahead=8)
    answers = list(in_batches(compute, decoded, 3))
    assert [item for item, _ in answers] == list(range(11))
    assert all((answer is None) if item % 3 == 1 else answer == 2 * item for item, answer in answers)
    assert sizes == [3, 3, 1]
    assert list(in_batches(compute, iter(()), 3)) == []


def test_predict_evaluate_and_shards_agree(run_folder, photo_folder, tmp_path, capfd):
    """On the run's test photos, beside which the run has written its own answers, and on two broken files."""

    def said(*words, code=0):
        assert main([*map(str, words), "--json"]) == code
        return json.loads(capfd.readouterr().out)

    with (run_folder / "predictions.csv").open() as file:
        measured = list(csv.DictReader(file))
    paths = [row["path"] for row in measured]
    broken = [str(photo_folder / "blue" / "cut.jpg"), str(photo_folder / "orange" / "empty.jpg")]

    predicted = said("predict", run_folder, *paths, *broken, code=1)
    said("predict", run_folder, *paths, *broken, "--to", tmp_path / "to", code=1)
    rows = ShardSet(str(tmp_path / "to"), "predictions").columns(["path", "predicted", "probability", "reason"])
    in_keras = TrainedClassifier.load(run_folder).predictor(engine="tensorflow").predict(paths)
    for number, row in enumerate(measured):
        answer = predicted["predictions"][number]
        assert answer["path"] == row["path"] == rows["path"][number]
        assert answer["label"] == row["predicted"] == rows["predicted"][number]
        probabilities = answer["probability"], float(row["probability"]), in_keras[number].max()
        np.testing.assert_allclose(probabilities, rows["probability"][number], atol=1e-4)
    reasons = [(row["path"], row["reason"]) for row in predicted["skipped"]]
    assert reasons == [(broken[0], "truncated"), (broken[1], "empty")]
    assert [(path, reason) for path, reason in zip(rows["path"], rows["reason"], strict=True) if reason] == reasons


def test_a_photo_is_decoded_once(run_folder, monkeypatch):
    from tlkeras.data import pipeline

    decoded, decode = [], pipeline.decode
    monkeypatch.setattr(pipeline, "decode", lambda data, *rest: decoded.append(1) or decode(data, *rest))
    images = [encode(photo(40, 30, seed), "PNG") for seed in range(3)]
    TrainedClassifier.load(run_folder).predict(images)
    assert len(decoded) == 3
