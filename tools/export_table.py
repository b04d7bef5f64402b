"""Hold one backbone of every family to the export's gate in every runtime, and write docs/export-parity.md.

    python -m tools.export_table [--to docs/export-parity.md] [--part FILE] [backbone …]

ImageNet weights are used where they are at hand (KERAS_HOME), at their own size. Random weights are those of
tests/networks.py, through which a signal reaches the end: left as they are drawn, most networks shrink every image
to the same features, whose comparison proves nothing. With --part, finished rows are kept in FILE, and an interrupted
run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tlkeras.errors import ExportError
from tlkeras.export.onnx_model import write_onnx
from tlkeras.export.parity import check_parity
from tlkeras.export.publish import DEFAULT_TOP_K
from tlkeras.export.samples import Samples, drawn_samples
from tlkeras.export.saved_model import write_saved_model
from tlkeras.runtime import MODEL_FILE
from tlkeras.storage import size_of, write_bytes, write_json

BACKBONES = (
    *("vgg16", "resnet50", "resnet50_v2", "mobilenet", "mobilenet_v2", "mobilenet_v3_large", "densenet121"),
    *("inception_v3", "inception_resnet_v2", "xception", "nasnet_mobile", "efficientnet_b0", "efficientnet_v2_b0"),
    *("efficientnet_lite0", "convnext_tiny"),
)
RUNTIMES = ("C++ loader", "ONNX Runtime", "OpenVINO")
CLASSES = tuple(f"class {number}" for number in range(10))
# Random weights have no size of their own; a small one shows the same operations.
RANDOM_SIZE_PX = 96
PICTURES_STEP = 2  # every second picture sets the statistics of random networks


def classifier_on(name: str, samples: Samples) -> tuple[Any, str]:
    """A classifier of ten classes with logits that differ from image to image, and where its weights come from."""
    from tests.networks import classifier_of, lively_network
    from tlkeras import backbones
    from tlkeras.data.pipeline import fitted_pixels

    row = backbones.get(name)
    pretrained = backbones.locate(row.weights).is_file()
    size_px = row.size_px if pretrained else RANDOM_SIZE_PX
    pictures = np.stack([fitted_pixels(image.read(), size_px, "stretch") for image in samples.images])
    pictures = pictures[::PICTURES_STEP]
    backbone = backbones.build(row) if pretrained else lively_network(name, size_px, pictures)
    return classifier_of(backbone, name, CLASSES, pictures), "ImageNet" if pretrained else "random"


def row_of(name: str, samples: Samples) -> dict[str, Any]:
    """One row of the table, as plain values."""
    import keras

    trained, weights = classifier_on(name, samples)
    row: dict[str, Any] = {"backbone": name, "size_px": trained.config.size_px, "weights": weights}
    with tempfile.TemporaryDirectory(prefix="tlkeras-") as temporary:
        folder = Path(temporary) / "1"
        folder.mkdir()
        started = time.perf_counter()
        write_saved_model(trained, folder, top_k=DEFAULT_TOP_K)
        row["saved_model_seconds"], row["saved_model_bytes"] = time.perf_counter() - started, size_of(folder)
        started = time.perf_counter()
        try:
            write_onnx(trained, folder / MODEL_FILE, top_k=DEFAULT_TOP_K)
            row["onnx_bytes"] = (folder / MODEL_FILE).stat().st_size
        except ExportError as error:
            row["onnx_error"] = str(error)
        row["onnx_seconds"] = time.perf_counter() - started
        row["checks"] = check_parity(trained, folder, samples).to_json()["checks"]
    row["classes_seen"] = len({int(best) for best in trained.predict([i.read() for i in samples.images]).argmax(1)})
    keras.backend.clear_session()
    return row


def cells(row: dict[str, Any], runtime: str) -> list[str]:
    """Largest difference, agreement and seconds for 32 images at batch 7, of one runtime."""
    checks = [check for check in row["checks"] if check["runtime"] == runtime and check["asked"] in ("bytes", "pixels")]
    if not checks:
        return ["not installed" if "onnx_error" not in row else "refused", "", ""]
    images = sum(check["images"] for check in checks)
    wrong = sum(len(check["disagreements"]) for check in checks)
    ties = sum(check["ties"] for check in checks)
    problems = [problem for check in checks for problem in check["problems"]]
    worst = max((float("inf") if check["difference"] is None else check["difference"]) for check in checks)
    agreement = f"{images - wrong - ties} of {images}" + (f", {ties} ties" if ties else "")
    seconds = next(check["seconds"] for check in checks if check["batch"] == 7 and check["asked"] == "pixels")
    return [f"{worst:.0e}", problems[0] if problems else agreement, f"{seconds:.1f}"]


def page(rows: list[dict[str, Any]], count: int) -> str:
    """The document."""
    from tlkeras.trained import versions

    header = ["backbone", "px", "weights"]
    for runtime in RUNTIMES:
        header += [f"{runtime}: largest Δp", "same class", "s"]
    header += ["SavedModel, MB", "ONNX, MB", "SavedModel written, s", "ONNX written, s"]
    lines = [
        "# The same answers in every runtime",
        "",
        "Written by `make export-table` (`python -m tools.export_table`); not edited by hand.",
        "",
        f"One backbone of each of {len(rows)} families, each with a head of ten classes, went through the gate that",
        f"`tlkeras export` applies: {count} files of many sizes and formats, from their bytes, at batch 1 and 7,",
        "answered by Python's `predict` and by three runtimes. Δp is the largest difference of a probability from",
        "Python's; 1e-4 is allowed. “Same class” counts answers over all batch sizes, and for the C++ loader over",
        f"files and pixels; “s” is the time for {count} pictures in batches of 7, resize included. ImageNet weights",
        "at their own size where they were at hand, else random ones through which a signal reaches the end. The",
        "machine had 2 cores and much other work to do: take seconds as rough.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for row in rows:
        line = [row["backbone"], str(row["size_px"]), row["weights"]]
        for runtime in RUNTIMES:
            line += cells(row, runtime)
        onnx = f"{row['onnx_bytes'] / 1e6:.1f}" if "onnx_bytes" in row else row["onnx_error"]
        line += [f"{row['saved_model_bytes'] / 1e6:.1f}", onnx]
        line += [f"{row['saved_model_seconds']:.0f}", f"{row['onnx_seconds']:.0f}"]
        lines.append("| " + " | ".join(line) + " |")
    checks = [check for row in rows for check in row["checks"]]
    same = max(check["difference"] for check in checks if check["asked"] == "bytes against pixels")
    fewest = min(row["classes_seen"] for row in rows)
    lines += [
        "",
        f"A file's bytes against that file's pixels, in the C++ loader: at most {same:.0e} apart (1e-5 is allowed).",
        f"Every network named at least {fewest} different classes first.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()) + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run as a script; ends with 1 when a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--to", type=Path, default=Path("docs/export-parity.md"), help="the document")
    parser.add_argument("--part", type=Path, help="file of finished rows")
    parser.add_argument("backbones", nargs="*", default=list(BACKBONES))
    options = parser.parse_args()
    samples = Samples(tuple(drawn_samples()), "drawn pictures")
    done: dict[str, Any] = {}
    if options.part is not None and options.part.is_file():
        done = json.loads(options.part.read_text())
    for name in options.backbones:
        if name not in done:
            done[name] = row_of(name, samples)
            print(name, *[cell for runtime in RUNTIMES for cell in cells(done[name], runtime)], flush=True)
            if options.part is not None:
                write_json(options.part, done)
    rows = [done[name] for name in options.backbones]
    write_bytes(options.to, page(rows, len(samples.images)).encode())
    return 0 if all(check["passed"] for row in rows for check in row["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
