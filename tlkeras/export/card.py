"""``MODEL_CARD.md``: what a model is, what it was trained on and how good it was found to be, for people and for hubs.

The front matter is that of Hugging Face's model cards (Mitchell et al. 2019 had the idea of the card). Only what was
measured or set is told; a section for which there is nothing is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tlkeras import backbones
from tlkeras.data.dataset import plural, printable
from tlkeras.errors import ConfigError
from tlkeras.evaluation.metrics import percent
from tlkeras.export.formats import Format, Place
from tlkeras.run_facts import RunFacts

CARD_FILE = "MODEL_CARD.md"
_CLASSES_LISTED, _WEAKEST = 60, 20
_PRETRAINED = ("pretrained", "imagenet")


def model_card(
    facts: RunFacts, *, name: str = "", parity: dict[str, Any] | None = None, formats: Sequence[Format] = ()
) -> str:
    """The card as Markdown behind YAML front matter.

    ``name``: of the model, by default the run's. ``parity``: the check of an export, as ``Parity.to_json`` gives it.
    ``formats``: those of the export.
    """
    name = name or facts.folder.resolve().name
    parts = [
        _front_matter(facts, name, formats),
        f"# {_text(name)}",
        _what(facts),
        _measured(facts),
        _classes(facts),
        _data(facts),
        _limits(facts),
        _training(facts),
        _checked(parity),
        _use(name, formats),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: RunFacts, name: str, formats: Sequence[Format]) -> str:
    tags = ["image-classification", "transfer-learning", "keras", "tensorflow", "tlkeras", facts.classifier["backbone"]]
    lines = [
        "---",
        f"license: {_licence(facts)[0]}",
        "library_name: keras",
        "pipeline_tag: image-classification",
        "tags:",
        *(f"- {_yaml(tag)}" for tag in dict.fromkeys([*tags, *(tag for one in formats for tag in one.tags)])),
    ]
    if facts.metrics:
        figures = [(kind, words, facts.metrics[field]) for kind, words, field in _METRICS]
        lines += [
            "metrics:",
            "- accuracy",
            "model-index:",
            f"- name: {_yaml(name)}",
            "  results:",
            "  - task:",
            "      type: image-classification",
            "      name: Image Classification",
            "    dataset:",
            f"      name: {_yaml(facts.data_name or name)}",
            f"      type: {_yaml(facts.data_name or name)}",
            "      split: test",
            "    metrics:",
            *(
                line
                for kind, words, value in figures
                for line in (f"    - type: {kind}", f"      name: {words}", f"      value: {value:.6g}")
            ),
        ]
    return "\n".join([*lines, "---"])


_METRICS = (
    ("accuracy", "Accuracy", "accuracy"),
    ("mean_per_class_accuracy", "Mean per-class accuracy", "mean_per_class_accuracy"),
    ("log_loss", "Log loss (nats)", "log_loss"),
    ("ece", "Expected calibration error", "ece"),
)


def _licence(facts: RunFacts) -> tuple[str, str]:
    """The hub's identifier of the licence, and what it hangs on in words."""
    weights = facts.run.get("config", {}).get("weights")
    if weights in _PRETRAINED:
        try:
            licence = backbones.get(facts.classifier["backbone"]).licence
        # A run of a tlkeras that had other backbones.
        except ConfigError:
            return "other", ""
        return licence.lower(), f"The pretrained weights that it builds on are under the licence {licence}."
    return "other", ""


def _what(facts: RunFacts) -> str:
    config = facts.classifier
    names = ", ".join(_text(class_name) for class_name in facts.class_names[:_CLASSES_LISTED])
    more = len(facts.class_names) - _CLASSES_LISTED
    listed = f"{names} and {more} more (`labels.txt`)" if more > 0 else names
    lines = [
        f"An image classifier for {plural(len(facts.class_names), 'class', 'classes')}: {listed}.",
        f"It is the network `{config['backbone']}` at {config['size_px']} × {config['size_px']} pixels with a "
        f"{config['head']['kind']} head, trained with tlkeras.",
        _licence(facts)[1],
    ]
    return " ".join(line for line in lines if line)


def _measured(facts: RunFacts) -> str:
    metrics = facts.metrics
    if not metrics:
        return ""
    low, high = metrics["accuracy_interval"]
    rows = [
        ("photos", f"{metrics['images']:,}"),
        ("accuracy", f"{percent(metrics['accuracy'])} (95 % interval: {percent(low)} to {percent(high)})"),
        ("mean per-class accuracy", percent(metrics["mean_per_class_accuracy"])),
    ]
    if metrics.get("top5_accuracy") is not None:
        rows.append(("right class among the first five", percent(metrics["top5_accuracy"])))
    rows += [
        ("log loss", f"{metrics['log_loss']:.4f} nats"),
        ("expected calibration error", percent(metrics["ece"])),
    ]
    return f"## How good it is\n\nMeasured on {facts.measured_on}.\n\n" + _table(("measure", "value"), rows)


def _classes(facts: RunFacts) -> str:
    if not facts.metrics:
        return ""
    rows = sorted(facts.metrics["per_class"], key=lambda row: (row["recall"] is None, row["f1"] or 0.0, row["class"]))
    title = "## Class by class, the weakest first"
    if len(rows) > _CLASSES_LISTED:
        rows, title = rows[:_WEAKEST], f"## The {_WEAKEST} weakest of {len(rows)} classes"
    cells = [
        (_text(row["class"]), str(row["images"]), *(percent(row[name]) for name in ("recall", "precision", "f1")))
        for row in rows
    ]
    return f"{title}\n\n" + _table(("class", "photos", "recall", "precision", "F1"), cells)


def _data(facts: RunFacts) -> str:
    counts = facts.run.get("images")
    if not counts:
        return ""
    parts = ", ".join(f"{counts[name]:,} {name}" for name in ("train", "validation", "test") if counts.get(name))
    lines = [f"Photos of `{_code(facts.data_name)}`: {parts}."] if facts.data_name else [f"Photos: {parts}."]
    if facts.audit:
        found = facts.audit["counts"]
        lines.append(
            f"Every file was checked before: of {found['images']:,} files {found['rejected']:,} were rejected "
            f"(broken, or copies), {found['repaired']:,} repaired, {found['suspicious']:,} used though suspicious."
        )
    if facts.issues:
        lines.append(f"The labels of {len(facts.issues):,} are in doubt by confident learning.")
    return "## Data\n\n" + " ".join(lines)


def _limits(facts: RunFacts) -> str:
    lines = [
        f"- It names one of its {plural(len(facts.class_names), 'class', 'classes')} for every photo, also for one "
        "that shows none of them."
    ]
    metrics = facts.metrics
    if metrics:
        weakest = facts.weakest
        if weakest["recall"] < 1:
            lines.append(
                f"- Its weakest class is {_text(weakest['class'])}: {percent(weakest['recall'])} of "
                f"{plural(weakest['images'], 'photo')} were found."
            )
        count, label, predicted = _most_confused(metrics)
        if count:
            lines.append(f"- Most often it took {_text(label)} for {_text(predicted)}: {plural(count, 'time')}.")
        low, high = metrics["accuracy_interval"]
        photos = plural(metrics["images"], "photo")
        lines.append(f"- From {photos} its accuracy is known no better than {percent(low)} to {percent(high)}.")
    return "## Limits\n\n" + "\n".join(lines)


def _most_confused(metrics: dict[str, Any]) -> tuple[int, str, str]:
    names = metrics["class_names"]
    return max(
        (
            (count, names[row], names[column])
            for row, counts in enumerate(metrics["confusion"])
            for column, count in enumerate(counts)
            if row != column
        ),
        key=lambda pair: pair[0],
    )


def _training(facts: RunFacts) -> str:
    config, run = facts.classifier, facts.run
    rows = [
        ("network", f"`{config['backbone']}`, {'fine-tuned' if facts.fine_tuned else 'frozen'}"),
        ("input", f"{config['size_px']} px, RGB in 0..255, photos made square by `{config['fit']}`"),
        ("head", str(config["head"]["kind"])),
    ]
    if (strength := run.get("head", {}).get("strength")) is not None:
        rows.append(("L2 strength C", f"{strength:.3g}"))
    rows.append(("temperature", f"{config['temperature']:.4g}"))
    if run.get("config"):
        rows.append(("seed", str(run["config"]["seed"])))
    if run.get("seconds"):
        rows.append(("time", f"{run['seconds']['all']:.0f} s"))
    if versions := run.get("environment") or config.get("versions"):
        names = ("tlkeras", "tensorflow", "keras", "python")
        rows.append(("versions", ", ".join(f"{name} {versions[name]}" for name in names if name in versions)))
    return "## Training\n\n" + _table(("", ""), rows)


def _checked(parity: dict[str, Any] | None) -> str:
    if not parity:
        return ""
    rows = [
        (
            check["runtime"],
            check["asked"],
            str(check["batch"]),
            str(check["images"]),
            f"{check['difference']:.1e}",
            str(len(check["disagreements"])),
        )
        for check in parity["checks"]
    ]
    head = ("runtime", "asked with", "batch", "photos", "largest difference", "other class")
    return (
        "## The same answers everywhere\n\nBefore it was published every runtime was compared with Python's "
        f"`predict` on {parity['images']}: the largest difference of a probability.\n\n" + _table(head, rows)
    )


def _use(name: str, formats: Sequence[Format]) -> str:
    load = "from tlkeras import ImageClassifier\n\nImageClassifier.load({folder!r}).predict(['photo.jpg'])"
    if not formats:
        return f"## Use\n\n```python\n{load.format(folder=name)}\n```"
    parts = ["## Use", "In this folder:", f"```python\n{load.format(folder='assets.extra/classifier')}\n```"]
    for one in formats:
        usage = one.usage(Place(name, ".", '"$PWD/.."'))
        parts.append(f"{usage.title}:\n\n```{usage.language}\n{usage.code}\n```")
    return "\n\n".join(parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _yaml(text: str) -> str:
    # Every JSON string is a YAML string, whatever is in it.
    return json.dumps(printable(text))


def _text(text: str) -> str:
    """A name as Markdown that means nothing but itself."""
    plain = printable(text.replace("_", " ")).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*{}\[\]()#+!|~])", r"\\\1", plain)


def _code(text: str) -> str:
    return printable(text).replace("`", "'").replace("|", "¦")
