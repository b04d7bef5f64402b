"""Errors are one line: rule, received, next step."""

import pickle

import pytest

from tlkeras.errors import ConfigError, ImageError, StorageError, TlkerasError, unknown


def test_one_line_with_all_three_parts():
    error = ConfigError("seed must be whole", received="'a\nb'", next_step="Give a number.")
    assert str(error) == "seed must be whole; received 'a b'. Give a number."
    assert error.exit_code == 2
    assert isinstance(error, ValueError)
    assert str(StorageError("cannot write 'x'", next_step="Free some space.")) == "cannot write 'x'. Free some space."


def test_an_error_survives_the_trip_between_processes():
    error = ImageError("empty", "the file is empty", received="0 bytes")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.reason == "empty"
    assert isinstance(copy, TlkerasError)


@pytest.mark.parametrize(
    ("received", "choices", "line"),
    [
        ("mobilnet_v2", ["mobilenet_v2", "vgg16"], "unknown thing 'mobilnet_v2'; did you mean 'mobilenet_v2'?"),
        ("zzz", ["a", "b"], "unknown thing 'zzz'; known are a, b."),
        ("zzz", map(str, range(40)), "unknown thing 'zzz'."),
    ],
)
def test_unknown_names_the_nearest(received, choices, line):
    assert str(unknown("thing", received, choices)) == line
    assert str(unknown("thing", received, [], next_step="List them.")).endswith("List them.")
