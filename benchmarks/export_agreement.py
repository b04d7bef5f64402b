"""Show whether an exported classifier gives Python's answers in every runtime, from the bytes of real photos on.

    tlkeras train PHOTOS/cats_vs_dogs/train --out RUN
    tlkeras export RUN --to MODELS --name cats --formats saved_model,onnx,web --half
    python -m benchmarks.export_agreement RUN MODELS/cats/1 [--photos 500] [--browser-photos 20]

The reference is ``TrainedClassifier.predict``. Node needs ``npm ci --ignore-scripts`` in export/node, the browser
Chromium; what is missing is named and left out. Ends with 1 when a runtime disagrees on a best class, or differs by
more than 1e-4 in a probability (2e-2 with weights of 16 bits).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import assets, print_table

NODE_CLIENT = Path(__file__).resolve().parents[1] / "export" / "node"
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
BATCH = 25

Answer = Callable[[list[str]], np.ndarray]  # paths -> probabilities [N, C]


def cpp_loader(version: Path) -> Answer:
    """TensorFlow's C++ loader, the signature ``image_bytes``."""
    from tlkeras.export.cpp_loader import CppLoader

    def answer(paths: list[str]) -> np.ndarray:
        with CppLoader(version) as loader:
            rows = []
            for start in range(0, len(paths), BATCH):
                data = [Path(path).read_bytes() for path in paths[start : start + BATCH]]
                rows.append(loader.run("image_bytes", {"image_bytes": data}, outputs=["probabilities"]))
        return np.concatenate([row["probabilities"] for row in rows])

    return answer


def onnx_runtime(file: Path) -> Answer:
    """``tlkeras.runtime``."""
    from tlkeras.runtime import OnnxClassifier

    return lambda paths: OnnxClassifier.load(file).predict_proba(paths)


def node(version: Path) -> Answer:
    """The Node client of the deployment kit."""

    def answer(paths: list[str]) -> np.ndarray:
        command = ["node", str(NODE_CLIENT / "classify.mjs"), str(version), *paths, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        predictions = json.loads(done.stdout)["predictions"]
        assert [entry["path"] for entry in predictions] == paths
        return np.array([entry["probabilities"] for entry in predictions])

    return answer


def browser(version: Path) -> Answer:
    """The page in headless Chromium."""
    from tests.browser import Page, served

    def answer(paths: list[str]) -> np.ndarray:
        with served(version / "web") as address, Page(address) as page:
            page.wait_for("!document.getElementById('files').disabled")
            page.choose("#files", paths)
            answers = page.wait_for(f"tlkeras.answers.length == {len(paths)} && tlkeras.answers", seconds=600)
        return np.array([entry["probabilities"] for entry in answers])

    return answer


def runtimes(version: Path, photos: int, browser_photos: int) -> list[tuple[str, Answer, int, float]]:
    """What can be compared here: name, how to ask it, how many photos it gets, and how far it may be off."""
    from tests.browser import chromium

    found: list[tuple[str, Answer, int, float]] = [
        ("TensorFlow's C++ loader", cpp_loader(version), photos, TOLERANCE),
        ("ONNX Runtime", onnx_runtime(version / "model.onnx"), photos, TOLERANCE),
    ]
    if (version / "model_half.onnx").is_file():
        found.append(("ONNX Runtime, fp16 weights", onnx_runtime(version / "model_half.onnx"), photos, HALF_TOLERANCE))
    if shutil.which("node") and (NODE_CLIENT / "node_modules").is_dir():
        found.append(("Node", node(version), photos, TOLERANCE))
    else:
        print("left out: Node (not here, or its packages are not installed)", file=sys.stderr)
    if chromium() and (version / "web").is_dir():
        found.append(("browser (Chromium)", browser(version), browser_photos, TOLERANCE))
    else:
        print("left out: the browser (no Chromium, or the version has no web folder)", file=sys.stderr)
    return found


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("version", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--browser-photos", type=int, default=20)
    options = parser.parse_args()
    folders = sorted((assets() / "photos" / "cats_vs_dogs" / "test").iterdir())
    each = [sorted(map(str, folder.glob("*.jpg"))) for folder in folders]
    # Cat, dog, cat, dog …, so that the first few are of both.
    paths = [path for pair in zip(*each, strict=False) for path in pair][: options.photos]

    from tlkeras.trained import TrainedClassifier

    trained = TrainedClassifier.load(options.run)
    started = time.perf_counter()
    expected = trained.predict(paths)
    rows: list[tuple[object, ...]] = [("Python", len(paths), "", "", f"{time.perf_counter() - started:.1f}")]
    passed = True
    for name, answer, count, tolerance in runtimes(options.version, len(paths), options.browser_photos):
        started = time.perf_counter()
        got = answer(paths[:count])
        seconds = time.perf_counter() - started
        differences = np.abs(got - expected[:count]).max(axis=1)
        disagree = int((got.argmax(axis=1) != expected[:count].argmax(axis=1)).sum())
        passed &= disagree == 0 and float(differences.max()) <= tolerance
        rows.append((name, len(got), disagree, f"{differences.max():.1e}", f"{seconds:.1f}"))
    print_table(("runtime", "photos", "other best class", "largest difference of a probability", "seconds"), rows)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
