"""The same job from and to an object store: a stand-in for S3 on this machine."""

import http.server
import threading
from urllib.request import Request, urlopen

import pytest

from tests.clusters import two_nodes
from tests.features.test_bulk import assert_equal, images_of
from tlkeras.cli.main import main
from tlkeras.cluster import Place
from tlkeras.errors import StorageError
from tlkeras.features import bulk
from tlkeras.features.shards import ShardSet

pytest.importorskip("s3fs", reason="needs s3fs")
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def use(monkeypatch, endpoint, **keys):
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true", **keys}.items():
        monkeypatch.setenv(name, value)
    # A file system remembers the credentials that it was made with.
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(monkeypatch):
    server = pytest.importorskip("moto.server", reason="needs moto with flask").ThreadedMotoServer(port=0)
    server.start()
    _, port = server.get_host_and_port()
    use(monkeypatch, f"http://127.0.0.1:{port}", **KEYS)
    import s3fs

    # It remembers what the test before this one did.
    urlopen(Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    system = s3fs.S3FileSystem()
    system.mkdir("photos")
    yield system
    server.stop()


@pytest.fixture
def filled(bucket, photo_folder):
    for path, label in images_of(photo_folder):
        bucket.pipe_file(f"photos/set/{label}/{path.name}", path.read_bytes())
    return bucket


def test_from_s3_to_s3(filled, recipe, local):
    done = bulk.extract_to("s3://photos/set", "s3://photos/out", rows_a_shard=20, **recipe)
    assert (done.images, done.rejected, done.computed) == (62, 2, 4)
    found = ShardSet("s3://photos/out")
    assert_equal(found, local)
    assert sorted(found.columns(["label"])["label"]) == ["blue"] * 31 + ["orange"] * 31
    again = bulk.extract_to("s3://photos/set", "s3://photos/out", rows_a_shard=20, **recipe)
    assert (again.computed, again.reused) == (0, 4)


@pytest.fixture(scope="module")
def cluster():
    """Machines that know neither the endpoint nor the keys."""
    with two_nodes() as (started, _):
        yield started


@pytest.mark.slow
def test_workers_on_a_cluster_get_the_credentials_that_are_named(cluster, filled, recipe, local, capfd):
    service = ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED", "AWS_DEFAULT_REGION")
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    place = Place("auto", 2, (*service, *keys))
    done = bulk.extract_to("s3://photos/set", "s3://photos/out", rows_a_shard=8, place=place, **recipe)
    assert (done.images, done.rejected, done.computed, len(done.workers)) == (62, 2, 8, 2)
    assert_equal(ShardSet("s3://photos/out"), local)
    command = ["extract", "s3://photos/set", "--to", "s3://photos/other", "--backbone", "tlkeras_tiny", "--on", "auto"]
    assert main([*command, *(f"--env={name}" for name in service)]) == 2
    (line,) = [words for words in capfd.readouterr().err.strip().splitlines() if words]
    assert "refuses the credentials" in line
    assert "--env NAME" in line
    assert not filled.exists("photos/other/features.json")


class Forbidding(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (
            b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist in our records.</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def test_wrong_and_missing_credentials_are_one_line(recipe, tmp_path, monkeypatch, capsys):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    use(monkeypatch, endpoint, **KEYS)
    assert main(["extract", "s3://photos/set", "--to", str(tmp_path / "to"), "--backbone", "tlkeras_tiny"]) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert "refuses the credentials" in shown[0]
    assert "AWS_ACCESS_KEY_ID" in shown[0]
    use(
        monkeypatch,
        endpoint,
        AWS_CONFIG_FILE=str(tmp_path / "none"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
    )
    with pytest.raises(StorageError, match="refuses the credentials"):
        bulk.extract_to("s3://photos/set", str(tmp_path / "to"), **recipe)
    server.shutdown()
    server.server_close()
