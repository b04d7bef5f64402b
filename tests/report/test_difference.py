"""Two runs on the photos that both have judged."""

import csv
import json
import shutil

import numpy as np
import pytest

from tests.report.runs import make_run, table
from tlkeras.cli.main import main
from tlkeras.errors import DataError
from tlkeras.report.difference import difference
from tlkeras.run_facts import read_run


def rewritten(run, name, change):
    """A table of a run with other rows: ``change`` gives each anew, or None to leave it out."""
    with (run / name).open(newline="") as file:
        rows = [row for row in map(change, csv.DictReader(file)) if row]
    table(run / name, list(rows[0]), [tuple(row.values()) for row in rows])


@pytest.fixture
def runs(tmp_path):
    """The same test photos, judged twice; the second run gets five more right and one more wrong."""
    first = make_run(tmp_path / "first", ["cat", "dog"], 12, wrong=0.0)
    content = {}

    def known(row):
        content[row["path"]] = f"{len(content):064x}"
        return {**row, "sha256": content[row["path"]], "group": ""}

    rewritten(first, "splits.csv", known)
    rewritten(first, "predictions.csv", lambda row: {**row, "predicted": row["label"], "label_probability": "0.8"})
    shutil.copytree(first, second := tmp_path / "second")

    def wrong(numbers):
        count = iter(range(99))
        return lambda row: (
            {**row, "predicted": "cat" if row["label"] == "dog" else "dog", "label_probability": "0.3"}
            if next(count) in numbers
            else row
        )

    rewritten(first, "predictions.csv", wrong({0, 1, 2, 3, 4, 20}))
    rewritten(second, "predictions.csv", wrong({10, 20}))
    return first, second


def test_what_is_gained_and_whether_by_chance(runs):
    found = difference(*map(read_run, runs))
    assert (found.images, found.apart, found.relabelled) == (24, (0, 0), 0)
    assert found.accuracies == pytest.approx((18 / 24, 22 / 24))
    assert (found.count("gained"), found.count("lost"), found.count("other")) == (5, 1, 0)
    # Six photos, of which one or none went against it: 2 (1 + 6) / 64.
    assert found.p_value == pytest.approx(14 / 64)
    assert found.accuracy_interval[0] < 4 / 24 < found.accuracy_interval[1]
    assert found.log_losses == pytest.approx([-np.mean(np.log([0.3] * n + [0.8] * (24 - n))) for n in (6, 2)])
    assert found.log_loss_interval[1] < 0.05
    assert "+16.7 points" in found.sentence
    assert "chance alone may do" in found.sentence
    # A photo that is wrong in both alike is not flipped.
    assert len(found.flips) == 6


def test_only_common_photos_are_compared_by_content(runs):
    second = runs[1]
    paths = {}

    def moved(row):
        paths[row["path"]] = f"elsewhere/{len(paths)}.jpg"
        return {**row, "path": paths[row["path"]]}

    rewritten(second, "splits.csv", moved)
    rewritten(second, "predictions.csv", lambda row: {**row, "path": paths[row["path"]]})
    keep = iter(range(99))
    rewritten(second, "predictions.csv", lambda row: row if next(keep) % 2 == 0 else None)
    found = difference(*map(read_run, runs))
    assert (found.images, found.apart) == (12, (12, 0))
    assert "12 that only the first" in found.notes[0]


def test_a_run_without_probabilities_of_labels_has_no_log_loss(runs):
    rewritten(runs[0], "predictions.csv", lambda row: {k: v for k, v in row.items() if k != "label_probability"})
    found = difference(*map(read_run, runs))
    assert found.log_losses is None
    assert found.to_json()["log_loss"] is None
    assert "no log loss" in found.notes[0]


def test_groups_are_drawn_whole(runs):
    alone = difference(*map(read_run, runs)).accuracy_interval
    rewritten(runs[1], "splits.csv", lambda row: {**row, "group": row["path"][-5]})
    assert difference(*map(read_run, runs)).accuracy_interval != alone


def test_runs_without_common_photos_are_refused(runs):
    rewritten(runs[1], "splits.csv", lambda row: {**row, "sha256": row["sha256"][::-1].replace("0", "f")})
    with pytest.raises(DataError, match="24 and 24 photos, none of them the same"):
        difference(*map(read_run, runs))
    rewritten(runs[1], "splits.csv", lambda row: {**row, "sha256": ""})
    with pytest.raises(DataError, match="names none"):
        difference(*map(read_run, runs))


def test_table_json_and_page(runs, tmp_path, capfd):
    asked = ["diff", *map(str, runs), "--out", str(tmp_path / "page.html")]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["mcnemar"] == {"gained": 5, "lost": 1, "p_value": pytest.approx(14 / 64)}
    assert [flip["kind"] for flip in told["flipped"]] == ["gained"] * 5 + ["lost"]
    page = (tmp_path / "page.html").read_text()
    assert page.count('<figure class="card">') == 6
    assert page.count("data:image/jpeg") == 6
    assert "Right only in the second" in page
    assert main(asked) == 0
    assert "gained" in capfd.readouterr().out
    assert main(["diff", str(runs[0]), str(runs[1]), "--out", str(tmp_path)]) == 2
    assert "is a folder" in capfd.readouterr().err
