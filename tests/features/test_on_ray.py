"""The same job on a two-node Ray cluster: equal rows, and nothing lost or there twice when something is killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.clusters import actors, two_nodes
from tests.features.test_bulk import assert_equal
from tlkeras.cluster import Place
from tlkeras.errors import ClusterError, DataError
from tlkeras.features import bulk
from tlkeras.features.shards import ShardSet

pytest.importorskip("ray", reason='needs Ray: pip install "tlkeras[ray]"')
ON_RAY = Place("auto", actors=2)


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as (started, second):
        yield started, second


def shards_in(folder):
    return sorted(Path(folder).glob("part-*.parquet")) if Path(folder).is_dir() else []


def when(folder, count, action):
    """Do something as soon as ``count`` shards are there."""

    def wait():
        while len(shards_in(folder)) < count:
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_an_actor():
    found = actors()
    assert found, "there is no actor to kill"
    found[0].kill()


def assert_whole(folder, done, expected):
    found = ShardSet(str(folder))
    assert (done.images, done.rejected) == (62, 2)
    assert_equal(found, expected)
    # Nothing twice: a row for every path, and no shard that the list does not name.
    paths = found.columns(["path"])["path"]
    assert sorted(paths) == sorted(expected.columns(["path"])["path"])
    assert len(shards_in(folder)) == len(found.shards)


def test_two_actors_give_the_rows_of_the_local_run(cluster, recipe, local, photo_folder, tmp_path):
    recipe = {**recipe, "engine": "onnxruntime"}
    done = bulk.extract_to(str(photo_folder), str(tmp_path / "to"), place=ON_RAY, rows_a_shard=8, **recipe)
    assert_whole(tmp_path / "to", done, local)
    assert (len(done.workers), done.engine) == (2, "onnxruntime")


def test_a_killed_actor_is_made_again(cluster, recipe, local, photo_folder, tmp_path):
    to = tmp_path / "to"
    killer = when(to, 2, kill_an_actor)
    done = bulk.extract_to(str(photo_folder), str(to), place=ON_RAY, rows_a_shard=2, **recipe)
    killer.join(1)
    assert_whole(to, done, local)
    assert len(done.workers) >= 2


def test_an_error_of_a_worker_arrives_as_our_own_line(cluster, recipe, tmp_path):
    to = tmp_path / "to"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "x.tfrecord").write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match="cut off"):
        bulk.extract_to(str(broken), str(to), place=ON_RAY, **recipe)


def test_a_cluster_without_a_package_is_one_line(cluster, monkeypatch):
    import tlkeras.cluster as module

    monkeypatch.setattr(module, "_NEEDED", (*module._NEEDED, "tlkeras-needs-this"))
    with pytest.raises(ClusterError, match=r"machine .* lacks tlkeras-needs-this.*image"), module.connected("auto"):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(module, "runtime_environment", lambda env: {"env_vars": {"PYTHONPATH": "/nowhere"}})
    monkeypatch.setattr(module, "versions", lambda: {**dict.fromkeys(module._NEEDED, "1.0"), "keras": "99.1"})
    with (
        pytest.raises(ClusterError, match=r"(has keras|cannot import tlkeras|has tensorflow)"),
        module.connected("auto"),
    ):
        pass


COMMAND = [sys.executable, "-m", "tlkeras.cli.main", "extract"]


def options(recipe, to):
    return [
        *("--to", str(to), "--backbone", recipe["backbone"], "--weights", recipe["weights"], "--size", "32"),
        *("--engine", "tensorflow", "--rows", "2", "--on", "auto", "--json"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 9, 20])
def test_a_killed_driver_goes_on_from_finished_shards(
    shards,
    cluster,
    recipe,
    local,
    photo_folder,
    tmp_path,
):
    to = tmp_path / "to"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    driver = subprocess.Popen([*COMMAND, str(photo_folder), *options(recipe, to)], env=environment)
    when(to, shards, lambda: os.kill(driver.pid, signal.SIGKILL)).join(240)
    assert driver.wait(60) == -signal.SIGKILL
    kept = shards_in(to)
    stamps = {path: path.stat().st_mtime_ns for path in kept}
    again = subprocess.run(
        [*COMMAND, str(photo_folder), *options(recipe, to)], env=environment, capture_output=True, text=True, check=True
    )
    shown = json.loads(again.stdout)
    assert shown["reused"] >= shards
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert (shown["images"], shown["computed"] + shown["reused"]) == (62, 31)
    assert_equal(ShardSet(str(to)), local)


@pytest.mark.slow
def test_from_afar_through_the_client_port(cluster, recipe, local, photo_folder, tmp_path):
    to = tmp_path / "to"
    given, port = options(recipe, to), cluster[0].client_port
    given[given.index("auto")] = f"ray://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    environment.pop("RAY_ADDRESS")
    for _ in range(120):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        time.sleep(1)
    done = subprocess.run(
        [*COMMAND, str(photo_folder), *given], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["images"] == 62
    assert_equal(ShardSet(str(to)), local)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 12, 25])
def test_a_killed_node_loses_nothing(shards, recipe, local, photo_folder, tmp_path):
    with two_nodes() as (own, second):
        to = tmp_path / "to"
        when(to, shards, lambda: own.remove_node(second, allow_graceful=False))
        done = bulk.extract_to(str(photo_folder), str(to), place=ON_RAY, rows_a_shard=2, **recipe)
        assert_whole(to, done, local)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 10, 24])
def test_a_killed_actor_at_several_moments(shards, cluster, recipe, local, photo_folder, tmp_path):
    to = tmp_path / "to"
    when(to, shards, kill_an_actor)
    done = bulk.extract_to(str(photo_folder), str(to), place=ON_RAY, rows_a_shard=2, **recipe)
    assert_whole(to, done, local)


@pytest.mark.slow
def test_a_full_disk_on_the_cluster_is_one_line(cluster, recipe, photo_folder, small_disk, capfd):
    from tlkeras.cli.main import main

    assert main(["extract", str(photo_folder), *options(recipe, small_disk / "to")]) == 2
    shown = capfd.readouterr()
    # Ray may tell before that an actor was ended while it had a piece at hand.
    *others, line = [words for words in shown.err.strip().splitlines() if words]
    assert "No space left on device" in line
    assert "Free some space" in line
    assert all("(raylet)" in other for other in others), others
    assert shown.out == ""
    assert 0 < len(shards_in(small_disk / "to")) < 31
    assert not (small_disk / "to" / "features.json").exists()


@pytest.mark.parametrize(
    ("on", "words"),
    [
        ("ray://127.0.0.1:1", "no Ray cluster answers at 'ray://127.0.0.1:1'"),
        ("ray://", "looks like ray://HOST:10001"),
        ("ray://host:port", "looks like ray://HOST:10001"),
        ("spark://x", "unknown place to run"),
    ],
)
def test_bad_addresses_are_one_line_and_quick(on, words, recipe, photo_folder, tmp_path, capsys):
    from tlkeras.cli.main import main

    assert main(["extract", str(photo_folder), "--to", str(tmp_path / "to"), "--on", on]) == 2
    shown = capsys.readouterr().err.strip()
    assert words in shown
    assert "\n" not in shown
    assert not (tmp_path / "to").exists()
