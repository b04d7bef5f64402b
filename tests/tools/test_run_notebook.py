"""The lesson that is kept was run from end to end, is small, and names nothing of the machine that ran it."""

import base64
import copy
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tools import run_notebook


@pytest.fixture(scope="module")
def kept():
    return json.loads(run_notebook.LESSON.read_text())


def test_what_is_kept_was_run_in_order(kept):
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
    assert "error" not in kinds
    pictures = [output for cell in code for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) >= 10
    assert run_notebook.unfit(kept) == ""


def test_what_names_the_machine_or_is_too_large_is_refused(kept):
    for text in ("saved in /home/someone/x", ["a\n", "/tmp/pictures/1.png"], r"C:\\Users\\someone"):
        changed = copy.deepcopy(kept)
        changed["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
        assert re.match("cell 1 shows a path of this machine", run_notebook.unfit(changed)), text
    changed["cells"][1]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "and/or 1/2, see https://a.b/tmp/c"}
    ]
    assert run_notebook.unfit(changed) == ""
    changed["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 3_000_000}]
    assert "are allowed" in run_notebook.unfit(changed)


def test_pictures_are_kept_small_and_as_they_look():
    picture = (
        np.random.default_rng(0).integers(0, 256, (40, 60, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    )
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=0)
    output = {"data": {"image/png": base64.b64encode(file.getvalue()).decode()}}
    run_notebook.shrink({"cells": [{"outputs": [output, {"name": "stdout", "text": "x"}]}]})
    kept = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
    assert len(output["data"]["image/png"]) < file.tell() / 3
    assert np.abs(np.asarray(kept.convert("RGB"), float) - picture).mean() < 20


@pytest.mark.parametrize("arguments", [["--real", "absent", "--to", "x.ipynb"], ["--real", "."]])
def test_real_photos_must_be_there_and_go_elsewhere(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run_notebook", *arguments])
    before = run_notebook.LESSON.read_bytes()
    assert run_notebook.main() == 2
    assert "--to says where to write" in capsys.readouterr().err
    assert run_notebook.LESSON.read_bytes() == before


@pytest.mark.slow
def test_the_lesson_runs(tmp_path):
    pytest.importorskip("nbclient", reason="needs the notebook extra: pip install 'tlkeras[notebook]'")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(run_notebook.LESSON, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    run_notebook.run(notebook, None)
    run_notebook.shrink(notebook)
    assert run_notebook.unfit(notebook) == ""
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
