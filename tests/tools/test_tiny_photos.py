"""What the embedded network may learn from: nothing that it is tested on."""

import shutil

import pytest

from tests.pictures import encode, photo
from tools import tiny_photos


@pytest.fixture
def root(tmp_path):
    """Photos in the layout of the real ones, no two of them alike."""
    number = 0
    for folder in (*tiny_photos.TRAINED_ON, *tiny_photos.HELD_OUT, "flowers/rose", "flowers/tulip", "steel_defects/a"):
        for index in range(10):
            number += 1
            path = tmp_path / folder / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(photo(96, 80, seed=number), "JPEG"))
    return tmp_path


def test_every_photo_is_on_one_side(root):
    found = tiny_photos.photos(root)
    assert not set(found.training) & set(found.held_out)
    assert len(found.training) + len(found.held_out) == 80
    assert len(found.held_out) == 10 + 3 * 3  # all of the test folder, 30 % of each shared class
    assert found.dropped == 0


def test_copies_and_near_copies_of_test_photos_are_dropped(root):
    test = sorted((root / "cats_vs_dogs/test").glob("*.jpg"))
    held_out_rose = sorted(tiny_photos.held_out_of_class(root / "flowers/rose"))[0]
    copies = {
        "imagenet/one_per_class/exact.jpg": test[0].read_bytes(),
        "cats_vs_dogs/train/exact_too.jpg": held_out_rose.read_bytes(),
    }
    for name, data in copies.items():
        (root / name).write_bytes(data)
    from PIL import Image

    with Image.open(test[1]) as image:
        image.resize((64, 54)).save(root / "imagenet/by_class/near.jpg", quality=70)
    found = tiny_photos.photos(root)
    assert found.dropped == 3
    names = {path.relative_to(root).as_posix() for path in found.training}
    assert not names & {*copies, "imagenet/by_class/near.jpg"}


def test_the_guard_names_a_held_out_photo(root):
    test = sorted((root / "cats_vs_dogs/test").glob("*.jpg"))
    copied = root / "cats_vs_dogs/train/renamed.jpg"
    shutil.copy(test[2], copied)
    with pytest.raises(RuntimeError, match=r"renamed\.jpg.*held out"):
        tiny_photos.guard((copied,), test)


def test_the_share_of_a_class_does_not_hang_on_names(root):
    before = {path.read_bytes() for path in tiny_photos.held_out_of_class(root / "flowers/rose")}
    for index, path in enumerate(sorted((root / "flowers/rose").glob("*.jpg"))):
        path.rename(path.with_name(f"renamed{9 - index}.jpg"))
    assert {path.read_bytes() for path in tiny_photos.held_out_of_class(root / "flowers/rose")} == before
