"""The feature store: what was added is found again, by anyone, and what is damaged is not believed."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from tlkeras.errors import StorageError
from tlkeras.features.store import FeatureSpace, FeatureStore, stored_spaces

SPACE = FeatureSpace("net", "0" * 64, 32, "crop", feature_size=3)


def vectors(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)[:, None] + np.array([0, 0.25, 0.5], np.float32)


def test_vectors_come_back_in_the_order_asked_for(tmp_path):
    store = FeatureStore(SPACE, tmp_path)
    store.add(["a", "b"], vectors(1, 2))
    store.add(["c"], vectors(3))
    for opened in (store, FeatureStore(SPACE, tmp_path)):
        assert len(opened) == 3
        assert "b" in opened
        assert "d" not in opened
        np.testing.assert_array_equal(opened.gather(["c", "a", "c", "b"]), vectors(3, 1, 3, 2))
        with pytest.raises(KeyError):
            opened.gather(["d"])


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "other"},
        {"weights_sha256": "1" * 64},
        {"size_px": 64},
        {"fit": "pad"},
        {"view": "mirrored"},
        {"precision": "bf16"},
    ],
)
def test_every_part_of_the_recipe_has_its_own_space(change, tmp_path):
    FeatureStore(SPACE, tmp_path).add(["a"], vectors(1))
    other = FeatureSpace(**{**SPACE.__dict__, **change})
    assert other.key != SPACE.key
    assert len(FeatureStore(other, tmp_path)) == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "index", "gone", "shape"])
def test_a_damaged_shard_is_dropped_with_a_warning_and_can_be_written_again(damage, tmp_path):
    store = FeatureStore(SPACE, tmp_path)
    store.add(["a", "b"], vectors(1, 2))
    store.add(["c"], vectors(3))
    index = next(path for path in store.folder.glob("shard-*.json") if "a" in json.loads(path.read_text())["keys"])
    data = index.with_suffix(".npy")
    content = data.read_bytes()
    if damage == "cut":
        data.write_bytes(content[:-5])
    elif damage == "flip":
        data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "empty":
        data.write_bytes(b"")
    elif damage == "gone":
        data.unlink()
    elif damage == "index":
        index.write_text('{"keys": ["a", ')
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "keys": ["a"]}))
    with pytest.warns(UserWarning, match="damaged"):
        opened = FeatureStore(SPACE, tmp_path)
    assert "a" not in opened
    assert "c" in opened
    opened.add(["a", "b"], vectors(1, 2))
    np.testing.assert_array_equal(FeatureStore(SPACE, tmp_path).gather(["a", "b", "c"]), vectors(1, 2, 3))


def test_an_unfinished_shard_is_not_there(tmp_path):
    store = FeatureStore(SPACE, tmp_path)
    store.add(["a"], vectors(1))
    next(store.folder.glob("shard-*.json")).unlink()
    assert len(FeatureStore(SPACE, tmp_path)) == 0


def _write_for_ever(folder, started):
    store = FeatureStore(SPACE, folder)
    started.set()
    for number in range(10_000):
        store.add([f"{os.getpid()}-{number}"], vectors(number))


@pytest.mark.parametrize("delay_seconds", [0.0, 0.02, 0.05, 0.11])
def test_kill_9_leaves_whole_shards_only(delay_seconds, tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    writer = context.Process(target=_write_for_ever, args=(tmp_path, started))
    writer.start()
    started.wait(20)
    writer.join(delay_seconds)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    store = FeatureStore(SPACE, tmp_path)  # a damaged shard would warn, and warnings of ours fail this test
    keys = [f"{writer.pid}-{number}" for number in range(len(store))]
    np.testing.assert_array_equal(store.gather(keys), vectors(*range(len(store))))


def test_two_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_some, args=(tmp_path, name)) for name in ("x", "y")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    store = FeatureStore(SPACE, tmp_path)
    assert len(store) == 61
    np.testing.assert_array_equal(store.gather(["both", "x-7", "y-29"]), vectors(99, 7, 29))


def _write_some(folder, name):
    store = FeatureStore(SPACE, folder)
    store.add(["both"], vectors(99))
    for number in range(30):
        store.add([f"{name}-{number}"], vectors(number))


def test_a_disk_that_refuses_is_one_line(tmp_path, monkeypatch):
    store = FeatureStore(SPACE, tmp_path)
    store.add(["a"], vectors(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*Free some space"):
        store.add(["b"], vectors(2))
    monkeypatch.undo()
    assert sorted(path.name for path in store.folder.iterdir() if "part" in path.name) == []
    assert len(FeatureStore(SPACE, tmp_path)) == 1


def test_what_is_stored_can_be_listed(tmp_path):
    FeatureStore(SPACE, tmp_path).add(["a", "b"], vectors(1, 2))
    ((recipe, count, size),) = stored_spaces(tmp_path)
    assert recipe["backbone"] == "net"
    assert count == 2
    assert size > 24
