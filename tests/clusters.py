"""A small Ray cluster on this machine, for tests: two nodes with one core each."""

import contextlib
import socket

import psutil
import pytest

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
STORE_BYTES = 80 * 2**20
# What is busy is not dead: on a loaded machine Ray would give up a node after some seconds, and a worker that has not
# started after 60.
PATIENT = {
    "health_check_timeout_ms": 60_000,
    "health_check_initial_delay_ms": 60_000,
    "worker_register_timeout_seconds": 600,
}


@contextlib.contextmanager
def two_nodes():
    """Start the cluster, let ``--on auto`` find it; gives it and its second node."""
    pytest.importorskip("ray", reason='needs Ray: pip install "tlkeras[ray]"')
    patch = pytest.MonkeyPatch()
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    import ray
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client_port = free.getsockname()[1]
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "ray_client_server_port": client_port,
            "_system_config": PATIENT,
        },
    )
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        patch.setenv("RAY_ADDRESS", cluster.address)
        cluster.client_port = client_port
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()
        patch.undo()


def actors():
    """The processes of actors that compute shards, of this process's own cluster: others may run beside it."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = " ".join(process.cmdline())
            if "MapWorker(MapBatches(ShardActor))" in title and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
