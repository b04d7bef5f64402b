"""What ``make run`` is told to look at, and the line on how good a run is."""

import json

import pytest

from tlkeras import backbones
from tools import at_hand


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), "run-real"),
        (("skimage",), "run-drawn"),
        (at_hand.NETWORKS[:1], "run-drawn"),
        (at_hand.NETWORKS[1:], "run-drawn"),
    ],
)
def test_the_real_job_needs_the_photo_and_both_networks(missing, expected, tmp_path, monkeypatch, capsys):
    def located(file):
        (name,) = (name for name in at_hand.NETWORKS if backbones.get(name).weights_top == file)
        path = tmp_path / name
        if name not in missing:
            path.touch()
        return path

    monkeypatch.setattr(backbones, "locate", located)
    monkeypatch.setattr(at_hand, "find_spec", lambda name: None if name in missing else object())
    monkeypatch.setattr("sys.argv", ["at_hand"])
    at_hand.main()
    assert capsys.readouterr().out.split() == [expected]


def test_how_good_a_run_is_stands_on_one_line(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config": {"backbone": "tlkeras_tiny"}}))
    measured = {"accuracy": 0.75, "accuracy_interval": [0.5, 0.875], "images": 8}
    (tmp_path / "metrics.json").write_text(json.dumps(measured))
    assert at_hand.accuracy(tmp_path).split(maxsplit=1) == [
        "tlkeras_tiny",
        "75.0% of 8 photos (95 %: 50.0% to 87.5%)",
    ]
