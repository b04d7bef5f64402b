"""Version folders appear whole, with the next number, whoever else publishes; a manifest notices every byte."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tlkeras import storage
from tlkeras.errors import ExportError, StorageError
from tlkeras.export.publish import (
    MANIFEST_FILE,
    changes,
    publish,
    read_manifest,
    staged_version,
    versions_in,
    write_manifest,
)

# A publisher without TensorFlow: files, manifest, rename, over and over, through the code that real exports use.
PUBLISHER = """
import sys
from pathlib import Path
from tlkeras.export.publish import publish, staged_version, write_manifest
print("ready", flush=True)
while True:
    with staged_version(Path(sys.argv[1])) as staged:
        for number in range(6):
            (staged / f"part{number}").mkdir()
            (staged / f"part{number}" / "content").write_bytes(bytes([number]) * 20_000)
        write_manifest(staged, {"class_names": ["a", "b"]})
        print(publish(staged).name, flush=True)
"""


def publish_one(folder: Path, content: str) -> Path:
    with staged_version(folder) as staged:
        (staged / "file").write_text(content)
        return publish(staged)


def test_numbers_go_up_and_nothing_is_overwritten(tmp_path):
    folder = tmp_path / "deep" / "model"
    assert versions_in(folder) == []
    assert [publish_one(folder, str(n)).name for n in range(3)] == ["1", "2", "3"]
    (folder / "7").mkdir()
    (folder / "notes.txt").write_text("kept")
    (folder / "12b").mkdir()
    assert publish_one(folder, "8").name == "8"
    assert [(folder / str(n) / "file").read_text() for n in (1, 2, 3, 8)] == ["0", "1", "2", "8"]
    assert versions_in(folder) == [1, 2, 3, 7, 8]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_that_is_called_like_a_number_is_left_alone(tmp_path):
    (tmp_path / "1").write_text("a file")
    assert publish_one(tmp_path, "x").name == "2"
    assert (tmp_path / "1").read_text() == "a file"


def fail_half_way(folder: Path) -> None:
    with staged_version(folder) as staged:
        (staged / "file").write_text("x")
        raise RuntimeError("on purpose")


def test_what_fails_leaves_nothing(tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(RuntimeError, match="on purpose"):
        fail_half_way(folder)
    assert list(tmp_path.iterdir()) == []
    publish_one(folder, "first")
    with pytest.raises(RuntimeError, match="on purpose"):
        fail_half_way(folder)
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_a_number_that_was_taken_in_between_is_not_replaced(tmp_path, monkeypatch):
    publish_one(tmp_path, "mine")
    answers = iter([[], [1]])
    monkeypatch.setattr("tlkeras.export.publish.versions_in", lambda folder: next(answers))
    assert publish_one(tmp_path, "yours").name == "2"
    assert (tmp_path / "1" / "file").read_text() == "mine"


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_is_one_line_and_older_versions_stay(step, tmp_path, monkeypatch):
    publish_one(tmp_path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if step == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match=r"cannot write .*No space left.*Free some space") as caught:
            publish_one(tmp_path, "new")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "file").read_text() == "old"


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_kept(tmp_path):
    dead = tmp_path / ".version.01234567.part"
    dead.mkdir()
    (dead / "file").write_text("half")
    os.utime(dead, (0, 0))
    with staged_version(tmp_path) as living:
        assert not dead.exists()
        publish_one(tmp_path, "other")
        assert living.is_dir()
        assert publish(living).name == "2"


def _publish_many(folder: str, label: str, count: int) -> None:
    for number in range(count):
        publish_one(Path(folder), f"{label}{number}")


def test_publishers_at_once_never_collide(tmp_path):
    # A folder of their own each, so that the sweeping of one meets the staging of the other all the time.
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_publish_many, args=(str(tmp_path), label, 25)) for label in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert versions_in(tmp_path) == list(range(1, 76))
    contents = sorted((tmp_path / str(n) / "file").read_text() for n in range(1, 76))
    assert contents == sorted(f"{label}{number}" for label in "abc" for number in range(25))


def test_killed_at_any_moment_there_are_whole_versions_only(tmp_path):
    chance = random.Random(0)
    published = 0
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        started = time.perf_counter()
        rounds = chance.randint(1, 3)
        for _ in range(rounds):
            assert int(child.stdout.readline())
        # Somewhere in the round that comes next, however fast this machine is.
        time.sleep(chance.uniform(0, 1.2) * (time.perf_counter() - started) / rounds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        numbers = versions_in(tmp_path)
        assert numbers == list(range(1, len(numbers) + 1))
        for number in numbers[published:]:
            folder = tmp_path / str(number)
            manifest = read_manifest(folder)
            assert len(manifest["files"]) == 6
            assert not changes(folder, manifest)
        published = len(numbers)
    assert published >= 20
    for path in tmp_path.glob(".*"):
        os.utime(path, (0, 0))  # what is a minute old is swept
    storage._sweep.cache_clear()
    publish_one(tmp_path, "last")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert json.loads((tmp_path / "1" / "manifest.json").read_text())["class_names"] == ["a", "b"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "a.pb").write_bytes(bytes(range(256)))
    (tmp_path / "variables" / "b").write_bytes(b"b" * 1000)
    write_manifest(tmp_path, {"class_names": ["grün", "b"], "parity": {"difference": 1.5e-7}})
    return tmp_path


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def edit_manifest(folder):
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace("1.5e-07", "0.5e-07"))


def forge_manifest(folder):
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"]
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: flip(f / "a.pb", 0), "changed: a.pb"),
        (lambda f: flip(f / "variables" / "b", 999), "changed: variables/b"),
        (lambda f: (f / "a.pb").unlink(), "missing: a.pb"),
        (lambda f: (f / "c").write_bytes(b""), "added: c"),
        (lambda f: (f / ".hidden").symlink_to("nowhere"), "added: .hidden"),
        (lambda f: ((f / "a.pb").unlink(), (f / "a.pb").symlink_to("nowhere")), "changed: a.pb"),
        (lambda f: ((f / "a.pb").unlink(), flip(f / "variables" / "b", 5)), "changed: variables/b; missing: a.pb"),
        (edit_manifest, "changed: manifest.json"),
        (forge_manifest, "changed: manifest.json"),
    ],
)
def test_every_change_is_told(damage, words, folder):
    assert not changes(folder, read_manifest(folder))
    damage(folder)
    assert str(changes(folder, read_manifest(folder))) == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not a published version: it has no manifest.json"),
        ("{", "cannot be read"),
        ("[]", "the whole is list, not dict"),
        ("{}", "not the manifest of a tlkeras export"),
        ('{"format": "tlkeras-export", "format_version": 99}', "format version 99"),
        ('{"format": "tlkeras-export", "format_version": 1}', "does not list the files"),
    ],
)
def test_what_is_no_manifest_is_told_in_one_line(content, words, tmp_path):
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(ExportError, match=words) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match="there is no such folder"):
        read_manifest(tmp_path / "nowhere")
