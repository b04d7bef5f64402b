"""The feature store: what was added is found again, by anyone, and what is damaged is not believed."""

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tlkeras.errors import StorageError
from tlkeras.features import store as module
from tlkeras.features.shards import Rows, finish, write_shard
from tlkeras.features.store import FeatureSpace, FeatureStore, link_shards, stored_spaces
from tlkeras.storage import sha256_of

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


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_what_cannot_be_read_now_is_kept(number, tmp_path, monkeypatch):
    FeatureStore(SPACE, tmp_path).add(["a"], vectors(1))

    def refuse(*_):
        raise OSError(number, "not now")

    with monkeypatch.context() as patch:
        patch.setattr(module, "sha256_of", refuse)
        with pytest.warns(UserWarning, match="cannot be read now"):
            assert "a" not in FeatureStore(SPACE, tmp_path)
    assert "a" in FeatureStore(SPACE, tmp_path)


def test_a_shard_is_hashed_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    store = FeatureStore(SPACE, tmp_path)
    store.add(["a"], vectors(1))
    store.add(["b"], vectors(2))
    hashed = []
    monkeypatch.setattr(module, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    for count in (2, 2, 2):
        assert len(FeatureStore(SPACE, tmp_path)) == 2
        assert len(hashed) == count
    os.utime(hashed[0], ns=(0, 0))
    FeatureStore(SPACE, tmp_path)
    assert hashed[2:] == hashed[:1]


def test_many_small_shards_become_one(tmp_path):
    store = FeatureStore(SPACE, tmp_path)
    count = module.SMALL_SHARDS
    for number in range(count):
        store.add([str(number), "twice"], vectors(number, 99))
    opened = FeatureStore(SPACE, tmp_path)
    assert len(list(store.folder.glob("shard-*"))) == 2
    # Whoever had them open reads on.
    for found in (store, opened, FeatureStore(SPACE, tmp_path)):
        np.testing.assert_array_equal(found.gather(["3", "twice", "0"]), vectors(3, 99, 0))
        assert len(found) == count + 1


@pytest.mark.parametrize("calls", range(0, 40, 3))
def test_compaction_that_is_cut_off_loses_nothing(calls, tmp_path, monkeypatch):
    store = FeatureStore(SPACE, tmp_path)
    for number in range(module.SMALL_SHARDS):
        store.add([str(number)], vectors(number))
    done, unlink = [], Path.unlink

    def until_killed(path, *rest, **options):
        done.append(path)
        if len(done) > calls:
            raise KeyboardInterrupt
        unlink(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", until_killed)
        with contextlib.suppress(KeyboardInterrupt):
            FeatureStore(SPACE, tmp_path)
    found = FeatureStore(SPACE, tmp_path)
    keys = [str(number) for number in range(module.SMALL_SHARDS)]
    np.testing.assert_array_equal(found.gather(keys), vectors(*range(module.SMALL_SHARDS)))


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
        assert writer.exitcode == 0
    store = FeatureStore(SPACE, tmp_path)
    assert len(store) == 61
    np.testing.assert_array_equal(store.gather(["both", "x-7", "y-29"]), vectors(99, 7, 29))


def _write_some(folder, name):
    store = FeatureStore(SPACE, folder)
    store.add(["both"], vectors(99))
    for number in range(30):
        store.add([f"{name}-{number}"], vectors(number))
        # Opening compacts, whatever the other process does meanwhile.
        assert f"{name}-{number}" in FeatureStore(SPACE, folder)


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


def key_of(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def linked(folder, space=SPACE, first=0):
    """A finished folder of shards with 2 × 3 rows, of which the second of each shard is rejected."""
    shards = []
    for number in range(2):
        rows = Rows()
        for row in range(3):
            value = first + 3 * number + row
            rows.add({"key": key_of(value), "status": "rejected" if row == 1 else "good"}, 8, 8)
            rows.answers[row] = None if row == 1 else vectors(value)[0]
        shards.append(write_shard(str(folder), rows, "features", 3, f"part-{number:06d}-{first}"))
    finish(str(folder), "features", shards, {"space": space.__dict__})
    return folder


def test_linked_features_are_looked_up_in_a_file(tmp_path, monkeypatch):
    link_shards(SPACE, linked(tmp_path / "to"), tmp_path)
    store = FeatureStore(SPACE, tmp_path)
    store.add(["own"], vectors(7))
    assert store.holds([key_of(4), key_of(5), key_of(6), "own"]).tolist() == [False, True, False, True]
    np.testing.assert_array_equal(store.gather([key_of(5), "own", key_of(0), key_of(3)]), vectors(5, 7, 0, 3))
    keys = [key_of(5), "own", key_of(0), key_of(3), key_of(2)]
    assert store.as_stored(keys, np.arange(5)).tolist() == [1, 2, 4, 3, 0]
    for read in (lambda: store.gather([key_of(1)]), lambda: store.as_stored([key_of(1)], np.arange(1))):
        with pytest.raises(KeyError):
            read()
    # Nothing but the list of the shards is read the next time.
    monkeypatch.setattr(module.ShardSet, "table", None)
    assert len(FeatureStore(SPACE, tmp_path)) == 5


def test_features_of_another_network_in_a_linked_folder_are_not_taken(tmp_path):
    link_shards(SPACE, linked(tmp_path / "to"), tmp_path)
    assert key_of(0) in FeatureStore(SPACE, tmp_path)
    shutil.rmtree(tmp_path / "to")
    linked(tmp_path / "to", FeatureSpace("other", "1" * 64, 32, "crop", feature_size=3), first=100)
    with pytest.warns(UserWarning, match="another recipe"):
        assert len(FeatureStore(SPACE, tmp_path)) == 0
    # The same recipe with other photos is found, by its own places.
    shutil.rmtree(tmp_path / "to")
    link_shards(SPACE, linked(tmp_path / "to"), tmp_path)
    assert key_of(0) in FeatureStore(SPACE, tmp_path)
    shutil.rmtree(tmp_path / "to")
    linked(tmp_path / "to", first=50)
    store = FeatureStore(SPACE, tmp_path)
    assert store.holds([key_of(0), key_of(50)]).tolist() == [False, True]


def test_a_link_outlives_an_unmounted_disk_but_not_a_damaged_list(tmp_path):
    folder = linked(tmp_path / "to")
    link_shards(SPACE, folder, tmp_path)
    folder.rename(tmp_path / "away")
    with pytest.warns(UserWarning, match="not there now"):
        assert len(FeatureStore(SPACE, tmp_path)) == 0
    (tmp_path / "away").rename(folder)
    assert len(FeatureStore(SPACE, tmp_path)) == 4
    (folder / "features.json").write_text("{")
    for warning in (pytest.warns(UserWarning, match="forgotten"), contextlib.nullcontext()):
        with warning:
            assert len(FeatureStore(SPACE, tmp_path)) == 0


def test_what_is_stored_can_be_listed(tmp_path):
    FeatureStore(SPACE, tmp_path).add(["a", "b"], vectors(1, 2))
    ((recipe, count, size),) = stored_spaces(tmp_path)
    assert recipe["backbone"] == "net"
    assert count == 2
    assert size > 24
