"""Names that are reserved, for threads and processes, and let go by whoever dies."""

import multiprocessing

import pytest

from tlkeras.errors import ConfigError, StorageError
from tlkeras.locks import alone_in, reserved
from tlkeras.storage import staged_folder


def test_a_reserved_name_is_nobody_elses(tmp_path):
    runs = tmp_path / "a" / "runs"
    with reserved(None, runs, "pets") as first, reserved(None, runs, "pets") as second:
        assert (first.name, second.name) == ("pets-1", "pets-2")
        with pytest.raises(ConfigError, match=r"another process is writing .*pets-1"), reserved(first, runs, ""):
            raise AssertionError("never entered")
        with staged_folder(first):
            pass
        with pytest.raises(ConfigError, match="exists already"), reserved(first, runs, ""):
            raise AssertionError("never entered")
    assert [path.name for path in runs.iterdir()] == ["pets-1"]
    # What a killed process leaves holds nothing, and a block that fails leaves nothing.
    (runs / ".pets-2.lock").touch()
    with reserved(None, runs, "pets") as again:
        assert again == second
    with pytest.raises(KeyboardInterrupt), reserved(tmp_path / "b" / "run", runs, ""):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_many_processes_get_as_many_names(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, names = context.Barrier(6), context.SimpleQueue()
    writers = [context.Process(target=_take_a_name, args=(tmp_path, barrier, names)) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(list(tmp_path.iterdir())) == 12
    assert len({names.get() for _ in writers}) == 6


def _take_a_name(folder, barrier, names):
    for turn in range(2):
        barrier.wait(20)
        with reserved(None, folder, "run") as found, staged_folder(found):
            names.put(found.name) if turn else None


def test_a_run_that_cannot_be_written_is_told_before_the_work(tmp_path, photo_folder, monkeypatch):
    from tlkeras.training import run
    from tlkeras.training.config import TrainConfig

    monkeypatch.setattr(run, "fit", None)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        run.train(TrainConfig("tlkeras_tiny"), photo_folder, out=tmp_path / "file" / "run")


def test_one_is_alone_in_a_folder(tmp_path):
    with alone_in(tmp_path) as first, alone_in(tmp_path) as second:
        assert (first, second) == (True, False)
    with alone_in(tmp_path) as again:
        assert again
