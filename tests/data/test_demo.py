"""The drawn data set: the same seed gives the same bytes, and its odd files are odd as announced."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.pictures import photo
from tlkeras.data import demo, drawing
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError
from tlkeras.storage import cache_root

ODD = {demo.CUT_OFF, demo.EMPTY, demo.TURNED}


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three pictures per class, each third a PNG, which only each twelfth is by default."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(demo, "_PNG_EVERY", 3)
        patches.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("demo")))
        return demo.demo_folder(per_class=3)


@pytest.fixture
def undrawn(monkeypatch):
    """Any picture will do where only files are counted."""
    picture = photo(drawing.SIDE_PX, drawing.SIDE_PX)
    monkeypatch.setattr(demo, "picture_of", lambda *_: picture)


def test_every_twelfth_picture_is_a_png(undrawn):
    endings = sorted(name for name in content(demo.demo_folder(per_class=24)) if name.endswith(".png"))
    assert endings == [f"{kind}/{kind}_{number}.png" for kind in demo.CLASSES for number in ("011", "023")]


def test_classes_counts_and_kinds_of_file(three):
    names = set(content(three)) - ODD
    assert set(content(three)) >= ODD
    assert names == {f"{kind}/{kind}_{end}" for kind in demo.CLASSES for end in ("000.jpg", "001.jpg", "002.png")}


def test_pictures_are_square_colour_files_of_their_named_format(three):
    for name in set(content(three)) - ODD:
        with Image.open(three / name) as picture:
            assert (picture.format, picture.mode) == ("PNG" if name.endswith("png") else "JPEG", "RGB")
            assert picture.size == (drawing.SIDE_PX, drawing.SIDE_PX)
            # A blank canvas deviates by 0, blown-out exposure by a few levels.
            assert np.asarray(picture, float).std() > 10, name


def test_no_two_pictures_are_the_same(three):
    files = content(three)
    assert len(set(files.values())) == len(files)


def test_the_same_seed_gives_the_same_bytes_and_fewer_pictures_are_a_part(three):
    few = content(demo.demo_folder(per_class=1))
    assert len(few) == len(demo.CLASSES) + len(ODD)
    assert few.items() <= content(three).items()


def test_another_seed_gives_other_pictures(three):
    other = content(demo.demo_folder(seed=1, per_class=1))
    assert not set(other.values()) & set(content(three).values()) - {b""}


@pytest.mark.parametrize("kind", demo.CLASSES)
def test_a_picture_depends_on_its_generator_alone(kind):
    first, again, other = (
        np.asarray(demo.picture_of(kind, np.random.default_rng(seed)), np.int16) for seed in (7, 7, 8)
    )
    assert (first == again).all()
    assert np.abs(first - other).mean() > 5


def test_one_file_stops_half_way_and_one_is_empty(three):
    assert (three / demo.EMPTY).read_bytes() == b""
    with Image.open(three / demo.CUT_OFF) as picture, pytest.raises(OSError, match="truncated"):
        picture.load()


def test_one_picture_is_stored_on_its_side(three):
    with Image.open(three / demo.TURNED) as stored:
        assert stored.getexif()[0x0112] == 6
        shown = np.asarray(ImageOps.exif_transpose(stored), float)
        lying = np.asarray(stored, float)
    upright = np.asarray(demo.picture_of("rabbit", np.random.default_rng([0, 99])), float)
    # JPEG at quality 80 moves a level by a few; another orientation by tens.
    assert np.abs(shown - upright).mean() < 8
    assert np.abs(lying - upright).mean() > 20


def test_the_folder_is_made_once(undrawn, monkeypatch):
    folder = demo.demo_folder(per_class=1)
    monkeypatch.setattr(demo, "picture_of", lambda *_: pytest.fail("drawn again"))
    assert demo.demo_folder(per_class=1) == folder


def test_an_interrupted_folder_is_not_left_half_made(undrawn, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(demo, "_write_odd_files", stop)
        with pytest.raises(KeyboardInterrupt):
            demo.demo_folder(per_class=1)
    assert list((cache_root() / "demo").iterdir()) == []
    assert len(content(demo.demo_folder(per_class=1))) == len(demo.CLASSES) + len(ODD)


def test_two_at_once_share_the_folder_of_the_quicker(undrawn, monkeypatch):
    write = demo._write_odd_files

    def overtaken(folder, seed):
        write(folder, seed)
        with monkeypatch.context() as patches:
            patches.setattr(demo, "_write_odd_files", write)
            demo.demo_folder(per_class=1)

    monkeypatch.setattr(demo, "_write_odd_files", overtaken)
    folder = demo.demo_folder(per_class=1)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(("seed", "per_class"), [(-1, 60), (0, 0), (0, -3)])
def test_impossible_options_are_refused(seed, per_class):
    with pytest.raises(ConfigError, match=f"received seed {seed}, per_class {per_class}"):
        demo.demo_folder(seed=seed, per_class=per_class)
    assert not (cache_root() / "demo").exists()


def test_it_opens_as_a_data_set(three):
    images = open_dataset(three)
    assert images.class_names == demo.CLASSES
    assert images.class_counts() == {"cat": 4, "dog": 4, "rabbit": 4, "zebra": 3}
