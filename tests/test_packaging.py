"""What pyproject.toml says of the package is what lies there."""

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_data_file_gets_into_the_wheel():
    globs = PROJECT["tool"]["setuptools"]["package-data"]["tlkeras"]
    files = [path.relative_to(ROOT / "tlkeras") for path in (ROOT / "tlkeras").rglob("*") if path.is_file()]
    left_out = [
        str(path)
        for path in files
        if path.suffix not in (".py", ".pyc") and not any(fnmatch.fnmatch(str(path), pattern) for pattern in globs)
    ]
    assert left_out == []


def test_every_dependency_has_an_upper_bound():
    assert [name for name in PROJECT["project"]["dependencies"] if "<" not in name] == []
