"""The tables of the pages are those of the results that the benchmarks left, each with its command and machine."""

import json
import re

import pytest

from benchmarks.common import RESULTS
from benchmarks.tables import filled, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_shows_the_results_as_they_are(page):
    assert filled(page.read_text()) == page.read_text(), "run `python -m benchmarks.tables`"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_how_it_came_about_and_is_shown(path):
    result = json.loads(path.read_text())
    assert (result["format"], result["format_version"]) == ("tlkeras-benchmark", 1)
    assert "python -m " in result["command"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    assert result["machine"]["processor"]
    assert result["machine"]["cores"] >= 1
    assert {"python", "tensorflow", "keras"} <= set(result["versions"])
    for table in result["tables"]:
        assert {len(row) for row in table["rows"]} == {len(table["header"])}
    assert any(f"<!-- results: {path.stem}" in page.read_text() for page in pages())
