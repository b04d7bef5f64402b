"""A head fitted streaming over shards against the same head fitted in memory: accuracy and memory.

    TLKERAS_ASSETS=… python -m benchmarks.streaming --rows 10000 40000

Drawn features of the size of MobileNetV2's: ten overlapping classes in shards of 2,048 rows. Each run is a process of
its own; memory is what it holds at its peak above what it held before training, TensorFlow and the network included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.common import assets, print_table

CLASSES, ROWS_A_SHARD = 10, 2048
# Wide enough that some tenth of the rows lies nearer to another class.
NOISE = 12.0


def draw(folder: str, count: int) -> None:
    """A folder as ``tlkeras extract`` writes it."""
    from tlkeras import backbones
    from tlkeras.features.shards import Rows, begin, finish, write_shard

    network = backbones.build("mobilenet_v2", "pretrained")
    size = int(network.output_shape[-1])
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, size))
    space = {"backbone": "mobilenet_v2", "weights_sha256": backbones.weights_sha256(network), "size_px": 224,
             "fit": "crop", "feature_size": size, "view": "plain", "precision": "fp32"}  # fmt: skip
    begin(folder, {"space": space})
    shards = []
    for number, first in enumerate(range(0, count, ROWS_A_SHARD)):
        rows = Rows()
        for row in range(first, min(first + ROWS_A_SHARD, count)):
            label = int(random.integers(CLASSES))
            key = f"{random.integers(2**62):016x}".ljust(64, "0")
            rows.add({"key": key, "label": f"class {label}", "status": "good", "path": f"{row}.jpg"}, 224, 224)
            rows.answers[-1] = (centres[label] + NOISE * random.normal(size=size)).astype(np.float32)
        shards.append(write_shard(folder, rows, "features", size, f"part-{number:06d}-drawn"))
    finish(folder, "features", shards, {"space": space})


def resident_mb() -> float:
    words = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(words[0]) / 1024


def train(folder: str, memory_gb: float) -> None:
    """Print what one run gives, as JSON."""
    from tlkeras import backbones
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.run import train as run_training

    backbones.build("mobilenet_v2", "pretrained")
    before, peak, over = resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = run_training(TrainConfig(memory_gb=memory_gb), folder, out=f"{out}/run").to_json()
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    head, evaluation = run["head"], run["evaluation"]
    print(
        json.dumps(
            {
                "streamed": head.get("streamed", False),
                "passes": head.get("passes"),
                "promised_mb": head.get("memory_bytes", 0) / 1e6,
                "peak_mb": peak[0] - before,
                "accuracy": evaluation["accuracy"],
                "images": evaluation["images"],
                "log_loss": evaluation["log_loss"],
                "seconds": seconds,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--memory-gb", type=float, default=0.15)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "GB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    assets()
    if options.one:
        train(options.one[0], float(options.one[1]))
        return
    table = []
    with tempfile.TemporaryDirectory() as temporary:
        for count in options.rows:
            folder = f"{temporary}/{count}"
            draw(folder, count)
            for memory_gb in (1000.0, options.memory_gb):
                command = [sys.executable, "-m", "benchmarks.streaming", "--one", folder, str(memory_gb)]
                found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                table.append(
                    (
                        f"{count:,}",
                        f"streaming, --memory-gb {memory_gb:g}" if found["streamed"] else "in memory",
                        f"{100 * found['accuracy']:.2f} % of {found['images']:,}",
                        f"{found['log_loss']:.4f}",
                        f"{found['promised_mb']:.0f}" if found["streamed"] else "",
                        f"{found['peak_mb']:.0f}",
                        found["passes"] or "",
                        f"{found['seconds']:.0f}",
                    )
                )
    print_table(
        ("rows", "head", "test accuracy", "log loss", "stated MB", "measured MB", "passes over the shards", "seconds"),
        table,
    )


if __name__ == "__main__":
    main()
