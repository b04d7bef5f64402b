"""Images without labels, as people name them."""

import os

import pytest

from tests.pictures import encode, photo
from tlkeras.data.open import image_files
from tlkeras.errors import DataError

JPEG = encode(photo(40, 30), "JPEG")


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    return folder


def test_images_without_labels(tmp_path):
    tree(tmp_path, "a/1.jpg", "a/b/2.PNG", "a/notes.txt", "a/.hidden.jpg", "odd.name")
    found = image_files([tmp_path / "a", tmp_path / "odd.name", str(tmp_path / "a" / "*.jpg")])
    assert [os.path.relpath(path, tmp_path) for path in found] == ["a/1.jpg", "a/b/2.PNG", "odd.name", "a/1.jpg"]
    for absent in ("absent.jpg", "*.gif"):
        with pytest.raises(DataError, match="no such image file"):
            image_files([tmp_path / absent])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image files"):
        image_files([tmp_path / "empty"])
