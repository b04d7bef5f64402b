"""Photos a second, from the file's bytes to probabilities: the exports against Keras' own predict.

    python -m benchmarks.export_speed MODELS/cats/1 [--photos 200]

Same photos, same threads (BENCH_THREADS), best of three rounds in which all take turns. Keras decodes, fits and
predicts in batches of 32. ONNX Runtime and OpenVINO decode with the same Pillow and get one photo at a time, as it
is: their graphs do the resize. The C++ loader gets the bytes, in batches of 32. Processor time a photo says more than
photos a second where the machine has other work to do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import THREADS, assets, fix_threads, print_table

BATCH = 32
ROUNDS = 3

Answering = Callable[[list[bytes]], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", type=Path, help="folder of a published version")
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    folder = assets() / "photos" / "cats_vs_dogs" / "test"
    fix_threads()
    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:: 1000 // options.photos]][: options.photos]
    with contextlib.ExitStack() as stack:
        engines = _engines(options.version, stack)
        expected = engines["Keras predict"](files)
        best, spent = dict.fromkeys(engines, np.inf), dict.fromkeys(engines, np.inf)
        difference: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, answering in engines.items():
                started, cpu_started = time.perf_counter(), _cpu_seconds()
                answers = answering(files)
                best[name] = min(best[name], time.perf_counter() - started)
                spent[name] = min(spent[name], _cpu_seconds() - cpu_started)
                difference[name] = float(np.abs(answers - expected).max())
    print(f"{len(files)} photos, {THREADS} threads, best of {ROUNDS} rounds")
    print_table(
        (
            "who",
            "photos/s",
            "against Keras predict",
            "CPU ms a photo",
            "Keras predict's over this",
            "largest difference",
        ),
        [
            (
                *(name, f"{len(files) / seconds:.0f}", f"{best['Keras predict'] / seconds:.2f} ×"),
                *(f"{1000 * spent[name] / len(files):.1f}", f"{spent['Keras predict'] / spent[name]:.2f} ×"),
                f"{difference[name]:.0e}",
            )
            for name, seconds in best.items()
        ],
    )


def _cpu_seconds() -> float:
    """Processor time of this process and of those that it started (Linux)."""
    own = os.getpid()
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # After the name in brackets: state, parent, …; user and system time are the 12th and 13th.
            fields = stat.read_text().rpartition(")")[2].split()
            if own in (int(fields[1]), int(stat.parent.name)):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _engines(version: Path, stack: contextlib.ExitStack) -> dict[str, Answering]:
    from tlkeras.data.pipeline import fitted_pixels
    from tlkeras.export.cpp_loader import CppLoader
    from tlkeras.export.publish import CLASSIFIER_FOLDER
    from tlkeras.heads.logits import softmax
    from tlkeras.images.decode import decode
    from tlkeras.runtime import MODEL_FILE, OnnxClassifier
    from tlkeras.trained import TrainedClassifier

    trained = TrainedClassifier.load(version / CLASSIFIER_FOLDER)
    config = trained.config

    def keras_predict(files: list[bytes]) -> np.ndarray:
        pixels = np.stack([fitted_pixels(data, config.size_px, config.fit) for data in files])
        return softmax(trained.network.predict(pixels, batch_size=BATCH, verbose=0), config.temperature)

    def one_by_one(run: Callable[[np.ndarray], np.ndarray]) -> Answering:
        return lambda files: np.concatenate([run(decode(data).pixels[np.newaxis]) for data in files])

    onnx = OnnxClassifier.load(version, threads=THREADS)
    loader = stack.enter_context(CppLoader(version, threads=THREADS))

    def cpp_loader(files: list[bytes]) -> np.ndarray:
        groups = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
        return np.concatenate([loader.run("image_bytes", {"image_bytes": group})["probabilities"] for group in groups])

    engines: dict[str, Answering] = {
        "Keras predict": keras_predict,
        "tlkeras predict": trained.predict,
        "ONNX Runtime": one_by_one(lambda pixels: onnx.run(pixels)["probabilities"]),
        "C++ loader": cpp_loader,
    }
    with contextlib.suppress(ImportError):
        import openvino

        properties = openvino.properties
        options = {
            properties.hint.inference_precision: openvino.Type.f32,
            properties.inference_num_threads: THREADS,
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(version / MODEL_FILE), "CPU", options)
        engines["OpenVINO"] = one_by_one(lambda pixels: np.array(compiled(pixels)["probabilities"]))
    return engines


if __name__ == "__main__":
    main()
