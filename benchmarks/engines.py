"""Images per second of each engine on frozen backbones, against Keras, and how far they differ from it.

    python -m benchmarks.engines [backbone …]

Random weights (the rate does not depend on them), one batch of 32 over and over, best of three.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.common import THREADS, fix_threads, print_table


def main() -> None:
    fix_threads()
    from tlkeras.backbones.frozen import frozen
    from tlkeras.engines import ENGINES, installed, open_engine

    rows = []
    for name in sys.argv[1:] or ("mobilenet_v2", "resnet50", "efficientnet_b0", "densenet121"):
        backbone = frozen(name, "none")
        size_px = backbone.size_px
        pixels = np.random.default_rng(0).uniform(0, 255, (32, size_px, size_px, 3)).astype(np.float32)
        cells: list[object] = [name, size_px]
        for engine_name in ENGINES:
            if engine_name not in installed():
                cells += ["not installed", ""]
                continue
            engine = open_engine(backbone, name=engine_name)
            best = np.inf
            for _ in range(3):
                started = time.perf_counter()
                engine.run(pixels)
                best = min(best, time.perf_counter() - started)
            cells += [f"{len(pixels) / best:.0f}", f"{engine.difference:.0e}"]
        rows.append(cells)
    header = ["backbone", "px"]
    for engine_name in ENGINES:
        header += [f"{engine_name}, images/s", "differs"]
    print(f"{THREADS} threads, batches of 32")
    print_table(header, rows)


if __name__ == "__main__":
    main()
