"""A data set of TensorFlow Datasets by name, unpacked once into ordinary image files.

What lies on this disk already is used before anything is fetched, and a fetch is not begun without a connection:
TFDS itself would try for minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.data import tfds_files
from tlkeras.data.dataset import LabelledImages, check_classes
from tlkeras.errors import ConfigError, DataError, unknown

PROBE_SECONDS = 3.0
_NAME = re.compile(r"(?P<name>\w+)(?:/(?P<config>[\w.\-]+))?(?::(?P<version>[\w.*]+))?")


@dataclass(frozen=True)
class Request:
    """``name``, ``name/config``, ``name:version`` or ``name/config:version``; what is not said is None."""

    name: str
    config: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return self.name + (f"/{self.config}" if self.config else "") + (f":{self.version}" if self.version else "")


def parse(text: str) -> Request | None:
    """The request that a text makes, or None when no data set can be called that."""
    found = _NAME.fullmatch(text)
    return Request(**found.groupdict()) if found else None


def open_tfds(
    text: str, *, data_dir: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> LabelledImages:
    """Open a classification set of TFDS.

    ``text``: its name, maybe with config and version: ``cats_vs_dogs``, ``name/config:1.2.0``. ``data_dir``: TFDS's
    folder, by default ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``. Looked for, in this order: files unpacked
    before (TFDS is not even imported), prepared records in ``data_dir``, the official archives in
    ``data_dir/downloads/manual`` or ``data_dir``, at last the network. The records are unpacked into the cache folder,
    each image's bytes as they are; ``progress(done, total)`` counts them.

    Official splits are kept; a set with only ``train`` has no splits. Images without a label are left out.

    Raises: ConfigError for a name that TFDS does not know; DataError when the set cannot be had, with what to
    download and where to put it, or when it is not a set of labelled images; StorageError when the disk refuses.
    """
    request = parse(text)
    if request is None:
        raise ConfigError("a TFDS name looks like name, name/config or name/config:1.0.0", received=f"'{text}'")
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    records = tfds_files.find_records(root, request.name, request.config, request.version)
    unpacked = tfds_files.find_unpacked(request.name, request.config, request.version, records)
    if unpacked is None:
        builder = _read_only(records) if records is not None else _prepare(request, root)
        unpacked = tfds_files.unpack(builder, request.config, progress)
    images = tfds_files.list_unpacked(unpacked)
    check_classes(images.class_names, f"'{request}'")
    return images


def known_names() -> list[str]:
    """The names of all sets in the installed TFDS, for suggestions; imports TFDS, about 1 s."""
    import tensorflow_datasets as tfds

    return list(tfds.list_builders(with_community_datasets=False))


def reachable(url: str) -> bool:
    """Whether the host of a URL answers at all within ``PROBE_SECONDS``, through the proxy if one is set."""
    answers: list[bool] = []

    def probe() -> None:
        host = urllib.parse.urlsplit(url)._replace(path="/", query="", fragment="").geturl()
        try:
            with urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=PROBE_SECONDS):
                answers.append(True)
        except urllib.error.HTTPError:
            # A refusal is an answer.
            answers.append(True)
        except (OSError, ValueError, http.client.HTTPException):
            answers.append(False)

    # In a thread, as looking up a host's name has no time limit of its own.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 0.5)
    return answers == [True]


def _read_only(records: Path) -> Any:
    import tensorflow_datasets as tfds

    with _tfds_errors(str(records), "Prepare it again, or remove that folder."):
        return tfds.builder_from_directory(records)


def _prepare(request: Request, root: Path) -> Any:
    """A builder whose records have been written to ``root``."""
    import tensorflow_datasets as tfds

    if request.name not in known_names():
        raise unknown("data, neither a file nor a folder nor a TFDS data set:", request, known_names())
    with _tfds_errors(str(request), "Check its config and version."):
        builder = tfds.builder(str(request), data_dir=root)
    tfds_files.features_of(builder)
    # builder.is_prepared() would tell the same, with a warning.
    is_prepared = (Path(builder.data_dir) / "dataset_info.json").is_file()
    archives = dict(builder.url_infos or {})
    folders = [root / "downloads" / "manual", root]
    # TFDS takes its manual files from one folder: the one that has most of them.
    folder = max(folders, key=lambda folder: sum((folder / _file_name(u, i)).is_file() for u, i in archives.items()))
    missing = {
        url: info
        for url, info in archives.items()
        if not is_prepared
        and not (folder / _file_name(url, info)).is_file()
        and not _was_downloaded(root, request.name, url, info)
    }
    hosts = {urllib.parse.urlsplit(url).netloc: url for url in missing}
    if not all(reachable(url) for url in hosts.values()):
        raise _offline(request, missing, folders[0])
    config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
    with _tfds_errors(str(request), "Remove damaged archives and start again."):
        builder.download_and_prepare(download_config=config)
    return builder


def _file_name(url: str, info: Any) -> str:
    return str(info.filename or url.rsplit("/", 1)[-1])


def _was_downloaded(root: Path, name: str, url: str, info: Any) -> bool:
    """Whether TFDS itself has kept the archive of an earlier download."""
    from tensorflow_datasets.core.download import resource

    stored = resource.get_dl_fname(url, info.checksum)
    return any((folder / stored).is_file() for folder in (root / "downloads", root / "downloads" / name))


def _offline(request: Request, missing: dict[str, Any], folder: Path) -> DataError:
    wanted = [
        f"{_file_name(url, info)} ({int(info.size) / 2**20:,.2f} MiB, sha256 {info.checksum}) from {url}"
        for url, info in list(missing.items())[:4]
    ]
    if len(missing) > 4:
        wanted.append(f"{len(missing) - 4:,} more")
    return DataError(
        f"'{request}' is not on this disk and its server cannot be reached",
        next_step=f"Download {' and '.join(wanted)}, and put it into '{folder}', or prepared records into data_dir.",
    )


@contextlib.contextmanager
def _tfds_errors(what: str, next_step: str) -> Any:
    """TFDS's builders are many people's code and fail with any exception; each ends as one line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip()
        raise DataError(f"TFDS cannot prepare '{what}'", received=text[:600], next_step=next_step) from error
