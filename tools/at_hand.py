"""What ``make run`` can look at: prints ``run-real`` or, where pip could not bring ImageNet networks, ``run-drawn``.

python -m tools.at_hand                        # which of the two
python -m tools.at_hand --cat cat.png          # a real cat: Chelsea, CC0, out of scikit-image
python -m tools.at_hand --accuracies RUN RUN   # the runs' accuracies, one line each
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

from tlkeras import backbones

NETWORKS = ("efficientnet_lite0", "efficientnet_lite1")


def real() -> bool:
    """Whether the networks' weights and the photo are installed."""
    files = [backbones.get(name).weights_top for name in NETWORKS]
    return find_spec("skimage") is not None and all(
        file is not None and backbones.locate(file).exists() for file in files
    )


def accuracy(run: Path) -> str:
    """A run's network and how good it is."""
    metrics, facts = (json.loads((run / name).read_text()) for name in ("metrics.json", "run.json"))
    low, high = metrics["accuracy_interval"]
    of = f"{metrics['accuracy']:.1%} of {metrics['images']} photos (95 %: {low:.1%} to {high:.1%})"
    return f"{facts['config']['backbone']:<20} {of}"


def main() -> None:
    """Answer one of the questions above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cat", type=Path)
    parser.add_argument("--accuracies", type=Path, nargs="+")
    options = parser.parse_args()
    if options.cat is not None:
        from PIL import Image
        from skimage.data import cat

        Image.fromarray(cat()).save(options.cat)
    elif options.accuracies:
        print("\n".join(map(accuracy, options.accuracies)))
    else:
        print("run-real" if real() else "run-drawn")


if __name__ == "__main__":
    main()
