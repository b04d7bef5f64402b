"""What the tests of large jobs share: a recipe, and its features extracted in this process."""

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
