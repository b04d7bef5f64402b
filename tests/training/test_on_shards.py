"""`tlkeras train` on extracted features: in memory, and streaming."""

import json

import numpy as np
import pytest

from tlkeras.cli.main import main
from tlkeras.features.shards import Rows, ShardSet, begin, finish, write_shard
from tlkeras.training.shard_rows import read_rows

SIZE = 256  # features of mobilenet_0.25


@pytest.fixture(scope="module")
def extracted(small_weights, tmp_path_factory):
    """A folder as `tlkeras extract` writes it, with drawn vectors of four overlapping classes in shards of 300."""
    from tlkeras import backbones

    network = backbones.build("mobilenet_0.25", small_weights, size_px=32)
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, SIZE))
    folder = str(tmp_path_factory.mktemp("shards") / "features")
    space = {"backbone": "mobilenet_0.25", "weights_sha256": backbones.weights_sha256(network), "size_px": 32,
             "fit": "stretch", "feature_size": SIZE, "view": "plain", "precision": "fp32"}  # fmt: skip
    begin(folder, {"space": space})
    shards = []
    for number in range(12):
        rows = Rows()
        for at in range(300):
            label = int(random.integers(4))
            key = f"{random.integers(2**62):016x}".ljust(64, "0")
            text = {"key": key, "label": f"class {label}", "status": "good", "path": f"{number}-{at}.jpg"}
            rows.add(text, 9, 9)
            rows.answers[-1] = (centres[label] + 7.5 * random.normal(size=SIZE) + 1.0).astype(np.float32)
        rows.add({"status": "rejected", "reason": "empty", "label": "class 1", "path": f"{number}-bad.jpg"}, 0, 0)
        if number == 1:  # a copy of a row, and a contradiction
            rows.add({**{name: values[0] for name, values in rows.texts.items()}, "path": "copy.jpg"}, 9, 9)
            rows.answers[-1] = rows.answers[0]
            other = "class 0" if rows.texts["label"][1] != "class 0" else "class 3"
            rows.add({**{name: values[1] for name, values in rows.texts.items()}, "label": other}, 9, 9)
            rows.answers[-1] = rows.answers[1]
        shards.append(write_shard(folder, rows, "features", SIZE, f"part-{number:06d}-x"))
    finish(folder, "features", shards, {"space": space})
    return folder


def train(folder, weights, out, capfd, *more):
    assert main(["train", folder, "--weights", str(weights), "--out", str(out), "--json", *more]) == 0
    return json.loads(capfd.readouterr().out)


def test_streaming_is_within_half_a_point_of_memory(extracted, small_weights, tmp_path, capfd):
    whole = train(extracted, small_weights, tmp_path / "whole", capfd)
    # Room for some 1,000 of the 3,000 rows.
    part = train(extracted, small_weights, tmp_path / "part", capfd, "--memory-gb", "0.006")
    assert not whole["head"]["streamed"]
    assert part["head"]["streamed"]
    assert 600 < part["head"]["sample"] < 1400
    assert part["head"]["memory_bytes"] < 0.006e9
    assert whole["head"]["converged"]
    assert part["head"]["converged"]
    assert part["head"]["left_nats"] < 1e-7
    assert whole["audit"]["reasons"] == {"unreadable": 12, "duplicate": 1, "conflict": 2}
    assert whole["evaluation"]["images"] == part["evaluation"]["images"]
    assert 0.6 < whole["evaluation"]["accuracy"] < 0.995
    # Half a point of some 540 test rows is less than three rows.
    assert whole["evaluation"]["accuracy"] - part["evaluation"]["accuracy"] <= 0.005
    assert abs(whole["evaluation"]["log_loss"] - part["evaluation"]["log_loss"]) <= 0.03
    from tlkeras.trained import TrainedClassifier

    assert TrainedClassifier.load(tmp_path / "part").class_names == ("class 0", "class 1", "class 2", "class 3")


def test_splits_hang_on_the_content_alone(extracted):
    shards = ShardSet(extracted)
    rows = read_rows(shards, validation_fraction=0.2, test_fraction=0.1, seed=0)
    total = rows.count("train", "validation", "test")
    assert total == len(shards) - 12 - 1 - 2
    assert abs(rows.count("test") / total - 0.1) < 0.01
    assert abs(rows.count("validation") / total - 0.2) < 0.01
    shards.shards = shards.shards[::-1]
    turned = read_rows(shards, validation_fraction=0.2, test_fraction=0.1, seed=0)
    by_shard = np.split(turned.splits, np.cumsum([shard.rows for shard in shards.shards])[:-1])
    np.testing.assert_array_equal(np.concatenate(by_shard[::-1]), rows.splits)
    other = read_rows(shards, validation_fraction=0.2, test_fraction=0.1, seed=1)
    assert (other.splits != turned.splits).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weights", "none"], "other weights"),
        (["--head", "mlp"], "the head is linear"),
        (["--test", "x"], "their own test split"),
        (["--memory-gb", "0.000001"], "takes"),
        (["--memory-gb", "-1"], "positive number"),
    ],
)
def test_bad_options_are_one_line(options, words, extracted, small_weights, tmp_path, capfd):
    arguments = ["--weights", str(small_weights), *options, "--out", str(tmp_path / "run")]
    assert main(["train", extracted, *arguments]) == 2
    assert words in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
