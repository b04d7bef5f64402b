"""Fine-tuning on several machines: the losses of one worker, and no step lost when a worker is killed."""

import os
import threading
import time

import numpy as np
import psutil
import pytest

from tests.clusters import two_nodes
from tests.networks import small_classifier
from tlkeras.errors import ConfigError, DataError
from tlkeras.training.on_ray import DistributedConfig, batch_rows, fine_tune_on_ray

STEPS = 2 * (60 // 16)


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as (started, _):
        yield started


@pytest.fixture(scope="module")
def clean_folder(photo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    for path in photo_folder.rglob("[0-9]*.jpg"):
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return small_classifier(("blue", "orange")).save(tmp_path_factory.mktemp("saved") / "run")


def config(workers):
    return DistributedConfig(workers=workers, epochs=2, batch_size=16, learning_rate=1e-4, save_steps=1)


@pytest.fixture(scope="module")
def alone(cluster, saved, clean_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return fine_tune_on_ray(saved, str(clean_folder), str(folder / "state"), folder / "out", config=config(1))


@pytest.mark.slow
def test_two_workers_follow_the_losses_of_one(alone, saved, clean_folder, tmp_path):
    from tlkeras.trained import TrainedClassifier

    two = fine_tune_on_ray(saved, str(clean_folder), str(tmp_path / "state"), tmp_path / "out", config=config(2))
    assert len(alone.losses) == len(two.losses) == STEPS
    assert (alone.starts, two.starts) == (1, 1)
    np.testing.assert_allclose(two.losses, alone.losses, rtol=2e-3)
    assert np.mean(alone.losses[-2:]) < np.mean(alone.losses[:2])
    photos = sorted(str(path) for path in clean_folder.rglob("*.jpg"))[::7]
    answers = [TrainedClassifier.load(folder).predict(photos) for folder in (alone.classifier, two.classifier)]
    np.testing.assert_allclose(answers[0], answers[1], atol=0.01)


@pytest.mark.slow
def test_a_killed_worker_goes_on_from_the_state(alone, saved, clean_folder, tmp_path):
    import json

    history = tmp_path / "state" / "history.json"

    def kill():
        while not history.is_file() or len(json.loads(history.read_text())["losses"]) < 2:
            time.sleep(0.05)
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or [])
            if "RayTrainWorker" in title and "TrainController" not in title:
                process.kill()
                return

    threading.Thread(target=kill, daemon=True).start()
    two = fine_tune_on_ray(saved, str(clean_folder), str(tmp_path / "state"), tmp_path / "out", config=config(2))
    assert two.starts == 2
    assert len(two.losses) == STEPS
    np.testing.assert_allclose(two.losses, alone.losses, rtol=2e-3)


def test_every_epoch_takes_whole_batches_of_all_images_in_another_order():
    epochs = [np.concatenate([batch_rows(epoch * 5 + step, 20, 4, 0) for step in range(5)]) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert (epochs[0] != epochs[1]).any()


def test_bad_options_are_one_line(saved, clean_folder, tmp_path):
    with pytest.raises(ConfigError, match="multiple of the workers"):
        DistributedConfig(workers=3, batch_size=16)
    with pytest.raises(DataError, match="fewer images than a batch"):
        fine_tune_on_ray(saved, str(clean_folder), "s", tmp_path / "o", config=DistributedConfig(batch_size=64))
    (clean_folder.parent / "other" / "red").mkdir(parents=True)
    source = next(clean_folder.rglob("*.jpg"))
    os.link(source, clean_folder.parent / "other" / "red" / "0.jpg")
    with pytest.raises(DataError, match=r"one of the classifier's classes; received 'red'"):
        fine_tune_on_ray(saved, str(clean_folder.parent / "other"), "s", tmp_path / "o")
