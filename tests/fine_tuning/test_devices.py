"""Several devices give what one gives: two logical processors, which must be made before TensorFlow starts."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from dataclasses import replace
from tlkeras.data.open import open_dataset
from tlkeras.progress import Silent
from tlkeras.training.config import TrainConfig
from tlkeras.fine_tuning.course import fine_tune
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.training.fit import fit, starting_point

config = TrainConfig("mobilenet_0.25", weights=sys.argv[2], size_px=32, engine="tensorflow", test_fraction=0.15)
start = starting_point(fit(config, open_dataset(sys.argv[1]), Silent()), 0)
start = replace(start, frozen_logits=np.zeros_like(start.frozen_logits))
found = {}
for name, devices in (("one", ()), ("two", ("cpu:0", "cpu:1"))):
    options = FineTuneConfig(epochs=2, batch_size=16, refit=False, devices=devices)
    result = fine_tune(start, options, reporter=Silent())
    rows = [weight.ravel() for weight in result.classifier.network.get_weights()]
    found[name] = (np.concatenate(rows), [row["loss"] for row in result.history])
before = np.concatenate([weight.ravel() for weight in start.weights])
print(json.dumps({
    "difference": float(np.abs(found["one"][0] - found["two"][0]).max()),
    "moved": float(np.abs(found["one"][0] - before).max()),
    "losses": [found["one"][1], found["two"][1]],
}))
"""


def test_two_devices_give_what_one_gives(photo_folder, small_weights):
    command = [sys.executable, "-c", PROGRAM, str(photo_folder), str(small_weights)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Sums over devices are rounded in another order; nothing else may differ.
    assert found["moved"] > 1e-3
    assert found["difference"] < 1e-3 * found["moved"]
    for one, two in zip(*found["losses"], strict=True):
        assert abs(one - two) < 1e-4 * one
