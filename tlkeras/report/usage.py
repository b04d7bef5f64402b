"""The last sections: how to use the model, in lines to copy, and all settings and versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlkeras.data.dataset import printable
from tlkeras.report.section import Section
from tlkeras.run_facts import RunFacts


def usage(facts: RunFacts, exported: str = "") -> Section:
    """Lines to copy for Python, the command line, TensorFlow Serving and ONNX.

    ``exported``: the folder ``…/NAME/NUMBER`` of an export, where there is one.
    """
    run = printable(str(facts.folder))
    quoted = shlex.quote(run)
    version = Path(printable(exported)) if exported else Path("models") / _model_name(facts) / "1"
    name, models = version.parent.name, str(version.parent.parent)
    # A path that is not absolute and has no folder in front would be a volume's name for docker.
    source = shlex.quote(str(version.parent)) if version.is_absolute() else f'"$PWD"/{shlex.quote(str(version.parent))}'
    photo = "'\"$(base64 -w0 photo.jpg)\"'"
    request = f'{{"signature_name": "image_bytes", "instances": [{{"image_bytes": {{"b64": "{photo}"}}}}]}}'
    lines = [
        {
            "title": "Command line",
            "code": f"tlkeras predict {quoted} photo.jpg other_photos/",
        },
        {
            "title": "Python",
            "code": "from tlkeras import ImageClassifier\n\n"
            f"classifier = ImageClassifier.load({run!r})\n"
            'classifier.predict(["photo.jpg"])        # class names\n'
            'classifier.predict_proba(["photo.jpg"])  # calibrated probabilities',
        },
    ]
    if not exported:
        lines.append(
            {
                "title": "Export: SavedModel and ONNX, published once both answer as Python does",
                "code": f"tlkeras export {quoted} --to models --name {name}",
            }
        )
    lines += [
        {
            "title": "TensorFlow Serving, asked by curl",
            "code": f"docker run -d -p 8501:8501 -v {source}:/models/{name}:ro \\\n"
            f"  -e MODEL_NAME={name} tensorflow/serving:2.21.0\n"
            f"echo '{request}' |\n  curl -s -d @- http://localhost:8501/v1/models/{name}:predict",
        },
        {
            "title": "ONNX Runtime, without TensorFlow",
            "code": "from tlkeras.runtime import OnnxClassifier\n\n"
            f"classifier = OnnxClassifier.load({str(Path(models) / name / version.name)!r})\n"
            'classifier.predict("photo.jpg")',
        },
    ]
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
