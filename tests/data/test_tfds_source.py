"""Sets of TensorFlow Datasets: small ones made here, through TFDS's own builders."""

import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.pictures import encode, photo
from tlkeras.data import tfds_files, tfds_source
from tlkeras.data.open import open_dataset
from tlkeras.data.tfds_source import Request, open_tfds, parse, reachable
from tlkeras.errors import ConfigError, DataError

CLASSES = ["cat", "dog/wolf", "ünknown"]
# Encoded once: what is unpacked must be these bytes.
TRAIN = [(encode(photo(40, 30, i), "JPEG" if i % 3 else "PNG"), CLASSES[i % 3]) for i in range(9)]
TEST = [(encode(photo(40, 30, 50 + i), "JPEG"), CLASSES[i % 2]) for i in range(4)]


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Both splits, and a picture besides that must not be mistaken for the image."""

    name = "tlkeras_tiny"
    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(None, None, 3)),
                "mask": tfds.features.Image(shape=(None, None, 1)),
                "label": tfds.features.ClassLabel(names=CLASSES),
                "species": tfds.features.ClassLabel(num_classes=2),
            }),
        )  # fmt: skip

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(TRAIN), "test": self._generate_examples(TEST)}

    def _generate_examples(self, examples):
        mask = encode(Image.new("L", (40, 30)), "PNG")
        for number, (data, label) in enumerate(examples):
            yield number, {"image": io.BytesIO(data), "mask": io.BytesIO(mask), "label": label, "species": 0}


class Trained(Tiny):
    """Only a training split, some of it without labels, under other keys, with configs."""

    name = "tlkeras_trained"
    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, description="x") for name in ("first", "second")]  # noqa: RUF012

    def _info(self):
        features = {"photo": tfds.features.Image(), "kind": tfds.features.ClassLabel(names=["a", "b"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples([*TRAIN, *TEST])}

    def _generate_examples(self, examples):
        for number, (data, _) in enumerate(examples):
            yield number, {"photo": io.BytesIO(data), "kind": number % 3 - 1}


class Texts(Tiny):
    """No images at all."""

    name = "tlkeras_texts"

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


class Unlabelled(Tiny):
    """Images with a number that is no class."""

    name = "tlkeras_unlabelled"

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.Scalar(np.int64)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir in which both sets lie as TFDS's records."""
    root = tmp_path_factory.mktemp("tfds")
    Tiny(data_dir=root).download_and_prepare()
    Trained(data_dir=root).download_and_prepare()
    return root


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test may reach for the network, or find the user's own records."""
    monkeypatch.setattr(tfds_source, "reachable", lambda url: False)
    monkeypatch.setenv("TFDS_DATA_DIR", "/nonexistent")


def content(images):
    return {
        (Path(path).read_bytes(), images.class_names[label], split)
        for path, label, split in zip(images.paths, images.labels, images.splits.tolist(), strict=True)
    }


EXPECTED = {(data, label, "train") for data, label in TRAIN} | {(data, label, "test") for data, label in TEST}


@pytest.mark.parametrize("text", ["tlkeras_tiny", "tlkeras_tiny:1.2.0", "tlkeras_tiny:1.*.*"])
def test_prepared_records_become_files_with_the_very_same_bytes(prepared, text):
    counted = []
    images = open_dataset(text, data_dir=prepared, progress=lambda done, total: counted.append((done, total)))
    assert images.class_names == tuple(CLASSES)
    assert content(images) == EXPECTED
    assert counted == [(n, 13) for n in range(1, 14)]
    assert {Path(path).suffix for path in images.paths} == {".jpg", ".png"}
    assert images.name == "tlkeras_tiny"


def test_the_second_time_tfds_is_not_even_imported(prepared):
    first = open_tfds("tlkeras_tiny", data_dir=prepared)
    code = (
        "import sys; from tlkeras.data.open import open_dataset\n"
        "for options in ({'data_dir': sys.argv[1]}, {}):\n"
        "    images = open_dataset('tlkeras_tiny', **options)\n"
        "print(len(images), [name for name in sys.modules if name.startswith('tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(prepared)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{len(first)} []", done.stderr


def test_a_damaged_or_outdated_unpacking_is_done_again(prepared, tmp_path, monkeypatch):
    images = open_tfds("tlkeras_tiny", data_dir=prepared)
    Path(images.paths[3]).unlink()
    assert content(open_tfds("tlkeras_tiny", data_dir=prepared)) == EXPECTED

    # Another set under the same name and version, elsewhere.
    monkeypatch.setattr(Tiny, "_split_generators", lambda self, _: {"train": self._generate_examples(TRAIN[:6])})
    Tiny(data_dir=tmp_path).download_and_prepare()
    assert len(open_tfds("tlkeras_tiny", data_dir=tmp_path)) == 6
    assert len(open_tfds("tlkeras_tiny")) == 6
    assert len(open_tfds("tlkeras_tiny", data_dir=prepared)) == 13


def test_a_lone_training_split_other_keys_and_images_without_labels(prepared):
    images = open_tfds("tlkeras_trained", data_dir=prepared)
    assert images.name == "tlkeras_trained/first"
    assert images.class_names == ("a", "b")
    assert set(images.splits.tolist()) == {""}
    # Labels are -1, 0, 1, -1, …: 13 images, 5 of them without.
    assert len(images) == 8


def test_configs_are_told_apart(prepared, monkeypatch):
    assert open_tfds("tlkeras_trained/first", data_dir=prepared).name == "tlkeras_trained/first"
    # Found by its full name before, found as the default now, without unpacking again.
    monkeypatch.setattr(tfds_files, "_unpack_split", lambda *_: pytest.fail("unpacked again"))
    assert len(open_tfds("tlkeras_trained", data_dir=prepared)) == 8
    monkeypatch.undo()
    # No records of the second config are there: its own builder makes them.
    shutil.copytree(prepared, second := prepared.with_name("second"), dirs_exist_ok=True)
    assert open_tfds("tlkeras_trained/second", data_dir=second).name == "tlkeras_trained/second"


def test_an_interrupted_unpacking_leaves_nothing(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path))

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_tfds("tlkeras_tiny", data_dir=prepared, progress=stop)
    assert not list(tmp_path.iterdir())


# Sizes and checksums as the official archives have them.
CATS = ["kagglecatsanddogs_5340.zip (786.67 MiB", "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        "from https://download.microsoft.com/"]  # fmt: skip
PETS = ["Download annotations.tar.gz (18.28 MiB", "/pets/annotations.tar.gz and images.tar.gz (755.23 MiB",
        "/pets/images.tar.gz, and put it"]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), [("cats_vs_dogs", CATS), ("oxford_iiit_pet", PETS)])
def test_offline_the_answer_comes_at_once_and_says_what_to_download(text, parts, tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import downloader

    monkeypatch.setattr(downloader._Downloader, "download", lambda *_, **__: pytest.fail("tried to download"))
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        open_tfds(text, data_dir=tmp_path)
    assert time.monotonic() - start < 10
    line = str(caught.value)
    assert "\n" not in line
    for part in (*parts, f"put it into '{tmp_path / 'downloads' / 'manual'}'"):
        assert part in line
    assert list(tmp_path.iterdir()) == []


def tar_of(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """The official archives of oxford_iiit_pet in miniature, registered with their own checksums."""
    photos = {f"Bengal_{i}": (encode(photo(50, 40, i), "JPEG"), 6) for i in range(4)}
    photos |= {f"pug_{i}": (encode(photo(50, 40, 20 + i), "JPEG"), 26) for i in range(4)}
    lists = {"trainval": list(photos)[::2], "test": list(photos)[1::2]}
    annotations = {f"annotations/{name}.txt": "".join(f"{p} {photos[p][1]} 1 1\n" for p in names).encode()
                   for name, names in lists.items()}  # fmt: skip
    trimap = encode(Image.new("L", (50, 40)), "PNG")
    annotations |= {f"annotations/trimaps/{name}.png": trimap for name in photos}
    manual = tmp_path / "downloads" / "manual"
    tar_of(manual / "images.tar.gz", {f"images/{name}.jpg": data for name, (data, _) in photos.items()})
    tar_of(manual / "annotations.tar.gz", annotations)
    builder = tfds.builder_cls("oxford_iiit_pet")
    from tensorflow_datasets.core.download import checksums

    infos = {url: checksums.compute_url_info(manual / info.filename) for url, info in builder.url_infos.items()}
    monkeypatch.setattr(builder, "url_infos", infos)
    return tmp_path, photos


def test_official_archives_on_this_disk_are_used(pets):
    root, photos = pets
    images = open_tfds("oxford_iiit_pet", data_dir=root)
    assert len(images.class_names) == 37
    found = {(Path(path).read_bytes(), images.class_names[label])
             for path, label in zip(images.paths, images.labels, strict=True)}  # fmt: skip
    assert found == {(data, "Bengal" if number == 6 else "pug") for data, number in photos.values()}
    assert {split: len(images.in_split(split)) for split in ("train", "test")} == {"train": 4, "test": 4}


def test_archives_in_the_folder_itself(pets):
    root, _ = pets
    shutil.copytree(root / "downloads" / "manual", root, dirs_exist_ok=True)
    shutil.rmtree(root / "downloads")
    assert len(open_tfds("oxford_iiit_pet", data_dir=root)) == 8


def test_one_archive_is_not_enough_and_a_damaged_one_is_told(pets):
    root, _ = pets
    path = root / "downloads" / "manual" / "annotations.tar.gz"
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"cannot be reached\. Download annotations\.tar\.gz"):
        open_tfds("oxford_iiit_pet", data_dir=root)
    path.write_bytes(data[:-1000])
    with pytest.raises(DataError, match=r"cannot prepare 'oxford_iiit_pet'.*checksum"):
        open_tfds("oxford_iiit_pet", data_dir=root)


@pytest.mark.parametrize(("text", "feature"), [("tlkeras_texts", "text"), ("tlkeras_unlabelled", "image")])
def test_what_is_no_classification_set_is_told_before_any_download(text, feature, tmp_path):
    with pytest.raises(DataError, match=f"one image and one class label; received features .*{feature}"):
        open_tfds(text, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [("cats_vs_dog", "did you mean 'cats_vs_dogs'"), ("oxford-pets", "looks like"), ("cats_vs_dogs:9.9.9", "version")],
)
def test_names_that_tfds_does_not_know(text, problem, tmp_path):
    with pytest.raises((ConfigError, DataError), match=problem):
        open_tfds(text, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("mnist", Request("mnist")),
        ("a/b.c-d", Request("a", "b.c-d")),
        ("a:1.0.*", Request("a", None, "1.0.*")),
        ("a/b:1.0.0", Request("a", "b", "1.0.0")),
        ("a b", None),
        ("a/b/c", None),
        ("../a", None),
    ],
)
def test_names_are_parsed(text, request_):
    assert parse(text) == request_
    assert request_ is None or str(request_) == text


def test_the_newest_fitting_records_are_found(tmp_path):
    for name in ("set/1.9.0", "set/1.10.0", "set/2.0.0.incomplete", "set/x/3.0.0", "other/1.0.0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dataset_info.json").write_text("{}")
    (tmp_path / "set" / "9.0.0").mkdir()

    def found(*asked):
        path = tfds_files.find_records(tmp_path, *asked)
        return path and str(path.relative_to(tmp_path))

    assert found("set", None, None) == "set/1.10.0"
    assert found("set", None, "1.9.*") == "set/1.9.0"
    assert found("set", "x", None) == "set/x/3.0.0"
    assert found("set", None, "4.0.0") is None
    assert found("none", None, None) is None
    (tmp_path / "set" / ".config").mkdir()
    (tmp_path / "set" / ".config" / "metadata.json").write_text(json.dumps({"default_config_name": "x"}))
    assert found("set", None, None) == "set/x/3.0.0"


class _Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *_):
        """Say nothing."""


def test_a_server_that_answers_anything_is_reachable(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/some/file.zip"
    assert reachable(url)
    server.shutdown()
    server.server_close()
    assert not reachable(url)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_speaks_another_language_is_not_reachable(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 ready\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert not reachable(f"http://127.0.0.1:{server.getsockname()[1]}/file.zip")


def test_a_silent_server_is_given_up_in_time(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(tfds_source, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/file.zip")
        assert time.monotonic() - start < 2
