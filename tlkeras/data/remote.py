"""Files wherever they lie: this disk, or any file system that fsspec knows (``s3://``, ``gs://``, ``memory://`` …)."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkeras.errors import DataError, ImageError, StorageError
from tlkeras.images.decode import Limits, read_bytes
from tlkeras.storage import storage_error, write_bytes

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*)://", re.IGNORECASE)
# How often a file of a remote system is asked for before the whole job stops, and the first pause between.
ATTEMPTS, PAUSE_SECONDS = 4, 0.5
# Words by which the services say that they do not know who asks; their exception classes have no common base.
_REFUSALS = (
    *("NoCredentials", "PartialCredentials", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"),
    *("AccessDenied", "Access Denied", "Forbidden", "Unauthorized", "credentials", "Anonymous caller"),
)


def is_remote(name: str | os.PathLike[str]) -> bool:
    """Whether a name has a scheme, ``s3://…``; everything else lies on this disk."""
    return bool(_SCHEME.match(os.fspath(name)))


def join(folder: str, name: str) -> str:
    """``name`` below ``folder``, which may have a scheme."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


def file_system(name: str) -> tuple[Any, str]:
    """The fsspec file system of a name, and the path on it (absolute on this disk).

    Raises: DataError when fsspec does not know the scheme or lacks its package; StorageError for a refusal.
    """
    import fsspec

    found = _SCHEME.match(name)
    try:
        if found is None:
            return fsspec.filesystem("file"), str(Path(name).expanduser().absolute())
        with access_errors(name):
            system, path = fsspec.core.url_to_fs(name)
    except ValueError as error:
        raise DataError("the address needs a file system that fsspec knows", received=f"'{name}' ({error})") from None
    except ImportError as error:
        raise DataError(
            f"'{name}' needs a package that is not installed ({error})",
            next_step=f'Run pip install "fsspec[{found["scheme"].lower() if found else ""}]" here and on the cluster.',
        ) from None
    return system, path


@contextlib.contextmanager
def access_errors(name: str) -> Iterator[None]:
    """Turn what a file system's client raises while ``name`` is used into StorageError, one line each."""
    try:
        yield
    except (StorageError, DataError, ImageError, FileNotFoundError, ValueError, ImportError):
        raise
    except OSError as error:
        if is_refusal(error):
            raise _refused(name, error) from error
        raise storage_error(name, error) from error
    # Clients of object stores bring their own exceptions, which derive from Exception alone.
    except Exception as error:
        if is_refusal(error):
            raise _refused(name, error) from error
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise StorageError(f"'{name}' cannot be reached ({words})", next_step="Check the address.") from error


def is_refusal(error: BaseException) -> bool:
    """Whether an error says that the credentials are missing or wrong."""
    said = f"{type(error).__name__} {error}"
    return isinstance(error, PermissionError) or any(word.lower() in said.lower() for word in _REFUSALS)


def _refused(name: str, error: BaseException) -> StorageError:
    words = " ".join(str(error).split())[:200] or type(error).__name__
    if not is_remote(name):
        return StorageError(f"cannot use '{name}' ({words})", next_step="Check the permissions.")
    return StorageError(
        f"'{name}' refuses the credentials ({words})",
        next_step="Set them as the service's client reads them (for s3:// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
        "AWS_ENDPOINT_URL); on a cluster give its machines a role, or pass them on with --env NAME.",
    )


def read_image(name: str, limits: Limits = Limits()) -> bytes:
    """The bytes of one image file.

    A remote system that does not answer is asked ``ATTEMPTS`` times: an image must not count as broken because a
    line was.

    Raises: ImageError (``missing``, ``unreadable``, ``empty``, ``too_large``) for what is wrong with this file;
    StorageError when the system cannot be reached or refuses the credentials.
    """
    if not is_remote(name):
        return read_bytes(name, limits)
    system, path = file_system(name)
    try:
        data = _patiently(name, lambda: system.cat_file(path))
    except FileNotFoundError:
        raise ImageError("missing", "no such image file", received=f"'{name}'") from None
    if not data:
        raise ImageError("empty", "the file is empty", received="0 bytes")
    if len(data) > limits.max_bytes:
        raise ImageError("too_large", f"an image may have at most {limits.max_bytes:,} bytes",
                         received=f"{len(data):,} bytes")  # fmt: skip
    return bytes(data)


def read_file(name: str) -> bytes:
    """All bytes of a file.

    Raises: FileNotFoundError; DataError for what has no end; StorageError.
    """

    def read() -> bytes:
        with open_file(name) as file:
            return bytes(file.read())

    return bytes(_patiently(name, read))


@contextlib.contextmanager
def open_file(name: str) -> Iterator[Any]:
    """A file, opened for reading.

    Raises: FileNotFoundError; DataError for a folder, a pipe or a device; StorageError.
    """
    system, path = file_system(name)
    with contextlib.ExitStack() as stack:
        with access_errors(name):
            # Nobody may ever write into the pipe that a stranger put there, and a device has no end.
            if not is_remote(name) and Path(path).exists() and not Path(path).is_file():
                raise DataError("this is no file, but a folder, a pipe or a device", received=f"'{name}'")
            file = stack.enter_context(system.open(path, "rb"))
        yield file


def _patiently(name: str, work: Any) -> Any:
    for attempt in range(ATTEMPTS):
        try:
            with access_errors(name):
                return work()
        except StorageError as error:
            if attempt + 1 == ATTEMPTS or is_refusal(error.__cause__ or error) or not is_remote(name):
                raise
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def write_whole(name: str, data: bytes) -> None:
    """Write a file so that readers see all of it or nothing: a rename here, a single PUT on an object store.

    Raises: StorageError when the disk or the service refuses.
    """
    if not is_remote(name):
        write_bytes(name, data)
        return
    system, path = file_system(name)
    _patiently(name, lambda: system.pipe_file(path, data))


def exists(name: str) -> bool:
    """Whether there is such a file.

    Raises: StorageError.
    """
    system, path = file_system(name)
    with access_errors(name):
        return bool(system.isfile(path))


def names_in(folder: str) -> dict[str, int]:
    """Names and sizes in bytes of what lies directly in a folder; none when there is no such folder.

    The names of folders end in ``/``.

    Raises: StorageError.
    """
    system, path = file_system(folder)
    with access_errors(folder):
        system.invalidate_cache()
        try:
            entries = system.ls(path, detail=True)
        except FileNotFoundError:
            return {}
    ends = {"directory": "/"}
    return {Path(entry["name"]).name + ends.get(entry["type"], ""): int(entry["size"] or 0) for entry in entries}
