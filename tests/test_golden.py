"""What scripts of others rely on does not change by accident: the commands' options and the names of the package."""

import pytest

from tools import golden


@pytest.mark.parametrize(
    ("path", "text"), [(golden.COMMANDS, golden.commands_page), (golden.API, golden.api_text)], ids=["commands", "api"]
)
def test_it_is_as_it_was_written(path, text):
    assert path.read_text() == text(), "meant? `python -m tools.golden` writes it anew; tell it in CHANGELOG.md"
