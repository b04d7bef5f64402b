"""The light runtime: Python's answers without TensorFlow, and one clear line where there are none."""

import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.networks import small_classifier
from tests.pictures import encode, photo, with_orientation
from tlkeras.errors import ClassifierError, ConfigError, ImageError
from tlkeras.export.onnx_model import write_onnx
from tlkeras.runtime import OnnxClassifier

CLASS_NAMES = ("cat", "Löwe", "zebra 🦓")
HEAVY = ("tensorflow", "keras", "scipy", "matplotlib", "onnx", "tf2onnx", "openvino", "platformdirs", "typer", "rich")


@pytest.fixture(scope="module")
def trained():
    return small_classifier(CLASS_NAMES)


@pytest.fixture(scope="module")
def version(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "1"
    write_onnx(trained, folder / "model.onnx", top_k=2)
    return folder


@pytest.fixture(scope="module")
def classifier(version):
    return OnnxClassifier.load(version)


@pytest.fixture
def photos(tmp_path):
    """The same kind of photo in every form that predict takes."""
    first = tmp_path / "turned.jpg"
    first.write_bytes(with_orientation(photo(61, 43, seed=1), "JPEG", 6))
    second = tmp_path / "is a png.jpg"
    second.write_bytes(encode(photo(30, 90, seed=2), "PNG"))
    return [
        str(first),
        second,
        encode(photo(55, 50, seed=3).convert("CMYK"), "JPEG"),
        np.asarray(photo(40, 41, seed=4)),
        np.asarray(photo(40, 41, seed=5).convert("L")).astype(np.float32),
        photo(48, 20, seed=6).convert("LA"),
    ]


def test_it_gives_what_python_gives(trained, classifier, photos):
    got = classifier.predict_proba(photos)
    expected = trained.predict(photos)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert classifier.class_names == CLASS_NAMES
    assert classifier.size_px == 32


def test_predictions_have_labels_best_first(classifier, photos):
    probabilities = classifier.predict_proba(photos)
    for answer, row in zip(classifier.predict(photos, top=2), probabilities, strict=True):
        best = row.argsort()[::-1][:2]
        assert [entry["label"] for entry in answer["top"]] == [CLASS_NAMES[k] for k in best]
        assert [entry["probability"] for entry in answer["top"]] == [pytest.approx(float(row[k])) for k in best]
        assert (answer["label"], answer["probability"]) == tuple(answer["top"][0].values())
    assert len(classifier.predict(photos[0], top=99)[0]["top"]) == 3
    assert len(classifier.predict(photos[3])) == 1
    assert classifier.predict([]) == []


def test_run_answers_a_batch_with_strings(classifier):
    pixels = np.stack([np.asarray(photo(40, 33, seed=seed)) for seed in range(3)])
    answers = classifier.run(pixels)
    assert {name: value.shape for name, value in answers.items()} == {
        "probabilities": (3, 3),
        "class_indices": (3, 2),
        "classes": (3, 2),
        "scores": (3, 2),
        "logits": (3, 3),
        "features": (3, 256),
    }
    assert answers["classes"][0, 0] == CLASS_NAMES[int(answers["probabilities"][0].argmax())]


@pytest.mark.parametrize(
    ("images", "kind", "words"),
    [
        (["absent.jpg"], ImageError, "'absent.jpg': no such image file"),
        ([b"text"], ImageError, "image 0: the file is not an image"),
        ([np.zeros((4, 4, 3), np.uint8), b""], ImageError, "image 1: the file is empty"),
        (np.full((4, 4, 3), 0.5), ConfigError, "unscaled"),
        (np.full((4, 4, 3), 7.5), ConfigError, "whole numbers"),
        (np.zeros((4, 4, 5), np.uint8), ConfigError, r"\[H, W, 3\]"),
    ],
)
def test_images_that_cannot_be_used_are_named(images, kind, words, classifier):
    with pytest.raises(kind, match=words):
        classifier.predict(images)


@pytest.mark.parametrize("pixels", [np.zeros((2, 9, 9, 3), np.float32), np.zeros((9, 9, 3), np.uint8)])
def test_run_takes_pixels_only(pixels, classifier):
    with pytest.raises(ConfigError, match=r"uint8 \[N, H, W, 3\]"):
        classifier.run(pixels)
    with pytest.raises(ConfigError, match="top"):
        classifier.predict([], top=0)


def edited(version, tmp_path, edit):
    model = onnx.load(version / "model.onnx")
    edit(model)
    path = tmp_path / "edited.onnx"
    onnx.save(model, path)
    return path


def set_property(key, value):
    def edit(model):
        (entry,) = [entry for entry in model.metadata_props if entry.key == key]
        entry.value = value

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda model: model.ClearField("metadata_props"), "not written by tlkeras"),
        (set_property("format", "other"), "not written by tlkeras"),
        (set_property("format_version", "99"), "format version 99"),
        (set_property("class_names", '["cat"]'), "probabilities of its 1 classes"),
        (set_property("class_names", '"cat"'), "metadata that cannot be used"),
        (set_property("class_names", "{"), "metadata that cannot be used"),
        (set_property("size_px", "big"), "metadata that cannot be used"),
    ],
)
def test_files_of_others_are_refused(edit, words, version, tmp_path):
    with pytest.raises(ClassifierError, match=words):
        OnnxClassifier.load(edited(version, tmp_path, edit))


def test_what_cannot_be_loaded_is_named(version, tmp_path):
    with pytest.raises(ClassifierError, match="there is no such file or folder"):
        OnnxClassifier.load(tmp_path / "absent")
    with pytest.raises(ClassifierError, match=r"it holds no model\.onnx"):
        OnnxClassifier.load(tmp_path)
    cut = tmp_path / "model_half.onnx"
    cut.write_bytes((version / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ClassifierError, match="cannot be loaded by ONNX Runtime"):
        OnnxClassifier.load(tmp_path)
    with pytest.raises(ConfigError, match="has no NoSuchProvider"):
        OnnxClassifier.load(version, providers=["NoSuchProvider"])
    shutil.copy(version / "model.onnx", tmp_path / "model.onnx")
    assert OnnxClassifier.load(tmp_path, threads=1).class_names == CLASS_NAMES


def test_it_is_light_and_starts_at_once(version, photos):
    """Processor time, the best of three fresh processes: other work may be going on."""
    code = (
        "import time; t = time.process_time(); import tlkeras.runtime; t = time.process_time() - t; import sys\n"
        f"answer = tlkeras.runtime.OnnxClassifier.load({str(version)!r}).predict({photos[0]!r})\n"
        f"print(t, [m for m in {HEAVY!r} if m in sys.modules], answer[0]['label'] in {CLASS_NAMES!r})"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        taken, rest = done.stdout.strip().split(" ", 1)
        assert rest == "[] True"
        seconds.append(float(taken))
    assert min(seconds) < 0.5
