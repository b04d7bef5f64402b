"""The page: what is in it and in which order, that nothing gets out of its place, that it stays small."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report.conftest import HOSTILE_CLASSES
from tests.report.runs import make_run
from tlkeras.errors import ClassifierError, ConfigError, StorageError
from tlkeras.evaluation.metrics import Answers, evaluate_probabilities
from tlkeras.export.publish import write_manifest
from tlkeras.report.build import REPORT_FILE, render, write_report
from tlkeras.run_facts import read_run

ORDER = (
    *("examples", "audit", "curves", "confusion", "classes", "calibration", "mistakes", "labels", "copies", "ideal"),
    *("adversarial", "robustness", "parity", "usage", "configuration"),
)


class Outline(HTMLParser):
    """Tags, headings, attributes that name other places, images without words."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags, self.sections, self.headings, self.addresses, self.wordless = [], [], [], [], []
        self.feed(page.decode())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag == "section":
            self.sections.append(found["id"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "srcset")]
        self.wordless += [tag] if tag == "img" and not found.get("alt") else []
        assert not [name for name in found if name.startswith("on")], found


@pytest.fixture(scope="module")
def page(demo_run):
    return (demo_run / REPORT_FILE).read_bytes()


def test_sections_stand_in_their_order_and_only_with_data(page, demo_run, tmp_path):
    sections = Outline(page).sections
    assert sections == [name for name in ORDER if name in sections]
    assert set(ORDER) - set(sections) == {"copies", "parity"}
    assert re.search(r"<h1>animals</h1>", page.decode())
    bare = tmp_path / "bare"
    shutil.copytree(demo_run / "classifier", bare / "classifier")
    shutil.copy(demo_run / "metrics.json", bare)
    outline = Outline(render(read_run(bare)))
    assert outline.sections == ["confusion", "classes", "usage", "configuration"]


def test_the_verdict_is_one_sentence_with_its_interval(page, demo_facts):
    metrics = demo_facts.metrics
    low, high = (f"{100 * bound:.1f} %" for bound in metrics["accuracy_interval"])
    verdict = re.search(r'<p class="verdict">(.*?)</p>', page.decode())[1]
    assert verdict.count(". ") == 0
    judged = (
        f"{100 * metrics['accuracy']:.1f} % of {metrics['images']} photos, each judged by a head that had not seen it,"
    )
    assert f"{judged} right" in verdict
    assert f"{low} to {high}" in verdict
    assert "cat, dog, rabbit and zebra" in verdict


def test_nothing_is_fetched_and_only_our_script_may_run(page):
    outline = Outline(page)
    assert all(address.startswith(("#", "data:image/")) for address in outline.addresses)
    assert outline.tags.count("script") == 1
    script = re.search(rb"<script>(.*?)</script>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    policy = re.search(rb'Content-Security-Policy" content="([^"]*)"', page)[1].decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_headings_step_down_one_by_one_and_pictures_have_words(page):
    outline = Outline(page)
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert outline.tags.count("img") > 40
    assert outline.wordless == []
    assert b'<html lang="en">' in page


def test_names_are_never_markup(hostile_run):
    page = render(read_run(hostile_run))
    outline = Outline(page)
    assert outline.tags.count("script") == 1
    assert all(address.startswith(("#", "data:image/")) for address in outline.addresses)
    assert b"49.jpg" not in page
    assert b"{{ 7*7 }}.jpg" in page
    for name in HOSTILE_CLASSES[:1]:
        assert name.encode() not in page
    assert b"&lt;script&gt;window.hacked=1&lt;/script&gt;" in page


def test_a_report_of_37_classes_is_small(tmp_path):
    names = tuple(f"breed_number_{k:02d}" for k in range(37))
    run = make_run(tmp_path / "run", names, 12, side_px=220, wrong=0.4, issues=30)
    page = render(read_run(run))
    assert Outline(page).sections[:4] == ["examples", "audit", "curves", "confusion"]
    # Noise is the hardest that a JPEG can be asked for: photos take half of it.
    assert page.count(b"data:image/") > 400
    assert len(page) < 5_000_000
    assert page.count(b"data-cell=") > 150


def test_more_classes_than_a_matrix_can_show(tmp_path):
    names = tuple(f"kind {k}" for k in range(61))
    page = render(read_run(make_run(tmp_path / "run", names, 2, wrong=0.5)))
    assert b'<table class="matrix' not in page
    assert b"taken for" in page
    assert 1 <= page.count(b"data-cell=") <= 12


def test_copies_across_splits_are_shown_side_by_side(tmp_path):
    run = make_run(tmp_path / "run", ("one", "two"), 3)
    described = json.loads((run / "audit.json").read_text())
    leak, kept = described["images"][0], described["images"][3]
    assert (leak["split"], kept["split"]) == ("train", "test")
    name = "/".join(kept["path"].split("/")[-2:])
    leak |= {"status": "rejected", "reason": "leak", "detail": f"a near copy of '{name}' in test"}
    (run / "audit.json").write_text(json.dumps(described))
    page = render(read_run(run)).decode()
    section = re.search(r'<section id="copies".*?</section>', page, re.S)[0]
    assert section.count("<img") == 2
    assert "taken out of train" in section
    assert "kept in test" in section


def test_photos_that_are_gone_leave_words(tmp_path):
    run = make_run(tmp_path / "run", ("one", "two"), 3, issues=2)
    shutil.rmtree(run / "photos")
    page = render(read_run(run)).decode()
    assert "no longer where they were" in page
    assert "cannot be shown" in page
    assert "data:image" not in page


def test_curves_of_epochs_and_of_fine_tuning_are_drawn(tmp_path):
    run = make_run(tmp_path / "run", ("one", "two"), 2)
    described = json.loads((run / "run.json").read_text())
    epochs = [{"epoch": k, "loss": 1 / k, "log_loss": 1 / k + 0.01 * k, "accuracy": 1 - 0.5 / k} for k in range(1, 30)]
    described["head"] = {"kind": "mlp", "curve": epochs}
    (run / "run.json").write_text(json.dumps(described))
    test = {"frozen": {"accuracy": 0.5}, "kept": {"accuracy": 0.75}}
    tuning = {"kept": "fine-tuned", "reason": "0.1 nats better", "epochs": epochs, "test": test}
    (run / "fine_tuning.json").write_text(json.dumps(tuning))
    page = render(read_run(run)).decode()
    assert "best at epoch 10" in page
    assert (
        "the fine-tuned network was kept: 0.1 nats better. Of the test photos the frozen one has 50.0 % right" in page
    )
    assert "224 px, fine-tuned" in page
    (run / "fine_tuning.json").write_text(json.dumps({**tuning, "kept": "frozen"}))
    assert "224 px, frozen" in render(read_run(run)).decode()
    assert page.count("<svg viewBox") == 6


def test_figures_of_other_data_take_the_place_of_the_runs(demo_facts):
    names = demo_facts.class_names
    labels = np.array([0, 1, 2, 3])
    probabilities = np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]
    evaluation = evaluate_probabilities(probabilities, labels, names)
    facts = demo_facts.measured(evaluation, Answers.of(probabilities, labels), list("abcd"), "the field")
    assert b"75.0 % of 4 photos of the field" in render(facts)


def test_what_cannot_be_reported_is_told_in_one_line(demo_facts, tmp_path):
    with pytest.raises(ConfigError, match=r"was not measured.*tlkeras report RUN DATA"):
        write_report(replace(demo_facts, metrics=None), tmp_path / "x.html")
    with pytest.raises(ConfigError, match="is a folder"):
        write_report(demo_facts, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_report(demo_facts, tmp_path / "file" / "x.html")
    with pytest.raises(ClassifierError, match="not a run"):
        read_run(tmp_path)
    run = make_run(tmp_path / "run", ("one", "two"), 1)
    (run / "metrics.json").write_text("{")
    with pytest.raises(ClassifierError, match=r"metrics.json' cannot be read"):
        read_run(run)
    assert not (tmp_path / "x.html").exists()


def test_the_latest_export_inside_the_run_is_shown(tmp_path):
    run = make_run(tmp_path / "run", ("one", "two"), 2)
    for number, difference in ((1, 4.2e-6), (2, 3.5e-7)):
        version = run / "models" / "animals" / str(number)
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(b"")
        check = {
            **{"runtime": "ONNX Runtime", "asked": "pixels", "batch": 7, "tolerance": 2e-5, "images": 32, "ties": 0},
            **{"difference": difference, "worst": "x.jpg", "disagreements": [], "problems": [], "passed": True},
        }
        parity = {"passed": True, "images": "32 photos", "left_out": [], "checks": [check]}
        write_manifest(version, {"created": f"2026-01-0{number}T00:00:00+00:00", "parity": parity})
    page = render(read_run(run)).decode()
    assert Outline(page.encode()).sections[-3:] == ["parity", "usage", "configuration"]
    assert "3.5e-07" in page
    assert "4.2e-06" not in page
    assert f"OnnxClassifier.load(&#39;{run / 'models' / 'animals' / '2'}&#39;)" in page
    assert "tlkeras export" not in page
    assert "4.2e-06" in render(read_run(run), export=run / "models" / "animals" / "1").decode()


def test_pictures_from_outside_the_data_are_told(tmp_path):
    run = make_run(tmp_path / "run", ("one", "two"), 3)
    assert b"outside the folder of the data" not in render(read_run(run))
    elsewhere = tmp_path / "elsewhere.jpg"
    paths = (run / "splits.csv").read_text()
    first = sorted((run / "photos").glob("test-0-*.jpg"))[0]
    first.rename(elsewhere)
    for name in ("splits.csv", "predictions.csv"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace(str(first), str(elsewhere)))
    assert (run / "splits.csv").read_text() != paths
    assert b"1 of the pictures comes from files outside the folder of the data" in render(read_run(run))
    # What is no picture is not shown at all.
    elsewhere.write_text("secret: 1234")
    page = render(read_run(run))
    assert b"secret" not in page
    assert b"outside the folder of the data" not in page
