"""Importing tlkeras and asking for help must be quick: nothing heavy is loaded before it is needed."""

import os
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


# What is answered by the engine that was verified before, in the order in which it is asked for in one process.
# Fine-tuning, MLP heads, ideal images, attacks, heat maps need gradients; SavedModel, TFDS, TFRecords are TensorFlow's.
WITHOUT_TENSORFLOW = (
    "predict run {photos}/blue/00.jpg",
    "predict run {photos} --to shards",
    "evaluate run {photos} --include-seen",
    "train {photos} --out again --head linear --validation-fraction 0.2 --test-fraction 0.2 {network}",
    "report run",
    "report run {photos} --include-seen",
    "few-shot {photos} --shots 1,5 --draws 1 {network}",
    "compare {photos} --images 40 --backbones tlkeras_tiny --size 32",
    "extract {photos} --to features {network}",
    "train features --out from-features",
)


def test_where_a_network_is_known_tensorflow_is_not_imported(photo_folder, tmp_path):
    network = "--backbone tlkeras_tiny --size 32"
    asked = [line.format(photos=photo_folder, network=network).split() for line in WITHOUT_TENSORFLOW]
    first = [[*asked[3][:3], "run", *network.split()], *(line for line in asked if line[0] == "compare")]
    environment = {**os.environ, "TLKERAS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def told(lines, words):
        code = f"{words}\nfrom tlkeras.cli.main import main\nfor line in {lines!r}:\n    said(line, main(line))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("SAID")]

    words = "import sys\ndef said(line, code): print('SAID', line[0], code, 'tensorflow' in sys.modules)"
    told(first, words)
    # Two files of the folder are broken, which predict ends with 1 for.
    codes = [1, 1, *([0] * (len(asked) - 2))]
    codes[0] = 0
    expected = [f"SAID {line[0]} {code} False" for line, code in zip(asked, codes, strict=True)]
    assert told(asked, words) == expected
    in_python = f"""
import sys
from tlkeras import ImageClassifier
classifier = ImageClassifier.load("run")
print("SAID", *classifier.predict({[str(photo_folder / "blue" / "00.jpg")]!r}), "tensorflow" in sys.modules)
def said(*_): pass"""
    assert told([], in_python) == ["SAID blue False"]


def test_public_names_are_there():
    for name in tlkeras.__all__:
        assert getattr(tlkeras, name).__doc__
        assert name in dir(tlkeras)
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        _ = tlkeras.Classifier
