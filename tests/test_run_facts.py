"""What run directories say, the older ones too."""

import json
import shutil

import numpy as np
import pytest

from tests.report.runs import make_run
from tlkeras.errors import ClassifierError, TlkerasError
from tlkeras.export.card import model_card
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
    assert rows[0] == "path,label,split,sha256,group"
    (tmp_path / "run" / "splits.csv").write_text("".join(f"{row.rsplit(',', 2)[0]}\n" for row in rows))
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


def places(value, path=()):
    """The way to everything in plain values, of lists to the first item alone."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def with_other(value, path, other):
    if not path:
        return other
    copied = value.copy()
    copied[path[0]] = with_other(value[path[0]], path[1:], other)
    return copied


OTHERS = [None, True, -1, 1e308, 10**30, "x", [], {}, [1], {"a": 1}]


def test_files_of_a_stranger_are_read_or_refused_in_a_line(tmp_path):
    """Whatever stands in the place of a value: report and card are made without it, or one line says why not."""
    run = make_run(tmp_path / "run", ["a", "b", "c"], 3, issues=2)
    random = np.random.default_rng(0)
    refused = []
    for name in ("run.json", "metrics.json", "audit.json", "calibration.json", "classifier/classifier.json"):
        written = json.loads((run / name).read_text())
        changes = [(path, other) for path in places(written) for other in OTHERS]
        for number in random.choice(len(changes), 25, replace=False):
            path, other = changes[number]
            (run / name).write_text(json.dumps(with_other(written, path, other)))
            try:
                trained_on(run)
                facts = read_run(run)
                render(facts)
                model_card(facts)
            except TlkerasError as error:
                refused.append(str(error))
        (run / name).write_text(json.dumps(written))
    assert 0 < len(refused) < 125
    assert all(len(line.splitlines()) == 1 for line in refused)
