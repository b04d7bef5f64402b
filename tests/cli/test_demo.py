"""`tlkeras demo`: what cannot be served is one line; what can be is announced, and ends with Ctrl-C."""

import contextlib
import json
import socket
import sys

import pytest

from tlkeras.cli.main import main


def test_without_gradio_it_says_what_to_install(run_folder, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", str(run_folder)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "needs Gradio" in line
    assert "pip install 'tlkeras[demo]'" in line


def test_what_is_no_run_is_told_first(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "absent"]) == 2
    assert "'absent' is not a run" in capfd.readouterr().err
    assert main(["demo", "absent", "--port", "70000"]) == 2
    assert "--port" in capfd.readouterr().err
    assert main(["demo", "absent", "--auth", "me"]) == 2
    assert "--auth must be NAME:PASSWORD" in capfd.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_a_port_that_is_taken_or_a_host_that_is_not_there(host, run_folder, capfd):
    pytest.importorskip("gradio", reason="needs the demo extra: pip install 'tlkeras[demo]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["demo", str(run_folder), "--host", host, "--port", port]) == 2
    assert f"cannot listen on {host}:{port}" in capfd.readouterr().err.splitlines()[-1]


def test_the_address_is_printed_and_ctrl_c_ends_it(run_folder, monkeypatch, capfd):
    closed = []

    @contextlib.contextmanager
    def serving(run, *, host, port, auth):
        assert auth == ("me", "a:b")
        yield f"http://{host}:{port}/"
        closed.append(run)

    monkeypatch.setattr("tlkeras.demo.page.serving", serving)
    monkeypatch.setattr("tlkeras.demo.page.gradio", lambda: None)
    monkeypatch.setattr("threading.Event.wait", interrupted)
    assert main(["demo", str(run_folder), "--port", "8123", "--auth", "me:a:b", "--json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out) == {"run": str(run_folder), "address": "http://127.0.0.1:8123/"}
    assert "until Ctrl-C" in shown.err
    assert closed == [run_folder]


def interrupted(*_):
    raise KeyboardInterrupt
