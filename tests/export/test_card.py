"""The model card: front matter that a hub can read, figures that are those of the run, names that stay names."""

import re

import pytest
import yaml

from tests.report.runs import make_run
from tlkeras.export.card import CARD_FILE, model_card
from tlkeras.export.publish import read_manifest
from tlkeras.run_facts import RunFacts, read_run


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    names = ("grün", "a|b <b>*bold*</b>", "no", "null", "7")
    return read_run(make_run(tmp_path_factory.mktemp("card") / "pets", names, 6, issues=2))


def parts(card):
    """The front matter, read as YAML, and the Markdown after it."""
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_is_what_a_hub_reads(facts):
    front, _ = parts(model_card(facts))
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "keras"
    assert front["pipeline_tag"] == "image-classification"
    assert {"tlkeras", "mobilenet_v2", "image-classification"} <= set(front["tags"])
    assert front["metrics"] == ["accuracy"]
    (model,) = front["model-index"]
    assert model["name"] == "pets"
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"name": "photos", "type": "photos", "split": "test"}
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert set(figures) == {"accuracy", "mean_per_class_accuracy", "log_loss", "ece"}
    for name, value in figures.items():
        assert value == pytest.approx(facts.metrics[name], rel=1e-5)


def test_the_text_tells_the_figures_of_the_run_and_nothing_that_is_unknown(facts):
    _, body = parts(model_card(facts))
    low, high = (f"{100 * bound:.1f} %" for bound in facts.metrics["accuracy_interval"])
    assert f"{100 * facts.metrics['accuracy']:.1f} % (95 % interval: {low} to {high})" in body
    assert "30 train, 30 test" in body
    assert not re.search(r"more information needed|unknown|\bNone\b|\bnan\b|TODO|TBD", body)
    assert str(facts.folder.parent) not in body


def test_names_are_neither_html_nor_columns(facts):
    _, body = parts(model_card(facts))
    assert "<b>" not in body
    row = next(line for line in body.splitlines() if line.startswith("| a\\|b"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_a_classifier_of_unknown_training_has_a_short_card(facts):
    front, body = parts(model_card(RunFacts(facts.folder, facts.classifier), name="bare"))
    assert front["license"] == "other"
    assert "model-index" not in front
    assert "## How good it is" not in body
    assert "## Data" not in body


def test_it_is_published_with_the_version(version_folder):
    front, body = parts((version_folder / CARD_FILE).read_text())
    assert "onnx" in front["tags"]
    assert body.startswith("\n# small")
    assert CARD_FILE in read_manifest(version_folder)["files"]
    checks = read_manifest(version_folder)["parity"]["checks"]
    assert len([line for line in body.splitlines() if re.match(r"\| .* \| (bytes|pixels)", line)]) == len(checks)
