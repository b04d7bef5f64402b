"""Compare every runtime of an exported classifier with Python, from the bytes of real photos on.

    tlkeras train cats_vs_dogs/train --test cats_vs_dogs/test --out RUN
    tlkeras export RUN --to MODELS --name cats --formats saved_model,onnx,web --half
    python -m benchmarks.export_agreement MODELS/cats/1 [--photos 500] [--browser-photos 20]

The photos are those of cats_vs_dogs/test, cat and dog in turn; the run has not learned from them. Node needs its
packages (``npm ci --ignore-scripts`` in export/node), the browser Chromium; what is missing is named and left out.
Ends with 1 when a runtime puts another class first or is further off than it may be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import assets, print_table

if TYPE_CHECKING:
    from tlkeras.export.formats import Engine

NODE_CLIENT = Path(__file__).resolve().parents[1] / "export" / "node"
BATCH = 25

Answer = Callable[[list[str]], np.ndarray]  # paths -> probabilities [N, C]


@contextlib.contextmanager
def node(version: Path) -> Iterator[Answer]:
    """The Node client of the deployment kit."""

    def answer(paths: list[str]) -> np.ndarray:
        command = ["node", str(NODE_CLIENT / "classify.mjs"), str(version), "-", "--json"]
        done = subprocess.run(command, input="\n".join(paths), capture_output=True, text=True, check=True)
        predictions = json.loads(done.stdout)["predictions"]
        assert [entry["path"] for entry in predictions] == paths
        return np.array([entry["probabilities"] for entry in predictions])

    yield answer


@contextlib.contextmanager
def browser(version: Path) -> Iterator[Answer]:
    """The exported page in headless Chromium."""
    from tests.browser import Page, served

    with served(version / "web") as address, Page(address) as page:
        page.wait_for("!document.getElementById('files').disabled")

        def answer(paths: list[str]) -> np.ndarray:
            page.choose("#files", paths)
            answers = page.wait_for(f"tlkeras.answers.length == {len(paths)} && tlkeras.answers", seconds=600)
            assert [entry["file"] for entry in answers] == [Path(path).name for path in paths]
            return np.array([entry["probabilities"] for entry in answers])

        yield answer


@contextlib.contextmanager
def in_process(engine: Engine, version: Path) -> Iterator[Answer]:
    """An engine of the parity check: given files where it decodes them itself, else the pixels of each photo."""
    from tlkeras.images.decode import decode, read_bytes

    with engine.open(version) as runtime:

        def from_files(paths: list[str]) -> np.ndarray:
            parts = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
            return np.concatenate([runtime.files([read_bytes(p) for p in part])["probabilities"] for part in parts])

        def from_pixels(paths: list[str]) -> np.ndarray:
            pixels = (decode(read_bytes(path)).pixels for path in paths)
            return np.concatenate([runtime.pixels(image[None])["probabilities"] for image in pixels])

        yield from_pixels if runtime.files is None else from_files


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", type=Path, help="folder of a published version")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--browser-photos", type=int, default=20)
    options = parser.parse_args()
    folders = sorted((assets() / "photos" / "cats_vs_dogs" / "test").iterdir())
    each = [sorted(map(str, folder.glob("*.jpg"))) for folder in folders]
    paths = [path for pair in zip(*each, strict=False) for path in pair][: options.photos]

    from tests.browser import chromium
    from tlkeras.export.formats import TOLERANCE, runtimes_of
    from tlkeras.export.publish import CLASSIFIER_FOLDER
    from tlkeras.trained import TrainedClassifier

    engines = [engine for _, engine in runtimes_of(options.version)]
    runtimes = [(one.name, in_process(one, options.version), len(paths), one.tolerance) for one in engines]
    if shutil.which("node") and (NODE_CLIENT / "node_modules").is_dir():
        runtimes.append(("Node", node(options.version), len(paths), TOLERANCE))
    else:
        print("left out: Node (not here, or its packages are not installed)", file=sys.stderr)
    if chromium() and (options.version / "web").is_dir():
        runtimes.append(("browser (Chromium)", browser(options.version), options.browser_photos, TOLERANCE))
    else:
        print("left out: the browser (no Chromium, or the version has no web folder)", file=sys.stderr)

    trained = TrainedClassifier.load(options.version / CLASSIFIER_FOLDER)
    started = time.perf_counter()
    expected = trained.predict(paths)
    rows: list[tuple[object, ...]] = [("Python", len(paths), "", "", f"{time.perf_counter() - started:.0f}")]
    passed = True
    for name, opened, count, tolerance in runtimes:
        with opened as answer:
            started = time.perf_counter()
            got = answer(paths[:count])
            seconds = time.perf_counter() - started
        difference = float(np.abs(got - expected[:count]).max())
        other = int((got.argmax(axis=1) != expected[:count].argmax(axis=1)).sum())
        passed &= other == 0 and difference <= tolerance
        rows.append((name, len(got), other, f"{difference:.1e}", f"{seconds:.0f}"))
        print(*rows[-1], sep="\t", file=sys.stderr)
    print(f"{trained.config.backbone}, {trained.config.size_px} px")
    print_table(("runtime", "photos", "other class first", "largest difference of a probability", "seconds"), rows)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
