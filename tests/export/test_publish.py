"""Exports end to end: what is published, what is not, and what verifying notices."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.export.conftest import NAMES
from tests.networks import small_classifier
from tlkeras.classifier import ImageClassifier
from tlkeras.errors import ConfigError, ExportError, ParityError, StorageError
from tlkeras.export.formats import FORMATS, ExportConfig
from tlkeras.export.onnx_model import write_onnx
from tlkeras.export.publish import CLASSIFIER_FOLDER, changes, export, read_manifest, verify, versions_in
from tlkeras.runtime import OnnxClassifier
from tlkeras.storage import sha256_of
from tlkeras.trained import TrainedClassifier

ONNX_ONLY = ExportConfig(formats=("onnx",), top_k=2)


def test_a_version_holds_what_was_asked_for(version_folder, classifier):
    names = {path.relative_to(version_folder).as_posix() for path in version_folder.rglob("*") if path.is_file()}
    assert names == {
        "MODEL_CARD.md",
        "assets.extra/classifier/classifier.json",
        "assets.extra/classifier/backbone.safetensors",
        "assets.extra/classifier/head.safetensors",
        "assets.extra/tf_serving_warmup_requests",
        "assets/labels.txt",
        "batching_params.pbtxt",
        "fingerprint.pb",
        "labels.txt",
        "manifest.json",
        "model.onnx",
        "model_half.onnx",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert (version_folder / "labels.txt").read_text().splitlines() == list(NAMES)
    assert version_folder.name == "1"
    assert [path.name for path in version_folder.parent.iterdir()] == ["1"]


def test_the_manifest_says_where_the_files_come_from(version_folder, classifier):
    manifest = read_manifest(version_folder)
    assert manifest["class_names"] == list(NAMES)
    assert manifest["classifier"]["temperature"] == classifier.config.temperature
    formats = ["saved_model", "onnx", "onnx-fp16"]
    assert manifest["config"] == {"formats": formats, "signature": "pixels", "top_k": 5}
    assert manifest["versions"]["tensorflow"]
    assert manifest["files"]["model.onnx"]["sha256"] == sha256_of(version_folder / "model.onnx")
    assert len(manifest["files"]) == 14
    assert not changes(version_folder, manifest)
    parity = manifest["parity"]
    assert parity["passed"] is True
    assert {check["batch"] for check in parity["checks"]} == {1, 7}
    assert all(check["images"] == 32 and check["difference"] <= check["tolerance"] for check in parity["checks"])


def test_weights_are_stored_once_in_the_saved_model(version_folder):
    variables = sum(path.stat().st_size for path in (version_folder / "variables").iterdir())
    assert variables < 1.2 * (version_folder / CLASSIFIER_FOLDER / "backbone.safetensors").stat().st_size


def test_the_classifier_inside_is_the_one_that_was_exported(version_folder, classifier, samples):
    again = TrainedClassifier.load(version_folder / CLASSIFIER_FOLDER)
    assert again.config == classifier.config
    files = [image.read() for image in samples.images[:3]]
    assert (again.predict(files) == classifier.predict(files)).all()


def test_the_next_version_stands_beside_and_python_users_publish_too(classifier, samples, tmp_path):
    paths = []
    for image in samples.images:
        path = tmp_path / image.name
        path.write_bytes(image.read())
        paths.append(path)
    held = ImageClassifier()
    held._trained = classifier
    published = [held.export(tmp_path / "m", images=paths, formats=("onnx",), top_k=k) for k in (1, 2)]
    assert [one.folder.name for one in published] == ["1", "2"]
    assert published[1].folder == tmp_path / "m" / "2"
    assert published[1].parity.passed
    assert published[1].to_json()["version"] == 2
    found = OnnxClassifier.load(published[1].folder)
    assert found.run(held.trained.fitted(paths[0])[None].astype("uint8"))["classes"].shape == (1, 2)
    with pytest.raises(ConfigError, match="unknown option 'topk'; did you mean 'top_k'"):
        held.export(tmp_path / "m", topk=3)
    # A SavedModel was not asked for, so no C++ loader was.
    assert {check.runtime for check in published[0].parity.checks} <= {"ONNX Runtime", "OpenVINO"}


def test_an_export_that_disagrees_is_not_published(classifier, samples, tmp_path, monkeypatch):
    other = small_classifier(NAMES, fit="crop")  # the same weights, another fit: pictures that are not square differ

    def wrong(job):
        write_onnx(other, job.folder / "model.onnx", top_k=job.top_k)

    monkeypatch.setattr(FORMATS["onnx"], "write", wrong)
    words = r"ONNX Runtime, pixels, batch 1: .*'\d\d\.\w+'.*Nothing was published"
    with pytest.raises(ParityError, match=words) as caught:
        export(classifier, tmp_path / "m", samples, ONNX_ONLY)
    assert caught.value.exit_code == 1
    assert caught.value.report["passed"] is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("formats", [("onnx",), ("saved_model",)])
def test_a_disk_that_refuses_is_one_line_and_leaves_the_older_version(formats, classifier, samples, tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "old").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write") as caught:
            export(classifier, tmp_path / "m", samples, ExportConfig(formats=formats))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert [path.relative_to(tmp_path / "m").as_posix() for path in (tmp_path / "m").rglob("*")] == ["1", "1/old"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"formats": ("savedmodel",)}, "unknown format 'savedmodel'; did you mean 'saved_model'"),
        ({"formats": ()}, "needs a format"),
        ({"formats": ("saved_model", "web")}, "web needs the format onnx"),
        ({"formats": ("saved_model",), "half": True}, "onnx-fp16 needs the format onnx"),
        ({"signature": "bytes"}, "unknown signature 'bytes'; did you mean 'image_bytes'"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ConfigError, match=words):
        ExportConfig(**options)


def test_too_many_classes_are_refused_before_anything_is_written(classifier, samples, tmp_path):
    with pytest.raises(ConfigError, match=r"top_k must lie in 1\.\.5.*received 6"):
        export(classifier, tmp_path / "m", samples, ExportConfig(top_k=6))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(version_folder, tmp_path):
    """A copy of the version with its small parts only, for damage that is told before any runtime is asked."""
    return shutil.copytree(version_folder, tmp_path / "1")


def test_a_published_version_is_verified(version_folder, samples):
    parity = verify(version_folder, samples)
    assert parity.passed
    assert {check.runtime for check in parity.checks} >= {"C++ loader", "ONNX Runtime", "ONNX Runtime, half"}


@pytest.mark.parametrize("name", ["model.onnx", "variables/variables.data-00000-of-00001", "manifest.json"])
def test_a_changed_byte_is_noticed(name, copy, samples):
    content = bytearray((copy / name).read_bytes())
    at = content.find(b'"seconds"') + 2 if name == "manifest.json" else len(content) // 2
    content[at] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ParityError, match=f"not what was published .*changed: {name}") as caught:
        verify(copy, samples)
    assert caught.value.exit_code == 1
    assert caught.value.report["changed"] == [name]


def test_missing_and_added_files_are_noticed(copy, samples):
    (copy / "labels.txt").unlink()
    (copy / "assets" / "more.txt").write_text("")
    with pytest.raises(ParityError, match=r"missing: labels.txt; added: assets/more.txt"):
        verify(copy, samples)
    with pytest.raises(ExportError, match="not a published version"):
        verify(copy.parent, samples)


EXPORTER = """
import sys
from tests.networks import small_classifier
from tlkeras.export.formats import ExportConfig
from tlkeras.export.publish import export
from tlkeras.export.samples import Sample, Samples
from tests.pictures import encode, photo
samples = Samples(tuple(Sample(f"{i}.png", data=encode(photo(40, 30, i), "PNG")) for i in range(8)), "pictures")
trained = small_classifier(("a", "b", "c"))
print("ready", flush=True)
while True:
    export(trained, sys.argv[1], samples)
    print("published", flush=True)
"""


@pytest.mark.slow
def test_a_real_export_killed_at_any_moment_leaves_whole_versions_only(tmp_path, samples):
    chance = random.Random(1)
    folder = tmp_path / "m"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    round_seconds = 0.0
    for attempt in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", EXPORTER, str(folder)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=environment,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        started = time.perf_counter()
        if attempt == 0:
            assert child.stdout.readline() == b"published\n"
            round_seconds = time.perf_counter() - started
        time.sleep(chance.uniform(0, 1) * round_seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for number in versions_in(folder):
            version = folder / str(number)
            assert not changes(version, read_manifest(version))
    numbers = versions_in(folder)
    assert numbers == list(range(1, len(numbers) + 1))
    assert verify(folder / "1", samples).passed
    manifests = [json.loads((folder / str(n) / "manifest.json").read_text()) for n in numbers]
    assert all(manifest["parity"]["passed"] for manifest in manifests)
