"""The sections made of photos: examples, audit findings, mistakes, doubtful labels, copies across splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np

from tlkeras.data.dataset import SPLITS, printable
from tlkeras.report.section import Section, Thumbnail, Thumbnails, file_name, words
from tlkeras.run_facts import RunFacts

_T = TypeVar("_T")

MAX_CLASSES = 60
MISTAKES = 12
_AUDIT_PHOTOS, _ISSUES, _COPIES = 24, 12, 12
_CARD_PX = 200
_COPY_OF = re.compile(r"(?:the same bytes as|a near copy of) '(.+)' in (train|validation|test)")
# What the audit's codes mean to the reader of a report.
_REASONS = {
    "empty": "empty file",
    "truncated": "cut off",
    "not_an_image": "not an image",
    "unsupported": "format is not read",
    "too_large": "too large",
    "unreadable": "cannot be read",
    "missing": "file is missing",
    "duplicate": "copy of another file",
    "conflict": "same file, two labels",
    "leak": "copy of a test photo",
    "near_conflict": "near copy with another label",
    "near_duplicate": "near copy",
    "uniform": "almost one colour",
    "small": "very small",
    "extreme_aspect": "a narrow strip",
}


def examples(facts: RunFacts, thumbnails: Thumbnails) -> Section | None:
    """A few photos of each class, and how many there are in each split."""
    if not facts.images:
        return None
    of_class: dict[str, list[str]] = defaultdict(list)
    counts: Counter[tuple[str, str]] = Counter()
    for path, label, split in facts.images:
        counts[label, split] += 1
        if split != "test":
            of_class[label].append(path)
    names = evenly(facts.class_names, MAX_CLASSES)
    each, side = (8, 160) if len(names) <= 6 else (6, 120) if len(names) <= 20 else (4, 104)
    rows = [
        {
            "name": words(name),
            "counts": [(split, counts[name, split]) for split in SPLITS if counts[name, split]],
            "photos": [(thumbnails.of(path, side), file_name(path)) for path in evenly(of_class[name], each)],
        }
        for name in names
    ]
    return Section(
        "examples",
        "The classes",
        "Classes",
        {"rows": rows, "each": each, "all": len(facts.class_names)},
    )


def audit_findings(facts: RunFacts, thumbnails: Thumbnails) -> Section | None:
    """What the audit rejected and what it found suspicious."""
    if facts.audit is None:
        return None
    groups = []
    for status in ("rejected", "suspicious"):
        verdicts = [one for one in facts.audit["images"] if one["status"] == status]
        if not verdicts:
            continue
        cards = [
            {
                "thumb": thumbnails.of(one["path"], 120, doubtful=status == "rejected"),
                "name": file_name(one["path"]),
                "label": words(one["label"]),
                "reason": _REASONS.get(one["reason"], words(one["reason"])),
                "detail": one["detail"],
            }
            for one in _balanced(verdicts, _AUDIT_PHOTOS)
        ]
        groups.append({"status": status, "total": len(verdicts), "cards": cards})
    counts = facts.audit["counts"]
    return Section("audit", "What the audit found in the files", "Files", {"counts": counts, "groups": groups})


def mistakes(facts: RunFacts, thumbnails: Thumbnails, heat: Mapping[str, dict[str, Any]]) -> Section | None:
    """The most confident mistakes; ``heat``: by path, a heat map of what the network looked at."""
    wrong = sorted((one for one in facts.predictions if not one.right), key=lambda one: -one.probability)
    if not wrong:
        return None
    cards = [
        {
            "thumb": thumbnails.of(one.path, _CARD_PX),
            "heat": heat.get(printable(one.path)),
            "name": file_name(one.path),
            "label": words(one.label),
            "predicted": words(one.predicted),
            "probability": one.probability,
        }
        for one in wrong[:MISTAKES]
    ]
    data = {"cards": cards, "total": len(wrong), "heat": any(card["heat"] for card in cards)}
    return Section("mistakes", "Its most confident mistakes", "Mistakes", data)


def doubtful_labels(facts: RunFacts, thumbnails: Thumbnails) -> Section | None:
    """Photos whose label is in doubt."""
    if not facts.issues:
        return None
    cards = [
        {
            "thumb": thumbnails.of(one.path, _CARD_PX),
            "name": file_name(one.path),
            "label": words(one.label),
            "suggested": words(one.suggested),
            "label_probability": one.label_probability,
            "probability": one.suggested_probability,
            "split": one.split,
        }
        for one in facts.issues[:_ISSUES]
    ]
    data = {"cards": cards, "total": len(facts.issues), "of": len(facts.images)}
    return Section("labels", "Photos that may be labelled wrongly", "Labels", data)


def copies(facts: RunFacts, thumbnails: Thumbnails) -> Section | None:
    """Copies and near copies of a test or validation photo that stood in an earlier split and were taken out."""
    if facts.audit is None:
        return None
    leaks = [one for one in facts.audit["images"] if one["reason"] == "leak"]
    if not leaks:
        return None
    by_tail: dict[tuple[str, str], str] = {
        ("/".join(PurePath(one["path"]).parts[-2:]), one["split"]): one["path"] for one in facts.audit["images"]
    }
    pairs = []
    for one in leaks[:_COPIES]:
        found = _COPY_OF.search(one["detail"])
        other: Thumbnail | None = None
        if found and (path := by_tail.get((found[1], found[2]))):
            other = thumbnails.of(path, 140)
        pairs.append(
            {
                "thumb": thumbnails.of(one["path"], 140),
                "name": file_name(one["path"]),
                "split": one["split"],
                "other": other,
                "other_name": file_name(found[1]) if found else "",
                "other_split": found[2] if found else "",
                "exact": one["detail"].startswith("the same bytes"),
            }
        )
    return Section("copies", "Copies across the splits", "Copies", {"pairs": pairs, "total": len(leaks)})


def evenly(items: Sequence[_T], most: int) -> list[_T]:
    """At most ``most`` of the items, evenly spread over them."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


def _balanced(verdicts: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Some of each reason: one after the other until there are ``most``, told by reason."""
    of_reason: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in verdicts:
        of_reason[one["reason"]].append(one)
    shares = dict.fromkeys(of_reason, 0)
    for _ in range(min(most, len(verdicts))):
        open_ones = [reason for reason in shares if shares[reason] < len(of_reason[reason])]
        shares[min(open_ones, key=lambda reason: shares[reason])] += 1
    return [one for reason, share in shares.items() for one in evenly(of_reason[reason], share)]
