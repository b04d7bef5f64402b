"""Sections made from what other commands left inside a run directory: ideal images, attacks, robustness, exports.

``tlkeras ideal RUN --out RUN/ideal`` and its like write a JSON file beside their pictures. Any direct subfolder with
such a file is found, whatever its name. Exports are found up to three levels down, ``RUN/models/NAME/1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.attacks.plots import amplification
from tlkeras.data.dataset import plural
from tlkeras.errors import TlkerasError
from tlkeras.evaluation.metrics import percent
from tlkeras.export.publish import MANIFEST_FILE, read_manifest
from tlkeras.images.decode import decode, read_bytes
from tlkeras.images.resize import fit_to_square
from tlkeras.json_csv import read_json
from tlkeras.report.curves import Series, line_chart
from tlkeras.report.pictures import MAX_CLASSES
from tlkeras.report.section import Section, Thumbnails, file_name, of_pixels, words
from tlkeras.run_facts import CROSSED, RunFacts

IDEAL, ATTACK, ROBUSTNESS, HEAT = "ideal.json", "attack.json", "robustness.json", "heat_maps.json"
_ADVERSARIAL_PX = 224


@dataclass(frozen=True)
class Result:
    """One JSON file of a command and the folder that its pictures lie in."""

    folder: Path
    values: dict[str, Any]


def results(run: Path, name: str) -> list[Result]:
    """All results of one kind inside a run directory, the latest last."""
    return sorted(_found(run.glob(f"*/{name}")), key=lambda result: (result.folder / name).stat().st_mtime)


def exports(run: Path) -> list[Result]:
    """All published versions inside a run directory, the latest last."""
    patterns = (f"{'*/' * depth}{MANIFEST_FILE}" for depth in (1, 2, 3))
    found = [one for pattern in patterns for one in _found(run.glob(pattern)) if "parity" in one.values]
    return sorted(found, key=lambda result: str(result.values.get("created", "")))


def _found(paths: Iterator[Path]) -> Iterator[Result]:
    for path in paths:
        try:
            values = read_json(path)
        # A file that some other program wrote there, or one that is being written.
        except (OSError, ValueError):
            continue
        yield Result(path.parent, values)


def heat_maps(facts: RunFacts, thumbnails: Thumbnails) -> dict[str, dict[str, Any]]:
    """By the path of a photo: the picture of where the network saw the class that it named.

    ``faithfulness``: as ``tlkeras.explain.faithfulness`` gives it; None for a map of before it was measured.
    """
    return {
        row["path"]: {
            "thumb": thumbnails.of(str(result.folder / row["file"]), 200),
            "label": words(row["label"]),
            "faithfulness": row.get("faithfulness"),
        }
        for result in results(facts.folder, HEAT)
        for row in result.values["photos"]
    }


def ideal(facts: RunFacts, thumbnails: Thumbnails) -> Section | None:
    """One ideal image of each class, the one that the network is surest of."""
    best: dict[str, tuple[float, Path]] = {}
    for result in results(facts.folder, IDEAL):
        for row in result.values["images"]:
            probability = row.get("probability")
            if row["label"] not in facts.class_names or probability is None or "file" not in row:
                continue
            if row["label"] not in best or probability > best[row["label"]][0]:
                best[row["label"]] = (probability, result.folder / row["file"])
    if not best:
        return None
    few = len(best) <= 12
    cards = [
        {
            "thumb": thumbnails.of(str(best[name][1]), 200 if few else 120),
            "name": words(name),
            "probability": best[name][0],
        }
        for name in facts.class_names
        if name in best
    ][:MAX_CLASSES]
    return Section("ideal", "What it dreams of", "Ideal images", {"cards": cards})


def adversarial(facts: RunFacts) -> Section | None:
    """One photo, what was changed (amplified), and what the network then says."""
    for result in reversed(results(facts.folder, ATTACK)):
        # A photo that was fooled tells more than one that was not.
        for row in sorted(result.values["results"], key=lambda row: not row["success"]):
            example = _example(facts, result, row)
            if example is not None:
                attack = result.values["attack"]
                return Section(
                    "adversarial",
                    "How it is fooled",
                    "Fooled",
                    {
                        "example": example,
                        "method": str(attack.get("method", "")).upper(),
                        "epsilon": attack.get("epsilon_255"),
                        "success": result.values["success"],
                        "attacked": result.values["attacked"],
                    },
                )
    return None


def _example(facts: RunFacts, result: Result, row: dict[str, Any]) -> dict[str, Any] | None:
    config = facts.classifier
    try:
        after = decode(read_bytes(result.folder / row["file"])).pixels
        before = decode(read_bytes(result.folder / row["original"] if "original" in row else row["path"])).pixels
        if "original" not in row and after.shape[:2] == (config["size_px"],) * 2:
            before = np.rint(fit_to_square(before, config["size_px"], config["fit"])).astype(np.uint8)
    # The photo is gone since, or the run was moved without it.
    except (TlkerasError, KeyError):
        return None
    if before.shape != after.shape:
        return None
    change = after.astype(np.float32) - before
    factor = amplification(float(np.abs(change).max()))
    shown = np.clip(128 + factor * change, 0, 255).astype(np.uint8)
    return {
        "before": of_pixels(before, _ADVERSARIAL_PX),
        "change": of_pixels(shown, _ADVERSARIAL_PX),
        "after": of_pixels(after, _ADVERSARIAL_PX),
        "factor": factor,
        "name": file_name(row["path"]),
        "was": _first(row["before"]),
        "is": _first(row["after"]),
        "linf": row["linf_255"],
        "pixels": row["l0_pixels"],
        "of": before.shape[0] * before.shape[1],
        "fooled": bool(row["success"]),
    }


def _first(ranked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"label": words(ranked[0]["label"]), "probability": ranked[0]["probability"]}


def robustness(facts: RunFacts) -> Section | None:
    """Accuracy over the budget of attacks, and over the severity of corruptions."""
    found = results(facts.folder, ROBUSTNESS)
    if not found:
        return None
    values = found[-1].values
    clean = values["clean"]["accuracy"]
    charts = []
    attacks = _series(values["attacks"], "method", "epsilon_255", clean)
    if attacks:
        norm = {"linf": "L∞", "l2": "L2"}.get(values["norm"], values["norm"])
        budgets = sorted({row["epsilon_255"] for row in values["attacks"]})
        charts.append(
            line_chart(
                "Under attack",
                attacks,
                alt=f"Accuracy from {percent(clean)} without attack, by {norm} budget of 255: {_ends(attacks)}.",
                x_label=f"{norm} budget, of 255",
                y_label="accuracy",
                percent=True,
                logarithmic=True,
                ticks=budgets,
            )
        )
    corruptions = _series(values["corruptions"], "corruption", "severity", clean)
    if corruptions:
        charts.append(
            line_chart(
                "Under common corruptions",
                corruptions,
                alt=f"Accuracy from {percent(clean)} on clean photos, by severity: {_ends(corruptions)}.",
                x_label="severity",
                y_label="accuracy",
                percent=True,
                ticks=sorted({row["severity"] for row in values["corruptions"]}),
            )
        )
    if not charts:
        return None
    data = {
        "charts": charts,
        "images": values["images"],
        "clean": values["clean"],
        "taught": facts.measured_on == CROSSED,
        "flags": [flag.get("words", flag.get("flag", "")) for flag in values["flags"]],
    }
    return Section("robustness", "How much it withstands", "Robustness", data)


def _series(rows: Sequence[dict[str, Any]], key: str, across: str, clean: float) -> list[Series]:
    """A line for each attack or corruption, and one for photos that were left alone."""
    if not rows:
        return []
    names = dict.fromkeys(row[key] for row in rows)
    places = sorted({float(row[across]) for row in rows})
    made = [Series("clean", [(places[0], clean), (places[-1], clean)])]
    for name in names:
        mine = [row for row in rows if row[key] == name]
        # Bands of many lines hide each other.
        low = [row["interval"][0] for row in mine] if len(names) == 1 else []
        high = [row["interval"][1] for row in mine] if len(names) == 1 else []
        made.append(Series(words(name), [(float(row[across]), row["accuracy"]) for row in mine], low, high))
    return made


def _ends(series: Sequence[Series]) -> str:
    return "; ".join(f"{one.name} ends at {percent(one.points[-1][1])}" for one in series[1:])


def parity(facts: RunFacts, version: Path | None = None) -> Section | None:
    """What every runtime answered before an export was published: ``version``, or the latest inside the run.

    Raises: ExportError when ``version`` is none.
    """
    found = exports(facts.folder) if version is None else [Result(version, read_manifest(version))]
    if not found:
        return None
    manifest = found[-1].values
    rows = []
    for check in manifest["parity"]["checks"]:
        difference = check["difference"]
        rows.append(
            {
                **{name: check[name] for name in ("runtime", "asked", "batch", "images", "passed")},
                "difference": "not finite" if difference is None else f"{difference:.1e}",
                "tolerance": f"{check['tolerance']:.0e}",
                "disagreements": len(check["disagreements"]),
            }
        )
    return Section(
        "parity",
        "The exported model gives the same answers",
        "Export",
        {
            "rows": rows,
            "folder": str(found[-1].folder),
            "images": manifest["parity"]["images"],
            "runtimes": plural(len({row["runtime"] for row in rows}), "runtime"),
        },
    )
