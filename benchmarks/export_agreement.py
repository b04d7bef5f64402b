"""Python, the C++ loader, ONNX Runtime and OpenVINO on the same real photos: how many get another class.

    tlkeras train cats_vs_dogs/train --test cats_vs_dogs/test --out RUN
    tlkeras export RUN --to MODELS --name cats
    python -m benchmarks.export_agreement MODELS/cats/1 [--photos 500] [--expected FILE]

The photos are spread evenly over both classes of cats_vs_dogs/test, none of which the run has learned from. With
--expected, Python's answers are written as JSON, ``{"class_names": […], "images": [{"path", "probabilities"}, …]}``,
for clients in other languages to be held against.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.common import THREADS, assets, fix_threads, print_table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", type=Path, help="folder of a published version")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--expected", type=Path, help="write Python's answers here")
    options = parser.parse_args()
    folder = assets() / "photos" / "cats_vs_dogs" / "test"
    fix_threads()
    from tlkeras.export.parity import check_parity
    from tlkeras.export.publish import CLASSIFIER_FOLDER
    from tlkeras.export.samples import samples_for
    from tlkeras.trained import TrainedClassifier

    paths = sorted(str(path) for path in folder.rglob("*.jpg"))
    spread = np.linspace(0, len(paths) - 1, min(options.photos, len(paths))).round().astype(int)
    chosen = [paths[index] for index in spread]
    trained = TrainedClassifier.load(options.version / CLASSIFIER_FOLDER)
    if options.expected is not None:
        rows = zip(chosen, trained.predict(chosen).tolist(), strict=True)
        images = [{"path": path, "probabilities": row} for path, row in rows]
        options.expected.write_text(json.dumps({"class_names": list(trained.class_names), "images": images}))
    parity = check_parity(trained, options.version, samples_for(chosen))
    print(f"{trained.config.backbone}, {len(chosen)} photos, {THREADS} threads for Python")
    print_table(
        ("runtime", "asked for", "batch", "photos", "other class", "ties", "largest difference"),
        [
            (
                *(check.runtime, check.asked, check.batch, check.images),
                *(len(check.disagreements), check.ties, f"{check.difference:.1e}"),
            )
            for check in parity.checks
        ],
    )
    return 0 if parity.passed else 1


if __name__ == "__main__":
    sys.exit(main())
