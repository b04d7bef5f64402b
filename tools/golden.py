"""Write what others rely on, from the code: docs/commands.md and tests/golden/api.txt.

    python -m tools.golden    # then look at the difference: what was removed or renamed breaks somebody's script

A test compares both files with the code.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ROOT / "docs" / "commands.md"
API = ROOT / "tests" / "golden" / "api.txt"

HEADER = """# Commands

Every command with its options; `tlkeras COMMAND --help` says the same. An option that cannot take effect is refused.
This page is made from the code by `python -m tools.golden`.
"""


def commands_page() -> str:
    """The page with every command's arguments and options: name, default, help."""
    import typer

    from tlkeras.cli.command import GROUPS
    from tlkeras.cli.main import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [HEADER]
    for group in GROUPS:
        lines += [f"## {group}", ""]
        for name, command in commands.items():
            if command.rich_help_panel == group:
                usage = "".join(f" {_argument(one)}" for one in command.params if one.param_type_name == "argument")
                lines += [f"### tlkeras {name}{usage}", "", " ".join(command.help.split()), ""]
                lines += ["| | default | |", "|---|---|---|", *_rows(command), ""]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = parameter.name.upper().rstrip("_") + ("…" if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _rows(command: Any) -> list[str]:
    """A row for each parameter, in the order of the help."""
    by_panel: dict[str, list[str]] = {}
    for one in command.params:
        panel = getattr(one, "rich_help_panel", None)
        panel = panel if isinstance(panel, str) else ""
        argument = one.param_type_name == "argument"
        name = _argument(one) if argument else "`, `".join([*one.opts, *one.secondary_opts])
        default = "" if argument or one.default is None or one.default is False else _default(one)
        cells = [name if argument else f"`{name}`", default, (one.help or "").replace("|", "\\|")]
        by_panel.setdefault("" if argument else panel, []).append("| " + " | ".join(cells) + " |")
    rows = by_panel.pop("", [])
    for panel, more in by_panel.items():
        rows += [f"| **{panel}** | | |", *more]
    return rows


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is True:
        return "on" if parameter.secondary_opts else ""
    return "required" if parameter.required else f"`{value}`"


def api_text() -> str:
    """A line for every public name of the package, with its signature; for classes their public members too."""
    import tlkeras

    lines = []
    for name in tlkeras.__all__:
        value = getattr(tlkeras, name)
        lines.append(name + _signature(value))
        if inspect.isclass(value):
            members = inspect.getmembers_static(value, lambda member: not inspect.isclass(member))
            for member, what in members:
                if not member.startswith("_") and any(member in vars(home) for home in _ours(value)):
                    lines.append(f"    {member}{_signature(getattr(what, '__func__', what))}")
    return "\n".join(lines) + "\n"


def _ours(value: type) -> list[type]:
    return [home for home in value.__mro__ if home.__module__.startswith("tlkeras")]


def _signature(value: Any) -> str:
    if not callable(value):
        return ""
    try:
        return str(inspect.signature(value)).replace("'", "")
    except ValueError:
        return ""


def main() -> None:
    """Run as a script."""
    for path, text in ((COMMANDS, commands_page()), (API, api_text())):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
