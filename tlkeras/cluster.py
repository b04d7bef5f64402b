"""A Ray cluster: finding it, sending our own package there, and saying in one line what is wrong with it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shlex
import socket
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.errors import ClusterError, ConfigError, TlkerasError, unknown
from tlkeras.options import option

LOCAL = "local"
ADDRESSES = (LOCAL, "auto", "ray://HOST:10001")
CONNECT_SECONDS = 5.0
PROBE_SECONDS = 120.0
# Without these on every machine nothing runs; versions must agree up to the second number.
_NEEDED = ("tensorflow", "keras", "numpy", "pillow", "pyarrow", "fsspec")
_ALIKE = ("tensorflow", "keras", "numpy")
_INSTALL = 'Put "tlkeras[ray]", or its requirements, into the image of the cluster\'s machines (docs/scale.md).'

_TOKEN = "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as on the cluster, and have the same version of Ray."
_HOST_AND_PORT = re.compile(r"(?P<host>[\w.-]+):(?P<port>\d{1,5})\b")


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    on: ``local``, ``auto`` or ``ray://HOST:10001``. actors: one for each core by default.
    env: environment variables whose values the workers get.
    """

    on: str = option(LOCAL, "Where to run: local, auto (a running Ray cluster) or ray://HOST:10001.")
    actors: int | None = option(None, "Workers on the cluster, one core each; by default all cores.")
    env: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise ConfigError("--actors is a whole number from 1", received=self.actors)
        if self.on == LOCAL and (self.actors is not None or self.env):
            raise ConfigError("--actors and --env belong to a cluster", received="--on local")


HERE = Place()


def check_address(on: str) -> None:
    """Refuse what is no address, Ray that is not installed, and hosts that do not answer, all within seconds.

    Raises: ConfigError, ClusterError.
    """
    if on == LOCAL:
        return
    if on != "auto" and not on.startswith("ray://"):
        raise unknown("place to run", on, ADDRESSES)
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "Ray is not installed",
            received=f"--on {on}",
            next_step='Run pip install "tlkeras[ray]", or use --on local.',
        )
    if on == "auto":
        # Ray itself would ask for half a minute. Other addresses, and clusters of this machine, are left to it.
        named = _HOST_AND_PORT.fullmatch(os.environ.get("RAY_ADDRESS", ""))
        if named:
            _check_answer(named["host"], int(named["port"]), f"RAY_ADDRESS={named[0]}", "Check RAY_ADDRESS, and that")
        return
    parts = urllib.parse.urlsplit(on)
    try:
        host, port = parts.hostname, parts.port or 10001
    except ValueError:
        host, port = None, 0
    if not host:
        raise ConfigError("a cluster's address looks like ray://HOST:10001", received=f"'{on}'")
    _check_answer(host, port, on, "Check host and port (10001 is Ray's client port), and that")


def _check_answer(host: str, port: int, named: str, check: str) -> None:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at '{named}' ({getattr(error, 'strerror', None) or error})",
            next_step=f"{check} 'ray start --head' runs there.",
        ) from None


@contextlib.contextmanager
def connected(on: str, env: Sequence[str] = ()) -> Iterator[Any]:
    """A connection to a cluster whose every machine can run tlkeras; gives the module ``ray``.

    ``on``: ``auto`` (``RAY_ADDRESS``, or the cluster that runs on this machine) or ``ray://HOST:10001``. Our own
    package is sent along, so that a cluster needs only its requirements. ``env``: names of environment variables whose
    values are passed on to the workers. Is this process connected already, that connection is used and left open.

    Raises: ConfigError, ClusterError.
    """
    check_address(on)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray says for every process that it starts which accelerators it hides.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A thread of Ray Data that outlives our connection would open one of its own.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    ours = not ray.is_initialized()
    if ours:
        with cluster_errors(on):
            ray.init(
                address=on,
                runtime_env={**runtime_environment(env), **_interpreter(on)},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    # What Ray has to say (an actor that is restarted, memory that runs out) must not land among the results.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with cluster_errors(on):
                _check_machines(ray)
                yield ray
        finally:
            if ours:
                ray.shutdown()


def runtime_environment(env: Sequence[str]) -> dict[str, Any]:
    """What workers get: this very package, and the environment variables that were asked for.

    Raises: ConfigError for a variable that is not set.
    """
    missing = [name for name in env if name not in os.environ]
    if missing:
        raise ConfigError("--env names a variable of this environment", received=f"'{missing[0]}', which is not set")
    variables = {name: os.environ[name] for name in env}
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    variables.setdefault("KERAS_BACKEND", "tensorflow")
    return {"py_modules": [str(Path(__file__).parent)], "env_vars": variables, "excludes": ["**/__pycache__"]}


def _interpreter(on: str) -> dict[str, str]:
    """Which Python workers run, where it has to be said: Ray 2.60 starts them by a shell without quoting its path.

    From afar nothing is known of the machines' paths.
    """
    quoted = shlex.quote(sys.executable)
    return {"py_executable": quoted} if quoted != sys.executable and not on.startswith("ray://") else {}


def versions() -> dict[str, str]:
    """What a machine has of what is needed: versions by package; a package that is missing is left out."""
    found = {}
    for package in _NEEDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _check_machines(ray: Any) -> None:
    """Ask every machine what it has.

    Raises: ClusterError that names the first machine that lacks something.
    """
    here = versions()

    def look() -> dict[str, str]:
        try:
            from tlkeras.cluster import versions as found

            return dict(found())
        except ImportError as error:
            return {"missing": str(error)}

    machines = [node for node in ray.nodes() if node["Alive"]]
    if not machines:
        raise ClusterError("the cluster has no machine that lives", next_step="'ray status' tells what it waits for.")
    ask = ray.remote(look)
    answers = [
        ask.options(
            num_cpus=0,
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                node["NodeID"], soft=False
            ),
        ).remote()
        for node in machines
    ]
    for node, answer in zip(machines, answers, strict=True):
        there = ray.get(answer, timeout=PROBE_SECONDS)
        where = f"the cluster's machine {node['NodeManagerAddress']}"
        if "missing" in there:
            raise ClusterError(f"{where} cannot import tlkeras ({there['missing']})", next_step=_INSTALL)
        lacking = [package for package in _NEEDED if package not in there]
        if lacking:
            raise ClusterError(f"{where} lacks {', '.join(lacking)}", next_step=_INSTALL)
        for package in _ALIKE:
            if there[package].split(".")[:2] != here[package].split(".")[:2]:
                raise ClusterError(
                    f"{where} has {package} {there[package]}, this one {here[package]}",
                    next_step="Install the same versions everywhere.",
                )


@contextlib.contextmanager
def cluster_errors(on: str) -> Iterator[None]:
    """Turn what Ray raises into one of our errors: the one that a worker raised where there is one, else a line."""
    import ray

    try:
        yield
    except TlkerasError:
        raise
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError("Ray is to show a token, and there is none or a wrong one", next_step=_TOKEN) from error
    except (ConnectionError, TimeoutError) as error:
        if _answers(f"{on} {error}"):
            raise ClusterError(f"a Ray cluster answers at '{on}' but does not let this program in ({_line(error)})",
                               next_step=_TOKEN) from error  # fmt: skip
        raise ClusterError(
            f"no Ray cluster can be reached at '{on}' ({_line(error)})",
            next_step="Start one with 'ray start --head', set RAY_ADDRESS, or use --on local.",
        ) from error
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise ClusterError(f"the cluster cannot prepare its workers ({_line(error)})", next_step=_INSTALL) from error
    except ray.exceptions.OutOfMemoryError as error:
        raise ClusterError(
            f"the workers run out of memory ({_line(error)})", next_step="Take fewer --actors."
        ) from error
    # Ray's parts have no common base for what they raise.
    except Exception as error:
        raised = _ours(error)
        if raised is not None:
            raise raised from error
        if type(error).__module__.split(".")[0] != "ray" and not isinstance(error, ray.exceptions.RayError):
            raise
        raise ClusterError(
            f"the job failed on the cluster ({_line(error)})",
            next_step="What is finished is kept; the same command goes on from there.",
        ) from error


def _answers(words: str) -> bool:
    """Whether the first address in ``words`` takes connections, so that something else is wrong with it."""
    named = _HOST_AND_PORT.search(words)
    if named is None:
        return False
    try:
        _check_answer(named["host"], int(named["port"]), named[0], "")
    except ClusterError:
        return False
    return True


def _ours(error: BaseException | None) -> TlkerasError | None:
    """The error of ours that a tree of causes holds."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, TlkerasError):
            return error
        waiting += [getattr(error, "cause", None), error.__cause__, error.__context__]
    return None


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:240]
