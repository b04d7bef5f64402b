"""Saving and loading: the same answers, and nothing is believed that was not saved by us."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.pictures import encode, photo, tinted, with_orientation
from tlkeras.description import hash_of
from tlkeras.errors import ClassifierError, ImageError, StorageError
from tlkeras.storage import sha256_of
from tlkeras.trained import TrainedClassifier


@pytest.fixture(scope="module")
def classifier(run_folder):
    return TrainedClassifier.load(run_folder)


@pytest.fixture
def copy(run_folder, tmp_path):
    return shutil.copytree(run_folder / "classifier", tmp_path / "copy")


def test_answers_survive_saving_and_loading(classifier, tmp_path):
    pixels = np.stack([classifier.fitted(photo(50, 40, seed)) for seed in range(3)])
    again = TrainedClassifier.load(classifier.save(tmp_path / "saved"))
    assert again.config == classifier.config
    np.testing.assert_array_equal(again.logits(pixels), classifier.logits(pixels))
    with pytest.raises(StorageError, match="exists already"):
        classifier.save(tmp_path / "saved")


def test_scalars_and_unnamed_variables_are_loaded_from_old_files_too(classifier, tmp_path, monkeypatch):
    import keras
    from safetensors.numpy import load_file, save_file

    class Shift(keras.layers.Layer):
        def build(self, _):
            self.shift = self.add_weight(shape=(3,))  # Keras names it "variable", and the next one "variable_1"

        def call(self, pixels):
            return pixels + self.shift

    def with_scalars(_=None):
        # Without an axis to keep, mean, variance and count are single numbers.
        return keras.Sequential([keras.Input((32, 32, 3)), Shift(), keras.layers.Normalization(axis=None)])

    network = with_scalars()
    network.layers[1].adapt(np.arange(32 * 32 * 3.0).reshape(1, 32, 32, 3))
    saved = TrainedClassifier(classifier.config, network).save(tmp_path / "saved")
    weights = saved / "weights.safetensors"
    arrays = load_file(weights)
    assert [array.shape for array in arrays.values()].count(()) == 3
    assert "0000.variable" in arrays
    arrays["0000.variable_7"] = arrays.pop("0000.variable")
    save_file({name: np.atleast_1d(array) for name, array in arrays.items()}, tmp_path / "old")
    monkeypatch.setattr("tlkeras.trained.build_network", with_scalars)
    monkeypatch.setattr("tlkeras.trained.check_header", lambda *_: None)  # this network has no head
    for file in (weights, tmp_path / "old"):
        file.replace(weights)
        _edit(saved, sha256={weights.name: sha256_of(weights)})
        again = TrainedClassifier.load(saved).network
        for value, expected in zip(again.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)


def test_a_full_disk_is_one_line_and_leaves_nothing(classifier, tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device"):
        classifier.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_saved_files_hold_plain_values_only(run_folder):
    folder = run_folder / "classifier"
    assert sorted(path.name for path in folder.iterdir()) == ["classifier.json", "weights.safetensors"]
    described = json.loads((folder / "classifier.json").read_text())
    assert described["class_names"] == ["blue", "orange"]
    assert described["versions"]["keras"]


def _edit(folder, **changes):
    """Change the description as somebody would who knows of its hash."""
    path = folder / "classifier.json"
    described = {**json.loads(path.read_text()), **changes}
    if isinstance(described["sha256"], dict):
        described["sha256"]["classifier.json"] = hash_of(described)
    path.write_text(json.dumps(described))


def _edit_head(folder, **changes):
    head = json.loads((folder / "classifier.json").read_text())["head"]
    _edit(folder, head={**head, **changes})


def _edit_weights(folder, change):
    """Change the arrays, and the hash of their file."""
    path = folder / "weights.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    _edit(folder, sha256={"weights.safetensors": sha256_of(path)})


def _not_finite(arrays):
    list(arrays.values())[-1][0] = np.nan


def _other_dtype(arrays):
    name = list(arrays)[-1]
    arrays[name] = arrays[name].astype(np.float64)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "weights.safetensors").unlink(), "not the file that was saved"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"x"), "not the file that was saved"),
        (lambda f: (f / "classifier.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "classifier.json").write_text("[]"), "cannot be read"),
        (lambda f: (f / "classifier.json").write_text("{}"), "does not describe"),
        (lambda f: (f / "classifier.json").write_text('{"a":' * 100_000), "at most 32 levels"),
        (lambda f: (f / "classifier.json").unlink(), "has no classifier.json"),
        (shutil.rmtree, "there is no such folder"),
        (lambda f: _edit(f, format_version=99), "format 99"),
        (lambda f: _edit(f, sha256=["x"]), "'sha256' is list, not dict"),
        (lambda f: _edit(f, backbone="os.system"), "unknown backbone 'os.system'"),
        (lambda f: _edit(f, temperature=-1), "temperature"),
        (lambda f: _edit(f, temperature=1e-300), "temperature"),
        (lambda f: _edit(f, temperature="1"), "'temperature' is str, not float"),
        (lambda f: _edit(f, temperature=float("inf")), "Infinity is no number"),
        (lambda f: _edit(f, mirror="no"), "'mirror' is str, not bool"),
        (lambda f: _edit(f, class_names=["a"]), "class_names"),
        (lambda f: _edit(f, class_names=["a", "a"]), "class_names must be two or more, different"),
        (lambda f: _edit(f, class_names=["a", ""]), "not empty"),
        (lambda f: _edit(f, class_names="ab"), "'class_names' is str, not list"),
        (lambda f: _edit(f, class_names=["a", "b", "c"]), "does not fit the network"),
        (lambda f: _edit(f, class_names=[str(number) for number in range(1_000_000)]), "does not fit the network"),
        (lambda f: _edit(f, fit="squash"), "unknown fit 'squash'"),
        (lambda f: _edit(f, size_px=10**9), "size_px"),
        (lambda f: _edit(f, size_px=96.7), "'size_px' is float, not int"),
        (lambda f: _edit(f, head={"kind": "pickle"}), "cannot be used"),
        (lambda f: _edit_head(f, kind="mlp", units=[10**9]), "does not fit the network"),
        (lambda f: _edit_head(f, kind="mlp", units=[2]), "does not fit the network"),
        (lambda f: _edit_weights(f, _not_finite), "not finite"),
        (lambda f: _edit_weights(f, _other_dtype), "does not fit the network"),
        (lambda f: _edit_weights(f, lambda arrays: arrays.popitem()), "does not fit the network"),
    ],
)
def test_what_was_changed_is_refused_in_one_line(damage, words, copy):
    damage(copy)
    with pytest.raises(ClassifierError, match=words) as caught:
        TrainedClassifier.load(copy)
    assert "\n" not in str(caught.value)


def test_swapped_class_names_are_noticed(copy):
    path = copy / "classifier.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "class_names": described["class_names"][::-1]}))
    with pytest.raises(ClassifierError, match="changed since it was saved"):
        TrainedClassifier.load(copy)
    # What was saved before descriptions had a hash of their own is loaded as it is.
    del described["sha256"]["classifier.json"]
    path.write_text(json.dumps(described))
    TrainedClassifier.load(copy)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 50_000,
        b'{"a": {"dtype": "F32", "shape": [10, "x"], "data_offsets": [0, 1]}}',
        b'{"a": 1}',
        b'{"a": {"shape": [100, 2], "data_offsets": [0, 800]}, "b": {"shape": [2], "data_offsets": []}}',
    ],
)
def test_a_header_of_arrays_that_lies_is_refused_before_anything_is_built(header, copy, monkeypatch):
    path = copy / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    _edit(copy, sha256={"weights.safetensors": sha256_of(path)})
    monkeypatch.setattr("tlkeras.trained.build_network", lambda config: pytest.fail("was built"))
    with pytest.raises(ClassifierError, match=r"header of|does not fit"):
        TrainedClassifier.load(copy)


def test_a_flipped_bit_in_the_weights_is_noticed(copy):
    path = copy / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ClassifierError, match="SHA-256 differs"):
        TrainedClassifier.load(copy)


def test_one_image_in_every_form_gives_one_answer(classifier, tmp_path):
    import io

    from PIL import Image

    data = with_orientation(tinted((220, 140, 50), 99), "JPEG", 6)
    path = tmp_path / "turned.jpg"
    path.write_bytes(data)
    image = Image.open(io.BytesIO(data))
    upright = np.rot90(np.asarray(image), -1)
    answers = classifier.predict([path, str(path), data, image, upright, upright.astype(np.float32)])
    np.testing.assert_array_equal(answers, np.repeat(answers[:1], 6, axis=0))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert classifier.class_names[answers[0].argmax()] == "orange"


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_do_not_change_answers(batch_size, classifier):
    images = [tinted((40, 90, 200), seed) for seed in range(5)]
    whole = classifier.predict(images)
    np.testing.assert_allclose(classifier.predict(images, batch_size=batch_size), whole, atol=1e-5)
    assert classifier.predict([]).shape == (0, 2)


def test_a_bad_image_is_named_or_handed_over(classifier):
    images = [photo(20, 20), b"no image", photo(20, 20)]
    with pytest.raises(ImageError, match="image 1: the file is not an image"):
        classifier.predict(images)
    answers = dict(enumerate(answer for _, answer in classifier.predictor().answers(images)))
    assert answers[1].reason == "not_an_image"
    np.testing.assert_array_equal(answers[0], answers[2])


def test_predicting_in_a_loop_opens_one_engine(classifier, monkeypatch):
    from tlkeras import engines

    opened, opening = [], engines.open_engine
    monkeypatch.setattr(engines, "open_engine", lambda *given, **named: opened.append(1) or opening(*given, **named))
    fresh = TrainedClassifier(classifier.config, classifier.network)
    data = encode(photo(33, 20), "PNG")
    for _ in range(3):
        fresh.predict([data])
        fresh.predict([data, data])
    assert opened == [1]
