"""What the demo page shows: the answers of predict, a heat map small enough to be shown, an attack that counts."""

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encode, photo, with_orientation
from tlkeras.demo.answers import SHOWN_PX, Demonstrator, examples, measured
from tlkeras.errors import ConfigError, ImageError
from tlkeras.trained import TrainedClassifier


@pytest.fixture(scope="module")
def demonstrator(run_folder):
    made = Demonstrator(run_folder)
    made.warm_up()
    return made


def test_probabilities_are_those_of_predict(demonstrator, run_folder, photo_folder, tmp_path):
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(with_orientation(photo(90, 61, seed=1), "JPEG", 6))
    paths = [photo_folder / "blue" / "00.jpg", photo_folder / "orange" / "00.jpg", turned]
    expected = TrainedClassifier.load(run_folder).predict(paths)
    for path, row in zip(paths, expected, strict=True):
        answer = demonstrator.answer(path)
        assert list(answer.probabilities) == ["blue", "orange"]
        np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-4)
        assert answer.label == ("blue", "orange")[row.argmax()]
        with Image.open(path) as image:
            size = image.size[::-1] if path == turned else image.size
        assert answer.heat.shape == (size[1], size[0], 3)
        assert answer.faithful.startswith("score ")


def test_large_photos_are_shown_smaller(demonstrator, tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(encode(photo(1600, 900, seed=2), "JPEG"))
    heat = demonstrator.answer(path).heat
    assert heat.shape == (432, SHOWN_PX, 3)
    assert heat.dtype == np.uint8
    assert heat.std() > 10


def test_fooled_within_the_budget(demonstrator, run_folder, photo_folder, tmp_path):
    made = demonstrator.fool(photo_folder / "blue" / "03.jpg", "orange", 48)
    change = made.after.astype(int) - made.before
    assert 0 < np.abs(change).max() <= 48
    assert np.array_equal(made.change, np.clip(128 + made.factor * change, 0, 255))
    assert made.success == (max(made.after_probabilities, key=made.after_probabilities.get) == "orange")
    Image.fromarray(made.after).save(tmp_path / "after.png")
    (row,) = TrainedClassifier.load(run_folder).predict([tmp_path / "after.png"])
    np.testing.assert_allclose(list(made.after_probabilities.values()), row, atol=1e-4)
    assert made.summary.startswith("Fooled: blue" if made.success else "Not fooled: blue")


def test_nothing_to_do_is_said(demonstrator, photo_folder):
    made = demonstrator.fool(photo_folder / "blue" / "03.jpg", "blue")
    assert np.array_equal(made.before, made.after)
    assert made.summary.startswith("Nothing to do: the network calls it blue")


def test_bad_input_is_one_line(demonstrator, photo_folder):
    with pytest.raises(ImageError, match="the file is empty"):
        demonstrator.answer(photo_folder / "orange" / "empty.jpg")
    with pytest.raises(ImageError):
        demonstrator.fool(photo_folder / "blue" / "cut.jpg")
    with pytest.raises(ConfigError, match="unknown class"):
        demonstrator.fool(photo_folder / "blue" / "03.jpg", "green")


def test_what_a_run_knows_of_itself(run_folder, tmp_path):
    found = [np.asarray(Image.open(path)).astype(int).mean(axis=(0, 1)) for path in examples(run_folder, tmp_path, 4)]
    assert ["blue" if blue > red else "orange" for red, _, blue in found] in (
        ["blue", "orange"] * 2,
        ["orange", "blue"] * 2,
    )
    assert measured(run_folder)["accuracy"] == 1.0
    assert measured(tmp_path) == {}
    for text in ("[1]", '{"accuracy": "high", "accuracy_interval": [0, 1], "images": 3}', "[" * 5000):
        (tmp_path / "metrics.json").write_text(text)
        assert measured(tmp_path) == {}
