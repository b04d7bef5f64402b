"""Saving and loading: the same answers, and nothing is believed that was not saved by us."""

import json
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.pictures import encode, photo, tinted, with_orientation
from tlkeras.backbones.frozen import Frozen
from tlkeras.backbones.tensors import assign, named, read_arrays, tensors_sha256
from tlkeras.description import hash_of
from tlkeras.errors import ClassifierError, ImageError, StorageError, WeightsError
from tlkeras.run_facts import read_run, trained_on
from tlkeras.storage import sha256_of
from tlkeras.trained import TrainedClassifier, _parted


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


def test_a_network_that_is_first_asked_for_in_a_trace_has_its_weights(classifier, run_folder):
    """Exports trace first: they wrote, and the cache kept, networks with the weights that Keras had drawn."""
    import tensorflow as tf

    again = TrainedClassifier.load(run_folder)
    pixels = np.stack([classifier.fitted(photo(50, 40, seed)) for seed in range(3)])
    traced = tf.function(lambda pixels: again.head(again.network.get_layer("backbone")(pixels, training=False)))
    np.testing.assert_allclose(traced(pixels).numpy(), classifier.logits(pixels), atol=1e-5)


# Drawn, so that nothing but numbers lies between them and the answers that stand below.
PIXELS = np.stack(
    [np.add.outer(np.arange(32) * 4, np.arange(32) * 3)[..., None].repeat(3, 2) % 256, np.full((32, 32, 3), 90)]
).astype(np.float32)


@pytest.mark.parametrize("version", [2, 3])
def test_a_run_of_every_format_is_read(version, tmp_path):
    """Small runs as the versions of their time wrote them."""
    with tarfile.open(Path(__file__).parent / "formats" / f"format-{version}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "run"
    assert json.loads((run / "classifier" / "classifier.json").read_text())["format_version"] == version
    classifier = TrainedClassifier.load(run)
    expected = [[0.79765, 0.20235], [0.56542, 0.43458]]
    np.testing.assert_allclose(classifier.probabilities(classifier.logits(PIXELS)), expected, atol=1e-4)
    np.testing.assert_allclose(classifier.predict(list(PIXELS)), expected, atol=1e-4)
    assert read_run(run).metrics["accuracy"] == 1
    assert set(trained_on(run).values()) == {"train", "validation"}
    # What is read of an old format is written in the one of now.
    again = TrainedClassifier.load(classifier.save(tmp_path / "again"))
    np.testing.assert_allclose(again.predict(list(PIXELS)), expected, atol=1e-4)
    assert again.config == classifier.config


def test_numbers_of_a_process_and_axes_of_scalars_in_old_files_do_not_matter():
    import keras

    variables = [keras.Variable(np.ones(2, np.float32), name="gamma"), keras.Variable(np.float32(3), name="count")]
    arrays = named(variables)
    assert {name: values.shape for name, values in arrays.items()} == {"0000.gamma": (2,), "0001.count": ()}
    old = {"0000.gamma_7": arrays["0000.gamma"], "0001.count_1": arrays["0001.count"].reshape(1)}
    assert tensors_sha256(old) == tensors_sha256(arrays)
    backbone, head = _parted(old, 1)
    assert list(backbone) == ["0000.gamma"]
    network = SimpleNamespace(name="two", weights=[keras.Variable(np.zeros_like(values)) for values in arrays.values()])
    assign(network, {**backbone, "0001.count": head[0]})
    np.testing.assert_array_equal(network.weights[1], 3)
    with pytest.raises(WeightsError, match="do not fit the network 'two'"):
        assign(network, backbone)


def test_ten_classifiers_on_one_backbone_take_hardly_more_space_than_one(classifier, tmp_path):
    def taken():
        return sum(
            {path.stat().st_ino: path.stat().st_blocks for path in tmp_path.rglob("*") if path.is_file()}.values()
        )

    classifier.save(tmp_path / "0")
    one = taken()
    for number in range(1, 10):
        classifier.save(tmp_path / str(number))
    assert taken() <= 1.3 * one


def test_where_there_are_no_links_a_run_is_whole_by_itself(classifier, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refused)
    saved = classifier.save(tmp_path / "saved")
    assert (saved / "backbone.safetensors").stat().st_nlink == 1
    assert TrainedClassifier.load(saved).config == classifier.config


def test_weights_that_were_damaged_in_the_cache_are_written_again(classifier):
    def held():
        return Frozen("mobilenet_0.25", 32, classifier.backbone.sha256, held=classifier.backbone.arrays)

    held().file().write_bytes(b"no weights")
    with pytest.warns(UserWarning, match="damaged and are written again"):
        file = held().file()
    assert tensors_sha256(read_arrays(file)) == classifier.backbone.sha256


def test_a_full_disk_is_one_line_and_leaves_nothing(classifier, small_disk, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device"):
        classifier.save(small_disk / "saved")
    assert list(small_disk.iterdir()) == []


def test_saved_files_hold_plain_values_only(run_folder):
    folder = run_folder / "classifier"
    names = ["backbone.safetensors", "classifier.json", "head.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
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


def _edit_weights(folder, change, part="backbone", **changes):
    """Change the arrays, and the hash of their file."""
    path = folder / f"{part}.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    content = {"backbone_sha256": tensors_sha256(arrays)} if part == "backbone" else {}
    _edit_files(folder, **content, **changes)


def _edit_files(folder, **changes):
    _edit(folder, sha256={"head.safetensors": sha256_of(folder / "head.safetensors")}, **changes)


def _not_finite(arrays):
    list(arrays.values())[-1][0] = np.nan


def _other_dtype(arrays):
    name = list(arrays)[-1]
    arrays[name] = arrays[name].astype(np.float64)


def _other_shape(arrays):
    for name, values in arrays.items():
        arrays[name] = values.T.copy()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "backbone.safetensors").unlink(), "not the file that was saved"),
        (lambda f: (f / "head.safetensors").write_bytes(b"x"), "not the file that was saved"),
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
        (lambda f: _edit(f, class_names=["a", "b", "c"]), "not those of the network"),
        (lambda f: _edit(f, class_names=[str(number) for number in range(1_000_000)]), "not those of the network"),
        (lambda f: _edit(f, fit="squash"), "unknown fit 'squash'"),
        (lambda f: _edit(f, size_px=10**9), "size_px"),
        (lambda f: _edit(f, size_px=96.7), "'size_px' is float, not int"),
        (lambda f: _edit(f, head={"kind": "pickle"}), "cannot be used"),
        (lambda f: _edit_head(f, kind="mlp", units=[10**9]), "not those of the network"),
        (lambda f: _edit_head(f, kind="mlp", units=[2]), "not those of the network"),
        (lambda f: _edit_weights(f, _not_finite), "not finite"),
        (lambda f: _edit_weights(f, _other_dtype), "not those of the network"),
        (lambda f: _edit_weights(f, lambda arrays: arrays.popitem()), "not those of the network"),
        (lambda f: _edit(f, backbone_sha256="0" * 64), "not the file that was saved"),
        (lambda f: (f / "backbone.safetensors").write_bytes(b"x"), "header of .* is no JSON"),
        (lambda f: _edit_weights(f, _not_finite, "head"), "not finite"),
        (lambda f: _edit_weights(f, _other_dtype, "head"), "not those of the network"),
        (lambda f: _edit_weights(f, _other_shape, "head"), "not those of the network"),
        (lambda f: _edit_weights(f, lambda arrays: arrays.popitem(), "head"), "not those of the network"),
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
        b'{"a": {"dtype": "F32", "shape": [256, 2], "data_offsets": [0, 2048]}}',
        b'{"a": {"dtype": "F32", "shape": [-256, 2], "data_offsets": [0, 2048]}}',
        b'{"a": {"shape": [256, 2], "data_offsets": [0, 2048]}}',
    ],
)
def test_a_header_of_arrays_that_lies_is_refused_before_anything_is_built(header, copy, monkeypatch):
    (copy / "head.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    _edit_files(copy)
    monkeypatch.setattr("tlkeras.trained.read_arrays", lambda path: pytest.fail("was read"))
    with pytest.raises(ClassifierError, match=r"header of|not those of"):
        TrainedClassifier.load(copy)


def test_a_flipped_bit_in_the_weights_is_noticed(copy):
    path = copy / "backbone.safetensors"
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
    fresh = TrainedClassifier(classifier.config, classifier.backbone, classifier.head_weights)
    data = encode(photo(33, 20), "PNG")
    assert fresh.predictor(images=1) is fresh.predictor(images=2) is not fresh.predictor()
    for _ in range(3):
        fresh.predict([data])
        fresh.predict([data, data])
    assert opened == [1]
