"""The house as docs/architecture.md draws it: floors, no circles, and rooms of a size that can be read."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 350


@cache
def modules():
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "tlkeras").rglob("*.py")):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def imports():
    """What each module imports of the package, inside functions too; what only a type checker sees is left out."""
    found = {}
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        unseen = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
        }
        named = set()
        for node in ast.walk(tree):
            if id(node) in unseen:
                continue
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        found[name] = {one for one in named if one in modules() and one != name and not name.startswith(f"{one}.")}
    return found


def room(module):
    """The folder or the file directly in the package that a module lies in."""
    return (*module.split("."), "tlkeras")[1]


@cache
def floors():
    """The floor of each room, as the page has it."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = re.search(r"\| floor \| rooms \|\n\|---\|---\|\n((?:\|.*\|\n)+)", page)[1]
    rows = [re.findall(r"`(\w+)`", line.split("|")[2]) for line in table.splitlines()]
    return {name: number for number, row in enumerate(rows) for name in row}


def test_the_page_names_every_room():
    assert set(floors()) == {room(module) for module in modules()} - {"tlkeras"}


@pytest.mark.parametrize("module", [module for module in modules() if module != "tlkeras"])
def test_a_module_imports_from_below(module):
    for other in imports()[module] - {"tlkeras"}:
        if room(other) != room(module):
            assert floors()[room(other)] < floors()[room(module)], f"{module} imports {other}"


def test_there_are_no_circles():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(imports()[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in modules():
        visit(module)


@pytest.mark.parametrize("module", modules())
def test_a_module_can_be_read_in_one_go(module):
    assert len(modules()[module].read_text().splitlines()) <= MAX_LINES
