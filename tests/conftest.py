import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # as a command sets it before it imports Ray

# A process of the tests holds TensorFlow, Ray's object store or a large network at once.
GB_A_PROCESS = 4
# Folders whose tests share something that takes long to make: one process runs them all.
TOGETHER = ("docs", "export", "report")
# What takes longest goes first, so that no process has the last of it alone.
LONGEST_FIRST = ("report", "export", "backbones", "docs", "features", "fine_tuning", "attacks", "cli")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process for every core, as far as there is memory for it: what ``-n auto`` means."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(len(_cores()), int(memory_gb // GB_A_PROCESS)))


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes a core of its own: every library in it then starts as many threads as that."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    cores = _cores()
    if worker and len(cores) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first, in an order that is the same in each process."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: (places.get(_room(item.nodeid), len(places)), str(item.path)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Part the tests over processes by file, or by folder where its files share something costly."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _room(nodeid) if _room(nodeid) in TOGETHER else nodeid.partition("::")[0]

    return ByFile(config, log)


def _room(nodeid: str) -> str:
    """The folder of a test, ``report`` of ``tests/report/test_page.py::test_it``."""
    return nodeid.removeprefix("tests/").partition("/")[0]


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real weights and photos, which are not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("TLKERAS_ASSETS", default)).resolve()
    if not (folder / "photos").is_dir():
        pytest.skip(f"needs real photos and weights: set TLKERAS_ASSETS to their folder (looked in {folder.name})")
    return folder


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests never touch the user's own cache; they share one among themselves only when they ask for it.

    Converted networks are handed on from test to test: each takes seconds to make, and proves itself.
    """
    cache, graphs = tmp_path_factory.mktemp("cache"), tmp_path_factory.getbasetemp() / "graphs"
    monkeypatch.setenv("TLKERAS_CACHE", str(cache))
    if graphs.is_dir():
        shutil.copytree(graphs, cache / "engines")
    yield
    if (cache / "engines").is_dir():
        shutil.copytree(cache / "engines", graphs, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty small pictures of two classes that any features tell apart, and two broken files among them."""
    from tests.pictures import encode, tinted

    folder = tmp_path_factory.mktemp("photos") / "tinted"
    for class_name, tint in (("blue", (40, 90, 200)), ("orange", (220, 140, 50))):
        (folder / class_name).mkdir(parents=True)
        for number in range(30):
            data = encode(tinted(tint, seed=number), "JPEG")
            (folder / class_name / f"{number:02d}.jpg").write_bytes(data)
    (folder / "blue" / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "orange" / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file for mobilenet_0.25 with random weights that let something through."""
    from tests.networks import small_network
    from tlkeras import backbones

    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    backbones.application(small_network()).save_weights(path)
    return path


@pytest.fixture(scope="session")
def small_options(small_weights: Path) -> list[str]:
    """Options of a command that takes a network: the small one, on the engine that needs no conversion."""
    network = ["--backbone", "mobilenet_0.25", "--weights", str(small_weights), "--size", "32"]
    return [*network, "--engine", "tensorflow"]


@pytest.fixture(scope="session")
def run_folder(photo_folder: Path, small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `tlkeras train` on the small pictures, a part of which is held out."""
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "run"
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("run_cache")))
    config = TrainConfig(
        "mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow", test_fraction=0.15
    )
    train(config, photo_folder, out=folder)
    cache.undo()
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("file systems can be mounted by root only")
    yield disk
    # Arrow's threads close a file that was read a moment after the reader has returned: the disk is busy until then.
    for _ in range(40):
        unmounted = subprocess.run(["umount", str(disk)], capture_output=True, text=True)
        if not unmounted.returncode:
            return
        time.sleep(0.25)
    pytest.fail(unmounted.stderr)
