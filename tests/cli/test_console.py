"""What reaches the terminal: escaped names, letters that it cannot show, and the log of a process that died."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from tlkeras.cli.console import Terminal, print_json, print_tables, quiet_tensorflow
from tlkeras.cli.main import main

# ESC begins what a terminal obeys, 0x9b does too; U+202E turns the direction of what follows.
HOSTILE = "cat\x1b[2J\x9b1m\u202etac\x7f"
ESCAPED = r"cat\x1b[2J\x9b1m\u202etac\x7f"


def test_names_are_text_and_no_orders_to_the_terminal(capfd):
    table = Table(HOSTILE, title=HOSTILE, box=None)
    table.add_row(HOSTILE.replace("[", r"\["))
    table.add_row(Text(HOSTILE))
    print_tables([table])
    print_json({"label": HOSTILE})
    Terminal().say(HOSTILE)
    assert main([HOSTILE]) == 2
    shown = capfd.readouterr()
    for text in (shown.out, shown.err):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    # Header and title are markup, as everywhere in Rich.
    assert shown.out.count(ESCAPED) >= 2
    assert shown.err.count(ESCAPED) == 2
    assert json.loads(shown.out.splitlines()[-1]) == {"label": HOSTILE}


def test_json_keeps_letters_and_stays_json_where_they_cannot_be_written(monkeypatch):
    for encoding, written in (
        ("utf-8", '{"label": "Löwe 🦁"}\n'),
        ("ascii", '{"label": "L\\u00f6we \\ud83e\\udd81"}\n'),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        print_json({"label": "Löwe 🦁"})
        stream.flush()
        assert stream.buffer.getvalue().decode(encoding) == written


def test_a_pipe_of_ascii_gets_escapes_and_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "Löwe"))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["cache"]) == 0
    stream.flush()
    assert rb"/L\xf6we;" in stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">/dev/full", 2, "error: cannot write 'standard output' (No space left on device). Free some space"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_no_traceback(redirection, code, words, tmp_path):
    command = f'"{sys.executable}" -m tlkeras.cli.main cache {redirection}'
    environment = {**os.environ, "TLKERAS_CACHE": str(tmp_path)}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == bool(words)
    assert (str(tmp_path) in done.stdout) == (redirection == "2>&-")


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_libraries_write_is_kept_away_and_leaves_no_file(logs, capfd):
    with quiet_tensorflow():
        os.write(2, b"chatter")
    with pytest.raises(KeyboardInterrupt), quiet_tensorflow():
        raise KeyboardInterrupt
    assert capfd.readouterr().err == ""

    def fail():
        with quiet_tensorflow():
            os.write(2, b"chatter")
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capfd.readouterr().err == "chatter"
    assert list(logs.iterdir()) == []


def test_a_killed_process_without_words_leaves_nothing(tmp_path):
    code = """if True:
        import os
        from tlkeras.cli.console import quiet_tensorflow
        with quiet_tensorflow():
            os.kill(os.getpid(), 9)"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (-9, "", [])


@pytest.mark.parametrize("death", ["os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_process_that_dies_inside_leaves_its_log_and_names_it(death, tmp_path):
    code = f"""if True:
        import os
        from tlkeras.cli.console import quiet_tensorflow
        def dying():
            with quiet_tensorflow():
                os.write(2, b"Check failed: the cause\\n")
                {death}
        dying()"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode < 0
    (log,) = tmp_path.glob("tlkeras-*.log")
    first, *rest = done.stderr.splitlines()
    assert first == f"error: the process died; what its parts wrote last is kept in {log}"
    assert rest[0] == "Check failed: the cause"
    # A signal that can be noticed also tells which Python line was running.
    assert ("in dying" in Path(log).read_text()) == ("abort" in death)
