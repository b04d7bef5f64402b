"""Write the tables of the pages from the results in ``benchmarks/results``.

    python -m benchmarks.tables [--check]

A page marks a table by a line ``<!-- results: NAME -->`` (or ``NAME/2`` for the second table of a file) before it; the
table behind the mark is replaced. With ``--check`` nothing is written, and a page that differs ends the program with 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks.common import RESULTS, markdown

ROOT = Path(__file__).resolve().parents[1]
_MARKED = re.compile(
    r"^<!-- results: (?P<name>[\w-]+)(/(?P<number>\d+))? -->\n\n?(?P<table>(?:\|[^\n]*\n)*)", re.MULTILINE
)


def pages() -> list[Path]:
    """The pages that may hold results."""
    return [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """A page with its marked tables as the results have them.

    Raises: FileNotFoundError for a mark whose result is not there.
    """

    def table(match: re.Match[str]) -> str:
        tables = json.loads((RESULTS / f"{match['name']}.json").read_text())["tables"]
        chosen = tables[int(match["number"] or 1) - 1]
        mark = match[0].split("\n", 1)[0]
        return f"{mark}\n\n{markdown(chosen['header'], chosen['rows'])}\n"

    return _MARKED.sub(table, text)


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    only_check = parser.parse_args().check
    behind = [page for page in pages() if filled(page.read_text()) != page.read_text()]
    for page in behind:
        print(f"{page.relative_to(ROOT)} {'differs from its results' if only_check else 'written'}", file=sys.stderr)
        if not only_check:
            page.write_text(filled(page.read_text()))
    return 1 if only_check and behind else 0


if __name__ == "__main__":
    sys.exit(main())
