"""The C++ loader in its own process: it answers, refuses single requests, and tells when it dies."""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import encode, photo, with_orientation
from tests.zoo import contents
from tlkeras.errors import ConfigError, ExportError, ServedError
from tlkeras.export.cpp_loader import INVALID_ARGUMENT, CppLoader, read_signatures
from tlkeras.images.decode import decode


@pytest.fixture(scope="module")
def loader(version_folder):
    with CppLoader(version_folder) as loader:
        yield loader


FILES = [
    encode(photo(64, 48, 0), "JPEG"),
    encode(photo(20, 90, 1), "PNG"),
    encode(photo(33, 33, 2), "GIF"),
    encode(photo(70, 31, 3), "BMP"),
    encode(photo(41, 52, 4), "WEBP"),
    with_orientation(photo(60, 30, 5), "JPEG", 6),
    with_orientation(photo(30, 60, 6), "PNG", 8),
]


def test_files_of_all_formats_and_sizes_in_one_batch(loader, classifier):
    answer = loader.run("image_bytes", {"image_bytes": FILES})
    expected = classifier.predict(FILES)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)
    assert np.ptp(expected[:, 0]) > 0.01  # the pictures are told apart, so that a mix-up would show
    names = [name.decode() for name in answer["classes"][:, 0]]
    assert names == [classifier.class_names[best] for best in expected.argmax(axis=1)]
    assert {name: array.shape for name, array in answer.items()} == {
        "probabilities": (7, 5),
        "classes": (7, 5),
        "class_indices": (7, 5),
        "scores": (7, 5),
        "logits": (7, 5),
        "features": (7, 256),
    }
    assert answer["features"].std() > 0.01


def test_pixels_of_a_file_answer_as_the_file(loader):
    for data in FILES:
        from_file = loader.run("image_bytes", {"image_bytes": [data]})
        from_pixels = loader.run("pixels", {"pixels": decode(data).pixels[np.newaxis]})
        np.testing.assert_allclose(from_pixels["probabilities"], from_file["probabilities"], atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("image_bytes", {"image_bytes": [b"no image"]}, "not a JPEG, PNG, GIF, BMP or WebP image"),
        ("image_bytes", {"image_bytes": [FILES[0], b""]}, "not a JPEG"),
        ("image_bytes", {"image_bytes": [FILES[0][:400]]}, r".+"),
        ("image_bytes", {"image_bytes": []}, "at least one image file"),
        ("pixels", {"pixels": np.zeros((0, 8, 8, 3), np.uint8)}, "at least one image"),
        ("pixels", {"pixels": np.zeros((2, 0, 8, 3), np.uint8)}, "at least one row"),
    ],
)
def test_a_bad_request_is_refused_and_the_next_one_answered(signature, inputs, words, loader):
    good = loader.run("image_bytes", {"image_bytes": FILES[:1]})
    with pytest.raises(ServedError, match=words) as caught:
        loader.run(signature, inputs)
    assert caught.value.code == INVALID_ARGUMENT
    assert "\n" not in str(caught.value)
    again = loader.run("image_bytes", {"image_bytes": FILES[:1]})
    np.testing.assert_array_equal(again["probabilities"], good["probabilities"])


def test_strange_files_are_answered_as_in_python_or_refused(loader, classifier):
    answered = refused = 0
    for name, (data, _) in contents().items():
        try:
            answer = loader.run("image_bytes", {"image_bytes": [data]})["probabilities"]
        except ServedError:
            refused += 1
        else:
            answered += 1
            np.testing.assert_allclose(answer, classifier.predict([data]), atol=1e-4, err_msg=name)
    assert answered >= 10
    assert refused >= 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pixel", {}), "unknown signature 'pixel'; did you mean 'pixels'"),
        (("pixels", {"pixls": []}), "did you mean 'pixels'"),
        (("pixels", {}), "needs the input 'pixels'"),
        (("pixels", {"pixels": np.zeros((1, 8, 8, 3), np.float32)}), "must be uint8 .*received float32"),
        (("pixels", {"pixels": np.zeros((8, 8, 3), np.uint8)}), r"received uint8 \[8, 8, 3\]"),
        (("pixels", {"pixels": np.zeros((1, 8, 8, 4), np.uint8)}), r"received uint8 \[1, 8, 8, 4\]"),
        (("image_bytes", {"image_bytes": ["text"]}), "must be bytes"),
    ],
)
def test_requests_that_do_not_fit_the_signature_are_told_before_they_are_sent(arguments, words, loader):
    with pytest.raises(ConfigError, match=words):
        loader.run(*arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_holds_no_python_tensorflow(loader):
    mapped = Path(f"/proc/{loader._process.pid}/maps").read_text()
    assert "libtensorflow_cc" in mapped
    assert "_pywrap_tensorflow" not in mapped


def test_a_process_that_dies_is_told_and_can_be_closed(version_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # its log is kept
    with CppLoader(version_folder, threads=1) as loader:
        loader.run("image_bytes", {"image_bytes": FILES[:1]})
        os.kill(loader._process.pid, signal.SIGKILL)
        with pytest.raises(ExportError, match="process was ended by SIGKILL"):
            loader.run("image_bytes", {"image_bytes": FILES[:1]})
    with pytest.raises(ExportError, match="closed"):
        loader.run("image_bytes", {"image_bytes": FILES[:1]})
    loader.close()


def test_an_abort_inside_tensorflow_is_told_with_its_reason_and_its_log_is_kept(version_folder, tmp_path, monkeypatch):
    fatal = "F0000 00:00:17 tensor.cc:42] Check failed: dtype() == expected_dtype (1 vs. 9)"
    worker = tmp_path / "python"
    worker.write_text(f"#!/bin/sh\necho chatter >&2\necho '{fatal}' >&2\necho '*** stack ***' >&2\nkill -ABRT $$\n")
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ExportError, match=r"ended by SIGABRT: F0000.*Check failed") as caught:
        CppLoader(version_folder)
    (log,) = tmp_path.glob("*.log")
    assert str(caught.value).endswith(f"All it said: {log}")
    assert log.read_text().splitlines() == ["chatter", fatal, "*** stack ***"]


def test_the_log_of_a_loader_that_lived_is_not_kept(version_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with CppLoader(version_folder, threads=1) as loader:
        assert len(list(tmp_path.glob("*.log"))) == 1
        loader.run("image_bytes", {"image_bytes": FILES[:1]})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_the_loader_refuses_is_told(version_folder, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes((version_folder / "saved_model.pb").read_bytes())
    shutil.copytree(version_folder / "variables", tmp_path / "variables")
    os.truncate(tmp_path / "variables" / "variables.data-00000-of-00001", 1000)
    with pytest.raises(ExportError, match="the C\\+\\+ loader refuses"):
        CppLoader(tmp_path)


def test_signatures_say_what_can_be_asked(loader):
    assert set(loader.signatures) == {"serving_default", "pixels", "image_bytes"}
    (pixels,) = loader.signatures["pixels"].inputs.values()
    assert (pixels.dtype.name, pixels.shape.as_list()) == ("uint8", [None, None, None, 3])
    (image_bytes,) = loader.signatures["image_bytes"].inputs.values()
    assert (image_bytes.dtype.name, image_bytes.shape.as_list()) == ("string", [None])
    assert {name: spec.dtype.name for name, spec in loader.signatures["pixels"].outputs.items()} == {
        **dict.fromkeys(("probabilities", "scores", "logits", "features"), "float32"),
        **{"class_indices": "int32", "classes": "string"},
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not a SavedModel .*No such file"),
        (b"", "no graph with the tag 'serve'"),
        (b"not a message", "is damaged"),
        (b"\x12\x05abc", "is damaged"),
    ],
)
def test_what_is_no_saved_model_is_told_in_one_line(content, words, tmp_path):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ExportError, match=words) as caught:
        read_signatures(tmp_path)
    assert "\n" not in str(caught.value)
