"""One strange folder, five commands: the same files, each answered, skipped with its reason, or left out with it."""

import json
import os
import shutil

from tlkeras.cli.main import main
from tlkeras.features.shards import ShardSet


def test_all_commands_find_the_same_files(run_folder, photo_folder, small_options, tmp_path, capfd, monkeypatch):
    home = tmp_path / "photos"
    shutil.copytree(photo_folder, home)
    shutil.copytree(
        photo_folder / "blue", tmp_path / "elsewhere", ignore=lambda _, names: [n for n in names if "2" in n]
    )
    (home / "blue" / "more").symlink_to(tmp_path / "elsewhere")
    (home / "blue" / "ring").symlink_to(home)
    for name in (
        "@eaDir/1.jpg",
        "blue/.thumbnails/2.jpg",
        "explain/run-1/1.png",
        "orange/README.md",
        "orange/film.mov",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"x")
    (home / "orange" / "noending").write_bytes((home / "orange" / "01.jpg").read_bytes()[:-1] + b"x")

    def said(*arguments, code=0):
        assert main([*map(str, arguments), "--json"]) == code
        shown = capfd.readouterr()
        assert "left out: " in shown.err
        return json.loads(shown.out)

    audit = said("audit", home)
    taken = {row["path"] for row in audit["images"]}
    left = sorted(row["path"] for row in audit["left_out"])
    assert {os.path.relpath(path, home) for path in left} == {
        "@eaDir", "blue/.thumbnails", "blue/ring", "explain", "orange/README.md",
    }  # fmt: skip
    rejected = {row["path"] for row in audit["images"] if row["status"] == "rejected"}
    assert len(taken) + len(left) == audit["found"]

    predicted = said("predict", run_folder, home, code=1)
    answered = {row["path"] for row in predicted["predictions"]}
    skipped = {row["path"] for row in predicted["skipped"]}
    reasons = {row["path"]: row["reason"] for row in audit["images"]}
    assert all(row["reason"] == reasons[row["path"]] and row["detail"] for row in predicted["skipped"])
    assert answered | skipped == taken
    assert not answered & skipped
    assert predicted["found"] == audit["found"] == len(answered) + len(skipped) + len(predicted["left_out"])

    both = said("predict", run_folder, home / "blue", home / "orange", "--to", tmp_path / "shards", code=1)
    assert {os.path.relpath(row["path"], home) for row in both["left_out"]} == {
        "blue/.thumbnails", "blue/ring", "orange/README.md",
    }  # fmt: skip
    assert both["found"] == len(taken) + 3

    measured = said("evaluate", run_folder, home, "--engine", "tensorflow")
    assert measured["found"] == audit["found"]
    assert {row["path"] for row in measured["skipped"]} == rejected
    assert measured["images"] + measured["seen"]["images"] + len(rejected) == len(taken)

    extracted = said("extract", home, "--to", tmp_path / "to", *small_options)
    rows = ShardSet(str(tmp_path / "to"), "features").columns(["path", "status"])
    assert set(rows["path"]) == taken
    assert extracted["found"] == audit["found"]
    assert sorted(row["path"] for row in extracted["left_out"]) == left

    said("train", home, *small_options, "--out", tmp_path / "run", "--no-report")
    kept = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert {row["path"] for row in kept["images"]} == taken
    assert sorted(row["path"] for row in kept["left_out"]) == left
