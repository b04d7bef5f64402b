"""A comparison and a few-shot curve on small pictures, made once."""

import pytest

from tlkeras.choosing.compare import CompareConfig, compare
from tlkeras.choosing.few_shot import few_shot
from tlkeras.data.open import open_dataset
from tlkeras.progress import Silent
from tlkeras.training.config import TrainConfig


@pytest.fixture(scope="package", autouse=True)
def short_rounds():
    """Nothing here depends on how exactly a network is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlkeras.choosing.measure._MIN_SECONDS", 0.05)
        yield


@pytest.fixture(scope="package")
def comparison(photo_folder, small_weights, tmp_path_factory):
    home = pytest.MonkeyPatch()
    home.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("no_weights")))
    home.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network here")))
    config = CompareConfig(
        ("vgg16", "tlkeras_tiny", f"mobilenet_0.25={small_weights}"), size_px=32, images=40, engine="tensorflow"
    )
    found = compare(config, open_dataset(photo_folder), Silent())
    home.undo()
    return found


@pytest.fixture(scope="package")
def curve(photo_folder, small_weights):
    config = TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow")
    return few_shot(config, open_dataset(photo_folder), Silent(), shots=(1, 5, 500), draws=3)
