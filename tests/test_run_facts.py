"""What run directories say, the older ones too."""

import json
import shutil

import pytest

from tlkeras.errors import ClassifierError
from tlkeras.report.build import render
from tlkeras.run_facts import read_run, trained_on


@pytest.fixture
def old(run_folder, tmp_path):
    """A run as 0.1 wrote it: no format version, and no content beside the splits."""
    shutil.copytree(run_folder, tmp_path / "run")
    for name in ("run.json", "metrics.json", "audit.json", "calibration.json"):
        plain = json.loads((tmp_path / "run" / name).read_text())
        plain.pop("format_version", None)
        (tmp_path / "run" / name).write_text(json.dumps(plain))
    rows = (tmp_path / "run" / "splits.csv").read_text().splitlines()
    assert rows[0].endswith(",sha256")
    (tmp_path / "run" / "splits.csv").write_text("".join(f"{row.rpartition(',')[0]}\n" for row in rows))
    return tmp_path / "run"


def test_what_an_older_run_was_trained_on_is_told_by_its_audit(run_folder, old):
    known = trained_on(run_folder)
    assert set(known.values()) == {"train", "validation"}
    assert len(known) == 52
    assert trained_on(old) == trained_on(old / "classifier") == known
    (old / "audit.json").unlink()
    assert trained_on(old) is None
    shutil.move(old / "classifier", old.parent / "bare")
    assert trained_on(old.parent / "bare") is None


def test_a_run_on_features_of_0_1_has_a_report(old):
    """It kept neither audit nor splits nor answers, and its seconds were one number."""
    for name in ("audit.json", "splits.csv", "predictions.csv", "calibration.json", "label_issues.csv"):
        (old / name).unlink()
    run = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**run, "seconds": 12.5, "space": {"size_px": 32}}))
    facts = read_run(old)
    assert facts.run["seconds"] == {"all": 12.5}
    assert b"12 s" in render(facts)


def test_a_run_of_a_later_version_is_one_line(old):
    (old / "metrics.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(ClassifierError, match="later version"):
        read_run(old)
