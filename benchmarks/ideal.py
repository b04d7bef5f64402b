"""Ideal images: milliseconds for one step of one image, against the lesson's eager loop and tf-keras-vis.

    python -m benchmarks.ideal [--steps 20] [--images 1 8] [--rounds 2] [--backbone mobilenet_v2]

One network with its ImageNet top, the same steps and images for all, one after the other in one process with
pinned threads; building and tracing are left out for everybody (one step is run first). ``fourier`` and
``pixels`` are the presets as they are, with transforms and statistics; ``bare`` is the loop alone, logit minus
total variation on pixels, which is what the lesson's loop computes. tf-keras-vis is skipped with a word when
it is not installed (``pip install ".[bench]"``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import THREADS, assets, fix_threads, print_table

CLASS = 284  # Siamese cat
TV_WEIGHT = 100.0


def ours(target: Any, preset: Any, images: int, steps: int) -> Callable[[], None]:
    """Our loop under a preset, all steps in one call."""
    from dataclasses import replace

    from tlkeras.ideal.ascent import Climb

    ascent = replace(preset.ascent, steps=steps + 1)
    objective = preset.with_variation(preset.class_objective(target, target.folded.network))
    climb = Climb(target.folded, objective, preset.held, preset.transforms, ascent)

    def start() -> None:
        climb.start(range(images), [CLASS] * images)
        climb.advance(1)

    start()
    return lambda: climb.advance(steps)  # type: ignore[return-value]


def eager_loop(target: Any, images: int, steps: int) -> Callable[[], None]:
    """The lesson's loop: an eager tape, one class, total variation, gradient divided by its size."""
    import tensorflow as tf

    noise = np.random.default_rng(0).uniform(108, 148, (images, target.size_px, target.size_px, 3))
    image = tf.Variable(noise, dtype=tf.float32)

    def step() -> None:
        with tf.GradientTape() as tape:
            logits = target.network(image, training=False)
            variation = tf.reduce_mean(tf.image.total_variation(image / 255.0)) / (3.0 * target.size_px**2)
            loss = tf.reduce_mean(logits[:, CLASS]) - TV_WEIGHT * variation
        gradient = tape.gradient(loss, image)
        image.assign(tf.clip_by_value(image + 2.0 * gradient / (tf.math.reduce_std(gradient) + 1e-8), 0.0, 255.0))

    step()
    return lambda: [step() for _ in range(steps)] and None


def tf_keras_vis(target: Any, images: int, steps: int) -> Callable[[], None] | None:
    """The library's ActivationMaximization with its own defaults, or None where it is not installed."""
    try:
        from tf_keras_vis.activation_maximization import ActivationMaximization
        from tf_keras_vis.utils.scores import CategoricalScore
    except ImportError:
        return None
    import tensorflow as tf

    maximise = ActivationMaximization(target.network, clone=False)
    noise = np.random.default_rng(0).uniform(108, 148, (images, target.size_px, target.size_px, 3))
    seed_input = tf.constant(noise, tf.float32)
    score = CategoricalScore([CLASS] * images)
    maximise(score, seed_input=seed_input, steps=1)
    return lambda: maximise(score, seed_input=seed_input, steps=steps)  # type: ignore[return-value]


def milliseconds(run: Callable[[], None], image_steps: int, rounds: int) -> float:
    """Milliseconds for one step of one image, the best of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return 1000 * min(taken) / image_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbone", default="mobilenet_v2")
    options = parser.parse_args()
    assets()
    fix_threads()
    from dataclasses import replace

    from tlkeras.ideal.presets import preset
    from tlkeras.target import load_target

    target = load_target(options.backbone)
    fourier, pixels = preset(target, "fourier"), preset(target, "pixels")
    bare = replace(pixels, statistics=0.0, transforms=type(pixels.transforms)(), tv=TV_WEIGHT)
    rows, missing = [], False
    for images in options.images:
        makers: list[tuple[str, Callable[[], Any]]] = [
            ("tlkeras, fourier", lambda n=images: ours(target, fourier, n, options.steps)),
            ("tlkeras, pixels", lambda n=images: ours(target, pixels, n, options.steps)),
            ("tlkeras, bare loop", lambda n=images: ours(target, bare, n, options.steps)),
            ("the lesson's eager loop", lambda n=images: eager_loop(target, n, options.steps)),
            ("tf-keras-vis", lambda n=images: tf_keras_vis(target, n, options.steps)),
        ]
        for name, make in makers:
            run = make()
            if run is None:
                missing = True
                continue
            rows.append((name, images, milliseconds(run, options.steps * images, options.rounds)))
    compared = "the lesson's eager loop" if missing else "tf-keras-vis"
    peer = {images: figure for name, images, figure in rows if name == compared}
    print(
        f"{options.backbone}, {target.size_px} px, {options.steps} steps, {THREADS} threads, best of {options.rounds}"
    )
    header = ["loop", "images at once", "ms for a step of an image", f"{compared}, {options.images[0]} at once / this"]
    print_table(
        [*header, f"{compared}, as many at once / this"],
        [
            (name, images, f"{figure:.1f}", f"{peer[options.images[0]] / figure:.1f}", f"{peer[images] / figure:.1f}")
            for name, images, figure in rows
        ],
    )
    if missing:
        print("\ntf-keras-vis is not installed: pip install '.[bench]'")


if __name__ == "__main__":
    main()
