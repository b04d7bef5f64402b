"""One house: whatever form labelled photos have and wherever they are pushed through a network, the run is the same."""

import csv
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.pictures import encode, tinted
from tlkeras.cluster import HERE, Place
from tlkeras.features.bulk import extract_to
from tlkeras.training.config import TrainConfig
from tlkeras.training.run import train

CLASSES = {"blue": (40, 90, 200), "orange": (220, 140, 50)}


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    """Every photo is pushed through the network once in this module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def shared_cache(one_cache, private_cache, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(one_cache))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes: 20 pictures of each, of which some come twice, saved again or with the same bytes."""
    folder = tmp_path_factory.mktemp("contract") / "photos"
    for name, tint in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for seed in range(20):
            picture = tinted(tint, seed)
            (folder / name / f"{seed:02d}.jpg").write_bytes(encode(picture, "JPEG", quality=95))
            if seed < 8:
                (folder / name / f"{seed:02d}-again.jpg").write_bytes(encode(picture, "JPEG", quality=80))
        (folder / name / "twin.jpg").write_bytes((folder / name / "10.jpg").read_bytes())
    (folder / "blue" / "empty.jpg").write_bytes(b"")
    return folder


def listed(photos):
    return [(path, path.parent.name) for path in sorted(photos.rglob("*.jpg"))]


def as_csv(photos, home):
    with (home / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *listed(photos)])
    return home / "list.csv"


def as_parquet_list(photos, home):
    paths, labels = zip(*((str(path), label) for path, label in listed(photos)), strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"path": paths, "label": labels}), home / "list.parquet")
    return home / "list.parquet"


def as_parquet_bytes(photos, home):
    table = pyarrow.table({"image": [path.read_bytes() for path, _ in listed(photos)],
                           "label": [label for _, label in listed(photos)]})  # fmt: skip
    (home / "rows").mkdir()
    pyarrow.parquet.write_table(table, home / "rows" / "data.parquet", row_group_size=10)
    return home / "rows"


def as_records(photos, home):
    """Records as TensorFlow Datasets prepares them."""
    import tensorflow as tf

    (home / "records").mkdir()
    (home / "records" / "label.labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    with tf.io.TFRecordWriter(str(home / "records" / "set-train.tfrecord-00000-of-00001")) as writer:
        for path, label in listed(photos):
            image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.read_bytes()]))
            index = tf.train.Feature(int64_list=tf.train.Int64List(value=[list(CLASSES).index(label)]))
            features = tf.train.Features(feature={"image": image, "label": index})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return home / "records"


FORMS = {
    "folder": lambda photos, home: photos,
    "csv": as_csv,
    "parquet list": as_parquet_list,
    "parquet": as_parquet_bytes,
    "tfds": as_records,
}


@pytest.fixture(scope="module")
def config(small_weights):
    return TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow", seed=4)


def told(run):
    """What a run says of its photos, by their content: class and split of all, answers to those of the test."""

    def rows(name):
        with (run / name).open(newline="") as file:
            return list(csv.DictReader(file))

    content = {row["path"]: row["sha256"] for row in rows("splits.csv")}
    splits = {row["sha256"]: (row["label"], row["split"]) for row in rows("splits.csv")}
    answers = {content[row["path"]]: (row["predicted"], float(row["probability"])) for row in rows("predictions.csv")}
    return splits, answers


@pytest.fixture(scope="module")
def expected(photos, config, one_cache, tmp_path_factory):
    """The run on the folder, in memory."""
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(one_cache))
    run = train(config, photos, out=tmp_path_factory.mktemp("expected") / "run").folder
    cache.undo()
    return run


def assert_same(run, expected):
    splits, answers = told(run)
    wanted_splits, wanted = told(expected)
    assert splits == wanted_splits
    assert {content: name for content, (name, _) in answers.items()} == {key: name for key, (name, _) in wanted.items()}
    np.testing.assert_allclose([answers[key][1] for key in wanted], [share for _, share in wanted.values()], atol=2e-3)
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in expected.iterdir())
    one, other = (json.loads((folder / "audit.json").read_text())["counts"] for folder in (run, expected))
    assert one == other


@pytest.mark.parametrize("form", ["csv", "parquet list"])
def test_the_form_of_the_photos_does_not_matter(form, photos, config, expected, tmp_path):
    run = train(config, FORMS[form](photos, tmp_path), out=tmp_path / "run")
    assert run.fitted.features.extraction.computed == 0
    assert_same(run.folder, expected)


@pytest.mark.parametrize("form", FORMS)
def test_photos_and_their_features_give_the_same_run(form, photos, config, expected, tmp_path):
    extracted(FORMS[form](photos, tmp_path), config, tmp_path / "features", HERE)
    run = train(TrainConfig(weights=config.weights, seed=4), tmp_path / "features", out=tmp_path / "run")
    assert_same(run.folder, expected)


@pytest.mark.slow
def test_features_of_a_cluster_give_the_same_run(photos, config, expected, tmp_path):
    from tests.clusters import two_nodes

    with two_nodes():
        extracted(photos, config, tmp_path / "features", Place("auto"))
    run = train(TrainConfig(weights=config.weights, seed=4), tmp_path / "features", out=tmp_path / "run")
    assert_same(run.folder, expected)


def extracted(data, config, to, place):
    recipe = {"backbone": config.backbone, "weights": config.weights, "size_px": config.size_px, "fit": config.fit}
    extract_to(str(data), str(to), engine="tensorflow", rows_a_shard=16, place=place, **recipe)


def test_copies_are_never_in_two_splits(photos, expected):
    with (expected / "splits.csv").open(newline="") as file:
        split_of = {row["path"]: row["split"] for row in csv.DictReader(file)}
    pairs = [(photos / name / f"{seed:02d}.jpg", photos / name / f"{seed:02d}-again.jpg")
             for name in CLASSES for seed in range(8)]  # fmt: skip
    assert all(split_of[str(one)] == split_of[str(other)] for one, other in pairs)
    # Of two files with the same bytes one is used.
    assert all(str(photos / name / "twin.jpg") not in split_of for name in CLASSES)
