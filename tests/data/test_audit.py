"""The audit: a table of strange files with the verdict that each deserves, copies, leaks, and the cache."""

import json
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encode, photo
from tests.zoo import contents, make_zoo
from tlkeras.data import audit as audit_module
from tlkeras.data import verdicts
from tlkeras.data.audit import audit, require_clean
from tlkeras.data.open import open_dataset
from tlkeras.data.splits import split
from tlkeras.errors import DataError
from tlkeras.storage import cache_root


def verdicts_of(checked, folder):
    return {verdict.path.removeprefix(f"{folder}/"): verdict for verdict in checked.verdicts}


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else encode(data, "JPEG"))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    expected = make_zoo(folder / "strange")
    write(folder, {f"plain/{number}.jpg": photo(60, 50, seed=number) for number in range(12)})
    return folder, expected


@pytest.fixture(scope="module")
def zoo_audit(zoo, tmp_path_factory):
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("zoo_cache")))
    yield audit(open_dataset(zoo[0]))
    cache.undo()


def test_the_zoo_is_large_and_all_of_it_is_seen(zoo, zoo_audit):
    folder, expected = zoo
    assert len(expected) >= 80
    assert len(set(expected.values())) >= 10
    found = verdicts_of(zoo_audit, folder / "strange")
    assert set(found) - {name for name in found if "plain/" in name} == set(expected)


@pytest.mark.parametrize("name", sorted(contents()))
def test_each_strange_file_gets_its_verdict(name, zoo, zoo_audit):
    folder, expected = zoo
    verdict = verdicts_of(zoo_audit, folder / "strange")[name]
    assert (verdict.status, verdict.reason) == expected[name], verdict.detail
    assert "\n" not in verdict.to_json()["path"]


def test_what_is_no_plain_file_gets_its_verdict_too(zoo, zoo_audit):
    folder, expected = zoo
    found = verdicts_of(zoo_audit, folder / "strange")
    for name in sorted(set(expected) - set(contents())):
        assert (found[name].status, found[name].reason) == expected[name], name


def test_a_folder_with_the_whole_zoo_can_be_trained_on(zoo_audit):
    images = split(zoo_audit.kept, zoo_audit.groups)
    assert set(images.splits) == {"train", "validation", "test"}
    counts = zoo_audit.counts()
    assert counts["rejected"] + len(images) == counts["images"] == len(zoo_audit.dataset)
    assert "rejected" in zoo_audit.summary()
    json.dumps(zoo_audit.to_json(), allow_nan=False)
    assert len(zoo_audit.to_json()["images"]) == counts["images"]
    with pytest.raises(DataError, match="--strict"):
        require_clean(zoo_audit)


def test_tables_show_any_file_name(zoo_audit):
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    for table in zoo_audit.tables():
        console.print(table)
    text = console.export_text()
    assert "truncated" in text
    assert "more" in text


def test_copies_conflicts_and_near_copies(tmp_path):
    one, other, clash = photo(200, 160, 1), photo(200, 160, 2), photo(200, 160, 3)
    write(
        tmp_path,
        {
            "a/one.jpg": one,
            "a/one again.jpg": one,
            "a/other.jpg": other,
            "a/other small.jpg": other.resize((150, 120), Image.Resampling.LANCZOS),
            "a/other poor.jpg": encode(other, "JPEG", quality=50),
            "a/clash.jpg": clash,
            "b/clash.jpg": clash,
            "b/alone.jpg": photo(200, 160, 4),
        },
    )
    checked = audit(open_dataset(tmp_path))
    found = {name: (v.status, v.reason) for name, v in verdicts_of(checked, tmp_path).items()}
    assert found == {
        "a/clash.jpg": ("rejected", "conflict"),
        "a/one again.jpg": ("good", ""),
        "a/one.jpg": ("rejected", "duplicate"),
        "a/other poor.jpg": ("suspicious", "near_duplicate"),
        "a/other small.jpg": ("suspicious", "near_duplicate"),
        "a/other.jpg": ("suspicious", "near_duplicate"),
        "b/alone.jpg": ("good", ""),
        "b/clash.jpg": ("rejected", "conflict"),
    }
    groups = {verdict.path: group for verdict, group in zip(checked.kept_verdicts, checked.groups, strict=True)}
    assert len({group for path, group in groups.items() if "other" in path}) == 1
    assert len(set(groups.values())) == 3


def test_what_is_tested_is_not_trained_on(tmp_path):
    leak, near = photo(200, 160, 1), photo(200, 160, 2)
    files = {f"{part}/{name}/{n}.jpg": photo(90, 80, n + 10 * len(part) + 100 * len(name))
             for part in ("train", "test") for name in ("a", "bb") for n in range(3)}  # fmt: skip
    files |= {
        "train/a/leak.jpg": leak,
        "test/a/leak.jpg": leak,
        "train/bb/near.jpg": encode(near, "JPEG", quality=50),
        "test/bb/near.jpg": encode(near, "JPEG", quality=90),
    }
    write(tmp_path, files)
    found = verdicts_of(audit(open_dataset(tmp_path)), tmp_path)
    rejected = {name: v.reason for name, v in found.items() if v.status == "rejected"}
    assert rejected == {"train/a/leak.jpg": "leak", "train/bb/near.jpg": "leak"}
    assert "test" in found["train/bb/near.jpg"].detail


def test_different_pictures_are_not_taken_for_copies(tmp_path):
    # Alike on purpose: the same motif, drawn with other noise and a shift.
    for number in range(60):
        pixels = np.asarray(photo(120, 100, seed=number % 6)).astype(int)
        pixels = np.roll(pixels, 13 * (number // 6), axis=1) + 9 * (number // 6)
        write(tmp_path, {f"{'ab'[number % 2]}/{number}.jpg": Image.fromarray(pixels.clip(0, 255).astype(np.uint8))})
    assert audit(open_dataset(tmp_path)).counts()["suspicious"] == 0


def test_a_class_or_split_without_usable_images_is_told(tmp_path):
    write(tmp_path, {"a/1.jpg": photo(50, 50, 1), "a/2.jpg": photo(50, 50, 2), "b/1.jpg": b"", "b/2.jpg": b"text"})
    with pytest.raises(DataError, match=r"class 'b' has no usable image; received .*1 empty.*'tlkeras audit'"):
        _ = audit(open_dataset(tmp_path)).kept


def test_a_second_audit_opens_only_what_has_changed(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for number in range(2000):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)), "PNG"))
    dataset = open_dataset(tmp_path / "photos")
    opened = opens_in(tmp_path / "photos")

    def read_by(dataset=dataset, **how):
        opened.clear()
        checked = audit(dataset, **how)
        return checked, sorted({Path(path).name for path in opened})

    few = dataset.subset(np.arange(2000) < 30)
    monkeypatch.setattr(verdicts, "TICK_NS", 10**18)
    audit(few)
    # Whatever was written within the clock's last tick may be written again, unseen.
    assert len(read_by(few)[1]) == 30
    monkeypatch.setattr(verdicts, "TICK_NS", 0)
    first = audit(dataset)
    again, read = read_by()
    assert (again.verdicts, read) == (first.verdicts, [])
    assert len(read_by(few, full=True)[1]) == 30

    changed, touched, swapped = (Path(path) for path in dataset.paths[5:8])
    before = changed.stat()
    changed.write_bytes(changed.read_bytes()[::-1])
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time of its content
    touched.touch()
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").rename(swapped)
    after, read = read_by()
    assert read == sorted(path.name for path in (changed, touched, swapped))
    assert [v.reason for v in after.verdicts[5:8]] == ["not_an_image", first.verdicts[6].reason, "not_an_image"]
    monkeypatch.setattr(verdicts, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - 10**18))  # a clock put back
    assert len(read_by(few)[1]) == 30


def opens_in(folder):
    """The list in which every file of a folder that is opened from now on will stand."""
    opened = []

    def hook(event, arguments):
        if event == "open" and str(arguments[0]).startswith(f"{folder}/"):
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)  # for the rest of the process: hooks cannot be taken away
    return opened


def test_a_file_of_which_the_content_is_known_is_not_examined_again(zoo, monkeypatch):
    first = audit(open_dataset(zoo[0]))
    calls = []
    monkeypatch.setattr(audit_module, "examine", lambda *_: calls.append(1))
    assert audit(open_dataset(zoo[0])).verdicts == first.verdicts
    assert calls == []


@pytest.mark.parametrize("damage", [b"this is no database", b"", None])
def test_a_damaged_cache_is_made_anew(damage, tmp_path):
    write(tmp_path, {f"{name}/1.jpg": photo(50, 50, len(name)) for name in ("a", "bb")})
    dataset = open_dataset(tmp_path)
    first = audit(dataset)
    path = cache_root() / "verdicts.sqlite"
    if damage is None:
        with sqlite3.connect(path) as database:
            database.execute("UPDATE contents SET content = '{\"format\": 3}'")
    else:
        path.write_bytes(damage * 300)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert audit(dataset).verdicts == first.verdicts
        assert audit(dataset).verdicts == first.verdicts


def test_an_interruption_keeps_what_was_seen(zoo, monkeypatch):
    def stop(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(open_dataset(zoo[0]), progress=stop, workers=1)
    with sqlite3.connect(cache_root() / "verdicts.sqlite") as database:
        (count,) = database.execute("SELECT COUNT(*) FROM contents").fetchone()
    assert count >= 15


def test_the_odd_files_of_real_data_sets(assets, tmp_path):
    odd = assets / "photos" / "odd_files"
    for path in odd.glob("*.jpg"):
        (tmp_path / "a").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "a")
    write(tmp_path, {"b/1.jpg": photo(50, 50)})
    found = verdicts_of(audit(open_dataset(tmp_path)), tmp_path)
    assert {name: (v.status, v.reason) for name, v in found.items() if name.startswith("a/")} == {
        "a/666.jpg": ("rejected", "empty"),
        "a/11702.jpg": ("rejected", "empty"),
        "a/Abyssinian_34.jpg": ("repaired", "misnamed"),
        "a/Abyssinian_5.jpg": ("repaired", "misnamed"),
        "a/grayscale_nail.jpg": ("good", ""),
    }


def test_real_photos_are_not_taken_for_copies(assets):
    checked = audit(open_dataset(assets / "photos" / "flowers"))
    assert checked.counts()["rejected"] == 0
    assert checked.counts()["suspicious"] <= 5
