"""PGD-20: images per second against the lesson's eager loop, ART and Foolbox.

    python -m benchmarks.attacks [--images 16] [--rounds 3] [--backbone mobilenet_v2]

The same network with its ImageNet top, the same photos, each towards a class drawn at random, L∞, epsilon 4, twenty
steps of 1 from the original, one batch, pinned threads, one process, one after the other, in turn. Tracing is left
out for everybody (one step is run first). Seconds of the processor are told beside seconds of the clock, because on
a machine that others use as well they are what can be compared. Success is counted alike for all: on pixels rounded
to 8 bits, by Keras. "To first success" is how tlkeras attacks unless told otherwise: images that are done leave the
batch, which the others do not offer. Peers are skipped with a word when they are not installed
(``pip install ".[bench]"``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import THREADS, assets, fix_threads, print_table

EPSILON_255, STEP_255, STEPS = 4.0, 1.0, 20

Run = Callable[[int], np.ndarray]  # steps -> adversarial pixels [N, S, S, 3]


def photos(target: Any, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos that the network has right, uint8, their classes, and another class drawn for each."""
    pixels, labels = [], []
    for path in sorted((assets() / "photos" / "imagenet" / "one_per_class").glob("*.jpg")):
        image = np.rint(target.load(path)).astype(np.uint8)
        label = target.class_index(path.name.split("_")[0])
        if target.probabilities(image[None]).argmax() == label:
            pixels.append(image)
            labels.append(label)
        if len(pixels) == count:
            break
    classes = np.array(labels)
    drawn = np.random.default_rng(0).integers(1, len(target.class_names), len(classes))
    return np.stack(pixels), classes, (classes + drawn) % len(target.class_names)


def ours(target: Any, pixels: np.ndarray, labels: np.ndarray, wanted: np.ndarray, *, stop_early: bool) -> Run:
    """PGD of tlkeras."""
    from tlkeras.attacks import PGD
    from tlkeras.attacks.model import Goal, attack_model

    model = attack_model(target)

    def run(steps: int) -> np.ndarray:
        attack = PGD(epsilon_255=EPSILON_255, step_255=STEP_255, steps=steps, random_start=False, stop_early=stop_early)
        return attack.run(model, pixels, Goal(labels, wanted), batch_size=len(pixels)).adversarial

    return run


def eager_loop(target: Any, pixels: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> Run:
    """The lesson's loop: an eager tape around the Keras model, a signed step, a clip."""
    import tensorflow as tf

    del labels
    original, classes = tf.constant(pixels, tf.float32), tf.constant(wanted)

    def run(steps: int) -> np.ndarray:
        image = tf.Variable(original)
        for _ in range(steps):
            with tf.GradientTape() as tape:
                logits = target.network(image, training=False)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=logits)
            moved = image - STEP_255 * tf.sign(tape.gradient(loss, image))
            moved = tf.clip_by_value(moved, original - EPSILON_255, original + EPSILON_255)
            image.assign(tf.clip_by_value(moved, 0.0, 255.0))
        return image.numpy()

    return run


def art(target: Any, pixels: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> Run | None:
    """The Adversarial Robustness Toolbox, or None where it is not installed."""
    try:
        from art.attacks.evasion import ProjectedGradientDescent
        from art.estimators.classification import TensorFlowV2Classifier
    except ImportError:
        return None
    import tensorflow as tf

    del labels
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    classes = len(target.class_names)
    classifier = TensorFlowV2Classifier(
        model=target.network, nb_classes=classes, input_shape=pixels.shape[1:], loss_object=loss, clip_values=(0, 255)
    )

    def run(steps: int) -> np.ndarray:
        attack = ProjectedGradientDescent(
            classifier, eps=EPSILON_255, eps_step=STEP_255, max_iter=steps, targeted=True, batch_size=len(pixels),
            verbose=False,
        )  # fmt: skip
        return attack.generate(pixels.astype(np.float32), y=np.eye(classes, dtype=np.float32)[wanted])

    return run


def foolbox(target: Any, pixels: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> Run | None:
    """Foolbox, or None where it is not installed."""
    try:
        import foolbox as library
    except ImportError:
        return None
    import tensorflow as tf

    del labels
    model = library.TensorFlowModel(target.network, bounds=(0, 255))
    criterion = library.criteria.TargetedMisclassification(tf.constant(wanted, tf.int64))

    def run(steps: int) -> np.ndarray:
        attack = library.attacks.LinfPGD(abs_stepsize=STEP_255, steps=steps, random_start=False)
        return attack(model, tf.constant(pixels, tf.float32), criterion, epsilons=EPSILON_255)[1].numpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="mobilenet_v2")
    options = parser.parse_args()
    assets()
    fix_threads()
    from tlkeras.target import load_target

    target = load_target(options.backbone)
    pixels, labels, wanted = photos(target, options.images)
    given = (target, pixels, labels, wanted)
    runs: dict[str, Run | None] = {
        "tlkeras, all steps": ours(*given, stop_early=False),
        "tlkeras, to first success": ours(*given, stop_early=True),
        "the lesson's eager loop": eager_loop(*given),
        "ART": art(*given),
        "Foolbox": foolbox(*given),
    }
    seconds: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    success = {}
    for name, run in runs.items():
        if run is None:
            print(f"{name} is not installed and skipped")
            continue
        run(1)
        seconds[name], processor[name] = [], []
    for _ in range(options.rounds):
        for name in seconds:
            started, began = time.perf_counter(), time.process_time()
            adversarial = runs[name](STEPS)  # type: ignore[misc]
            seconds[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - began)
            change = np.clip(np.rint(adversarial - pixels.astype(np.float32)), -EPSILON_255, EPSILON_255)
            said = target.probabilities(np.clip(pixels + change, 0, 255)).argmax(axis=1)
            success[name] = int((said == wanted).sum())
            spent = f"{seconds[name][-1]:.1f} s, of the processor {processor[name][-1]:.1f} s"
            print(f"{name}: {spent}, success {success[name]} of {len(pixels)}", flush=True)
    print(f"{options.backbone}, {len(pixels)} photos, {THREADS} threads, best of {options.rounds}")
    clock, work = ({name: min(times) for name, times in all_times.items()} for all_times in (seconds, processor))
    owns = ("tlkeras, all steps", "tlkeras, to first success")
    rows = [
        [
            name,
            f"{len(pixels) / clock[name]:.2f}",
            f"{success[name]} of {len(pixels)}",
            *(f"{clock[name] / clock[own]:.2f}" for own in owns),
            *(f"{work[name] / work[own]:.2f}" for own in owns),
        ]
        for name in clock
    ]
    ratios = [f"{what} / ours, {how}" for what in ("time", "processor time") for how in ("all steps", "first success")]
    print_table(["PGD-20", "images/s", "success", *ratios], rows)


if __name__ == "__main__":
    main()
