"""`tlkeras predict` and `tlkeras extract`: answers, shards, one JSON object, one line for bad input."""

import json

import numpy as np
import pytest

from tlkeras.cli.main import main
from tlkeras.cli.predicting import _answers
from tlkeras.features.shards import ShardSet
from tlkeras.progress import Silent


class Undecided:
    """Two classes are equally probable."""

    class_names = ("ant", "bee", "cat")

    def predictor(self, **_):
        return self

    def answers(self, paths):
        yield paths[0], np.array([0.4, 0.2, 0.4], np.float32)


def test_equal_probabilities_rank_as_argmax_has_them():
    answers, _ = _answers(Undecided(), Undecided.class_names, ["photo.jpg"], 3, Silent())
    assert answers[0]["label"] == "ant"
    assert [other["label"] for other in answers[0]["top"]] == ["ant", "cat", "bee"]


def test_extract_then_train_on_photos_without_computing_again(
    photo_folder, small_weights, small_options, tmp_path, capfd
):
    to = str(tmp_path / "features")
    assert main(["extract", str(photo_folder), "--to", to, *small_options, "--rows", "30", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["images"], shown["rejected"], shown["computed"]) == (62, 2, 3)
    assert main(["train", str(photo_folder), *small_options, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["features"]["computed"] == 0
    weights = ["--weights", str(small_weights)]
    assert main(["train", to, *weights, "--out", str(tmp_path / "run2"), "--json"]) == 0
    trained = json.loads(capfd.readouterr().out)
    assert trained["evaluation"]["accuracy"] >= 0.95
    assert trained["audit"]["rejected"] == 2
    assert main(["predict", str(tmp_path / "run2"), str(photo_folder / "orange" / "00.jpg"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["predictions"][0]["label"] == "orange"


def test_predict_to_shards_ends_with_1_when_some_are_rejected(run_folder, photo_folder, tmp_path, capfd):
    to = str(tmp_path / "answers")
    assert main(["predict", str(run_folder), str(photo_folder), "--to", to, "--json"]) == 1
    shown = capfd.readouterr()
    assert json.loads(shown.out)["rejected"] == 2
    assert "their rows say why" in shown.err
    answers = ShardSet(to, "predictions").columns(["label", "predicted", "reason"])
    right = [label == predicted for label, predicted in zip(answers["label"], answers["predicted"], strict=True)]
    assert sum(right) == 60
    assert {reason for reason in answers["reason"] if reason} == {"truncated", "empty"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extract", "PHOTOS", "--to", "TO", "--rows", "0"], "from 1"),
        (["extract", "PHOTOS", "--to", "TO", "--actors", "2"], "belong to a cluster"),
        (["extract", "PHOTOS", "--to", "TO", "--backbone", "vgg61"], "did you mean"),
        (["extract", "PHOTOS", "--to", "PHOTOS", "--backbone", "tlkeras_tiny"], "--to is a new folder"),
        (["extract", "nowhere/at/all", "--to", "TO", "--backbone", "tlkeras_tiny"], "no such folder"),
        (["extract", "PHOTOS", "--to", "TO", "--on", "autp"], "unknown place to run"),
        (["predict", "RUN", "PHOTOS", "--on", "local"], "say where"),
    ],
)
def test_bad_input_is_one_line(arguments, words, run_folder, photo_folder, tmp_path, capfd):
    places = {"PHOTOS": str(photo_folder), "TO": str(tmp_path / "to"), "RUN": str(run_folder)}
    assert main([places.get(word, word) for word in arguments]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert not (tmp_path / "to").exists()
