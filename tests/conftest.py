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
    """A finished run of `tlkeras train` on the small pictures."""
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "run"
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("run_cache")))
    config = TrainConfig("mobilenet_0.25", weights=str(small_weights), size_px=32, engine="tensorflow")
    train(config, photo_folder, out=folder)
    cache.undo()
    return folder
