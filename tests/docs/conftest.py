"""A folder with everything that the pages name: photos, a run, and stand-ins for what would be downloaded."""

import json
import shutil

import pytest

SIDE_PX = 64
PACKAGED = "efficientnet_lite0"
TFDS_SETS = {"cats_vs_dogs": "4.0.1", "oxford_iiit_pet": "4.0.0"}


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """KERAS_HOME with random weights under the names of the real ones."""
    import keras

    from tests.networks import small_network
    from tlkeras import backbones
    from tlkeras.backbones.weights import cached_copy

    home = tmp_path_factory.mktemp("keras_home")
    (home / "models").mkdir()
    for name in ("mobilenet_v2", "mobilenet_0.75"):
        row = backbones.get(name)
        for top, file in ((False, row.weights), (True, row.weights_top)):
            keras.utils.set_random_seed(1)
            network = backbones.build(name, "none", size_px=SIDE_PX, top=top)
            for layer in backbones.application(network).layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.moving_variance.assign(layer.moving_variance * 0.1)
            backbones.application(network).save(home / "models" / file.file_name)
    packaged = backbones.application(backbones.build(PACKAGED, "none", size_px=SIDE_PX, top=True))
    packaged.save_weights(home / cached_copy(backbones.get(PACKAGED).weights).name)
    backbones.application(small_network()).save_weights(home / "my.weights.h5")
    return home


@pytest.fixture(scope="session")
def here(tmp_path_factory, stand_ins):
    """The folder in which a reader of the pages stands, and a cache; a page gets copies of both."""
    from tlkeras.data.demo import CLASSES, CUT_OFF, demo_folder

    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("reader")
    try:
        at_work(patch, root / "work", root / "cache", stand_ins)
        drawn = demo_folder(per_class=16)
        for kind in CLASSES:
            pictures = sorted(path for path in (drawn / kind).iterdir() if path.stem.startswith(kind))
            for number, path in enumerate(pictures):
                folder = "photos" if number < 11 else "held_out"
                (root / "work" / folder / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / "work" / folder / kind / path.name)
        shutil.copy(drawn / CUT_OFF, root / "work" / "photos" / CUT_OFF)
        (root / "work" / "new_photos").mkdir()
        for kind in ("cat", "dog"):
            first = next((root / "work" / "held_out" / kind).glob("*.jpg"))
            for name in (f"{kind}.jpg", f"{'ab'[kind == 'dog']}.jpg", f"new_photos/{kind}.jpg"):
                shutil.copy(first, root / "work" / name)
        shutil.copy(root / "work" / "dog.jpg", root / "work" / "photo.jpg")
        shutil.copy(stand_ins / "my.weights.h5", root / "work" / "my.weights.h5")
        write_tfds_sets(root / "cache", root / "work" / "photos")
        from tlkeras.cli.main import main

        assert main(["train", "photos"]) == 0
    finally:
        patch.undo()
    return root


@pytest.fixture
def reader(here, stand_ins, tmp_path, monkeypatch):
    """This page's own copy of the folder, as the current one."""
    shutil.copytree(here, tmp_path / "copy", dirs_exist_ok=True, symlinks=True)
    at_work(monkeypatch, tmp_path / "copy" / "work", tmp_path / "copy" / "cache", stand_ins)
    return tmp_path / "copy" / "work"


def at_work(patch, work, cache, keras_home):
    """Stand in ``work``; networks are as small as a test wants them."""
    from tlkeras.backbones.table import BACKBONES
    from tlkeras.backbones.weights import cached_copy

    work.mkdir(parents=True, exist_ok=True)
    patch.chdir(work)
    patch.setenv("TLKERAS_CACHE", str(cache))
    patch.setenv("KERAS_HOME", str(keras_home))
    patch.setenv("TFDS_DATA_DIR", str(work / "no_tfds"))
    copy = cached_copy(BACKBONES[PACKAGED].weights)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(keras_home / copy.name)
    for name in ("mobilenet_v2", "mobilenet_0.75", "mobilenet_0.25", PACKAGED):
        patch.setitem(vars(BACKBONES[name]), "size_px", SIDE_PX)


def write_tfds_sets(cache, photos):
    """Unpacked sets of TensorFlow Datasets as tlkeras keeps them, with drawn cats and dogs in them."""
    for name, version in TFDS_SETS.items():
        folder = cache / "tfds" / f"{name}-{version}"
        folders = ["0000-cat", "0001-dog"]
        for target in folders:
            shutil.copytree(photos / target[5:], folder / "train" / target)
        counts = {target: len(list((folder / "train" / target).iterdir())) for target in folders}
        info = {
            "format": 1,
            "name": name,
            "config": None,
            "is_default": True,
            "version": version,
            "records": "",
            "class_names": ["cat", "dog"],
            "class_folders": folders,
            "splits": {"train": counts},
        }
        (folder / "dataset.json").write_text(json.dumps(info))
