"""Which heat maps are faithful: deletion and insertion over real photos, against random maps and maps without meaning.

    python -m benchmarks.heat_maps [--network mobilenet_v2] [--photos 60]

Photos are drawn from the ImageNet photos of the assets, one of a class each, or from a folder; explained is what the
network names first. What is hidden is blurred, or, as a check that nothing is tuned to the blur, grey.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import assets, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet_v2", help="a backbone or a run")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--data", type=Path, help="folder of photos, by default the assets' one_per_class")
    options = parser.parse_args()
    folder = options.data or assets() / "photos" / "imagenet" / "one_per_class"

    from tlkeras.explain.faithfulness import CELLS, areas, blurred, of_areas, order_of, random_orders
    from tlkeras.explain.methods import METHODS
    from tlkeras.images.resize import PAD_VALUE_255
    from tlkeras.target import load_target

    target = load_target(options.network)
    paths = sorted(path for path in folder.rglob("*.jpg") if path.stat().st_size)
    paths = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[: options.photos]]
    answer = target.quick_answers()
    methods = {name: one.make(target, one.layers(target.network)) for name, one in METHODS.items()}
    corner = np.add.outer(np.arange(CELLS), np.arange(CELLS))[::-1, ::-1]
    centre = -np.hypot(*(np.indices((CELLS, CELLS)) - (CELLS - 1) / 2))
    seconds = dict.fromkeys(methods, 0.0)
    rows: dict[tuple[str, str], list[Any]] = {}
    before: dict[str, np.ndarray] = {}
    for number, path in enumerate(paths, 1):
        pixels = target.load(path)
        k = int(answer(pixels[None])[0].argmax())
        maps: dict[str, np.ndarray] = {}
        for name, made in methods.items():
            started = time.perf_counter()
            maps[name] = made(pixels, k, answer)
            seconds[name] += (time.perf_counter() - started) / len(paths)
        here = dict(maps)
        here |= {f"{name} of the photo before": one for name, one in before.items() if name == "occlusion"}
        here |= {"the middle": centre, "a corner": np.rot90(corner, number)}
        orders = [*map(order_of, here.values()), *random_orders()]
        for ground, hidden in (("blur", blurred(pixels)), ("grey", np.full_like(pixels, PAD_VALUE_255))):
            found = areas(answer, pixels, hidden, k, orders)
            for name, one in zip(here, found, strict=False):
                rows.setdefault((name, ground), []).append(of_areas(one, found[len(here) :]))
        before = maps
        if number % 10 == 0:
            print(f"{number} photos", flush=True)

    def figures(name: str) -> list[str]:
        cells = []
        for ground in ("blur", "grey"):
            found = rows[name, ground]
            means = [
                f"{np.mean([getattr(one, part) for one in found]):.3f}" for part in ("deletion", "insertion", "score")
            ]
            cells += [*means, f"{np.mean([one.better_than_chance for one in found]):.0%}".replace("%", " %")]
        return cells

    def random(ground: str) -> str:
        return f"± {np.sqrt(np.mean([one.random_score**2 for one in rows['grad-cam', ground]])):.3f}"

    header = [f"{len(paths)} photos, {options.network}", "ms"]
    for ground in ("blurred", "grey"):
        header += [f"deletion, {ground}", "insertion", "score", "better than chance"]
    names = dict.fromkeys(name for name, _ in rows)
    table = [[name, f"{1000 * seconds[name]:.0f}" if name in seconds else "", *figures(name)] for name in names]
    print_table(header, [*table, ["random maps", "", "", "", random("blur"), "", "", "", random("grey"), ""]])


if __name__ == "__main__":
    main()
