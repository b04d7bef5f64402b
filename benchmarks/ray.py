"""Features on a Ray cluster against the local run: images a second in steady state, start-up, memory of an actor.

    TLKERAS_ASSETS=… python -m benchmarks.ray --actors 1 2 4 --images 2000 --rounds 2

Needs ``pip install "tlkeras[ray]"``. The cluster is two nodes on this machine, each with half of the cores (or of the
most actors, where those are more), as ``ray.cluster_utils.Cluster`` makes them. Cats vs dogs photos, MobileNetV2 with
ImageNet weights at 224 px; every run begins with an empty folder. Steady state is what is measured from when every
worker has finished its first shard; busy is the share of it in which a worker had a shard at hand, and did not wait for
Ray.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.common import THREADS, assets, print_table


def run(files: list[str], engine: str, rows: int, actors: int | None) -> dict:
    from tlkeras.cluster import Place
    from tlkeras.features.bulk import extract_to

    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list.csv"
        listed.write_text("path\n" + "".join(f"{file}\n" for file in files))
        place = Place() if actors is None else Place("auto", actors)
        done = extract_to(
            str(listed), f"{folder}/to", backbone="mobilenet_v2", engine=engine, rows_a_shard=rows, place=place
        )
    return done.to_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engine", default="openvino")
    options = parser.parse_args()
    photos = sorted(str(path) for path in (assets() / "photos" / "cats_vs_dogs").rglob("*.jpg"))[: options.images]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    found: dict[int | None, list[dict]] = {None: [], **{count: [] for count in options.actors}}
    from ray.cluster_utils import Cluster

    cores = max(THREADS, *options.actors)
    node = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **node,
            "num_cpus": (cores + 1) // 2,
            "include_dashboard": False,
            # Ray gives its workers a low priority, which the local run has not.
            "_system_config": {"worker_niceness": 0},
        },
    )
    cluster.add_node(**node, num_cpus=max(cores // 2, 1))
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        # Turn by turn, so that a busy minute of the machine hits all alike.
        for _ in range(options.rounds):
            for count in found:
                found[count].append(run(photos, options.engine, options.rows, count))
    finally:
        cluster.shutdown()
    local = statistics.median(result["images_a_second"] for result in found[None])
    rows = []
    for count, results in found.items():
        rate = statistics.median(result["images_a_second"] for result in results)
        memory = max(worker["peak_mb"] for result in results for worker in result["workers"].values())
        workers = [worker for result in results for worker in result["workers"].values()]
        cpu = sum(worker["later_cpu_seconds"] for worker in workers)
        rows.append(
            (
                f"local, {THREADS} threads" if count is None else f"{count} actors",
                len(photos),
                f"{rate:.1f}",
                f"{rate / local:.2f}",
                " ".join(f"{result['images_a_second']:.1f}" for result in results),
                f"{1000 * cpu / max(sum(worker['later_images'] for worker in workers), 1):.1f}",
                f"{100 * statistics.median(result['busy'] for result in results):.0f} %",
                f"{statistics.median(result['first_seconds'] for result in results):.1f}",
                f"{statistics.median(result['seconds'] for result in results):.1f}",
                f"{memory:.0f}",
            )
        )
    print_table(
        (
            "who",
            "images",
            "images/s, steady",
            "against local",
            "each round",
            "CPU ms an image",
            "busy",
            "first shards after, s",
            "in all, s",
            "peak memory of a worker, MB",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
