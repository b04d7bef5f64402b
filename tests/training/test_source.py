"""`tlkeras train` and `evaluate` on extracted features: by the rules of photos, in memory and in batches."""

import csv
import json

import numpy as np
import pytest

from tlkeras.cli.main import main
from tlkeras.features.shards import Rows, ShardSet, begin, finish, write_shard
from tlkeras.training.source import open_stored

SIZE = 256  # features of mobilenet_0.25


@pytest.fixture(scope="module")
def extracted(small_weights, tmp_path_factory):
    """A folder as `tlkeras extract` writes it, with drawn vectors of four overlapping classes in shards of 300.

    Every row of the first shard has a near copy, of the same picture in other bytes, in the last.
    """
    from tlkeras import backbones

    network = backbones.build("mobilenet_0.25", small_weights, size_px=32)
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, SIZE))
    folder = str(tmp_path_factory.mktemp("shards") / "features")
    space = {"backbone": "mobilenet_0.25", "weights_sha256": backbones.weights_sha256(network), "size_px": 32,
             "fit": "stretch", "feature_size": SIZE, "view": "plain", "precision": "fp32"}  # fmt: skip
    begin(folder, {"space": space})
    shards = []
    labels = [0] * 300
    for number in range(12):
        rows = Rows()
        for at in range(300):
            label = int(random.integers(4))
            key = f"{random.integers(2**62):016x}".ljust(64, "0")
            if number == 11:
                label = labels[at]
            labels[at] = label if number == 0 else labels[at]
            picture = np.random.default_rng(at if number in (0, 11) else 300 * number + at).bytes(32).hex()
            text = {"key": key, "label": f"class {label}", "status": "good", "path": f"{number}-{at}.jpg"}
            text["dhash"] = picture
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


@pytest.fixture(scope="module")
def whole(extracted, small_weights, tmp_path_factory):
    """A run on all of them in memory."""
    out = tmp_path_factory.mktemp("whole") / "run"
    arguments = ["train", extracted, "--weights", str(small_weights), "--out", str(out), "--no-report"]
    assert main([*arguments, "--validation-fraction", "0.2", "--test-fraction", "0.1"]) == 0
    return out


def rows_of(run, name):
    with (run / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_batches_are_within_half_a_point_of_memory(extracted, small_weights, tmp_path, capfd):
    whole = train(extracted, small_weights, tmp_path / "whole", capfd, "--test-fraction", "0.15")
    # Room for some 1,000 of the 3,000 rows.
    part = train(extracted, small_weights, tmp_path / "part", capfd, "--memory-gb", "0.017")
    assert "streamed" not in whole["head"]
    assert part["head"]["streamed"]
    assert 600 < part["head"]["sample"] < 1400
    assert part["head"]["memory_bytes"] < 0.017e9
    assert part["head"]["converged"]
    assert part["head"]["left_nats"] < 1e-7
    assert whole["audit"]["reasons"]["rejected"] == {"empty": 12, "conflict": 2, "duplicate": 1}
    assert whole["evaluation"]["images"] == part["evaluation"]["images"]
    assert 0.6 < whole["evaluation"]["accuracy"] < 0.995
    # Half a point of some 540 test rows is less than three rows.
    assert whole["evaluation"]["accuracy"] - part["evaluation"]["accuracy"] <= 0.005
    assert abs(whole["evaluation"]["log_loss"] - part["evaluation"]["log_loss"]) <= 0.03
    # The same files, the same splits, and doubtful labels of what is judged without folds.
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "part").iterdir())
    assert {"report.html", "audit.json", "calibration.json"} <= set(names)
    assert (tmp_path / "whole" / "splits.csv").read_bytes() == (tmp_path / "part" / "splits.csv").read_bytes()
    assert {row["split"] for row in rows_of(tmp_path / "part", "label_issues.csv")} == {"validation", "test"}
    assert {row["split"] for row in rows_of(tmp_path / "whole", "label_issues.csv")} == {"train", "validation", "test"}


def test_copies_are_never_in_two_splits(whole):
    audited = {image["path"]: image for image in json.loads((whole / "audit.json").read_text())["images"]}
    pictures = {}
    for row in rows_of(whole, "splits.csv"):
        pictures.setdefault(audited[row["path"]]["dhash"], []).append(row["split"])
    pairs = [splits for splits in pictures.values() if len(splits) == 2]
    assert len(pairs) > 290
    assert all(one == other for one, other in pairs)
    assert {one for one, _ in pairs} == {"train", "validation", "test"}


def test_splits_hang_on_the_content_alone(extracted, whole):
    rows = rows_of(whole, "splits.csv")
    counts = {name: sum(row["split"] == name for row in rows) for name in ("train", "validation", "test")}
    assert len(rows) == len(ShardSet(extracted)) - 12 - 1 - 2
    assert abs(counts["test"] / len(rows) - 0.1) < 0.01
    assert abs(counts["validation"] / len(rows) - 0.2) < 0.01


def test_what_was_in_effect_is_what_the_run_says(whole):
    described = json.loads((whole / "run.json").read_text())
    config = described["config"]
    in_effect = {"backbone": "mobilenet_0.25", "size_px": 32, "fit": "stretch", "mirror": False, "precision": "fp32"}
    assert {name: config[name] for name in in_effect} == in_effect
    assert described["features"]["computed"] == 0
    assert described["source"].startswith("features in ")


def test_batches_read_each_shard_once_and_only_what_is_wanted(extracted, monkeypatch):
    stored = open_stored(ShardSet(extracted))
    features = stored.features(np.ones(len(stored.images), bool))
    read = []
    vectors = ShardSet.vectors
    monkeypatch.setattr(ShardSet, "vectors", lambda self, number: read.append(number) or vectors(self, number))
    wanted = np.random.default_rng(0).permutation(np.arange(350, 900))
    found = {
        int(row): vector for rows, part in features.batches(wanted, 64) for row, vector in zip(rows, part, strict=True)
    }
    assert read == [1, 2]
    assert sorted(found) == list(range(350, 900))
    np.testing.assert_array_equal(features.matrix[350:900], [found[row] for row in range(350, 900)])


def test_evaluation_of_features_leaves_out_what_was_trained_on(whole, extracted, run_folder, capfd):
    assert main(["evaluate", str(whole), extracted, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert (found["images"], found["log_loss"]) == (metrics["images"], pytest.approx(metrics["log_loss"]))
    assert found["seen"]["left_out"]
    assert main(["evaluate", str(run_folder), extracted]) == 2
    assert "one of the classifier's" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weights", "none"], "another weights_sha256"),
        (["--test", "x"], "--test has no effect on extracted features"),
        (["--mirror"], "--mirror has no effect on extracted features"),
        (["--backbone", "vgg16"], "--backbone has no effect on extracted features"),
        (["--fine-tune", "2"], "--fine-tune has no effect on extracted features"),
        (["--memory-gb", "0.000001"], "takes"),
        (["--memory-gb", "-1"], "positive number"),
        (["--head", "mlp", "--memory-gb", "0.01"], "in memory"),
    ],
)
def test_bad_options_are_one_line(options, words, extracted, small_weights, tmp_path, capfd):
    arguments = ["--weights", str(small_weights), *options, "--out", str(tmp_path / "run")]
    assert main(["train", extracted, *arguments]) == 2
    assert words in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
