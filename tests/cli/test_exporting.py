"""``tlkeras export`` and ``tlkeras verify``: what they print, write, and end with."""

import json
import shutil

import pytest

from tlkeras.cli.main import main


@pytest.fixture(scope="module")
def models(run_folder, tmp_path_factory):
    """The run, exported as ONNX by the command, with what it printed beside."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def published(run_folder, models):
    assert main(["export", str(run_folder), "--to", str(models), "--name", "tinted", "--formats", "onnx"]) == 0
    return models / "tinted" / "1"


def test_a_run_is_exported_and_verified(run_folder, published, photo_folder, capfd):
    arguments = ["export", str(run_folder), "--to", str(published.parents[1]), "--name", "tinted"]
    assert main([*arguments, "--formats", "onnx", "--top-k", "1", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["folder"] == str(published.with_name("2"))
    assert shown["version"] == 2
    assert shown["published"] is True
    assert shown["parity"]["passed"] is True
    assert "of the run's validation split" in shown["parity"]["images"]
    assert {check["runtime"] for check in shown["parity"]["checks"]} >= {"ONNX Runtime"}

    assert main(["verify", shown["folder"], "--images", str(photo_folder), "--json"]) == 0
    verified = json.loads(capfd.readouterr().out)
    assert verified["passed"] is True
    assert verified["intact"] is True
    assert sorted(verified["left_out"]) == ["cut.jpg", "empty.jpg"]

    assert main(["verify", shown["folder"], "--images", str(photo_folder)]) == 0
    table = capfd.readouterr().out
    assert "ONNX Runtime" in table
    assert "passed" in table
    assert "left out, because a served graph does not decode them: 2" in table


def test_a_changed_byte_ends_with_1(published, tmp_path, photo_folder, capfd):
    copy = shutil.copytree(published, tmp_path / "1")
    content = bytearray((copy / "model.onnx").read_bytes())
    content[-1] ^= 1
    (copy / "model.onnx").write_bytes(content)
    assert main(["verify", str(copy), "--images", str(photo_folder), "--json"]) == 1
    captured = capfd.readouterr()
    assert json.loads(captured.out)["changed"] == ["model.onnx"]
    assert "error: " in captured.err
    assert main(["verify", str(copy), "--images", str(photo_folder)]) == 1
    assert "changed: model.onnx" in capfd.readouterr().err


def test_an_export_that_disagrees_ends_with_1(run_folder, tmp_path, monkeypatch, capfd):
    from tlkeras.export import parity

    monkeypatch.setattr(parity, "BATCHES", (1,))
    monkeypatch.setattr("tlkeras.export.formats.TOLERANCE", -1.0)
    arguments = ["export", str(run_folder), "--to", str(tmp_path / "m"), "--formats", "onnx"]
    assert main([*arguments, "--json"]) == 1
    captured = capfd.readouterr()
    shown = json.loads(captured.out)
    assert shown["published"] is False
    assert shown["parity"]["passed"] is False
    assert "Nothing was published" in captured.err.splitlines()[-1]
    assert not (tmp_path / "m" / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "RUN", "--to", "m", "--formats", "onxx"], "unknown format 'onxx'; did you mean 'onnx'"),
        (["export", "RUN", "--to", "m", "--formats", "saved_model,web"], "web needs the format onnx"),
        (["export", "RUN", "--to", "m", "--name", "a/b"], "a model's name takes letters"),
        (["export", "RUN", "--to", "m", "--name", ".hidden"], "a model's name takes letters"),
        (["export", "RUN", "--to", "m", "--signature", "pixel"], "did you mean 'pixels'"),
        (
            ["export", "RUN", "--to", "m", "--formats", "onnx", "--signature", "image_bytes"],
            "--signature has no effect without the format saved_model",
        ),
        (["export", "RUN", "--to", "m", "--images", "nowhere"], "no such image file or folder"),
        (["export", "RUN", "--to", "m", "--formats", "onnx", "--top-k", "3"], "top_k must lie in 1..2"),
        (["export", "nowhere", "--to", "m"], "is not a run or a saved classifier"),
        (["verify", "nowhere"], "is not a published version: there is no such folder"),
        (["verify", "RUN"], "is not a published version: it has no manifest.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, words, run_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main([str(run_folder) if word == "RUN" else word for word in arguments]) == 2
    captured = capfd.readouterr()
    assert words in captured.err.splitlines()[-1]
    assert captured.out == ""
    assert not (tmp_path / "m").exists()
