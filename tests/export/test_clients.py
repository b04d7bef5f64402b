"""Every client of the deployment kit in export/, run against the exported files: Python's labels and probabilities."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.export.serving import serving
from tests.pictures import encode, photo, swapping_profile, with_orientation
from tlkeras.errors import ClassifierError

KIT = Path(__file__).resolve().parents[2] / "export"
NODE = KIT / "node"
INSTALL_SECONDS = 240


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos that every client can decode: a turned JPEG, a large one, grey, a PNG with alpha, a GIF named .jpg,
    and one with a colour profile, which nobody is to apply."""
    see_through = photo(50, 40, seed=4)
    see_through.putalpha(photo(50, 40, seed=5).convert("L"))
    files = {
        "turned.jpg": with_orientation(photo(90, 61, seed=1), "JPEG", 6),
        "large ünïcödé.jpg": encode(photo(640, 480, seed=2), "JPEG", quality=85),
        "grey.jpg": encode(photo(64, 48, seed=3).convert("L"), "JPEG", progressive=True),
        "see through.png": encode(see_through, "PNG"),
        "is a gif.jpg": encode(photo(45, 47, seed=6).quantize(64), "GIF"),
        "profiled.jpg": encode(photo(52, 50, seed=7), "JPEG", icc_profile=swapping_profile()),
    }
    folder = tmp_path_factory.mktemp("client photos")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "text.jpg").write_bytes(b"this is no photo")
    return [folder / name for name in files]


@pytest.fixture(scope="module")
def server(version_folder):
    with serving(version_folder, "small") as running:
        yield running


@pytest.fixture(scope="module")
def expected(classifier, photos):
    return classifier.predict(photos)


@pytest.fixture(scope="module")
def node_client():
    """The command that runs the Node client, its packages installed once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node:
        pytest.skip("needs Node")
    if not (NODE / "node_modules" / "sharp").is_dir() or not (NODE / "node_modules" / "onnxruntime-node").is_dir():
        if not npm:
            pytest.skip("needs npm, to install the Node client's packages")
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm installed nothing within {INSTALL_SECONDS} s")
        if done.returncode:
            pytest.skip(f"npm cannot install the Node client's packages: {done.stderr.strip()[-200:]}")
    return [node, str(NODE / "classify.mjs")]


def client(name):
    spec = importlib.util.spec_from_file_location(f"kit_{name}", KIT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, arguments, monkeypatch, capsys):
    """Run a client's main: exit code, lines of output, lines of complaint."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    code = client(name).main()
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err.splitlines()


def lines_of(photos, expected, names, top=3):
    """What a client should print."""
    lines = []
    for path, row in zip(photos, expected, strict=True):
        best = row.argsort()[::-1][:top]
        lines.append(f"{path}: {'  '.join(f'{names[k]} {row[k]:.3f}' for k in best)}")
    return lines


def same_but_for_the_last_digit(got, wanted):
    """Lines whose probabilities may have been rounded to either side."""
    for line, other in zip(got, wanted, strict=True):
        words, others = line.split(), other.split()
        assert len(words) == len(others), line
        for word, one in zip(words, others, strict=True):
            assert word == one or abs(float(word) - float(one)) < 0.0015, (line, other)
    return True


def test_the_photos_are_told_apart(expected):
    assert len({int(row.argmax()) for row in expected}) > 1
    assert np.ptp(expected, axis=0).max() > 0.1


def test_rest(server, photos, expected, classifier, monkeypatch, capsys):
    options = ["--model", "small", "--url", server.url]
    code, printed, complaints = run("rest_client", [*photos, *options], monkeypatch, capsys)
    assert (code, complaints) == (0, [])
    assert same_but_for_the_last_digit(printed, lines_of(photos, expected, classifier.class_names))
    answers = client("rest_client").classify(server.url, "small", [path.read_bytes() for path in photos], version=1)
    got = np.array([answer["probabilities"] for answer in answers])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_rest_goes_on_after_a_file_that_is_no_image(server, photos, monkeypatch, capsys):
    bad = photos[0].with_name("text.jpg")
    options = ["--model", "small", "--url", server.url, "--top", "1"]
    code, printed, complaints = run("rest_client", [bad, photos[0], "absent.jpg", *options], monkeypatch, capsys)
    assert code == 1
    assert len(printed) == 1
    assert printed[0].startswith(f"{photos[0]}: ")
    assert "400" in complaints[0]
    assert "not a JPEG, PNG, GIF, BMP or WebP image" in complaints[0]
    assert complaints[1] == "absent.jpg: No such file or directory"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--model", "other"], 1, "404: Servable not found"),
        (["--model", "small", "--version", "7"], 1, "Version: 7"),
        (["--model", "small", "--url", "http://127.0.0.1:9"], 2, "no server at http://127.0.0.1:9"),
    ],
)
def test_rest_says_what_the_server_says(options, code, words, server, photos, monkeypatch, capsys):
    options = options if "--url" in options else [*options, "--url", server.url]
    got, printed, complaints = run("rest_client", [photos[0], *options], monkeypatch, capsys)
    assert (got, printed) == (code, [])
    assert words in complaints[0]


def test_rest_in_columns(server, photos, expected):
    """The other form of request that the documentation of TensorFlow Serving has."""
    import base64
    import urllib.request

    encoded = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in photos]
    body = json.dumps({"signature_name": "image_bytes", "inputs": encoded}).encode()
    with urllib.request.urlopen(f"{server.url}/v1/models/small/versions/1:predict", body) as response:
        outputs = json.load(response)["outputs"]
    np.testing.assert_allclose(outputs["probabilities"], expected, rtol=0, atol=1e-4)


def test_grpc(server, photos, expected, classifier, monkeypatch, capsys):
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api: pip install 'tlkeras[serving]'")
    options = ["--model", "small", "--address", server.address]
    code, printed, complaints = run("grpc_client", [*photos, *options, "--version", 1], monkeypatch, capsys)
    assert (code, complaints) == (0, [])
    assert same_but_for_the_last_digit(printed, lines_of(photos, expected, classifier.class_names))
    before = server.requests
    bad = photos[0].with_name("text.jpg")
    code, printed, complaints = run("grpc_client", [photos[1], bad, *options], monkeypatch, capsys)
    assert (code, printed, server.requests) == (1, [], before + 1)
    assert complaints[0].startswith("INVALID_ARGUMENT: ")
    code, printed, _ = run("grpc_client", [photos[1], *options, "--top", 1], monkeypatch, capsys)
    assert (code, len(printed)) == (0, 1)
    assert run("grpc_client", ["absent.jpg", *options], monkeypatch, capsys)[0] == 2
    options = ["--model", "small", "--address", "127.0.0.1:9"]
    assert run("grpc_client", [photos[1], *options], monkeypatch, capsys)[0] == 2


def test_onnx_in_python(version_folder, photos, expected, classifier, monkeypatch, capsys):
    code, printed, complaints = run("onnx_python", [version_folder, *photos], monkeypatch, capsys)
    assert (code, complaints) == (0, [])
    assert same_but_for_the_last_digit(printed, lines_of(photos, expected, classifier.class_names))
    bad = photos[0].with_name("text.jpg")
    code, printed, complaints = run("onnx_python", [version_folder, bad, photos[0]], monkeypatch, capsys)
    assert (code, len(printed)) == (1, 1)
    assert "text.jpg" in complaints[0]
    code, printed, complaints = run("onnx_python", [photos[0].parent, photos[0]], monkeypatch, capsys)
    assert (code, printed) == (2, [])
    assert "it holds no model.onnx" in complaints[0]
    assert issubclass(ClassifierError, Exception)


def test_onnx_in_node(version_folder, photos, expected, classifier, node_client):
    command = [*node_client, str(version_folder), *map(str, photos)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    assert same_but_for_the_last_digit(printed, lines_of(photos, expected, classifier.class_names))
    bad = photos[0].with_name("text.jpg")
    command = [*node_client, str(version_folder / "model_half.onnx"), "-", "--json", "--top", "2"]
    names = "\n".join(map(str, [bad, *photos]))
    done = subprocess.run(command, input=names, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"skipped: {bad}: ")
    predictions = json.loads(done.stdout)["predictions"]
    assert [entry["path"] for entry in predictions] == [str(path) for path in photos]
    assert [len(entry["top"]) for entry in predictions] == [2] * len(photos)
    got = np.array([entry["probabilities"] for entry in predictions])
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: node classify.mjs"),
        (["VERSION"], "usage: node classify.mjs"),
        (["VERSION", "x.jpg", "--top", "none"], "usage: node classify.mjs"),
        (["absent", "x.jpg"], "'absent' is no ONNX file"),
        (["TEXT", "x.jpg"], "error: "),
        (["VERSION", *["long name.jpg"] * 3000], "more photos than fit a command line"),
    ],
    ids=["nothing", "no photo", "top", "no model", "no ONNX", "too many"],
)
def test_node_ends_in_one_line(arguments, words, version_folder, photos, node_client):
    known = {"VERSION": str(version_folder), "TEXT": str(photos[0].with_name("text.jpg"))}
    command = [*node_client, *(known.get(word, word) for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_the_servers_settings_are_what_tensorflow_serving_reads():
    text_format = pytest.importorskip("google.protobuf.text_format")
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api: pip install 'tlkeras[serving]'")
    from tensorflow_serving.config import model_server_config_pb2

    from tlkeras.export.saved_model import BATCH_SIZES

    models = text_format.Parse((KIT / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = models.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("pets", "/models/pets", "tensorflow")
    try:
        from tensorflow_serving.servables.tensorflow import session_bundle_config_pb2
    except ImportError:
        # The package holds the interfaces only; the fields are read by hand then.
        text = (KIT / "batching_params.pbtxt").read_text()
        sizes = [int(line.split()[1]) for line in text.splitlines() if line.startswith("allowed_batch_sizes")]
    else:
        parsed = session_bundle_config_pb2.BatchingParameters()
        sizes = text_format.Parse((KIT / "batching_params.pbtxt").read_text(), parsed).allowed_batch_sizes
    assert tuple(sizes) == BATCH_SIZES
