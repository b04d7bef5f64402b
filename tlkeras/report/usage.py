"""The last sections: how to use the model, in lines to copy, and all settings and versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlkeras.data.dataset import printable
from tlkeras.export.formats import DEFAULT_FORMATS, FORMATS, Place, Usage, formats_in
from tlkeras.report.section import Section
from tlkeras.run_facts import RunFacts


def usage(facts: RunFacts, exported: str = "") -> Section:
    """Lines to copy for Python, the command line, and each format of an export.

    ``exported``: the folder ``…/NAME/NUMBER`` of an export, where there is one.
    """
    run = printable(str(facts.folder))
    quoted = shlex.quote(run)
    version = Path(printable(exported)) if exported else Path("models") / _model_name(facts) / "1"
    name, model = version.parent.name, shlex.quote(str(version.parent))
    # A path that is not absolute and has no folder in front would be a volume's name for docker.
    place = Place(name, str(version), model if version.is_absolute() else f'"$PWD"/{model}')
    python = (
        "from tlkeras import ImageClassifier\n\n"
        f"classifier = ImageClassifier.load({run!r})\n"
        'classifier.predict(["photo.jpg"])        # class names\n'
        'classifier.predict_proba(["photo.jpg"])  # calibrated probabilities'
    )
    lines = [
        Usage("Command line", "bash", f"tlkeras predict {quoted} photo.jpg other_photos/"),
        Usage("Python", "python", python),
    ]
    formats = formats_in(Path(exported)) if exported else [FORMATS[name] for name in DEFAULT_FORMATS]
    if not exported:
        title = "Export, published once every format answers as Python does"
        lines.append(Usage(title, "bash", f"tlkeras export {quoted} --to models --name {name}"))
    lines += [one.usage(place) for one in formats]
    return Section("usage", "How to use it", "Use it", {"lines": lines})


def configuration(facts: RunFacts, made_with: Mapping[str, str]) -> Section:
    """All settings of the run, times, and the versions that made it and this page."""
    run = facts.run
    tables = [
        ("Classifier", _flat({k: v for k, v in facts.classifier.items() if k not in _LEFT_OUT})),
        ("Training options", _flat(run.get("config", {}))),
        ("Data", _flat({k: run[k] for k in ("data", "test_data", "source", "images") if run.get(k) is not None})),
        ("Features", _flat(run.get("features", {}))),
        ("Seconds", _flat(run.get("seconds", {}))),
        ("Trained with", _flat(run.get("environment", {}) or facts.classifier.get("versions", {}))),
        # Only where it tells something: a report may be made with newer packages than the run.
        ("Reported with", _flat({k: v for k, v in made_with.items() if run.get("environment", {}).get(k) != v})),
    ]
    return Section(
        "configuration",
        "Configuration and versions",
        "Configuration",
        {"tables": [(title, rows) for title, rows in tables if rows]},
    )


_LEFT_OUT = ("class_names", "versions", "format", "format_version")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested plain values as rows: ``head.units``, ``256, 128``."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            rows.append((printable(prefix + name), printable(", ".join(map(str, value)))))
        else:
            rows.append((printable(prefix + name), "–" if value is None else printable(_plain(value))))
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _model_name(facts: RunFacts) -> str:
    """The run's name where an export could have it, else a plain one."""
    name = facts.folder.name
    plain = name.isascii() and name[:1].isalnum() and all(letter.isalnum() or letter in "._-" for letter in name)
    return name if plain else "model"
