"""Pretrain ``tlkeras_tiny``, the network that comes with tlkeras: MobileNet 0.25 at 96 px, taught by MobileNetV2.

    TLKERAS_ASSETS=… python -m tools.pretrain_tiny --work FOLDER --to tlkeras/backbones/tlkeras_tiny.weights.h5

Knowledge distillation (Hinton et al. 2015) by function matching (Beyer et al. 2022, "A good teacher is patient and
consistent"): teacher and student look at the very same view of a photo, a random crop, mirrored and changed in
colour, every second time mixed with the view of another photo (Zhang et al. 2018). The student's 256 features, times a
matrix that is thrown away afterwards, must give the teacher's 1,280 features, and through the teacher's own last layer
its soft targets (Chen et al. 2022, SimKD). The last layer is ImageNet's, and beside it linear heads that are fitted
here on the teacher's features of the labelled photos. Most steps see the views at 64 px, which costs less than half.

``FOLDER`` keeps the views with the teacher's features and a checkpoint every ``CHECKPOINT_STEPS``; the same command
goes on from there and ends with the same numbers. Photos of any test split are kept out by ``tools.tiny_photos``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from tlkeras.images.decode import decode, read_bytes
from tlkeras.storage import write_bytes, write_json
from tools.tiny_photos import SHARED, assets, photos

TEACHER, STUDENT = "mobilenet_v2", "mobilenet_0.25"
TEACHER_PX, STUDENT_PX = 224, 96
SMALL_PX = 64
CHECKPOINT_STEPS = 500
SNAPSHOTS = 4
_TEMPERATURE = 2.0
_GREY = np.array([0.299, 0.587, 0.114])
_TEACHER_BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """All that decides the numbers. ``views``: of each photo; ``steps``: of ``batch_size`` views each.

    small_share: of the steps, from the first on, that see the views at ``SMALL_PX``.
    """

    views: int
    steps: int
    small_share: float = 0.625
    batch_size: int = 128
    learning_rate: float = 3e-3
    warm_up_steps: int = 500
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    soft_target_weight: float = 0.5
    seed: int = 0


def view_of(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random view for the teacher: RGB, 224 × 224."""
    width, height = photo.size
    area, aspect = width * height * rng.uniform(0.15, 1.0), np.exp(rng.uniform(-0.3, 0.3))
    w, h = min(width, np.sqrt(area * aspect)), min(height, np.sqrt(area / aspect))
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    view = photo.resize((TEACHER_PX, TEACHER_PX), Image.Resampling.BILINEAR, (left, top, left + w, top + h))
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Saturation, then contrast about the view's own grey, brightness and tint, as one affine map of the colours.
    brightness, contrast, saturation = rng.uniform(0.7, 1.3, 3)
    tint = rng.uniform(0.92, 1.08, 3)
    matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    middle = float(np.asarray(view.reduce(16), np.float32).mean(axis=(0, 1)) @ _GREY)
    gain = (brightness * tint)[:, None]
    affine = np.concatenate([contrast * matrix * gain, (1 - contrast) * middle * gain], axis=1)
    return view.convert("RGB", tuple(affine.ravel().tolist()))


def mixed(views: list[Image.Image], rngs: list[np.random.Generator]) -> list[Image.Image]:
    """Each view with a share of its neighbour in the batch."""
    pairs = zip([views[-1], *views[:-1]], views, rngs, strict=True)
    return [Image.blend(neighbour, view, float(rng.uniform(0.5, 1))) for neighbour, view, rng in pairs]


class Views:
    """Views of all photos with the teacher's features, chunk by chunk on disk: one view of each photo a chunk."""

    def __init__(self, folder: Path, count: int) -> None:
        self.images = [np.load(folder / f"images-{k:03d}.npy", mmap_mode="r") for k in range(count)]
        self.features = [np.load(folder / f"features-{k:03d}.npy", mmap_mode="r") for k in range(count)]
        self.per_chunk = len(self.images[0])

    def __len__(self) -> int:
        return len(self.images) * self.per_chunk

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 ``[n, 96, 96, 3]`` and features float32 ``[n, 1280]``."""
        places = [divmod(int(index), self.per_chunk) for index in indices]
        images = np.stack([self.images[chunk][row] for chunk, row in places])
        features = np.stack([self.features[chunk][row] for chunk, row in places])
        return images, features.astype(np.float32)


def make_views(folder: Path, root: Path, recipe: Recipe) -> None:
    """Write the chunks that are not there yet."""
    missing = [k for k in range(recipe.views) if not (folder / f"features-{k:03d}.npy").exists()]
    if not missing:
        return
    from tlkeras.backbones.frozen import frozen
    from tlkeras.engines import open_engine

    chosen = photos(root)
    names = [path.relative_to(root).as_posix() for path in chosen.training]
    write_json(folder / "photos.json", {"training": names, "dropped": chosen.dropped})
    loaded = [Image.fromarray(decode(read_bytes(path)).pixels) for path in chosen.training]
    teacher = frozen(TEACHER, "imagenet")
    engine = open_engine(teacher)

    def seen(chunk: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What teacher and student see of some photos, uint8 ``[n, 224, 224, 3]`` and ``[n, 96, 96, 3]``."""
        rngs = [np.random.default_rng([recipe.seed, chunk, row]) for row in rows]
        views = [view_of(loaded[row], rng) for row, rng in zip(rows, rngs, strict=True)]
        if chunk % 2:
            views = mixed(views, rngs)
        small = [view.resize((STUDENT_PX, STUDENT_PX), Image.Resampling.BILINEAR) for view in views]
        return np.stack([np.asarray(view) for view in views]), np.stack([np.asarray(view) for view in small])

    for chunk in missing:
        started = time.perf_counter()
        order = np.random.default_rng([recipe.seed, chunk]).permutation(len(loaded))
        images = np.empty((len(loaded), STUDENT_PX, STUDENT_PX, 3), np.uint8)
        features = np.empty((len(loaded), teacher.feature_size), np.float16)
        batches = np.array_split(order, -(-len(loaded) // _TEACHER_BATCH))
        with ThreadPoolExecutor(2) as pool:
            for rows, (large, small) in zip(batches, pool.map(lambda rows: seen(chunk, rows), batches), strict=True):  # noqa: B023
                pixels = large.astype(np.float32)
                images[rows], features[rows] = small, engine.run(pixels)
        for name, array in (("images", images), ("features", features)):
            buffer = io.BytesIO()
            np.save(buffer, array)
            write_bytes(folder / f"{name}-{chunk:03d}.npy", buffer.getvalue())
        rate = len(loaded) / (time.perf_counter() - started)
        print(f"views {chunk + 1}/{recipe.views}: {len(loaded):,} photos, {rate:.0f}/s", flush=True)


def labels_of(names: list[str]) -> dict[str, np.ndarray]:
    """Class numbers ``[N]`` of the photos in each labelled set, -1 for photos of other sets."""
    found: dict[str, list[str | None]] = {}
    for data_set in ("cats_vs_dogs", "oxford_iiit_pet", *SHARED):
        parts = [PurePosixPath(name) for name in names]
        found[data_set] = [
            (path.stem.rpartition("_")[0] if data_set == "oxford_iiit_pet" else path.parent.name)
            if path.parts[0] == data_set
            else None
            for path in parts
        ]
    numbers = {}
    for data_set, classes in found.items():
        order = sorted({name for name in classes if name is not None})
        numbers[data_set] = np.array([-1 if name is None else order.index(name) for name in classes])
    return numbers


def teacher_heads(folder: Path, views: Views, recipe: Recipe) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel ``[1280, K]`` and bias ``[K]`` of ImageNet's layer and of a linear head for each labelled set.

    The heads are fitted on the unmixed views of the first chunks.
    """
    from tlkeras import backbones
    from tlkeras.heads.search import search_linear

    top = backbones.application(backbones.build(TEACHER, "imagenet", top=True)).layers[-1]
    heads = [tuple(value.numpy() for value in top.weights)]
    names = json.loads((folder / "photos.json").read_text())["training"]
    for labels in labels_of(names).values():
        rows = np.flatnonzero(labels >= 0)
        features = np.concatenate([part[rows] for part in views.features[:4:2]]).astype(np.float32)
        # Views of one photo share a fold.
        found = search_linear(
            features, np.tile(labels[rows], 2), None, None, labels.max() + 1, recipe.seed, np.tile(rows, 2)
        )
        heads.append((found.head.weights, found.head.bias))
    return heads


class Lesson:
    """Student, loss and optimiser, with everything that a checkpoint must hold."""

    def __init__(self, recipe: Recipe, views: Views, heads: list[tuple[np.ndarray, np.ndarray]]) -> None:
        import keras
        import tensorflow as tf

        from tlkeras import backbones

        sample = np.concatenate([part[:] for part in views.features[:4]]).astype(np.float32)
        mean, std = tf.constant(sample.mean(axis=0)), tf.constant(sample.std(axis=0) + 1e-3)
        keras.utils.set_random_seed(recipe.seed)
        self.student = backbones.build(STUDENT, "none", size_px=STUDENT_PX)
        # MobileNet is a chain of layers: the same ones again, for views of any size.
        pixels = keras.Input((None, None, 3))
        x = self.student.get_layer("preprocess")(pixels)
        for layer in backbones.application(self.student).layers[1:]:
            x = layer(x)
        self.model = keras.Model(pixels, keras.layers.Dense(len(mean), name="to_teacher")(x))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, recipe.steps, warmup_target=recipe.learning_rate, warmup_steps=recipe.warm_up_steps
        )
        self.optimizer = keras.optimizers.AdamW(
            schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm
        )
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self.optimizer.build(self.model.trainable_variables)

        def soft_logits(features: Any) -> list[Any]:
            return [(features @ tf.constant(kernel) + tf.constant(bias)) / _TEMPERATURE for kernel, bias in heads]

        def step(images: Any, features: Any, mirrored: Any, small: bool) -> tuple[Any, Any]:
            pixels = tf.cast(images, tf.float32)
            pixels = tf.where(mirrored[:, None, None, None], tf.reverse(pixels, [2]), pixels)
            if small:
                pixels = tf.image.resize(pixels, [SMALL_PX, SMALL_PX])
            with tf.GradientTape() as tape:
                answer = self.model(pixels, training=True)
                distance = tf.reduce_mean(tf.square(answer - (features - mean) / std))
                divergence = 0.0
                for ours, theirs in zip(soft_logits(answer * std + mean), soft_logits(features), strict=True):
                    targets, logs = tf.nn.softmax(theirs), tf.nn.log_softmax(theirs) - tf.nn.log_softmax(ours)
                    divergence += tf.reduce_mean(tf.reduce_sum(targets * logs, axis=1))
                loss = distance + recipe.soft_target_weight * _TEMPERATURE**2 * divergence
            variables = self.model.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return distance, divergence

        self.step = tf.function(step)

    @property
    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables]

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint, whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, *(variable.numpy() for variable in self._variables), step=step)
        write_bytes(path, buffer.getvalue())

    def load(self, path: Path) -> int:
        """Go back to a checkpoint; returns its step."""
        with np.load(path) as saved:
            for index, variable in enumerate(self._variables):
                variable.assign(saved[f"arr_{index}"])
            return int(saved["step"])


def train(folder: Path, recipe: Recipe) -> Any:
    """Train, from the last checkpoint on; returns the student."""
    from tlkeras import backbones

    views = Views(folder, recipe.views)
    lesson = Lesson(recipe, views, teacher_heads(folder, views, recipe))
    checkpoint, log = folder / "checkpoint.npz", folder / "log.csv"
    first = lesson.load(checkpoint) if checkpoint.exists() else 0
    rows = _rows_before(log, first)
    steps_per_epoch = len(views) // recipe.batch_size
    sums, counted, started = np.zeros(2), 0, time.perf_counter()
    for step in range(first, recipe.steps):
        epoch, at = divmod(step, steps_per_epoch)
        if step == first or at == 0:
            order = np.random.default_rng([recipe.seed, 1_000_003, epoch]).permutation(len(views))
        images, features = views.batch(order[at * recipe.batch_size : (at + 1) * recipe.batch_size])
        mirrored = np.random.default_rng([recipe.seed, 1_000_033, step]).random(len(images)) < 0.5
        small = step < recipe.small_share * recipe.steps
        sums += [float(part) for part in lesson.step(images, features, mirrored, small)]
        counted += 1
        done = step + 1
        if done % CHECKPOINT_STEPS == 0 or done == recipe.steps:
            rate = counted * recipe.batch_size / (time.perf_counter() - started)
            rows.append([done, f"{sums[0] / counted:.4f}", f"{sums[1] / counted:.4f}", f"{rate:.0f}"])
            sums, counted, started = np.zeros(2), 0, time.perf_counter()
            write_bytes(log, _csv([["step", "feature_distance", "divergence", "views_per_s"], *rows]))
            lesson.save(checkpoint, done)
            print(*rows[-1], flush=True)
        if done % (recipe.steps // SNAPSHOTS) == 0:
            # Renamed into place, as everything here, so that a kill leaves no half file.
            part = folder / "part.weights.h5"
            backbones.application(lesson.student).save_weights(part)
            part.replace(folder / f"snapshot-{done:06d}.weights.h5")
    return lesson.student


def export(student: Any, path: Path) -> None:
    """Write the weights as float16; whole or not at all."""
    import h5py

    from tlkeras import backbones

    full, half = path.with_name("full.part.weights.h5"), path.with_name("half.part.weights.h5")
    backbones.application(student).save_weights(full)

    def copy(source: Any, target: Any) -> None:
        target.attrs.update(source.attrs)
        for name, item in source.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(name))
            elif item.dtype == np.float32 and item.size > 1:
                target[name] = item[()].astype(np.float16)
            else:
                target[name] = item[()]

    with h5py.File(full, "r") as source, h5py.File(half, "w", libver="latest") as target:
        copy(source, target)
    half.replace(path)
    full.unlink()
    print(f"{path}: {path.stat().st_size:,} bytes")


def _rows_before(log: Path, step: int) -> list[list[str]]:
    if not log.exists():
        return []
    with log.open(newline="") as file:
        return [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]


def _csv(rows: list[list[Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def main() -> None:
    """Make views, train, export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for views and checkpoints")
    parser.add_argument("--to", type=Path, required=True, help="weights file to write")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16_000)
    options = parser.parse_args()
    recipe = Recipe(views=options.views, steps=options.steps)
    root = assets() / "photos"
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "recipe.json"
    if kept.exists() and json.loads(kept.read_text()) != asdict(recipe):
        parser.error(f"{kept} holds another recipe; name another --work")
    write_json(kept, asdict(recipe))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    make_views(options.work, root, recipe)
    export(train(options.work, recipe), options.to)


if __name__ == "__main__":
    main()
