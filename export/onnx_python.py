"""Classify photos with an exported ONNX file; needs tlkeras, onnxruntime, Pillow and NumPy, no TensorFlow.

python onnx_python.py MODEL.onnx|VERSION_FOLDER PHOTO... [--top 3]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tlkeras.errors import ImageError, TlkerasError
from tlkeras.runtime import OnnxClassifier


def main() -> int:
    """Run as a script: 0 done, 1 a photo cannot be read, 2 no classifier."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=3, help="classes to show")
    options = parser.parse_args()
    failed = 0
    try:
        classifier = OnnxClassifier.load(options.model)
        for photo in options.photos:
            try:
                (answer,) = classifier.predict(photo, top=options.top)
            except ImageError as error:
                failed = 1
                print(error, file=sys.stderr)
                continue
            best = "  ".join(f"{entry['label']} {entry['probability']:.3f}" for entry in answer["top"])
            print(f"{photo}: {best}")
    except TlkerasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return failed


if __name__ == "__main__":
    sys.exit(main())
