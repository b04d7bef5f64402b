from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from tlkeras.data import demo
from tlkeras.data.drawing import SIDE_PX
from tlkeras.errors import ConfigError, ImageError
from tlkeras.images.decode import decode

PER_CLASS = 6
ODD = {demo.CUT_OFF, demo.EMPTY, demo.TURNED}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return demo.demo_folder(seed=3, per_class=PER_CLASS)


@pytest.fixture
def same_cache(folder, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(folder.parents[1]))


def test_every_class_has_its_pictures_and_the_odd_files_come_on_top(folder):
    assert sorted(path.name for path in folder.iterdir()) == list(demo.CLASSES)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert names >= ODD
    for kind in demo.CLASSES:
        suffixes = [name.rsplit(".")[-1] for name in names - ODD if name.startswith(f"{kind}/")]
        assert (suffixes.count("jpg"), suffixes.count("png"), len(suffixes)) == (5, 1, PER_CLASS)
    assert not list(folder.parent.glob(".*")), "a staging folder was left"


def test_every_picture_is_rgb_of_the_stated_size_and_not_flat(folder):
    for path in sorted(folder.rglob("*_*.*")):
        if path.relative_to(folder).as_posix() in ODD:
            continue
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (SIDE_PX, SIDE_PX, 3), path.name
        assert pixels.std() > 10, path.name
        assert 25 < pixels.mean() < 235, path.name


def test_no_two_pictures_are_the_same(folder):
    contents = [path.read_bytes() for path in folder.rglob("*_*.*")]
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize("name", [demo.CUT_OFF, demo.EMPTY])
def test_broken_files_do_not_decode(folder, name):
    with pytest.raises(ImageError):
        decode((folder / name).read_bytes())


def test_turned_file_is_stored_on_its_side(folder):
    upright = demo.picture_of("rabbit", np.random.default_rng([3, 99]))
    with Image.open(folder / demo.TURNED) as image:
        assert image.getexif()[0x0112] == 6
        stored = np.asarray(image, np.float32)
    shown = np.asarray(decode((folder / demo.TURNED).read_bytes()).pixels, np.float32)
    expected = np.asarray(upright, np.float32)
    assert np.abs(shown - expected).mean() < 8
    assert np.abs(stored - expected).mean() > 16


def test_same_seed_gives_the_same_bytes_and_a_smaller_folder_is_a_part(folder, same_cache):
    small = demo.demo_folder(seed=3, per_class=2)
    names = [path.relative_to(small) for path in small.rglob("*.*")]
    assert len(names) == 2 * len(demo.CLASSES) + len(ODD)
    for name in names:
        assert (small / name).read_bytes() == (folder / name).read_bytes(), name


def test_another_seed_gives_other_pictures(folder, same_cache):
    other = demo.demo_folder(seed=4, per_class=1)
    for kind in demo.CLASSES:
        name = f"{kind}/{kind}_000.jpg"
        assert (other / name).read_bytes() != (folder / name).read_bytes()


def test_a_made_folder_is_reused(folder, same_cache, monkeypatch):
    monkeypatch.setattr(demo, "picture_of", lambda *_: pytest.fail("drew again"))
    start = time.perf_counter()
    assert demo.demo_folder(seed=3, per_class=PER_CLASS) == folder
    assert time.perf_counter() - start < 0.1


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path))

    def interrupted(kind, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "picture_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.demo_folder(seed=0, per_class=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("seed", "per_class"), [(-1, 2), (0, 0), (0, -3)])
def test_impossible_requests_are_refused(seed, per_class, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=f"seed {seed}, per_class {per_class}"):
        demo.demo_folder(seed=seed, per_class=per_class)
    assert list(tmp_path.iterdir()) == []
