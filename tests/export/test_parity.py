"""The gate: right answers pass, wrong ones fail and name the image, and ties are not held against anyone."""

import contextlib
import dataclasses

import numpy as np
import pytest

from tlkeras.errors import ParityError
from tlkeras.export.formats import FORMATS, Engine, Format, Runtime, Usage
from tlkeras.export.parity import Check, check_parity
from tlkeras.trained import TrainedClassifier

P = np.array([0.7, 0.2, 0.1], np.float32)


@pytest.mark.parametrize(
    ("expected", "answered", "passed", "ties", "words"),
    [
        (P, P, True, 0, ""),
        (P, P + np.float32(5e-5), True, 0, ""),
        (P, P + np.float32(2e-4), False, 0, "a probability of 'a.jpg' differs by 2.0e-04"),
        (P, P[::-1], False, 0, "another class for 'a.jpg'"),
        (P, P * np.nan, False, 0, "not 3 finite numbers"),
        (P, P[:2], False, 0, "not 3 finite numbers"),
        # Within the tolerance of both, the order of these two says nothing.
        ([0.40004, 0.39996, 0.2], [0.39999, 0.40001, 0.2], True, 1, ""),
        ([0.4003, 0.3997, 0.2], [0.3997, 0.4003, 0.2], False, 0, "another class"),
    ],
)
def test_what_passes_and_what_does_not(expected, answered, passed, ties, words):
    check = Check("C++ loader", "bytes", 1, 1e-4)
    assert not check.passed  # nothing was asked
    check.add("a.jpg", np.asarray(expected, np.float32), np.asarray(answered, np.float32))
    assert check.passed is passed
    assert check.ties == ties
    assert words in check.failure()
    assert bool(check.failure()) is not passed


def offered(monkeypatch, folder, answering, package=""):
    """A format that this answers from, with its file in ``folder``."""

    class Fake(Format):
        name, about, files = "fake", "for this test", ("fake.bin",)

        def write(self, job):
            (job.folder / "fake.bin").write_bytes(b"")

        def engines(self):
            return (Engine("fake", lambda folder: contextlib.nullcontext(Runtime(answering)), 1e-4, package),)

        def usage(self, place):
            return Usage("Fake", "bash", f"fake {place.version}")

    monkeypatch.setitem(FORMATS, "fake", Fake())
    (folder / "fake.bin").write_bytes(b"")


def good(classifier, pixels):
    probabilities = classifier.predict(list(pixels))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    names = np.array(classifier.class_names, object)[order]
    scores = np.take_along_axis(probabilities, order, axis=1)
    return {"probabilities": probabilities, "class_indices": order, "scores": scores, "classes": names}


def spoilt(name, change, classifier, pixels):
    answer = good(classifier, pixels)
    return {**answer, name: change(answer[name])}


def shifted(by, classifier, pixels):
    answer = good(classifier, pixels)
    return {**answer, **{name: answer[name] + np.float32(by) for name in ("probabilities", "scores")}}


def refusing(classifier, pixels):
    raise ValueError("cannot reshape")


@pytest.mark.parametrize(
    ("answering", "words"),
    [
        (good, None),
        (lambda c, p: spoilt("scores", lambda a: a[:, ::-1], c, p), "scores are not the largest"),
        (lambda c, p: spoilt("class_indices", lambda a: a[:, ::-1], c, p), "indices are not those of the scores"),
        (lambda c, p: spoilt("classes", lambda a: a[:, ::-1], c, p), "names are not those of the indices"),
        (lambda c, p: spoilt("probabilities", lambda a: a[:-1] if len(a) > 1 else a, c, p), "6 answers to 7 images"),
        (lambda c, p: shifted(1e-3, c, p), "differs by 1.0e-03"),
        (refusing, r"refused \(cannot reshape\)"),
    ],
)
def test_a_runtime_that_answers_wrongly_fails(answering, words, classifier, samples, tmp_path, monkeypatch):
    offered(monkeypatch, tmp_path, lambda pixels: answering(classifier, pixels))
    found = check_parity(classifier, tmp_path, samples)
    assert {check.format for check in found.checks} == {"fake"}
    assert found.passed is (words is None)
    if words is None:
        found.require("")
        assert [(check.batch, check.images) for check in found.checks] == [(1, 32), (7, 32)]
    else:
        with pytest.raises(ParityError, match=words) as caught:
            found.require("Nothing was published.")
        assert caught.value.exit_code == 1
        assert caught.value.report["passed"] is False
        assert "\n" not in str(caught.value)


def test_the_published_export_passes_in_every_runtime(classifier, version_folder, samples):
    import importlib.util

    found = check_parity(classifier, version_folder, samples)
    found.require("")
    asked = {(check.runtime, check.asked, check.batch) for check in found.checks}
    expected = {("C++ loader", how, batch) for how in ("bytes", "pixels") for batch in (1, 7)}
    expected |= {(name, "pixels", batch) for name in ("ONNX Runtime", "ONNX Runtime, half") for batch in (1, 7)}
    if importlib.util.find_spec("openvino"):
        expected |= {("OpenVINO", "pixels", batch) for batch in (1, 7)}
    assert asked == expected | {("C++ loader", "bytes against pixels", 1)}
    assert all(check.images == 32 for check in found.checks)
    # Not so good as to be suspicious: nobody was compared with itself.
    assert max(check.difference for check in found.checks) > 0


def test_another_classifier_does_not_pass_and_the_image_is_named(classifier, version_folder, samples):
    config = dataclasses.replace(classifier.config, temperature=classifier.config.temperature * 1.05)
    found = check_parity(
        TrainedClassifier(config, classifier.backbone, classifier.head_weights), version_folder, samples
    )
    failed = {check.runtime for check in found.checks if not check.passed}
    assert {"C++ loader", "ONNX Runtime"} <= failed
    with pytest.raises(ParityError, match=r"C\+\+ loader, bytes, batch 1: a probability of '\d\d\.\w+' differs"):
        found.require("")


@pytest.mark.parametrize("package", [None, "no_such_package"])
def test_without_any_runtime_nothing_passes(package, classifier, samples, tmp_path, monkeypatch):
    if package is not None:
        offered(monkeypatch, tmp_path, refusing, package)
    with pytest.raises(ParityError, match="no runtime"):
        check_parity(classifier, tmp_path, samples).require("")
