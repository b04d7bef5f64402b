"""Write backbones as ONNX, compare its answers with Keras' own, and tell in docs/onnx-backbones.md.

    python -m tools.onnx_table [--part FILE]    # all; writes the page; the largest takes 17 GB of memory
    python -m tools.onnx_table resnet101 …      # these only; prints their rows

With --part, rows are kept in that file, and a run that was stopped goes on from there.

Random weights with a signal that reaches the end (tests/networks.py), because no weights are at hand for most. The
pictures have the network's size already: features of a random network hardly tell them apart, and a head that does so
all the same would blow up what two ways of resizing differ by (0.008 of 255), which hides what the conversion changes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np

from tlkeras.storage import write_json

PAGE = Path(__file__).resolve().parents[1] / "docs" / "onnx-backbones.md"
SIZE_PX = 96
PICTURES = 16
TOLERANCE = 1e-4  # largest difference of a probability
HALF_TOLERANCE = 2e-2  # largest difference of a feature with float16 weights, over the largest feature
COLUMNS = (
    *("backbone", "family", "millions of weights", "differs", "same class", "MB"),
    *("fp16 features differ", "fp16 MB", "seconds to write"),
)
HEADER = """# Backbones as ONNX

Every backbone of the table, written by `tlkeras.export.onnx_model.write_onnx` (opset 18) and run by ONNX Runtime on
{pictures} pictures of the drawn demo, from file to probabilities, against Keras. Random weights through which a signal
reaches the end; pictures of {size} px, the network's size here, so that the conversion alone is seen (the resize is
compared by `tests/images/`, and on real photos by `benchmarks/export_agreement.py`); {classes} classes.
"Differs" is the largest difference of any probability, "same class" the pictures with the same best class; "fp16" the
file with weights kept as float16, and the largest difference of a feature over the largest feature. Two cores
that other jobs shared: take the seconds as rough. The largest network takes 17 GB with all that is compared.
Written by `make onnx-table`, which fails where a difference passes {tolerance:g} (fp16: {half:g}),
and so does `tests/export/test_backbones.py`.

"""


@dataclass(frozen=True)
class Row:
    """One line of the table; sizes in 10^6 bytes, the other figures as the page explains them."""

    backbone: str
    family: str
    millions: float
    difference: float
    same_class: int
    megabytes: float
    half_difference: float
    half_megabytes: float
    seconds: float

    def holds(self) -> bool:
        """Whether the file gives Keras' answers."""
        return self.difference <= TOLERANCE and self.same_class == PICTURES and self.half_difference <= HALF_TOLERANCE

    def markdown(self) -> str:
        """The row as Markdown."""
        name, family, millions, difference, same, size, half, half_size, seconds = astuple(self)
        cells = (name, family, f"{millions:.1f}", f"{difference:.1e}", f"{same} of {PICTURES}", f"{size:.1f}",
                 f"{half:.1e}", f"{half_size:.1f}", f"{seconds:.0f}")  # fmt: skip
        return f"| {' | '.join(cells)} |"


def pictures(folder: Path) -> list[str]:
    """Pictures of the drawn demo, of every class alike, as files of the network's size."""
    from PIL import Image

    from tlkeras.data.demo import CUT_OFF, EMPTY, demo_folder

    demo = demo_folder()
    readable = [path for path in sorted(demo.glob("*/*")) if path.relative_to(demo).as_posix() not in (CUT_OFF, EMPTY)]
    paths = []
    for path in readable[:: len(readable) // PICTURES][:PICTURES]:
        paths.append(str(folder / f"{path.stem}.png"))
        Image.open(path).convert("RGB").resize((SIZE_PX, SIZE_PX)).save(paths[-1])
    return paths


def measure(name: str, folder: Path) -> Row:
    """Write the backbone ``name`` with random weights as ONNX into ``folder``, whole and halved, and compare."""
    import keras

    from tests.networks import classifier_of, lively_network
    from tlkeras import backbones
    from tlkeras.data.demo import CLASSES
    from tlkeras.export.onnx_model import write_half, write_onnx
    from tlkeras.graphs import relative_difference
    from tlkeras.images.decode import decode, read_bytes
    from tlkeras.runtime import OnnxClassifier

    keras.backend.clear_session()
    paths = pictures(folder)
    pixels = np.stack([decode(read_bytes(path)).pixels for path in paths])
    trained = classifier_of(lively_network(name, SIZE_PX, pixels.astype(np.float32)), name, CLASSES, pixels)
    expected = trained.probabilities(trained.network(pixels.astype(np.float32), training=False).numpy())
    whole, half = folder / "model.onnx", folder / "model_half.onnx"
    started = time.perf_counter()
    write_onnx(trained, whole, top_k=len(CLASSES))
    seconds = time.perf_counter() - started
    write_half(whole, half)
    got = OnnxClassifier.load(whole).predict_proba(paths)
    features, halved = (OnnxClassifier.load(file).run(pixels)["features"] for file in (whole, half))
    backbone = backbones.get(name)
    return Row(
        name,
        backbone.family,
        backbone.parameters / 1e6,
        float(np.abs(got - expected).max()),
        int((got.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        whole.stat().st_size / 1e6,
        relative_difference(halved, features),
        half.stat().st_size / 1e6,
        seconds,
    )


def measure_apart(name: str) -> Row:
    """Measure in a process of its own, because the memory of converted graphs is not given back."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        return pool.submit(measure, name, Path(folder)).result()


def main() -> int:
    """Run as a script; returns 1 where a file does not give Keras' answers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backbones", nargs="*")
    parser.add_argument("--part", type=Path, help="keep finished rows here")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tlkeras.backbones import BACKBONES
    from tlkeras.data.demo import CLASSES

    kept = json.loads(options.part.read_text()) if options.part and options.part.is_file() else {}
    rows = []
    for name in options.backbones or BACKBONES:
        if name not in kept:
            kept[name] = asdict(measure_apart(name))
            if options.part:
                write_json(options.part, kept)
        rows.append(Row(**kept[name]))
        print(rows[-1].markdown(), flush=True)
    if not options.backbones:
        header = HEADER.format(
            pictures=PICTURES,
            size=SIZE_PX,
            classes=len(CLASSES),
            tolerance=TOLERANCE,
            half=HALF_TOLERANCE,
        )
        lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS), *(row.markdown() for row in rows)]
        PAGE.write_text(header + "\n".join(lines) + "\n")
    return 0 if all(row.holds() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
