"""Folders of features that were tampered with, and containers that cost memory: one line, and nothing is believed."""

import json
import os
import shutil
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tlkeras.cli.main import main
from tlkeras.data.containers import parquet_rows, tfrecord_rows
from tlkeras.errors import DataError
from tlkeras.features.shards import ShardSet
from tlkeras.features.store import FeatureSpace, FeatureStore, link_shards
from tlkeras.training.source import open_stored

ROWS = 16
LONG = b"a" * 50_000_000


def read_all(folder):
    """Everything that training reads of a folder of features."""
    shards = ShardSet(str(folder))
    open_stored(shards)
    for number in range(len(shards.shards)):
        shards.vectors(number)


def listed(name, value):
    return lambda manifest: manifest["shards"][0].update({name: value})


def recipe_with(**values):
    return lambda manifest: manifest["space"].update(values)


MANIFESTS = {
    "more rows than the file has": (listed("rows", 10**12), "rows"),
    "fewer rows than rejected": (listed("rows", -5), "rejected"),
    "another sum": (lambda manifest: manifest.update(rows=3), "3 rows, its shards 62"),
    "a shard outside the folder": (listed("name", "../part-000000-0123456789abcdef"), "a shard called"),
    "a shard at the root": (listed("name", "/etc/part"), "a shard called"),
    "a shard on another machine": (listed("name", "http://127.0.0.1:1/x"), "a shard called"),
    "a shard with more to say": (listed("more", 1), "more"),
    "a shard twice": (lambda manifest: manifest["shards"].append(manifest["shards"][0]), "twice"),
    "an empty recipe": (lambda manifest: manifest.update(space={}), "backbone"),
    "a recipe with more to say": (recipe_with(more=1), "a recipe of other things"),
    "half a pixel": (recipe_with(size_px=32.5), "size_px"),
    "size in words": (recipe_with(size_px="32"), "size_px"),
    "network as a list": (recipe_with(backbone=["a"]), "backbone"),
    "hash as a number": (recipe_with(weights_sha256=5), "weights_sha256"),
    "unknown precision": (recipe_with(precision="int2"), "precision"),
    "features of another size": (recipe_with(feature_size=7), "7 numbers a row"),
    "features of absurd size": (recipe_with(feature_size=10**12), "damaged"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_was_tampered_with_is_refused(case, local, tmp_path):
    change, named = MANIFESTS[case]
    folder = shutil.copytree(local.folder, tmp_path / "features")
    manifest = json.loads((folder / "features.json").read_text())
    change(manifest)
    (folder / "features.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=named):
        read_all(folder)


def vectors(size, dtype=np.float32):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * size, dtype)), size)


COLUMNS = {
    "no vectors": ("features", None, "features"),
    "vectors in words": ("features", pa.array(["x"] * ROWS), "string"),
    "vectors of any length": ("features", pa.array([[1.0]] * ROWS), "list"),
    "short vectors": ("features", vectors(3), "256 numbers"),
    "whole numbers": ("features", vectors(256, np.int64), "int64"),
    "no hashes": ("key", None, "key"),
    "no class anywhere": ("label", pa.array([None] * ROWS, pa.string()), "label"),
    "classes as numbers": ("label", pa.array([1] * ROWS), "label"),
    "a class with an escape": ("label", pa.array(["\x1b[2J"] * ROWS), "a line of text"),
    "an unknown status": ("status", pa.array(["fine"] * ROWS), "status 'fine'"),
    "an unknown split": ("split", pa.array(["exam"] * ROWS), "exam"),
    "a hash of the picture in words": ("dhash", pa.array(["zz"] * ROWS), "dhash 'zz'"),
    "width in words": ("width", pa.array(["a"] * ROWS), "width"),
    "no width": ("width", pa.array([None] * ROWS, pa.int32()), "width"),
    "no path": ("path", pa.array([None] * ROWS, pa.string()), "path"),
    "one long path for all": (
        "path",
        pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array([LONG.decode()])),
        "a text of 50,000,000 bytes",
    ),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_shard_that_was_tampered_with_is_refused(case, local, tmp_path):
    name, values, named = COLUMNS[case]
    folder = shutil.copytree(local.folder, tmp_path / "features")
    shard = min(folder.glob("part-*"))
    table = pyarrow.parquet.read_table(shard)
    at = table.schema.get_field_index(name)
    table = table.remove_column(at) if values is None else table.set_column(at, name, values)
    pyarrow.parquet.write_table(table, shard, compression="zstd")
    with pytest.raises(DataError, match=named):
        read_all(folder)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def replaced_by(make):
    def change(path):
        path.unlink()
        make(path)

    return change


FILES = {
    "cut off": cut,
    "text": lambda path: path.write_text("hello"),
    "a folder": replaced_by(lambda path: path.mkdir()),
    "a pipe that nobody writes into": replaced_by(os.mkfifo),
    "a device without an end": replaced_by(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("what", ["part-*", "features.json", "task.json"])
@pytest.mark.parametrize("case", FILES)
def test_other_files_in_the_place_of_ours_are_refused_at_once(
    what, case, local, recipe, photo_folder, tmp_path, capsys
):
    folder = shutil.copytree(local.folder, tmp_path / "features")
    FILES[case](min(folder.glob(what)))
    if what == "task.json":
        options = [f"--{name.removesuffix('_px')}={value}" for name, value in recipe.items()]
        assert main(["extract", str(photo_folder), "--to", str(folder), "--rows", "16", *options]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
        return
    with pytest.raises(DataError):
        read_all(folder)


def test_odd_hashes_of_photos_are_looked_up_all_the_same(local, tmp_path):
    """Shards of another maker may call a photo anything."""
    folder = shutil.copytree(local.folder, tmp_path / "features")
    shard = min(folder.glob("part-*"))
    table = pyarrow.parquet.read_table(shard)
    keys = [f"{row:x}".rjust(64, "z") for row in range(ROWS)]
    table = table.set_column(table.schema.get_field_index("key"), "key", pa.array(keys))
    pyarrow.parquet.write_table(table, shard)
    space = FeatureSpace(**local.space)
    link_shards(space, folder, tmp_path / "cache")
    usable = [key for key, status in zip(keys, table["status"].to_pylist(), strict=True) if status != "rejected"]
    assert FeatureStore(space, tmp_path / "cache").holds(usable).all()


def test_images_that_expand_a_thousandfold_are_one_in_memory(tmp_path):
    """2 KB of Parquet that hold 64 images of 50 MB each; read by the dozen they would take 3.2 GB."""
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([LONG], pa.binary()))
    table = pa.table({"image": images})
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd", store_schema=False)
    before = pa.total_allocated_bytes()
    rows = parquet_rows(str(tmp_path / "bomb.parquet"), ("image", "", ""), (), range(1))
    assert len(next(rows)[0]) == len(LONG)
    assert pa.total_allocated_bytes() - before < 4 * len(LONG)
    rows.close()


def test_a_path_longer_than_any_is_refused(tmp_path):
    paths = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([LONG.decode()]))
    pyarrow.parquet.write_table(pa.table({"path": paths}), tmp_path / "list.parquet", compression="zstd")
    with pytest.raises(DataError, match="a text of 50,000,000 bytes"):
        list(parquet_rows(str(tmp_path / "list.parquet"), ("path", "", ""), ()))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (struct.pack("<Q", 2**62) + bytes(4), "at most"),
        (struct.pack("<Q", 2**64 - 1) + bytes(4), "at most"),
        (struct.pack("<Q", 100) + bytes(50), "cut off"),
        (b"abc", "cut off"),
        (struct.pack("<Q", 3) + bytes(4) + b"\xff\xff\xff" + bytes(4), "no tf.train.Example"),
        (struct.pack("<Q", 0) + bytes(8), "an image's bytes"),
    ],
)
def test_records_that_lie_about_their_length_are_refused(content, named, tmp_path):
    (tmp_path / "x.tfrecord").write_bytes(content)
    with pytest.raises(DataError, match=named):
        list(tfrecord_rows(str(tmp_path / "x.tfrecord"), "", ()))
