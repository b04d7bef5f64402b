"""The two cluster files of docs/scale.md, read by the code of Ray's own that reads such files on a cluster."""

import copy
import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
pytest.importorskip("ray", reason='needs Ray: pip install "tlkeras[ray]"')
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.fixture(scope="module")
def files():
    """The page's YAML by its first key."""
    found = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.M | re.S)]
    return {next(iter(file)): file for file in found}


def test_ray_up_takes_the_cluster_file(files):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = files["cluster_name"]
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    head, worker = (prepared["available_node_types"][name] for name in ("head", "worker"))
    assert head["resources"]["CPU"] == 0
    assert worker["min_workers"] == worker["max_workers"] == prepared["max_workers"]
    broken = copy.deepcopy(config)
    broken["available_node_types"]["worker"]["min_worker"] = 1
    with pytest.raises(ValidationError, match="min_worker"):
        validate_config(prepare_config(broken))


def test_the_autoscaler_reads_the_cluster_of_the_kuberay_job(files):
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as derive

    job = files["apiVersion"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"].startswith("tlkeras extract ")
    cluster = job["spec"]["rayClusterSpec"]
    config = derive({"metadata": {"name": job["metadata"]["name"], "namespace": "default"}, "spec": cluster})
    (name,) = set(config["available_node_types"]) - {config["head_node_type"]}
    workers = config["available_node_types"][name]
    # Nothing is scheduled on the head; the actors' cores and memory are what the containers may use.
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0
    assert (workers["resources"]["CPU"], workers["resources"]["memory"]) == (32, 120 * 2**30)
    assert workers["min_workers"] <= cluster["workerGroupSpecs"][0]["replicas"] <= workers["max_workers"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= set(container)


def test_the_command_of_the_job_is_one_that_there_is(files):
    """The entrypoint's options, parsed by the command line itself."""
    import shlex

    import typer

    from tlkeras.cli.main import app

    words = shlex.split(files["apiVersion"]["spec"]["entrypoint"])
    command = typer.main.get_command(app).commands[words[1]]
    with command.make_context("extract", words[2:]) as context:
        assert context.params["on"] == "auto"
        assert context.params["to"].startswith("s3://")
