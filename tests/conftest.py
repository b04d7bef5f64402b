import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real weights and photos, which are not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("TLKERAS_ASSETS", default)).resolve()
    if not (folder / "photos").is_dir():
        pytest.skip(f"needs real photos and weights: set TLKERAS_ASSETS to their folder (looked in {folder.name})")
    return folder


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the user's own cache; they share one among themselves only when they ask for it."""
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("cache")))
