"""Networks with ImageNet weights: hit rates on ImageNet's own classes, and accuracies of a head on frozen features.

    TLKERAS_ASSETS=… python -m benchmarks.networks [--backbones mobilenet_v2 efficientnet_lite0 …] [--seeds 5]

Hit rates: the 250 photos, one of each of so many classes, shorter side to 256/224 of the network's input and the middle
of it. Milliseconds: one photo, features only, on the engine that `train` chooses with one thread; the time is that of
the processor, which what else the machine does hardly changes, the best of several rounds.
Accuracies: the linear head on the splits of `benchmarks.heads`, 30 % test; the networks see the same ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import assets, data_sets, fix_threads, print_table
from benchmarks.heads import our_head

BACKBONES = ("mobilenet_0.75", "mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
ROUNDS = 30
MARGIN = 256 / 224  # of the photo's shorter side over the part that is looked at


def middle(path: Path, size_px: int) -> np.ndarray:
    """The middle of a photo, float32 ``[S, S, 3]`` in 0..255."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = round(MARGIN * size_px) / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, upper = ((side - size_px) // 2 for side in image.size)
    return np.asarray(image.crop((left, upper, left + size_px, upper + size_px)), np.float32)


def hit_rates(name: str) -> tuple[float, float, int]:
    """Shares of photos whose class is the first, and among the first five, in percent; the number of photos."""
    from tlkeras.target import load_target

    target = load_target(name)
    paths = sorted((assets() / "photos" / "imagenet" / "one_per_class").glob("n*_*.jpg"))
    labels = np.array([target.class_index(path.name.partition("_")[0]) for path in paths])
    logits = target.batched_logits(np.stack([middle(path, target.size_px) for path in paths]))
    hits = np.argsort(-logits, axis=1)[:, :5] == labels[:, None]
    return 100 * hits[:, 0].mean(), 100 * hits.any(axis=1).mean(), len(paths)


def accuracies_on(name: str, audits: dict[str, Any], seeds: int) -> tuple[list[float], float]:
    """The accuracy in percent on each data set, the mean over the seeds; milliseconds for one photo."""
    from tlkeras.backbones.frozen import frozen
    from tlkeras.data.splits import split
    from tlkeras.engines import open_engine
    from tlkeras.progress import Silent
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.source import source_for

    source = source_for(TrainConfig(name))
    means = []
    for checked in audits.values():
        features = source.of(checked.kept_verdicts, Silent()).matrix
        accuracies = []
        for seed in range(seeds):
            images = split(checked.kept, checked.groups, test_fraction=0.3, seed=seed)
            test = images.splits == "test"
            parts = features[~test], images.labels[~test], features[test], images.labels[test]
            accuracies.append(our_head(*parts, len(images.class_names), seed)[0])
        means.append(100 * float(np.mean(accuracies)))
    backbone = frozen(name)
    noise = np.random.default_rng(0).uniform(0, 255, (1, backbone.size_px, backbone.size_px, 3)).astype(np.float32)
    run = open_engine(backbone, threads=1).run
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        run(noise)
        taken.append(1000 * (time.process_time() - started))
    return means, min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    assets()
    fix_threads()
    from tlkeras.backbones import get
    from tlkeras.data.audit import audit
    from tlkeras.data.open import open_dataset

    hits, accuracies = [], []
    with tempfile.TemporaryDirectory() as folder:
        audits = {name: audit(open_dataset(path)) for name, path in data_sets(Path(folder)).items()}
        for name in options.backbones:
            first, among_five, photos = hit_rates(name)
            means, milliseconds = accuracies_on(name, audits, options.seeds)
            row = get(name)
            hits.append((name, row.size_px, f"{row.parameters / 1e6:.1f} M", f"{milliseconds:.1f}",
                         f"{first:.1f} %", f"{among_five:.1f} %"))  # fmt: skip
            accuracies.append((name, *(f"{mean:.2f} %" for mean in (*means, np.mean(means)))))
            print(hits[-1], accuracies[-1], flush=True)
    print_table(["network", "px", "parameters", "ms", f"first of 1,000, {photos} photos", "among five"], hits)
    print()
    print_table(["network", *audits, "mean"], accuracies)


if __name__ == "__main__":
    main()
