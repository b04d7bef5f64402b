"""A small classifier that gives every picture other probabilities, and the same published once for all tests."""

import pytest

from tests.networks import small_classifier
from tests.pictures import encode, photo, with_orientation
from tlkeras.export.formats import ExportConfig
from tlkeras.export.publish import export
from tlkeras.export.samples import Sample, Samples

NAMES = ("grün", "blue sky", "cat", "dog", "zebra")


@pytest.fixture(scope="session")
def classifier():
    return small_classifier(NAMES)


@pytest.fixture(scope="session")
def samples():
    """32 files in memory, of every format that a graph decodes and of many sizes, some on their side."""
    files = []
    for seed in range(32):
        kind = ("JPEG", "PNG", "WEBP", "GIF", "BMP")[seed % 5]
        picture = photo(30 + 7 * (seed % 6), 24 + 11 * (seed % 4), seed)
        data = with_orientation(picture, kind, seed % 8 + 1) if seed % 5 < 3 else encode(picture, kind)
        files.append(Sample(f"{seed:02d}.{kind.lower()}", data=data))
    return Samples(tuple(files), "32 made pictures")


@pytest.fixture(scope="session")
def version_folder(classifier, samples, tmp_path_factory):
    """The classifier as published: SavedModel, ONNX file, and that with weights of 16 bits."""
    folder = tmp_path_factory.mktemp("models") / "small"
    return export(classifier, folder, samples, ExportConfig(half=True)).folder
