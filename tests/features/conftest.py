"""What the tests of large jobs share: a recipe, and its features extracted in this process."""

import shutil
import subprocess

import pytest

from tlkeras.features import bulk
from tlkeras.features.shards import ShardSet


@pytest.fixture(scope="session")
def recipe(small_weights):
    return {"backbone": "mobilenet_0.25", "weights": str(small_weights), "size_px": 32, "engine": "tensorflow"}


@pytest.fixture(scope="session")
def local(recipe, photo_folder, tmp_path_factory):
    """Features of the small pictures, extracted here: 62 rows in shards of 16."""
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    to = tmp_path_factory.mktemp("features") / "local"
    bulk.extract_to(str(photo_folder), str(to), rows_a_shard=16, **recipe)
    cache.undo()
    return ShardSet(str(to))


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
    subprocess.run(["umount", str(disk)], check=True)
