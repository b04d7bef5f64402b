"""Importing tlkeras and asking for help must be quick: nothing heavy is loaded before it is needed."""

import subprocess
import sys

import pytest

import tlkeras

HEAVY = ("tensorflow", "keras", "onnxruntime", "openvino", "tensorflow_datasets", "scipy", "numpy", "PIL", "matplotlib")


@pytest.mark.parametrize(
    "code",
    [
        "import tlkeras",
        "from tlkeras.cli.main import main; assert main(['--help']) == 0",
        "from tlkeras.cli.main import REGISTERED, main; assert not any(main([name, '--help']) for name in REGISTERED)",
    ],
)
def test_nothing_heavy_is_imported(code):
    check = f"{code}\nimport sys\nprint('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_public_names_are_there():
    for name in tlkeras.__all__:
        assert getattr(tlkeras, name).__doc__
        assert name in dir(tlkeras)
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        _ = tlkeras.Classifier
