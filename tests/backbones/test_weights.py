import dataclasses
import hashlib
import http.server
import socket
import threading
import time
import warnings
from pathlib import Path

import pytest

from tlkeras.backbones import WeightsFile, get, locate, resolve
from tlkeras.backbones.weights import cached_copy
from tlkeras.errors import StorageError, WeightsError

CONTENT = b"tensors " * 300_000
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing.h5":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized.h5":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut.h5" else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def backbone(url, digest, top=False):
    field = "weights_top" if top else "weights"
    return dataclasses.replace(get("mobilenet_v2"), **{field: WeightsFile("net.h5", url, digest)})


def files(home):
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_locate_follows_keras_home_at_call_time(home, monkeypatch):
    file = get("vgg16").weights
    assert locate(file) == home / "models" / file.file_name
    monkeypatch.delenv("KERAS_HOME")
    assert locate(file) == Path.home() / ".keras" / "models" / file.file_name


@pytest.mark.parametrize("digest", [MD5, SHA256, None], ids=["md5", "sha256", "unpinned"])
@pytest.mark.parametrize("top", [False, True])
def test_download(address, home, digest, top):
    seen = []
    net = backbone(f"{address}/good.h5", digest, top)
    path = resolve(net, "imagenet", top, lambda done, total: seen.append((done, total)))
    assert path == home / "models" / "net.h5"
    assert path.read_bytes() == CONTENT
    assert files(home) == ["net.h5"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_download_without_a_length(address, home):
    seen = []
    resolve(backbone(f"{address}/unsized.h5", MD5), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), None)


def test_a_file_that_is_there_is_not_fetched(home):
    path = home / "models" / "net.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert resolve(backbone("http://127.0.0.1:1/net.h5", SHA256)) == path


@pytest.mark.parametrize(
    ("page", "digest", "word"),
    [
        ("good.h5", "0" * 32, f"hash {MD5} instead of {'0' * 32}"),
        ("good.h5", "0" * 64, f"hash {SHA256} instead of {'0' * 64}"),
        ("cut.h5", None, f"{len(CONTENT) // 2} of {len(CONTENT)} bytes"),
        ("missing.h5", MD5, "404"),
    ],
)
def test_failed_download_leaves_nothing(address, home, page, digest, word):
    with pytest.raises(WeightsError) as caught:
        resolve(backbone(f"{address}/{page}", digest))
    line = str(caught.value)
    assert word in line
    assert f"{address}/{page}" in line
    assert str(home / "models" / "net.h5") in line
    assert files(home) == []


def test_refused_port_fails_at_once(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        start = time.monotonic()
        with pytest.raises(WeightsError, match="refused"):
            resolve(backbone(f"http://127.0.0.1:{taken.getsockname()[1]}/net.h5", MD5))
    assert time.monotonic() - start < 5
    assert files(home) == []


def test_a_silent_server_is_given_up(home, monkeypatch):
    monkeypatch.setattr("tlkeras.backbones.weights.TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(WeightsError, match="timed out"):
        resolve(backbone(f"http://127.0.0.1:{silent.getsockname()[1]}/net.h5", MD5))
    assert files(home) == []


def test_a_host_that_swallows_requests_is_given_up_and_the_way_out_is_named(home, monkeypatch):
    # Every address of a host gets a timeout of its own: as if there were many, and one after the other said nothing.
    answered = threading.Event()
    monkeypatch.setattr("tlkeras.backbones.weights.TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: answered.wait(30))
    with pytest.raises(WeightsError, match="timed out") as caught:
        resolve(backbone("https://blocked.invalid/net.h5", MD5))
    answered.set()
    assert 'pip install "tlkeras[imagenet]" and --backbone efficientnet_lite0, or' in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_interrupted_download_leaves_nothing(address, home):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(backbone(f"{address}/good.h5", MD5), progress=interrupt)
    assert files(home) == []


def test_a_file_that_appears_meanwhile_is_left_alone(address, home):
    path = home / "models" / "net.h5"
    with pytest.raises(WeightsError, match="left as it is"):
        resolve(backbone(f"{address}/good.h5", MD5), progress=lambda *_: path.write_bytes(b"mine"))
    assert path.read_bytes() == b"mine"
    assert files(home) == ["net.h5"]


@pytest.mark.parametrize("digest", [MD5, SHA256])
def test_wrong_local_file_is_reported_and_left(home, digest):
    path = home / "models" / "net.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(WeightsError) as caught:
        resolve(backbone("http://127.0.0.1:1/net.h5", digest))
    received = hashlib.new("md5" if digest == MD5 else "sha256", b"mine").hexdigest()
    assert digest in str(caught.value)
    assert f"received {received}" in str(caught.value)
    assert "delete it to download it again" in str(caught.value)
    assert path.read_bytes() == b"mine"
    # The way out that the error names works.
    assert resolve(get("vgg16"), path) == path


def test_folder_that_cannot_be_made(tmp_path, monkeypatch, address):
    (tmp_path / "home").write_text("a file where the folder should be")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    with pytest.raises(StorageError, match="KERAS_HOME"):
        resolve(backbone(f"{address}/good.h5", MD5))


def test_none_needs_no_file(home):
    assert resolve(get("vgg16"), "none") is None
    assert not home.exists()


@pytest.mark.parametrize("name", ["own.h5", "own.weights.h5"])
def test_own_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"x")
    assert resolve(get("vgg16"), str(path)) == path


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("model.keras", "save_weights"),
        ("weights.npz", "'imagenet', 'none' or the path"),
        ("imagnet", "'imagenet', 'none' or the path"),
        ("absent.h5", "Check the path"),
    ],
)
def test_unusable_own_file(tmp_path, name, word):
    if name != "absent.h5":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=word):
        resolve(get("vgg16"), tmp_path / name)


def test_a_file_that_nobody_pins_is_remembered_and_its_change_told_once(home):
    path = home / "models" / "net.h5"
    path.parent.mkdir(parents=True)
    net = backbone("http://127.0.0.1:1/net.h5", None)
    for content, told in ((b"first", False), (b"first", False), (b"second", True), (b"second", False)):
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert resolve(net) == path
        words = [str(one.message) for one in caught]
        assert len(words) == told
        assert all(hashlib.sha256(part).hexdigest() in words[0] for part in (b"first", b"second") if told)


@pytest.mark.parametrize("notes", ["[1]", "{", None], ids=["a list", "torn", "not writable"])
def test_damaged_notes_of_first_uses_stop_nothing(home, tmp_path, monkeypatch, notes):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))
    if notes is None:
        (tmp_path / "cache").write_text("a file where the folder should be")
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "weights.json").write_text(notes)
    test_a_file_that_is_there_is_not_fetched(home)
    path = home / "models" / "other.h5"
    path.write_bytes(CONTENT)
    net = dataclasses.replace(get("mobilenet_v2"), weights=WeightsFile("other.h5", "http://127.0.0.1:1/x", None))
    assert resolve(net) == path


class TestEmbedded:
    """The network that comes with the package."""

    def test_its_weights_are_at_hand_without_home_or_network(self, home):
        path = resolve(get("tlkeras_tiny"))
        assert path == locate(get("tlkeras_tiny").weights)
        assert path.stat().st_size <= 1_200_000
        assert not home.exists()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"weights": "imagenet"}, "tlkeras_tiny has no weights that were trained on ImageNet"),
            ({"top": True}, "tlkeras_tiny has no weights for an ImageNet top"),
        ],
    )
    def test_what_it_does_not_have_is_said(self, home, options, words):
        with pytest.raises(WeightsError, match=words):
            resolve(get("tlkeras_tiny"), **options)

    def test_a_changed_file_is_refused(self, home, tmp_path, monkeypatch):
        changed = tmp_path / "changed.h5"
        changed.write_bytes(locate(get("tlkeras_tiny").weights).read_bytes() + b"x")
        monkeypatch.setattr("tlkeras.backbones.weights.locate", lambda file: changed)
        with pytest.raises(WeightsError, match="must have the hash"):
            resolve(get("tlkeras_tiny"))


class TestPackaged:
    """The networks whose weights another package brings."""

    NAME = "efficientnet_lite0"

    @pytest.fixture
    def installed(self, tmp_path, monkeypatch):
        """The package with a file of its own in it, and the row that pins it."""
        site = tmp_path / "site"
        file = dataclasses.replace(get(self.NAME).weights, hash=SHA256)
        (site / f"{file.package.replace('-', '_')}-0.1.0.dist-info").mkdir(parents=True)
        (site / f"{file.package.replace('-', '_')}-0.1.0.dist-info" / "METADATA").write_text(f"Name: {file.package}\n")
        (site / file.file_name).parent.mkdir(parents=True)
        (site / file.file_name).write_bytes(CONTENT)
        monkeypatch.syspath_prepend(str(site))
        return dataclasses.replace(get(self.NAME), weights=file, weights_top=file), site / file.file_name

    @pytest.mark.parametrize("top", [False, True])
    def test_the_file_is_found_in_the_package(self, installed, home, top):
        row, path = installed
        assert resolve(row, "imagenet", top) == path
        assert not home.exists()

    def test_a_changed_file_is_refused(self, installed):
        row, path = installed
        path.write_bytes(CONTENT + b"x")
        with pytest.raises(WeightsError, match=f"must have the hash {SHA256}; .*Install {row.weights.package} again"):
            resolve(row)

    def test_a_copy_in_the_cache_goes_before_and_needs_no_package(self, installed):
        row, _ = installed
        copy = cached_copy(row.weights)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"checked when it is loaded")
        assert resolve(row) == resolve(get(self.NAME)) == copy

    def test_without_the_package_it_is_named(self, home):
        row = get(self.NAME)
        row = dataclasses.replace(row, weights=dataclasses.replace(row.weights, package="no-such-package"))
        with pytest.raises(WeightsError) as caught:
            resolve(row)
        assert str(caught.value) == (
            "the ImageNet weights of efficientnet_lite0 come with a package that is not installed; received "
            "no-such-package. 'pip install no-such-package' brings them."
        )
