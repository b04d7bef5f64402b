"""Importing tlkeras and asking for help must be quick: nothing heavy is loaded before it is needed."""

import subprocess
import sys

import pytest

import tlkeras

SLOW = ("tensorflow", "keras", "onnxruntime", "openvino", "tensorflow_datasets", "scipy", "matplotlib")
HEAVY = (*SLOW, "numpy", "PIL", "http.client")


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import tlkeras", HEAVY),
        ("from tlkeras.cli.main import main; assert main(['--help']) == 0", HEAVY),
        (
            "from tlkeras.cli.main import REGISTERED, main; assert not any(main([n, '--help']) for n in REGISTERED)",
            HEAVY,
        ),
        # What answers, audits and draws a report has nothing to wait for.
        ("import tlkeras.predictor, tlkeras.data.audit, tlkeras.report.build, tlkeras.export.card", SLOW),
    ],
)
def test_nothing_heavy_is_imported(code, heavy):
    check = f"{code}\nimport sys\nprint('LOADED', [m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_public_names_are_there():
    for name in tlkeras.__all__:
        assert getattr(tlkeras, name).__doc__
        assert name in dir(tlkeras)
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        _ = tlkeras.Classifier
