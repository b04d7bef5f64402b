"""``MODEL_CARD.md``: what a model is, what it was trained on and how good it was found to be, for people and for hubs.

The front matter is that of Hugging Face's model cards (Mitchell et al. 2019 had the idea of the card). Only what was
measured or set is told; a section for which there is nothing is left out. The words are in ``model_card.md.j2``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from tlkeras import backbones
from tlkeras.data.dataset import plural, printable
from tlkeras.errors import ConfigError
from tlkeras.evaluation.metrics import percent
from tlkeras.export.formats import Format, Place
from tlkeras.run_facts import RunFacts, as_written

CARD_FILE = "MODEL_CARD.md"


def model_card(
    facts: RunFacts, *, name: str = "", parity: dict[str, Any] | None = None, formats: Sequence[Format] = ()
) -> str:
    """The card as Markdown behind YAML front matter.

    ``name``: of the model, by default the run's. ``parity``: the check of an export, as ``Parity.to_json`` gives it.
    ``formats``: those of the export.
    """
    with as_written(facts.folder):
        return _rendered(facts, name or facts.folder.resolve().name, parity, formats)


def _rendered(facts: RunFacts, name: str, parity: dict[str, Any] | None, formats: Sequence[Format]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    # Every JSON string is a YAML string, whatever is in it.
    environment.filters |= {"yaml": lambda text: json.dumps(printable(text)), "text": _text, "code": _code}
    environment.filters |= {"percent": percent, "repr": repr}
    config, metrics = facts.classifier, facts.metrics
    tags = ["image-classification", "transfer-learning", "keras", "tensorflow", "tlkeras", config["backbone"]]
    counts = facts.run.get("images") or {}
    versions = facts.run.get("environment") or config.get("versions") or {}
    rows = sorted(
        metrics["per_class"] if metrics else (),
        key=lambda row: (row["recall"] is None, row["f1"] or 0.0, row["class"]),
    )
    return environment.from_string((resources.files(__package__) / "model_card.md.j2").read_text("utf-8")).render(
        facts=facts,
        name=name,
        config=config,
        metrics=metrics,
        per_class=rows,
        interval=[percent(bound) for bound in metrics["accuracy_interval"]] if metrics else [],
        confused=_most_confused(metrics) if metrics else None,
        licence=_licence(facts),
        tags=dict.fromkeys([*tags, *(tag for one in formats for tag in one.tags)]),
        counts=[f"{counts[part]:,} {part}" for part in ("train", "validation", "test") if counts.get(part)],
        versions=[
            f"{part} {versions[part]}" for part in ("tlkeras", "tensorflow", "keras", "python") if part in versions
        ],
        parity=parity,
        usages=[one.usage(Place(name, ".", '"$PWD/.."')) for one in formats],
        plural=plural,
    )


def _licence(facts: RunFacts) -> str:
    """That of the pretrained weights that were built on; empty where it is not known."""
    if facts.run.get("config", {}).get("weights") not in ("pretrained", "imagenet"):
        return ""
    try:
        return backbones.get(facts.classifier["backbone"]).licence
    # A run of a tlkeras that had other backbones.
    except ConfigError:
        return ""


def _most_confused(metrics: dict[str, Any]) -> tuple[int, str, str]:
    names = metrics["class_names"]
    pairs = (
        (count, names[row], names[column])
        for row, counts in enumerate(metrics["confusion"])
        for column, count in enumerate(counts)
        if row != column
    )
    return max(pairs, key=lambda pair: pair[0])


def _text(text: str) -> str:
    """A name as Markdown that means nothing but itself."""
    plain = printable(text.replace("_", " ")).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*{}\[\]()#+!|~])", r"\\\1", plain)


def _code(text: str) -> str:
    return printable(text).replace("`", "'").replace("|", "¦")
