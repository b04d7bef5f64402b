"""Clusters that cannot be used, each in one line, through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters import ENVIRONMENT, STORE_BYTES
from tlkeras.cli.main import main

pytest.importorskip("ray", reason='needs Ray: pip install "tlkeras[ray]"')
START = f"""
import socket, sys, time
from ray.cluster_utils import Cluster
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
head = {{"num_cpus": 1, "object_store_memory": {STORE_BYTES}, "include_dashboard": False}}
head["ray_client_server_port"] = port
cluster = Cluster(initialize_head=True, head_node_args=head)
while True:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        break
    except OSError:
        time.sleep(0.5)
print(cluster.address, port, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_a_ray_address_where_nothing_answers_is_one_line_and_quick(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert main(["extract", str(tmp_path), "--to", str(tmp_path / "to"), "--on", "auto"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"no Ray cluster answers at 'RAY_ADDRESS={address}'" in line


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A cluster that asks for a token: its address and the port for clients."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, "HOME": str(tmp_path_factory.mktemp("home"))}
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        env={**os.environ, **ENVIRONMENT, **token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process.stdout.readline().split()
    process.communicate("\n", timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("on", ["auto", "ray://127.0.0.1:{port}"])
@pytest.mark.parametrize(
    ("token", "words"),
    [
        ({}, "does not let this program in"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}, "does not let this program in"),
        ({"RAY_AUTH_MODE": "token"}, "Ray is to show a token, and there is none"),
    ],
)
def test_a_token_that_is_wrong_or_missing_is_one_line(on, token, words, guarded, small_weights, photo_folder, tmp_path):
    address, port = guarded
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tlkeras.cli.main", "extract", str(photo_folder), "--to", str(tmp_path / "to")),
            *("--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"),
            *("--on", on.format(port=port), "--json"),
        ],
        env={**os.environ, **ENVIRONMENT, "RAY_ADDRESS": address, "HOME": str(tmp_path), **token,
             "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )  # fmt: skip
    (line,) = done.stderr.strip().splitlines()
    assert words in line
    assert "RAY_AUTH_TOKEN" in line
    assert (done.returncode, done.stdout) == (2, "")
