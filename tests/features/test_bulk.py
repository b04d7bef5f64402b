"""Large jobs in this process: every kind of input, resuming, and shards that the store and training read."""

import csv
import hashlib
import io
import json
import os
import struct

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.pictures import encode, tinted
from tlkeras.backbones.frozen import frozen
from tlkeras.cli.main import main
from tlkeras.data.remote import names_in
from tlkeras.errors import ConfigError, DataError, StorageError
from tlkeras.features import bulk
from tlkeras.features.shards import ShardSet
from tlkeras.features.store import FeatureSpace, FeatureStore
from tlkeras.features.worker import Worker


def by_key(shards):
    """Vectors of usable rows by content."""
    columns = shards.columns(["key", "status"])
    vectors = np.concatenate([shards.vectors(number) for number in range(len(shards.shards))])
    return {
        key: vectors[row]
        for row, (key, status) in enumerate(zip(columns["key"], columns["status"], strict=True))
        if status != "rejected"
    }


def assert_equal(found, expected):
    assert len(found) == len(expected)
    got, wanted = by_key(found), by_key(expected)
    assert got.keys() == wanted.keys()
    for key, vector in wanted.items():
        np.testing.assert_allclose(got[key], vector, atol=1e-4 * np.abs(vector).max())


def images_of(photo_folder):
    return [(path, path.parent.name) for path in sorted(photo_folder.rglob("*.jpg"))]


def test_rows_say_what_the_audit_says_and_vectors_what_the_network_says(local, photo_folder, small_weights):
    from tlkeras import backbones
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset
    from tlkeras.data.pipeline import fitted_image

    columns = local.columns(["path", "label", "status", "reason", "key", "width"])
    verdicts = audit(open_dataset(photo_folder)).verdicts
    assert columns["path"] == [verdict.path for verdict in verdicts]
    assert columns["label"] == [verdict.label for verdict in verdicts]
    assert columns["reason"] == [verdict.reason for verdict in verdicts]
    assert columns["status"].count("rejected") == 2
    assert [shard.rows for shard in local.shards] == [16, 16, 16, 14]
    network = backbones.build("mobilenet_0.25", small_weights, size_px=32)
    path = photo_folder / "orange" / "07.jpg"
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = network(fitted_image(path, 32, "stretch")[None], training=False).numpy()[0]
    np.testing.assert_allclose(by_key(local)[key], expected, atol=1e-4 * np.abs(expected).max())


def write_paths(folder, photos, ending):
    rows = [(str(path), label) for path, label in photos]
    if ending == "csv":
        with (folder / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows])
        return folder / "list.csv"
    table = pyarrow.table({"file": [row[0] for row in rows], "class": [row[1] for row in rows]})
    pyarrow.parquet.write_table(table, folder / "paths.parquet")
    return folder / "paths.parquet"


def write_bytes(folder, photos, hugging_face):
    data = [path.read_bytes() for path, _ in photos]
    names = ["blue", "orange"]
    if hugging_face:
        table = pyarrow.table(
            {
                "image": [{"bytes": image, "path": None} for image in data],
                "label": [names.index(label) for _, label in photos],
            }
        )
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    else:
        table = pyarrow.table({"jpeg": data, "label": [label for _, label in photos]})
    pyarrow.parquet.write_table(table, folder / "data.parquet", row_group_size=10)
    return folder


def write_records(folder, photos):
    import tensorflow as tf

    (folder / "label.labels.txt").write_text("blue\norange\n")
    for number in range(2):
        with tf.io.TFRecordWriter(str(folder / f"set-train.tfrecord-{number:05d}-of-00002")) as writer:
            for path, label in photos[number::2]:
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.read_bytes()]))
                index = tf.train.Feature(int64_list=tf.train.Int64List(value=[["blue", "orange"].index(label)]))
                features = tf.train.Features(feature={"image": image, "label": index})
                writer.write(tf.train.Example(features=features).SerializeToString())
    return folder


def copy_to_memory(photos):
    system = fsspec.filesystem("memory")
    for path, label in photos:
        system.pipe_file(f"/photos/{label}/{path.name}", path.read_bytes())
    return "memory://photos"


@pytest.mark.parametrize("kind", ["csv", "paths", "bytes", "hugging_face", "tfrecord", "memory"])
def test_every_kind_of_input_gives_the_same_rows(kind, recipe, local, photo_folder, tmp_path):
    photos = images_of(photo_folder)
    data = {
        "csv": lambda: write_paths(tmp_path, photos, "csv"),
        "paths": lambda: write_paths(tmp_path, photos, "parquet"),
        "bytes": lambda: write_bytes(tmp_path, photos, False),
        "hugging_face": lambda: write_bytes(tmp_path, photos, True),
        "tfrecord": lambda: write_records(tmp_path, photos),
        "memory": lambda: copy_to_memory(photos),
    }[kind]()
    to = "memory://features" if kind == "memory" else str(tmp_path / "to")
    done = bulk.extract_to(str(data), to, rows_a_shard=20, **recipe)
    found = ShardSet(to)
    assert (done.images, done.rejected) == (62, 2)
    assert_equal(found, local)
    assert sorted(found.columns(["label"])["label"]) == ["blue"] * 31 + ["orange"] * 31
    if kind == "tfrecord":
        assert set(found.columns(["split"])["split"]) == {"train"}


def test_an_interrupted_job_goes_on_and_a_finished_one_does_nothing(recipe, local, photo_folder, tmp_path, monkeypatch):
    to, run = str(tmp_path / "to"), Worker.run
    calls = []

    def stop_after_two(self, work, name, *rest):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(name)
        return run(self, work, name, *rest)

    monkeypatch.setattr(Worker, "run", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        bulk.extract_to(str(photo_folder), to, rows_a_shard=16, **recipe)
    with pytest.raises(DataError, match="not finished"):
        ShardSet(to)
    monkeypatch.setattr(Worker, "run", run)
    again = bulk.extract_to(str(photo_folder), to, rows_a_shard=16, **recipe)
    assert (again.computed, again.reused) == (2, 2)
    assert_equal(ShardSet(to), local)
    assert [shard.name for shard in ShardSet(to).shards][:2] == calls
    third = bulk.extract_to(str(photo_folder), to, rows_a_shard=16, **recipe)
    assert (third.computed, third.reused) == (0, 4)
    with pytest.raises(ConfigError, match="one recipe"):
        bulk.extract_to(str(photo_folder), to, rows_a_shard=16, **{**recipe, "size_px": 64})


def test_the_store_finds_extracted_features_where_they_lie(recipe, local, photo_folder, tmp_path):
    to = tmp_path / "to"
    bulk.extract_to(str(photo_folder), str(to), rows_a_shard=16, **recipe)
    store = FeatureStore(FeatureSpace(**local.space))
    expected = by_key(local)
    assert len(store) == 60
    keys = sorted(expected)
    np.testing.assert_allclose(store.gather(keys), [expected[key] for key in keys], rtol=1e-5, atol=1e-6)
    assert not list(store.folder.glob("shard-*"))
    for path in to.iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match="not there now"):
        assert len(FeatureStore(FeatureSpace(**local.space))) == 0


def test_a_damaged_shard_is_named_and_computed_again(recipe, local, photo_folder, tmp_path):
    to = tmp_path / "to"
    bulk.extract_to(str(photo_folder), str(to), rows_a_shard=16, **recipe)
    shard = sorted(to.glob("part-*"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged.*{shard.name}"):
        by_key(ShardSet(str(to)))
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        by_key(ShardSet(str(to)))
    assert bulk.extract_to(str(photo_folder), str(to), rows_a_shard=16, **recipe).computed == 1
    assert_equal(ShardSet(str(to)), local)


def test_a_full_disk_is_one_line_and_leaves_whole_shards(recipe, photo_folder, tmp_path, monkeypatch):
    to, sync = tmp_path / "to", os.fsync
    frozen(recipe["backbone"], recipe["weights"], recipe["size_px"])  # its weights are in the cache from here on
    written = []

    def full(handle):
        if len(written) == 3:  # task.json and two shards
            raise OSError(28, "No space left on device")
        written.append(handle)
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*Free some space"):
        bulk.extract_to(str(photo_folder), str(to), rows_a_shard=16, **recipe)
    monkeypatch.undo()
    assert len(names_in(str(to))) == 3
    assert all(pyarrow.parquet.read_table(path).num_rows == 16 for path in to.glob("part-*"))


def test_a_disk_of_64_kb_is_full_after_whole_shards(recipe, photo_folder, small_disk, capsys):
    options = [f"--{name.removesuffix('_px')}={value}" for name, value in recipe.items()]
    assert main(["extract", str(photo_folder), "--to", str(small_disk / "to"), "--rows", "8", *options]) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert "No space left on device" in shown[0]
    assert "Free some space" in shown[0]
    whole = list((small_disk / "to").glob("part-*"))
    assert 0 < len(whole) < 8
    assert all(pyarrow.parquet.read_table(path).num_rows == 8 for path in whole)
    assert set(names_in(str(small_disk / "to"))) == {"task.json", *(path.name for path in whole)}


def test_predictions_are_those_of_the_classifier(run_folder, photo_folder, tmp_path):
    from tlkeras.trained import TrainedClassifier

    classifier = TrainedClassifier.load(run_folder)
    done = bulk.predict_to(classifier, str(photo_folder), str(tmp_path / "to"), engine="tensorflow", rows_a_shard=40)
    found = ShardSet(str(tmp_path / "to"), "predictions")
    assert (done.images, done.rejected) == (62, 2)
    columns = found.columns(["path", "predicted", "probability", "status"])
    usable = [row for row, status in enumerate(columns["status"]) if status != "rejected"]
    expected = classifier.predict([columns["path"][row] for row in usable])
    got = np.concatenate([found.vectors(0), found.vectors(1)])[usable]
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert [columns["predicted"][row] for row in usable] == [classifier.class_names[k] for k in expected.argmax(axis=1)]
    assert [columns["predicted"][row] for row in range(62) if row not in usable] == [None, None]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("s4://bucket/x", "needs a file system that fsspec knows"),
        ("memory://nowhere", "no such file or folder"),
        ("CUT", "cut off"),
        ("NOT_PARQUET", "no Parquet file"),
        ("NO_COLUMN", "has a column of their bytes"),
        ("SHORT_LINE", "line 3 of the list is wrong: it has 1 of 2"),
    ],
)
def test_bad_inputs_are_one_line(data, words, recipe, tmp_path):
    if data == "CUT":
        (tmp_path / "x.tfrecord").write_bytes(struct.pack("<QI", 1000, 0) + b"short")
    elif data == "NOT_PARQUET":
        (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing")
    elif data == "NO_COLUMN":
        pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "x.parquet")
    elif data == "SHORT_LINE":
        (tmp_path / "list.csv").write_text("path,label\na.jpg,cat\nb.jpg\n")
    source = data if "://" in data else str(tmp_path / "list.csv" if data == "SHORT_LINE" else tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        bulk.extract_to(source, str(tmp_path / "to"), **recipe)
    assert "\n" not in str(caught.value)


def test_a_folder_without_classes_and_a_buffer_of_bytes(recipe, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").write_bytes(encode(tinted((90, 90, 200), number), "PNG"))
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "photos" / "notes.npy").write_bytes(buffer.getvalue())
    done = bulk.extract_to(str(tmp_path / "photos"), str(tmp_path / "to"), **recipe)
    assert (done.images, done.rejected) == (3, 0)
    assert ShardSet(str(tmp_path / "to")).columns(["label"])["label"] == ["", "", ""]
