"""Files and folders are whole or not there."""

import json
import os
import stat

import pytest

from tlkeras.errors import ConfigError, FormatError, StorageError
from tlkeras.json_csv import csv_bytes, parse_json, read_csv, read_json
from tlkeras.storage import (
    _sweep,
    cache_root,
    clear_cache,
    held,
    new_folder,
    sha256_of,
    size_of,
    staged_folder,
    write_bytes,
    write_json,
)


def test_writing_replaces_atomically_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"a": "ü", "b": [1, None]})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 2}


def test_a_refusing_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*No space left.* Free some space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_path_through_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below", b"")
    with pytest.raises(StorageError, match="cannot write"), staged_folder(tmp_path / "file" / "below"):
        raise AssertionError("never entered")


def test_a_staged_folder_appears_at_once_or_never(tmp_path):
    target = tmp_path / "run"
    with staged_folder(target) as staged:
        write_bytes(staged / "a" / "b", b"content")
        assert not target.exists()
    assert (target / "a" / "b").read_bytes() == b"content"
    assert stat.S_ISDIR(target.stat().st_mode)

    with pytest.raises(ValueError, match="JSON compliant"), staged_folder(tmp_path / "other") as staged:
        write_json(staged / "a", float("nan"))
    with pytest.raises(StorageError, match="exists already"), staged_folder(target) as staged:
        write_bytes(staged / "a", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    assert (target / "a" / "b").exists()


def test_the_cache_can_be_measured_and_cleared(monkeypatch, tmp_path):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))
    assert clear_cache() == (0, [])
    write_bytes(cache_root() / "features" / "x" / "space.json", b"12345")
    assert size_of(cache_root()) == 5
    assert sha256_of(cache_root() / "features" / "x" / "space.json").startswith("5994471a")
    assert clear_cache() == (5, [])
    assert not cache_root().exists()
    monkeypatch.delenv("TLKERAS_CACHE")
    assert cache_root().name == "tlkeras"


def test_a_cache_that_cannot_be_written_is_gone_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match=r"file/cache' cannot be written \(no folder\).*set TLKERAS_CACHE"):
        stand_in = cache_root()
    write_bytes(stand_in / "x", b"1")
    assert cache_root() == stand_in
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "other"))
    with pytest.warns(RuntimeWarning, match="no permission to write"):
        assert cache_root() != stand_in


def test_clearing_takes_what_is_ours_and_leaves_what_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path))
    ours = [
        *("verdicts.sqlite", "verdicts.sqlite-wal", "weights.json", "features/a-32-crop-plain-0f/space.json"),
        *("features/a-32-crop-plain-0f/00.npy", "engines/ab-32-r1-opset17.onnx", "demo/r3-seed0-n60/cat/1.jpg"),
        *("tfds/pets-4.0.0/dataset.json", "tfds/pets-4.0.0/train/0000-cat/1.jpg", "onnxruntime-web-1.22/ort.mjs"),
        *("demo/.r3-seed0-n60.0123abcd.part/cat/1.jpg", ".verdicts.json.0123abcd.part"),
    ]
    others = [
        *("features/mine.csv", "features/holiday/1.jpg", "tfds/cats/1.0.0/cats.tfrecord", "demo/talk.pdf"),
        *("cat/1.jpg", "notes.txt", "engines/model.onnx", ".hidden.part"),
    ]
    for name in (*ours, *others):
        write_bytes(tmp_path / name, b"12345")
    outside = tmp_path.with_name("outside")
    outside.mkdir()
    (outside / "space.json").write_text("12345")
    (tmp_path / "features" / "link").symlink_to(outside)
    freed, left = clear_cache()
    assert freed == 5 * len(ours)
    assert left == [".hidden.part", "cat", "demo", "engines", "features", "notes.txt", "tfds"]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)
    assert (outside / "space.json").is_file()


def test_a_folder_that_failed_leaves_no_parents_behind(tmp_path):
    def fail():
        with staged_folder(tmp_path / "a/b/c") as staged:
            (staged / "file").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_a_new_folder_is_never_one_that_is_there(tmp_path):
    assert new_folder(None, tmp_path / "ideal", "runs/pets-1") == tmp_path / "ideal/pets-1-1"
    (tmp_path / "ideal/pets-1-1").mkdir(parents=True)
    assert new_folder(None, tmp_path / "ideal", "runs/pets-1/") == tmp_path / "ideal/pets-1-2"
    assert new_folder(tmp_path / "mine", "ideal", "x") == tmp_path / "mine"
    with pytest.raises(ConfigError, match="exists already"):
        new_folder(tmp_path / "ideal", "ideal", "x")


@pytest.mark.parametrize(
    ("text", "schema", "words"),
    [
        ("[" * 100_000, list, "at most 32 levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, dict, "at most 32 levels"),
        ("[" * 40 + "]" * 40, list, "at most 32 levels"),
        ("{", dict, "no JSON"),
        ("", dict, "no JSON"),
        (b"\xff\xfe\xfd", dict, "no JSON"),
        ('{"a": NaN}', dict, "NaN is no number"),
        ('{"a": -Infinity}', dict, "no number"),
        ("9" * 5000, int, "no JSON"),
        ("[]", dict, "the whole is list, not dict"),
        ('{"b": 1}', {"a": int}, "'a' is missing"),
        ('{"a": true}', {"a": int}, "'a' is bool, not int"),
        ('{"a": 1.5}', {"a": int}, "'a' is float, not int"),
        ('{"a": "no"}', {"a": bool}, "'a' is str, not bool"),
        ('{"a": ["b", 1]}', {"a": [str]}, "an item of 'a' is int, not str"),
        ('{"a": {"b": []}}', {"a": {"b": dict}}, "'b' is list, not dict"),
        ('{"a": "x"}', {"a": (None, float)}, "'a' is str, not float"),
        (" " * 2000, dict, "larger than the 1,000 bytes"),
    ],
)
def test_json_that_is_not_as_it_should_be_is_one_line(text, schema, words):
    with pytest.raises(FormatError, match=words) as caught:
        parse_json(text, schema, what="it", most_bytes=1000 if words.startswith("larger") else 10**7)
    assert "\n" not in str(caught.value)


def test_json_that_fits_is_read_as_it_is(tmp_path):
    value = {"name": 'a " ] } \\', "size": [1, 2.5], "none": None, "deep": [[[[]]]], "ü": "\u202e"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", {"name": str, "size": [float], "none": (None, int)}) == value
    assert parse_json("[[]]", [list], what="it") == [[]]


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_json_is_not_read_from_what_has_no_end(name, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    holder = os.open(tmp_path / "pipe", os.O_RDWR)  # so that opening it does not wait for a writer
    with pytest.raises(FormatError, match="no regular file"):
        read_json(tmp_path / name)
    os.close(holder)


def test_cells_stay_text_and_come_back_as_they_were(tmp_path):
    cells = [
        "=1+1",
        "+x",
        "-x",
        "@x",
        "\tx",
        "'=x",
        "''-x",
        "'quoted'",
        "plain",
        "",
        "a,b",
        'say "x"',
        "\n",
        "caf\udce9",
    ]
    data = csv_bytes(["path", "number"], [(cell, -0.5) for cell in cells])
    lines = data.decode(errors="surrogateescape").split("\n")[1:]
    assert not any(line.lstrip('"').startswith(tuple("=+-@\t")) for line in lines)
    (tmp_path / "a.csv").write_bytes(data)
    assert read_csv(tmp_path / "a.csv") == [{"path": cell, "number": "-0.5"} for cell in cells]
    # What was written before there was a mark is read as it was.
    (tmp_path / "old.csv").write_bytes(b"path\n=x\n")
    assert read_csv(tmp_path / "old.csv") == [{"path": "=x"}]


@pytest.mark.parametrize("data", [b"path\na,b\n", b'path\n"a\n', b"path,label\na\n"])
def test_a_table_that_is_not_ours_is_one_line(data, tmp_path):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(FormatError, match="no CSV file of tlkeras"):
        read_csv(tmp_path / "a.csv")


def test_litter_of_dead_processes_is_swept_and_that_of_living_ones_left(tmp_path):
    dead = [tmp_path / ".old.json.0123abcd.part", tmp_path / ".run.89abcdef.part" / "deep" / "file"]
    living, young, foreign = (
        tmp_path / f".{name}" for name in ("a.00000000.part", "b.11111111.part", "c.notours.part")
    )
    for path in (*dead, living, young, foreign):
        write_bytes(path, b"x")
    _sweep.cache_clear()
    for path in (dead[0], dead[1].parents[1], living, foreign):
        os.utime(path, (1, 1))
    os.utime(dead[0], (2**33, 2**33))  # the clock went back meanwhile
    with held(living):
        write_bytes(tmp_path / "new", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, young.name, foreign.name, "new"])
