import pytest

from tlkeras.data import demo, open, tfds_source
from tlkeras.errors import DataError, TlkerasError


def two_classes(folder):
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.jpg").write_bytes(b"x")
    return folder


def test_folders_and_lists(tmp_path, monkeypatch):
    two_classes(tmp_path / "photos")
    (tmp_path / "list.csv").write_text("path,label\nphotos/a/1.jpg,x\nphotos/b/1.jpg,y\n")
    assert open.open_dataset(tmp_path / "photos").class_names == ("a", "b")
    assert open.open_dataset(str(tmp_path / "list.csv")).class_names == ("x", "y")
    # What is there goes before names.
    monkeypatch.chdir(two_classes(tmp_path / "here" / "demo").parent)
    assert open.open_dataset("demo").class_names == ("a", "b")


def test_demo_is_made_from_the_seed(tmp_path, monkeypatch):
    asked = []

    def made(*, seed):
        asked.append(seed)
        return two_classes(tmp_path / "made")

    monkeypatch.setattr(demo, "demo_folder", made)
    monkeypatch.chdir(tmp_path)
    assert len(open.open_dataset("demo", seed=4)) == 2
    assert asked == [4]


class Asked(tuple):
    """What a data set was asked for by, in its place."""

    def __new__(cls, *asked):
        return super().__new__(cls, asked)

    def grouped_by(self, pattern):
        assert pattern is None
        return self


def test_a_name_goes_to_tfds_with_its_options(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds_source, "open_tfds", lambda text, **options: Asked(text, options))
    asked = open.open_dataset("oxford_iiit_pet:4.0.0", data_dir=tmp_path)
    assert asked == ("oxford_iiit_pet:4.0.0", {"data_dir": tmp_path, "progress": None})


@pytest.mark.parametrize("name", ["no/such/folder", "photos.d", "/none", "list.csv", "a b"])
def test_what_can_only_be_a_path_is_not_looked_for_in_tfds(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tfds_source, "open_tfds", lambda *_, **__: pytest.fail("asked TFDS"))
    with pytest.raises(TlkerasError, match=r"no such (folder or )?list"):
        open.open_dataset(name)


def test_a_single_image_is_no_data_set(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"received the file '.*cat\.jpg'"):
        open.open_dataset(tmp_path / "cat.jpg")
