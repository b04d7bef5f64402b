"""Backbones come through ONNX with Keras' answers: one of every family here, the others in docs/onnx-backbones.md."""

import pytest

from tlkeras.backbones import BACKBONES
from tools.onnx_table import COLUMNS, PAGE, TOLERANCE, measure, measure_apart

# One of every family, the smallest where there are several.
FAMILIES = (
    *("vgg16", "resnet50", "resnet50_v2", "mobilenet_0.25", "mobilenet_v2", "mobilenet_v3_small", "densenet121"),
    *("inception_v3", "inception_resnet_v2", "xception", "nasnet_mobile", "efficientnet_b0", "efficientnet_v2_b0"),
    *("efficientnet_lite0", "convnext_tiny"),
)
# Converted in seconds; the others are deeper and take the same ways through the converter.
QUICK = {"mobilenet_0.25", "mobilenet_v3_small"}


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory):
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(autouse=True)
def one_cache(private_cache, drawn_once, monkeypatch):
    """The demo's pictures are drawn for the first of these tests only."""
    monkeypatch.setenv("TLKERAS_CACHE", str(drawn_once))


def test_every_family_is_there():
    families = [BACKBONES[name].family for name in FAMILIES]
    assert sorted(families) == sorted({backbone.family for backbone in BACKBONES.values()})
    assert len(families) >= 15


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_it_answers_as_keras_does(name, tmp_path):
    row = measure(name, tmp_path) if name in QUICK else measure_apart(name)
    assert row.holds(), row.markdown()
    assert row.half_megabytes < 0.6 * row.megabytes


def test_the_page_tells_of_every_backbone_and_within_tolerance():
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert lines[0] == list(COLUMNS)
    rows = lines[2:]
    assert [row[0] for row in rows] == list(BACKBONES)
    assert max(float(row[COLUMNS.index("differs")]) for row in rows) <= TOLERANCE
