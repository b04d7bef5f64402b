"""One full report of a small demo run, made once for all tests, and one made-up run with hostile names."""

import json
import shutil

import pytest

from tests.report.runs import make_run
from tlkeras.run_facts import read_run

HOSTILE_CLASSES = ("<script>window.hacked=1</script>", "a & b", "\"><img src=x onerror='window.hacked=1'>", "plain")
HOSTILE_FILES = (
    "<img src=x onerror=window.hacked=1>.jpg",
    "\"'><script>window.hacked=1<!--.jpg",
    "{{ 7*7 }}.jpg",
    "not utf-8 \udcff\udcfe.jpg",
    "line\nbreak.jpg",
)


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """A finished run on the demo's pictures, some with a wrong label, with everything of a full report.

    ``swapped.json`` beside it names the pictures whose label was changed.
    """
    from tlkeras.cli.main import main
    from tlkeras.data.demo import demo_folder
    from tlkeras.training.config import TrainConfig
    from tlkeras.training.run import train

    home = tmp_path_factory.mktemp("demo")
    patch = pytest.MonkeyPatch()
    patch.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("demo_cache")))
    photos = home / "animals"
    shutil.copytree(demo_folder(), photos)
    swapped = []
    for source, target in (("zebra", "dog"), ("dog", "zebra")):
        for path in sorted((photos / source).glob(f"{source}_*"))[10:16]:
            path.rename(photos / target / f"swapped-{path.name}")
            swapped.append(f"swapped-{path.name}")
    (home / "swapped.json").write_text(json.dumps(swapped))
    folder = home / "run"
    train(TrainConfig("tlkeras_tiny", engine="tensorflow"), photos, out=folder)
    assert main(["report", str(folder), "--full", "--json"]) == 0
    patch.undo()
    return folder


@pytest.fixture(scope="session")
def demo_facts(demo_run):
    return read_run(demo_run)


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory):
    """A run whose class names and file names would like to be markup."""
    return make_run(tmp_path_factory.mktemp("hostile") / "run", HOSTILE_CLASSES, 3, names=HOSTILE_FILES, issues=4)
