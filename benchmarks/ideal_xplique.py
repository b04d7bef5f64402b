"""Ideal images beside Xplique's: time for a step, and what two networks that had no part in it say of the pictures.

    python -m benchmarks.ideal_xplique PICTURES --make     # in an environment of its own: pip install xplique==2.0.2
    python -m benchmarks.ideal_xplique PICTURES            # here: makes ours with as many steps, judges; sheet.png

MobileNetV2 with its ImageNet top, the first 12 classes of ``benchmarks.ideal_quality``. Xplique's Fourier and MACO
modes (Fel et al. 2023) climb the logit with their own defaults, MACO on 32 crops of the image in each step. Its
pictures are 512 px large and are made 224 px large to be judged. Time is that of the processor, over all threads,
which what else the machine does hardly changes, without building and tracing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import assets, fix_threads, print_table
from benchmarks.ideal_quality import drawn_classes

CLASSES = 12
MODES = {"Fourier": 256, "MACO": 32}  # steps; MACO's are 32 passes each
JUDGES = ("mobilenet_0.75", "efficientnet_lite0")


def save(folder: Path, maker: str, made: dict[int, np.ndarray], milliseconds: float, steps: int) -> None:
    """A PNG for each class, uint8 ``[H, W, 3]``, and the time for a step of an image."""
    from PIL import Image

    (folder / maker).mkdir(parents=True, exist_ok=True)
    for k, picture in made.items():
        Image.fromarray(picture).save(folder / maker / f"{k}.png")
    (folder / maker / "made.json").write_text(json.dumps({"milliseconds": milliseconds, "steps": steps}))
    print(maker, f"{milliseconds:.0f} ms", flush=True)


def timed(work: Callable[[int], Any], steps: int) -> tuple[Any, float]:
    """What ``work(steps)`` gives, and the milliseconds of processor time that a step takes.

    Two steps are run first, and what they take, which is mostly building and tracing, is left out.
    """
    started = time.process_time()
    work(2)
    middle = time.process_time()
    result = work(steps)
    return result, 1000 * (time.process_time() - middle - (middle - started)) / (steps - 2)


def xplique(folder: Path, modes: list[str]) -> None:
    """Both modes of Xplique; all classes at once where it can do that."""
    import tensorflow as tf
    from xplique.features_visualizations import Objective, maco, optimize

    weights = assets() / "keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
    network = tf.keras.applications.MobileNetV2(weights=str(weights), classifier_activation=None)
    classes = drawn_classes(CLASSES)

    def pixels(image: Any) -> np.ndarray:
        return np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)

    if "Fourier" in modes:
        steps, objective = MODES["Fourier"], Objective.neuron(network, -1, classes)
        tf.random.set_seed(0)
        (images, _), taken = timed(lambda n: optimize(objective, nb_steps=n, values_range=(-1, 1)), steps)
        made = {k: pixels(image) for k, image in zip(classes, images[-1], strict=True)}
        save(folder, "Xplique, Fourier", made, taken / CLASSES, steps)
    if "MACO" in modes:
        steps, made, spent = MODES["MACO"], {}, []
        for k in classes:
            objective = Objective.neuron(network, -1, k)
            tf.random.set_seed(k)
            (image, _), taken = timed(lambda n, o=objective: maco(o, nb_steps=n, values_range=(-1, 1)), steps)
            made[k] = pixels(image)
            spent.append(taken)
        save(folder, "Xplique, MACO", made, float(np.mean(spent)), steps)


def ours(folder: Path, steps: int) -> None:
    """Our preset with as many steps, all classes at once."""
    from tlkeras.ideal.images import IdealConfig, ideal_images
    from tlkeras.target import load_target

    target, classes = load_target("mobilenet_v2"), drawn_classes(CLASSES)

    def make(steps: int) -> Any:
        return ideal_images(target, classes, IdealConfig(steps=steps, batch_size=CLASSES, frames=2))

    made, taken = timed(make, steps)
    images = dict(zip(classes, made.images, strict=True))
    save(folder, f"tlkeras, fourier, {steps} steps", images, taken / CLASSES, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--make", action="store_true", help="in Xplique's environment")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    options = parser.parse_args()
    assets()
    fix_threads()
    if options.make:
        xplique(options.pictures, options.modes)
        return
    from PIL import Image

    from tlkeras.target import load_target

    for steps in MODES.values():
        ours(options.pictures, steps)
    judges = [load_target(name) for name in ("mobilenet_v2", *JUDGES)]
    classes, rows, sheet = drawn_classes(CLASSES), [], []
    for folder in sorted(path.parent for path in options.pictures.glob("*/made.json")):
        facts = json.loads((folder / "made.json").read_text())
        paths = [folder / f"{k}.png" for k in classes]
        cells = []
        for judge in judges:
            probabilities = judge.probabilities(np.stack([judge.load(path) for path in paths]))
            places = [int((row > row[k]).sum()) for row, k in zip(probabilities, classes, strict=True)]
            cells.append(f"{sum(place == 0 for place in places)} / {sum(place < 5 for place in places)}")
        rows.append((folder.name, facts["steps"], f"{facts['milliseconds']:.0f}", *cells))
        sheet.append(np.hstack([np.asarray(Image.open(path).resize((224, 224))) for path in paths]))
    Image.fromarray(np.vstack(sheet)).save(options.pictures / "sheet.png")
    asked = [f"{judge.name}: first / among five, of {CLASSES}" for judge in judges]
    print_table(["maker", "steps", "ms for a step of an image", *asked], rows)


if __name__ == "__main__":
    main()
