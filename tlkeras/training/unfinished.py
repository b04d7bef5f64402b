"""A run that is not finished yet: what was asked for, kept beside its state until the run directory is there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlkeras.errors import ClassifierError, ConfigError, TlkerasError
from tlkeras.json_csv import read_json
from tlkeras.locks import alone_in
from tlkeras.storage import UNFINISHED, disk_errors, unfinished, write_json
from tlkeras.training.config import TrainConfig

ASKED_FILE = "asked.json"
# Of the options and the state beside them; 1 had options of fine-tuning that are gone, and another optimiser's memory.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class RunRequest:
    """What a run was asked to do: the arguments of ``tlkeras.training.run.train``.

    Paths of files and folders are absolute, so that it can be resumed from anywhere.
    """

    config: TrainConfig
    data: str
    test_data: str | None
    data_dir: str | None

    @classmethod
    def of(cls, config: TrainConfig, data: Any, test_data: Any, data_dir: Any) -> RunRequest:
        """The same with absolute paths; names of data sets stay what they are."""
        return cls(config, str(_absolute(data)), _absolute(test_data), _absolute(data_dir))

    def write(self, folder: Path) -> None:
        """Begin: keep this in the folder of the unfinished run.

        Raises: StorageError when the disk refuses.
        """
        plain = {**asdict(self), "config": self.config.to_json(), "format_version": FORMAT_VERSION}
        write_json(unfinished(folder) / ASKED_FILE, plain)

    @classmethod
    def read(cls, folder: Path) -> RunRequest:
        """What the unfinished run of this directory was asked to do.

        Raises: ConfigError when there is none or it is finished; ClassifierError when what is there cannot be used.
        """
        path = unfinished(folder) / ASKED_FILE
        if not path.is_file():
            what = "is finished" if folder.is_dir() else "is no run that was begun"
            raise ConfigError(
                f"'{folder}' {what}, there is nothing to resume", next_step="'tlkeras train DATA' begins one."
            )
        try:
            plain = read_json(path)
            if plain.pop("format_version") != FORMAT_VERSION:
                raise ValueError("it was begun by another version of tlkeras")
            return cls(**{**plain, "config": TrainConfig.from_json(plain["config"])})
        except (OSError, ValueError, KeyError, TypeError, TlkerasError) as error:
            raise ClassifierError(
                f"'{path}' cannot be used ({error})", next_step=f"Delete '{path.parent}' and train again."
            ) from None


def named(folder: str | Path) -> Path:
    """The run directory that is meant, also by the name of its unfinished folder."""
    folder = Path(folder)
    stem = folder.name.removesuffix(UNFINISHED)
    return folder.with_name(stem) if stem else folder


def forget(folder: Path) -> None:
    """Delete what was kept of an unfinished run."""
    shutil.rmtree(unfinished(folder), ignore_errors=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process works on an unfinished run; the lock is gone when the process is.

    Raises: ConfigError when another one does.
    """
    path = unfinished(folder)
    with contextlib.ExitStack() as held:
        with disk_errors(path):
            alone = held.enter_context(alone_in(path))
        if not alone:
            raise ConfigError(f"another process works on '{folder}'", next_step="Wait for it, or stop it.")
        yield


def _absolute(path: Any) -> Any:
    return str(Path(path).absolute()) if path is not None and Path(path).exists() else path
