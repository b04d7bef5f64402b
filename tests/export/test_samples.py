"""Which files an export is checked on."""

import shutil

import pytest

from tests.pictures import encode, photo
from tlkeras.errors import DataError
from tlkeras.export.samples import AT_LEAST, drawn_samples, samples_for
from tlkeras.images.decode import SERVED_FORMATS, decode


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("drawn")))
    yield drawn_samples()
    cache.undo()


class Listener:
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def drawing(drawn, monkeypatch):
    monkeypatch.setattr("tlkeras.export.samples.drawn_samples", lambda: list(drawn))


def test_drawn_pictures_have_many_sizes_formats_and_orientations(drawn):
    assert len(drawn) == AT_LEAST
    decoded = [decode(sample.read()) for sample in drawn]
    assert not any(image.unserved for image in decoded)
    assert {image.format for image in decoded} == set(SERVED_FORMATS)
    assert len({image.pixels.shape for image in decoded}) >= 8
    assert len({image.orientation for image in decoded}) >= 5
    assert {sample.name.split("_")[0] for sample in drawn} >= {"cat", "dog", "rabbit", "zebra"}


def test_a_run_gives_its_validation_photos_first(run_folder):
    import csv

    samples = samples_for(None, run=run_folder)
    rows = list(csv.DictReader((run_folder / "splits.csv").open()))
    split_of = {row["path"]: row["split"] for row in rows}
    taken = [split_of[image.path] for image in samples.images]
    assert len(taken) == AT_LEAST
    validation = taken.count("validation")
    assert validation == sum(row["split"] == "validation" for row in rows)
    assert taken[:validation] == ["validation"] * validation
    assert {image.path.split("/")[-2] for image in samples.images[:validation]} == {"blue", "orange"}
    assert f"{validation} of the run's validation split" in samples.origin


def test_a_run_without_its_photos_falls_back_to_drawn_ones(run_folder, tmp_path, drawing):
    run = tmp_path / "run"
    run.mkdir()
    text = (run_folder / "splits.csv").read_text()
    moved = [f"/elsewhere{line}" if line.startswith("/") else line for line in text.splitlines(keepends=True)]
    (run / "splits.csv").write_text("".join(moved))
    listener = Listener()
    samples = samples_for(None, run=run, reporter=listener)
    assert samples.origin == f"{AT_LEAST} drawn pictures"
    assert any("not on this machine" in line for line in listener.lines)


def test_chosen_images_are_all_taken_and_what_no_graph_reads_is_left_out(photo_folder, tmp_path, drawing):
    samples = samples_for([photo_folder])
    assert len(samples.images) == 60
    assert sorted(samples.left_out) == ["cut.jpg", "empty.jpg"]
    (tmp_path / "cmyk.jpg").write_bytes(encode(photo(20, 20).convert("CMYK"), "JPEG"))
    shutil.copy(photo_folder / "blue" / "00.jpg", tmp_path / "one.jpg")
    few = samples_for([tmp_path])
    assert few.left_out == ("cmyk.jpg",)
    assert few.images[0].name == "one.jpg"
    assert len(few.images) == AT_LEAST
    assert few.origin == f"1 images of {tmp_path} and {AT_LEAST - 1} drawn pictures"
    assert samples_for(["demo"]).origin == f"{AT_LEAST} drawn pictures"
    with pytest.raises(DataError, match="no such image"):
        samples_for([tmp_path / "nowhere"])


def test_photos_that_a_classifier_saw_are_taken_where_they_are_there(photo_folder, drawing):
    seen = [str(path) for path in sorted((photo_folder / "blue").glob("0*.jpg"))]
    samples = samples_for(None, seen=[*seen, "/gone.jpg"])
    assert {image.path for image in samples.images if image.path} == set(seen)
    assert samples.origin == f"{len(seen)} photos of the training and {AT_LEAST - len(seen)} drawn pictures"
