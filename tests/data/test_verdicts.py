import sqlite3
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encode, photo
from tlkeras.data.verdicts import Content, ContentCache, examine, hashes_of
from tlkeras.images.decode import Limits

LIMITS = Limits()
FULL = Content("", "", 3, 4, "png", 6, ("turned",), "no", "ab" * 32, (("small", "only 3 × 4"),))


def stored(path, content=FULL):
    cache = ContentCache(LIMITS, path)
    cache.put("k", content)
    cache.flush()


def test_what_was_put_is_found_by_the_next_process(tmp_path):
    stored(tmp_path / "v.sqlite")
    cache = ContentCache(LIMITS, tmp_path / "v.sqlite")
    assert cache.get("k") == FULL
    assert cache.get("other") is None
    assert ContentCache(Limits(max_pixels=9), tmp_path / "v.sqlite").get("k") is None


@pytest.mark.parametrize(
    "damage", [lambda data: b"no database at all, sorry" * 40, lambda data: data[:100] + b"\xff" * (len(data) - 100)]
)
def test_a_damaged_cache_is_made_anew_with_a_warning(tmp_path, damage):
    path = tmp_path / "v.sqlite"
    stored(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="damaged"):
        stored(path)
    assert ContentCache(LIMITS, path).get("k") == FULL


def test_a_cache_that_cannot_be_used_does_no_harm(tmp_path):
    (tmp_path / "v.sqlite").mkdir()
    with pytest.warns(RuntimeWarning, match="not used"):
        cache = ContentCache(LIMITS, tmp_path / "v.sqlite")
    cache.put("k", FULL)
    assert cache.get("k") is None
    cache.flush()
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        ContentCache(LIMITS, tmp_path / "file" / "v.sqlite").flush()


def test_rows_of_another_make_are_examined_again(tmp_path):
    path = tmp_path / "v.sqlite"
    stored(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE contents SET content = '{\"strange\": 1}'")
    assert ContentCache(LIMITS, path).get("k") is None


def test_many_writers_at_once_lose_nothing(tmp_path):
    def write(who):
        cache = ContentCache(LIMITS, tmp_path / "v.sqlite")
        for i in range(600):
            cache.put(f"{who}-{i}", FULL)
        cache.flush()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    cache = ContentCache(LIMITS, tmp_path / "v.sqlite")
    assert all(cache.get(f"{who}-{i}") == FULL for who in range(4) for i in range(0, 600, 50))


def test_content_of_a_photo_and_of_rubbish():
    content = examine(encode(photo(100, 70), "JPEG"), LIMITS)
    assert (content.reason, content.width, content.height, content.format) == ("", 100, 70, "jpeg")
    assert hashes_of([content.dhash]).shape == (1, 32)
    assert examine(b"rubbish", LIMITS).reason == "not_an_image"


@pytest.mark.parametrize(
    ("image", "doubts"),
    [
        (Image.new("RGB", (64, 64), (250, 3, 80)), ["uniform"]),
        (photo(31, 64), ["small"]),
        (photo(32, 256), []),
        (photo(32, 257), ["extreme_aspect"]),
        (Image.fromarray(np.full((4, 900), 7, np.uint8)), ["uniform", "small", "extreme_aspect"]),
    ],
)
def test_doubts(image, doubts):
    assert [reason for reason, _ in examine(encode(image, "PNG"), LIMITS).doubts] == doubts
