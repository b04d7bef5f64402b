"""What a user waits for, from the start of a process to its end, beside what it was and what it may be.

    TLKERAS_ASSETS=… python -m benchmarks.short_way [--runs 5] [--only predict_one report …]
    TLKERAS_ASSETS=… python -m benchmarks.short_way --agreement [backbone …]
    TLKERAS_ASSETS=… python -m benchmarks.short_way --pixels

MobileNetV2 with ImageNet weights, cats and dogs: 2,000 photos for training, 1,000 others for questions. Every figure is
the median of the runs, each a process of its own, after one that is not counted. The peer is a script of ten lines,
Pillow and ONNX Runtime, that answers the same photo from the exported file. The 10,000 photos are ten hard links to
each of 1,000. Nothing else should run on the machine.

``--agreement``: the engine that answers against Keras on 500 photos, for a network of each family (random weights where
ImageNet's are not at hand). ``--pixels``: decoding and fitting on threads against ``tf.data``, in turn, the largest
difference of a fitted pixel over all photos, and what JPEG's own scaling would change (at 96 px: the photos are small).
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.common import assets, fix_threads, print_table
from benchmarks.end_to_end import bare_pass

PEER = """
import sys
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB"))[None]
(probabilities,) = session.run(["probabilities"], {session.get_inputs()[0].name: pixels})
print(session.get_modelmeta().custom_metadata_map, probabilities[0])
"""
AGREEING_PHOTOS = 500
RUNS_ON_ONE_BACKBONE, PHOTOS_OF_THOSE = 10, 300
TIMED_ROUNDS = 5


class Bench:
    """The data, the run and the cache that the rows share; each is made when a row first asks for it."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.folder, self.runs = folder, runs
        self.photos = assets() / "photos" / "cats_vs_dogs"
        self.train = sorted((self.photos / "train").rglob("*.jpg"))
        self.test = sorted((self.photos / "test").rglob("*.jpg"))

    def python(self, *arguments: object, cache: str = "cache") -> tuple[float, float]:
        """Seconds and peak memory (MB) of a Python process, which must end well."""
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "TLKERAS_CACHE": str(self.folder / cache)}
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{said.decode(errors='replace')[-2000:]}")
        return seconds, used.ru_maxrss / 1024

    def tlkeras(self, *arguments: object, cache: str = "cache") -> tuple[float, float]:
        """The same of a ``tlkeras`` command."""
        return self.python("-m", "tlkeras.cli.main", *arguments, cache=cache)

    def median(self, run: Callable[[int], tuple[float, float]], *, warm: bool = True) -> float:
        """Seconds of the median run; each is given its number. ``warm``: one before that is not counted."""
        times = [run(number)[0] for number in range(self.runs + warm)]
        return statistics.median(times[warm:])

    @cached_property
    def run(self) -> Path:
        """A classifier, with its features and verdicts in the cache."""
        self.tlkeras("train", self.photos / "train", "--out", self.folder / "run")
        return self.folder / "run"

    @cached_property
    def exported(self) -> Path:
        """The classifier's ONNX file."""
        self.tlkeras("export", self.run, "--to", self.folder / "models", "--name", "cats", "--formats", "onnx")
        (file,) = (self.folder / "models").rglob("model.onnx")
        return file

    def linked(self, count: int) -> Path:
        """A folder of so many photos, made of the first thousand: copies, and links to these from then on."""
        folder = self.folder / f"photos-{count}"
        files = self.test[:1000]
        for number in range(0 if folder.exists() else count):
            link = folder / f"{number:05d}.jpg"
            folder.mkdir(exist_ok=True)
            if number < len(files):
                link.write_bytes(files[number].read_bytes())
            else:
                link.hardlink_to(folder / f"{number % len(files):05d}.jpg")
        return folder


Row = tuple[str, str, str, str]  # what, before, now, bar


def predict_one(bench: Bench) -> Iterator[Row]:
    """One photo, and the bare script on it."""
    now = bench.median(lambda _: bench.tlkeras("predict", bench.run, bench.test[0]))
    peer = bench.median(lambda _: bench.python("-c", PEER, bench.exported, bench.test[0]))
    yield "`tlkeras predict RUN cat.jpg`, second time", "13.4 s", f"{now:.2f} s", "1.5 s"
    yield f"the same over a bare script ({peer:.2f} s)", "", f"{now / peer:.2f} ×", "1.3 ×"


def predict_many(bench: Bench) -> Iterator[Row]:
    """A folder of a thousand photos."""
    seconds = bench.median(lambda _: bench.tlkeras("predict", bench.run, bench.linked(1000)))
    before = 1000 / 51.5
    yield (
        "`tlkeras predict RUN FOLDER`, 1,000 photos",
        f"{before:.0f}/s",
        f"{1000 / seconds:.0f}/s",
        f"{2 * before:.0f}/s",
    )


def predict_memory(bench: Bench) -> Iterator[Row]:
    """Peak memory for a thousand and for ten thousand photos."""
    few, many = (bench.tlkeras("predict", bench.run, bench.linked(count))[1] for count in (1000, 10_000))
    yield "memory of `predict`, 1,000 photos", "1,400 MB", f"{few:,.0f} MB", ""
    yield "memory for 10,000 over that for 1,000", "", f"{many / few:.3f}", "1.10"


def train_again(bench: Bench) -> Iterator[Row]:
    """Training with other options on features that are stored."""
    _ = bench.run

    def once(number: int, option: str) -> tuple[float, float]:
        out = bench.folder / f"again{option}{number}"
        return bench.tlkeras("train", bench.photos / "train", option, "--seed", number + 1, "--out", out)

    for words, option, bar in (("`--no-report`", "--no-report", 4), ("with the report", "--report", 6)):
        now = bench.median(functools.partial(once, option=option))
        yield f"`tlkeras train DATA` again, 2,000 photos, {words}", "17.7 s (3,000)", f"{now:.2f} s", f"{bar} s"


def train_first(bench: Bench) -> Iterator[Row]:
    """Training where nothing is stored but the file of the weights, against one pass of decoding and features."""

    def once(number: int) -> tuple[float, float]:
        out = bench.folder / f"first{number}"
        return bench.tlkeras("train", bench.photos / "train", "--out", out, cache=f"empty{number}")

    now = bench.median(once, warm=False)
    os.environ["TLKERAS_CACHE"] = str(bench.folder / "empty0")
    floor = statistics.median(bare_pass([str(path) for path in bench.train], "auto") for _ in range(bench.runs))
    words = f"first `tlkeras train DATA`, 2,000 photos; one pass {floor:.1f} s"
    yield words, "35.4 s (3,000)", f"{now:.1f} s", f"{1.15 * floor + 8:.1f} s"


def evaluate(bench: Bench) -> Iterator[Row]:
    """Measuring on photos whose features are stored."""
    now = bench.median(lambda _: bench.tlkeras("evaluate", bench.run, bench.photos / "test"))
    yield "`tlkeras evaluate RUN DATA`, 1,000 photos, features stored", "", f"{now:.2f} s", "3 s"


def report(bench: Bench) -> Iterator[Row]:
    """The page of a run."""
    now = bench.median(lambda _: bench.tlkeras("report", bench.run))
    yield "`tlkeras report RUN`", "", f"{now:.2f} s", "3 s"


def start_up(bench: Bench) -> Iterator[Row]:
    """Commands that do nothing."""
    for word, bar in (("--help", 0.4), ("backbones", 0.6)):
        times = [bench.tlkeras(word)[0] for _ in range(bench.runs + 1)]
        now = statistics.median(times[1:])
        yield f"`tlkeras {word}`", "", f"{now:.2f} s", f"{bar} s"


def disk(bench: Bench) -> Iterator[Row]:
    """Ten runs on one backbone: what their files take, each file counted once however many names it has."""
    photos = bench.folder / "few"
    for kind in ("cat", "dog"):
        for path in sorted((bench.photos / "train" / kind).glob("*.jpg"))[: PHOTOS_OF_THOSE // 2]:
            (photos / kind).mkdir(parents=True, exist_ok=True)
            (photos / kind / path.name).write_bytes(path.read_bytes())
    runs = [bench.folder / "ten" / str(number) for number in range(RUNS_ON_ONE_BACKBONE)]
    for number, out in enumerate(runs):
        bench.tlkeras("train", photos, "--seed", number, "--no-report", "--out", out)
    one, all_ = taken(runs[:1]), taken(runs)
    words = f"disk of ten runs ({PHOTOS_OF_THOSE} photos, `--no-report`) over one ({one / 1e6:.1f} MB)"
    yield words, "10.0", f"{all_ / one:.2f}", "1.3"


def taken(folders: list[Path]) -> int:
    """Bytes on the disk of all files in some folders."""
    files = {(found.st_dev, found.st_ino): found.st_blocks * 512 for folder in folders for found in stats(folder)}
    return sum(files.values())


def stats(folder: Path) -> list[os.stat_result]:
    """What the system says of each file."""
    return [path.stat() for path in folder.rglob("*") if path.is_file()]


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    row.__name__: row
    for row in (
        *(predict_one, predict_many, predict_memory, train_again, train_first, evaluate, report, start_up, disk),
    )
}


def agreement(backbones: list[str]) -> None:
    """A table: for each family the engine, photos with another class, and the largest difference of a probability."""
    from tlkeras.engines import installed
    from tlkeras.export.samples import Samples, drawn_samples
    from tools.export_table import BACKBONES, classifier_on

    fix_threads()
    photos = assets() / "photos"
    paths = [str(path) for path in sorted(photos.rglob("*.jpg")) if "odd_files" not in path.parts]
    paths = paths[:: max(1, len(paths) // AGREEING_PHOTOS)][:AGREEING_PHOTOS]
    rows = []
    for name in backbones or BACKBONES:
        classifier, weights = classifier_on(name, Samples(tuple(drawn_samples()), "drawn pictures"))
        answers = {engine: classifier.predictor(engine=engine).predict(paths) for engine in reversed(installed())}
        keras = answers.pop("tensorflow")
        for engine, ours in answers.items():
            others = int((ours.argmax(axis=1) != keras.argmax(axis=1)).sum())
            rows.append((name, weights, engine, len(paths), others, f"{float(np.abs(ours - keras).max()):.1e}"))
            print(rows[-1], file=sys.stderr)
    print_table(("backbone", "weights", "engine", "photos", "other class first", "largest difference"), rows)


def pixels() -> None:
    """A table: photos a second both ways, and the largest difference over all photos and fits."""
    fix_threads()
    import tensorflow as tf

    from tlkeras.data.pipeline import pixel_batches
    from tlkeras.images import graph
    from tlkeras.images.resize import FITS
    from tlkeras.machine import usable_cpus

    decode = tf.function(lambda data: graph.decode(data), input_signature=[tf.TensorSpec([], tf.string)])
    everything = [str(path) for path in sorted((assets() / "photos").rglob("*.jpg")) if "odd_files" not in path.parts]

    def in_graph(paths: list[str], fit: str) -> Iterator[np.ndarray]:
        def load(path: tf.Tensor) -> tf.Tensor:
            return graph.fit_to_square(decode(tf.io.read_file(path)), 224, fit)

        dataset = tf.data.Dataset.from_tensor_slices(paths).map(load, num_parallel_calls=usable_cpus())
        yield from dataset.batch(32).prefetch(2).as_numpy_iterator()

    def rate(batches: Callable[[], Iterator[object]]) -> float:
        started = time.perf_counter()
        for _ in batches():
            pass
        return len(some) / (time.perf_counter() - started)

    some = [path for path in everything if "cats_vs_dogs" in path]
    ways: dict[str, Callable[[], Iterator[object]]] = {
        "Pillow on threads": lambda: pixel_batches(some, 224, "stretch"),
        "tf.data": lambda: in_graph(some, "stretch"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TIMED_ROUNDS + 1):
        for name, batches in ways.items():
            rates[name].append(rate(batches))
    worst = max(
        float(np.abs(ours - theirs).max())
        for fit in FITS
        for (_, ours), theirs in zip(pixel_batches(everything, 224, fit), in_graph(everything, fit), strict=True)
    )
    print_table(
        ("way", "photos", "photos/s"), [(n, len(some), f"{statistics.median(r[1:]):.0f}") for n, r in rates.items()]
    )
    print_table(
        ("photos compared", "fits", "largest difference of 255"), [(len(everything), len(FITS), f"{worst:.4f}")]
    )
    scaled = scaled_down(everything)
    print_table(
        ("photos that JPEG's decoder scales down", "largest difference of 255", "median of the largest of a photo"),
        [(len(scaled), f"{max(scaled):.0f}", f"{statistics.median(scaled):.0f}")],
    )


def scaled_down(paths: list[str], size_px: int = 96) -> list[float]:
    """The largest difference of fitted pixels, of each photo that its decoder can scale down by half and not below."""
    from tlkeras.images.decode import decode, read_bytes
    from tlkeras.images.resize import fit_to_square

    differences = []
    for data in map(read_bytes, paths):
        whole, scaled = decode(data).pixels, decode(data, at_least_px=size_px).pixels
        if whole.shape != scaled.shape:
            change = fit_to_square(whole, size_px, "stretch") - fit_to_square(scaled, size_px, "stretch")
            differences.append(float(np.abs(change).max()))
    return differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--agreement", nargs="*", metavar="BACKBONE")
    parser.add_argument("--pixels", action="store_true")
    options = parser.parse_args()
    if options.pixels:
        pixels()
    elif options.agreement is not None:
        agreement(options.agreement)
    else:
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), options.runs)
            for name in options.only:
                for row in ROWS[name](bench):
                    print(row, file=sys.stderr)
                    rows.append(row)
        print_table(("what", "before", "now", "bar"), rows)


if __name__ == "__main__":
    main()
