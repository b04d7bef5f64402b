"""`tlkeras ideal`: files, figures as JSON, the same again for a seed, one line for bad input."""

import json

import numpy as np
import pytest

from tlkeras.cli.main import main

RANDOM = ["--weights", "none", "--size", "32"]


def read_json(capfd):
    return json.loads(capfd.readouterr().out)


def test_ideal_images_of_a_run(run_folder, tmp_path, capfd):
    out = tmp_path / "ideal"
    arguments = ["ideal", str(run_folder), "--class", "blue", "--class", "Orange", "--count", "2", "--steps", "40"]
    plain = ["--mode", "pixels", "--tv", "0"]
    assert main([*arguments, *plain, "--judge", str(run_folder), "--out", str(out), "--json"]) == 0
    shown = read_json(capfd)
    assert [row["file"] for row in shown["images"]] == ["blue-1.png", "blue-2.png", "orange-1.png", "orange-2.png"]
    assert all(row["probability"] > 0.9 for row in shown["images"])
    assert shown["judges"][0]["first"] == 1.0
    pictures = ["curves.png", "film.gif", "film_strip.png", "sheet.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(row["file"] for row in shown["images"]), *pictures, "ideal.json"]
    )
    stored = json.loads((out / "ideal.json").read_text())
    assert np.shape(stored["values"]) == (4, 40)
    # The probability in the table is that of the file.
    assert main(["predict", str(run_folder), str(out / "blue-1.png"), "--json"]) == 0
    answer = read_json(capfd)["predictions"][0]
    assert answer["label"] == "blue"
    assert answer["probability"] == pytest.approx(shown["images"][0]["probability"], abs=1e-4)


def test_the_same_seed_writes_the_same_files(run_folder, tmp_path, capfd):
    for name in ("a", "b"):
        arguments = ["ideal", str(run_folder), "--class", "1", "--count", "1", "--steps", "6", "--mode", "pixels"]
        assert main([*arguments, "--seed", "7", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a/orange-1.png").read_bytes() == (tmp_path / "b/orange-1.png").read_bytes()
    assert (tmp_path / "a/ideal.json").read_bytes() != b""
    assert "orange-1.png" in capfd.readouterr().out


def test_a_channel_of_a_random_network(tmp_path, capfd):
    arguments = ["ideal", "mobilenet_0.25", *RANDOM, "--layer", "conv1_relu", "--channel", "3", "--steps", "5"]
    assert main([*arguments, "--count", "2", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/conv1_relu_3-2.png").is_file()
    assert "conv1_relu 3" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ideal", "RUN"], "give either --class or --layer; received neither"),
        (["ideal", "RUN", "--class", "blue", "--layer", "conv1_relu"], "received both"),
        (["ideal", "RUN", "--class", "blu"], "did you mean 'blue'"),
        (["ideal", "RUN", "--class", "blue", "--channel", "1"], "--channel has no effect without --layer"),
        (["ideal", "RUN", "--class", "blue", "--mode", "pixel"], "did you mean 'pixels'"),
        (["ideal", "RUN", "--class", "blue", "--steps", "0"], "steps must lie"),
        (["ideal", "RUN", "--class", "blue", "--tv", "nan"], "0 or more"),
        (["ideal", "RUN", "--class", "blue", "--out", "EXISTS"], "exists already"),
        (["ideal", "RUN", "--layer", "conv1_relu", "--channel", "99"], "numbered 0..7"),
        (["ideal", "RUN", "--layer", "conv1_relu", "--judge", "RUN"], "--judge has no effect with --layer"),
        (["ideal", "mobilnet_v2", "--class", "zebra"], "did you mean 'mobilenet_v2'"),
        (["ideal", "RUN", "--class", "blue", "--size", "64"], "brings its own weights and size"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, run_folder, tmp_path, capfd, monkeypatch):
    (tmp_path / "exists").mkdir()
    monkeypatch.chdir(tmp_path)
    known = {
        "RUN": run_folder,
        "EXISTS": tmp_path / "exists",
    }
    assert main([str(known.get(word, word)) for word in arguments]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("error: ")
    assert words in shown.err.splitlines()[-1]
    assert [path.name for path in tmp_path.rglob("*")] == ["exists"]
