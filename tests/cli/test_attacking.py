"""``tlkeras attack`` and ``tlkeras robustness`` in this process: files, JSON, one line for bad input."""

import json

import numpy as np
import pytest
from PIL import Image

from tlkeras.cli.main import main


def read_json(capfd):
    return json.loads(capfd.readouterr().out)


def test_attack_writes_images_that_fool(run_folder, photo_folder, tmp_path, capfd):
    out = tmp_path / "attacked"
    photos = str(photo_folder / "blue" / "0[0-2].jpg")
    arguments = [
        "attack",
        str(run_folder),
        photos,
        "--target",
        "orange",
        "--epsilon",
        "48",
        "--steps",
        "60",
        "--restarts",
        "4",
        "--out",
        str(out),
    ]
    assert main([*arguments, "--json"]) == 0
    shown = read_json(capfd)
    assert shown["success"] == shown["attacked"] == 3
    assert shown["attack"]["epsilon_255"] == 48
    assert json.loads((out / "attack.json").read_text())["results"] == shown["results"]
    assert sorted(path.name for path in out.iterdir()) == sorted(shown["files"])
    # The written files do it, for whoever reads them.
    assert main(["predict", str(run_folder), *(str(out / row["file"]) for row in shown["results"]), "--json"]) == 0
    predictions = read_json(capfd)["predictions"]
    assert [p["label"] for p in predictions] == ["orange"] * 3
    for row, prediction in zip(shown["results"], predictions, strict=True):
        assert prediction["probability"] == pytest.approx(row["target_probability_after"], abs=1e-4)
    with Image.open(out / "picture.png") as picture:
        assert picture.width > 600
        assert np.asarray(picture.convert("L")).std() > 10
    assert main(arguments) == 2
    assert "exists already" in capfd.readouterr().err


def test_full_size_smallest_and_tables(run_folder, photo_folder, tmp_path, capfd):
    photo = str(photo_folder / "blue" / "03.jpg")
    out = tmp_path / "small"
    common = ["attack", str(run_folder), photo, "--full-size", "--steps", "20", "--out", str(out)]
    assert main([*common, "--smallest", "--epsilon", "64"]) == 0
    shown = capfd.readouterr()
    assert "1 of 1 fooled" in shown.out
    assert "yes" in shown.out
    described = json.loads((out / "attack.json").read_text())
    (row,) = described["results"]
    assert row["success"]
    assert row["linf_255"] <= row["epsilon_255"] <= 64
    with Image.open(out / row["file"]) as saved, Image.open(photo) as before:
        assert saved.size == before.size


def test_robustness_writes_figures_and_curves(run_folder, photo_folder, tmp_path, capfd):
    out = tmp_path / "robust"
    arguments = ["robustness", str(run_folder), str(photo_folder), "--images", "6", "--steps", "4", "--out", str(out)]
    arguments += ["--methods", "fgsm,pgd", "--epsilons", "8,64", "--corruptions", "noise"]
    assert main([*arguments, "--json"]) == 0
    shown = read_json(capfd)
    assert shown["clean"]["accuracy"] == 1.0
    assert {(p["method"], p["epsilon_255"]) for p in shown["attacks"]} >= {("fgsm", 8), ("pgd", 64)}
    assert json.loads((out / "robustness.json").read_text()) == shown
    with Image.open(out / "robustness.png") as picture:
        assert picture.width > 600
    assert main([*arguments[:-2], "--corruptions", "none", "--out", f"{out}2"]) == 0
    text = capfd.readouterr().out
    assert "worst case" in text
    assert "noise" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["attack", "RUN", "PHOTO", "--method", "pdg"], "did you mean 'pgd'"),
        (["attack", "RUN", "PHOTO", "--target", "orang"], "did you mean 'orange'"),
        (["attack", "RUN", "PHOTO", "--epsilon", "0"], "above 0"),
        (["attack", "RUN", "PHOTO", "--norm", "l0"], "unknown norm"),
        (["attack", "RUN", "PHOTO", "--method", "cw", "--epsilon", "4"], "no budget"),
        (["attack", "RUN", "PHOTO", "--method", "apgd-dlr"], "3 classes"),
        (["attack", "RUN", "PHOTO", "--method", "fgsm", "--steps", "9"], "one step"),
        (["attack", "RUN", "PHOTO", "--smallest", "--transfer", "RUN"], "--smallest has no effect with --transfer"),
        (["attack", "RUN", "PHOTO", "--smallest", "--method", "deepfool"], "looks for the smallest change itself"),
        (["attack", "RUN", "absent.jpg"], "no such image"),
        (["attack", "RUN", "EMPTY"], "the file is empty"),
        (["attack", "mobilenet_v22", "PHOTO"], "did you mean 'mobilenet_v2'"),
        (["robustness", "RUN", "PHOTOS", "--methods", "pdg"], "did you mean 'pgd'"),
        (["robustness", "RUN", "PHOTOS", "--epsilons", "1,x"], "numbers with commas"),
        (["robustness", "RUN", "PHOTOS", "--methods", "none", "--corruptions", "none"], "nothing is left"),
        (["robustness", "RUN", "absent/folder"], "absent/folder"),
        (["robustness", "RUN", "PHOTOS", "--images", "0"], "at least one image"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, run_folder, photo_folder, tmp_path, capfd):
    known = {
        "RUN": run_folder,
        "PHOTO": photo_folder / "blue" / "00.jpg",
        "PHOTOS": photo_folder,
        "EMPTY": photo_folder / "orange" / "empty.jpg",
    }
    out = tmp_path / "out"
    assert main([*(str(known.get(word, word)) for word in arguments), "--out", str(out)]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert shown.err.splitlines()[-1] == line
    assert list(tmp_path.iterdir()) == []
