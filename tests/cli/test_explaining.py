"""`tlkeras features` and `tlkeras explain`: files, figures as JSON, one line for bad input."""

import json

import pytest
from PIL import Image

from tlkeras.cli.main import main

RANDOM = ["--weights", "none", "--size", "32"]


def read_json(capfd):
    return json.loads(capfd.readouterr().out)


def test_features_of_a_photo(run_folder, photo_folder, tmp_path, capfd):
    photo = photo_folder / "blue/00.jpg"
    assert main(["features", str(run_folder), "--list", "--json"]) == 0
    layers = read_json(capfd)["layers"]
    default = [row["layer"] for row in layers if row["default"]]
    assert {"conv1_relu", "conv_pw_13_relu"} <= {row["layer"] for row in layers}
    assert main(["features", str(run_folder), str(photo), "--out", str(tmp_path / "all"), "--json"]) == 0
    shown = read_json(capfd)
    assert [row["layer"] for row in shown["layers"]] == default
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted([*shown["files"], "feature_maps.json"])
    one = ["--layer", "conv1_relu", "--channels", "4", "--out", str(tmp_path / "one")]
    assert main(["features", str(run_folder), str(photo), *one]) == 0
    assert "conv1_relu" in capfd.readouterr().out
    assert sorted(path.name for path in (tmp_path / "one").glob("*.png")) == ["01-conv1_relu.png", "overview.png"]
    assert main(["features", "mobilenet_0.25", *RANDOM, "--list"]) == 0
    assert "conv_pw_13_relu" in capfd.readouterr().out


def test_heat_maps_of_photos(run_folder, photo_folder, tmp_path, capfd):
    photos = [str(photo_folder / "blue/0[0-2].jpg"), str(photo_folder / "orange/empty.jpg")]
    arguments = ["explain", str(run_folder), *photos, "--class", "orange"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--json"]) == 1
    shown = read_json(capfd)
    assert [row["label"] for row in shown["photos"]] == ["orange"] * 3
    assert shown["method"] == "occlusion"
    assert all(row["faithfulness"].keys() >= {"score", "better_than_chance"} for row in shown["photos"])
    assert "the file is empty" in shown["skipped"][0]
    names = [name for row in shown["photos"] for name in row["files"]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, "explain.json"])
    with Image.open(tmp_path / "out" / names[0]) as picture:
        assert picture.size == (48, 40)
    again = ["explain", str(run_folder), photos[0], "--method", "grad-cam", "--out", str(tmp_path / "again")]
    assert main(again) == 0
    told = capfd.readouterr().out
    assert "blue" in told
    assert "±" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["features", "RUN"], "name a photo, or give --list"),
        (["features", "RUN", "absent.jpg"], "no such image"),
        (["features", "RUN", "PHOTO", "--layer", "conv1_rel"], "did you mean 'conv1_relu'"),
        (["features", "RUN", "PHOTO", "--out", "EXISTS"], "exists already"),
        (["explain", "RUN", "absent.jpg"], "no such image file"),
        (["explain", "RUN", "PHOTO", "--method", "cam"], "unknown method 'cam'"),
        (["explain", "RUN", "PHOTO", "--class", "green"], "unknown class 'green'"),
        (["explain", "RUN", "EMPTY"], "none of the photos can be read"),
        (["explain", "absent_run", "PHOTO"], "unknown network 'absent_run'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments, words, run_folder, photo_folder, tmp_path, capfd, monkeypatch
):
    (tmp_path / "exists").mkdir()
    monkeypatch.chdir(tmp_path)
    known = {
        "RUN": run_folder,
        "PHOTO": photo_folder / "blue/00.jpg",
        "EMPTY": photo_folder / "orange/empty.jpg",
        "EXISTS": tmp_path / "exists",
    }
    assert main([str(known.get(word, word)) for word in arguments]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("error: ")
    assert words in shown.err.splitlines()[-1]
    assert [path.name for path in tmp_path.rglob("*")] == ["exists"]
