"""Two runs on the photos that both have judged: how much better one is, whether that is chance, and what flipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.data.dataset import plural
from tlkeras.errors import DataError, printable
from tlkeras.evaluation.metrics import paired_interval, percent
from tlkeras.report.build import environment, source
from tlkeras.report.section import Thumbnails, file_name, words
from tlkeras.run_facts import Prediction, RunFacts
from tlkeras.storage import write_bytes
from tlkeras.trained import versions

# Below it a difference is not put down to chance.
_SIGNIFICANT = 0.05
_SHOWN, _SIDE_PX = 60, 176
_KINDS = {
    "gained": "Right only in the second",
    "lost": "Right only in the first",
    "other": "Wrong in both, differently",
}


@dataclass(frozen=True)
class Flip:
    """A photo with another answer in the second run; ``kind``: ``gained``, ``lost``, or ``other``: both are wrong."""

    kind: str
    first: Prediction
    second: Prediction

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        answers = ({"predicted": one.predicted, "probability": one.probability} for one in (self.first, self.second))
        first, second = answers
        path, label = printable(self.second.path), self.second.label
        return {"path": path, "label": label, "kind": self.kind, "first": first, "second": second}


@dataclass(frozen=True)
class Difference:
    """What tells two runs apart.

    runs: as they were named. images: how many photos both have judged, by heads that had not seen them; apart: how many
    only the first, and only the second has. relabelled: photos of different classes in the runs, which are left out.
    accuracies, log_losses (nats; None where an older run does not say): of the two, on the common photos. Intervals
    are of the second less the first, 95 %, over photos drawn in whole groups. p_value: of McNemar's exact test (1947).
    """

    runs: tuple[str, str]
    images: int
    apart: tuple[int, int]
    relabelled: int
    accuracies: tuple[float, float]
    accuracy_interval: tuple[float, float]
    log_losses: tuple[float, float] | None
    log_loss_interval: tuple[float, float] | None
    p_value: float
    flips: tuple[Flip, ...]

    def count(self, kind: str) -> int:
        """How many photos flipped so."""
        return sum(flip.kind == kind for flip in self.flips)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        gain = self.accuracies[1] - self.accuracies[0]
        low, high = self.accuracy_interval
        chance = "which chance would hardly do" if self.p_value < _SIGNIFICANT else "which chance alone may do"
        return (
            f"Of {plural(self.images, 'photo')} that both have judged unseen, '{self.runs[0]}' has "
            f"{percent(self.accuracies[0])} right, '{self.runs[1]}' {percent(self.accuracies[1])}: {100 * gain:+.1f} "
            f"points (95 %: {100 * low:+.1f} to {100 * high:+.1f}); {self.count('gained')} gained, "
            f"{self.count('lost')} lost, {chance} (exact McNemar test, p = {self.p_value:.2g})."
        )

    @property
    def notes(self) -> list[str]:
        """Lines on what could not be compared."""
        lines = []
        if any(self.apart):
            lines.append(
                f"compared on the common photos: {self.apart[0]:,} that only the first and {self.apart[1]:,} that only "
                "the second run has judged are left out"
            )
        if self.relabelled:
            lines.append(f"{plural(self.relabelled, 'photo')} of other classes in the two runs left out")
        if self.log_losses is None:
            lines.append("no log loss: one of the runs was made before runs kept the probability of the true class")
        return lines

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras diff --json`` prints."""
        losses = None
        if self.log_losses is not None and self.log_loss_interval is not None:
            losses = {
                "first": self.log_losses[0],
                "second": self.log_losses[1],
                "difference": self.log_losses[1] - self.log_losses[0],
                "interval": list(self.log_loss_interval),
            }
        return {
            "runs": list(self.runs),
            "images": self.images,
            "only_in_first": self.apart[0],
            "only_in_second": self.apart[1],
            "relabelled": self.relabelled,
            "accuracy": {
                "first": self.accuracies[0],
                "second": self.accuracies[1],
                "difference": self.accuracies[1] - self.accuracies[0],
                "interval": list(self.accuracy_interval),
            },
            "log_loss": losses,
            "mcnemar": {"gained": self.count("gained"), "lost": self.count("lost"), "p_value": self.p_value},
            "sentence": self.sentence,
            "flipped": [flip.to_json() for flip in self.flips],
        }


def difference(first: RunFacts, second: RunFacts) -> Difference:
    """Compare two runs on the photos that both were measured on, matched by content.

    Raises: DataError when there are none, or a run does not say which photos it has judged.
    """
    import scipy.stats

    of_run = [_by_content(facts) for facts in (first, second)]
    common = [content for content in of_run[0] if content in of_run[1]]
    same = [content for content in common if of_run[0][content].label == of_run[1][content].label]
    if not same:
        raise DataError(
            "two runs are compared on photos that both have judged",
            received=f"{len(of_run[0]):,} and {len(of_run[1]):,} photos, none of them the same",
            next_step="Train both on the same photos, or give both the same --test.",
        )
    pairs = [(of_run[0][content], of_run[1][content]) for content in same]
    right = np.array([[one.right for one in pair] for pair in pairs])
    gained, lost = int((~right[:, 0] & right[:, 1]).sum()), int((right[:, 0] & ~right[:, 1]).sum())
    groups = np.array([second.groups.get(two.path) or content for content, (_, two) in zip(same, pairs, strict=True)])
    losses = None
    if all(one.label_probability is not None for pair in pairs for one in pair):
        tiny = np.finfo(np.float64).eps
        losses = -np.log(np.maximum([[one.label_probability or 0.0 for one in pair] for pair in pairs], tiny))
    return Difference(
        runs=(str(first.folder), str(second.folder)),
        images=len(pairs),
        apart=(len(of_run[0]) - len(common), len(of_run[1]) - len(common)),
        relabelled=len(common) - len(same),
        accuracies=(float(right[:, 0].mean()), float(right[:, 1].mean())),
        accuracy_interval=paired_interval(right[:, 1], right[:, 0], groups=groups),
        log_losses=None if losses is None else (float(losses[:, 0].mean()), float(losses[:, 1].mean())),
        log_loss_interval=None if losses is None else paired_interval(losses[:, 1], losses[:, 0], groups=groups),
        p_value=float(scipy.stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        flips=_flips(pairs),
    )


def _by_content(facts: RunFacts) -> dict[str, Prediction]:
    found = {facts.contents.get(one.path, ""): one for one in facts.predictions}
    found.pop("", None)
    if not found:
        raise DataError(
            "a run is compared by the photos that it has judged",
            received=f"'{facts.folder}', which names none",
            next_step="Give run directories of 'tlkeras train'.",
        )
    return found


def _flips(pairs: list[tuple[Prediction, Prediction]]) -> tuple[Flip, ...]:
    """Photos with another answer: gained, lost, others; of each kind what the second run is surest of first."""
    kinds = {(False, True): "gained", (True, False): "lost", (False, False): "other"}
    found = [Flip(kinds[a.right, b.right], a, b) for a, b in pairs if a.predicted != b.predicted]
    return tuple(sorted(found, key=lambda flip: (list(_KINDS).index(flip.kind), -flip.second.probability)))


def write_difference(found: Difference, out: str | Path) -> Path:
    """Write the page of a comparison, one HTML file with its pictures; an older one is replaced.

    Raises: StorageError when the disk refuses.
    """
    thumbnails = Thumbnails()
    sections = []
    for kind, title in _KINDS.items():
        flips = [flip for flip in found.flips if flip.kind == kind]
        cards = [
            {
                "thumb": thumbnails.of(flip.second.path, _SIDE_PX),
                "name": file_name(flip.second.path),
                "label": words(flip.second.label),
                "answers": [(words(one.predicted), one.probability, one.right) for one in (flip.first, flip.second)],
            }
            for flip in flips[:_SHOWN]
        ]
        sections.append({"kind": kind, "title": title, "total": len(flips), "cards": cards})
    thumbnails.load()
    page = (
        environment()
        .get_template("difference.html.j2")
        .render(
            found=found,
            sections=[section for section in sections if section["cards"]],
            style=source("report.css"),
            version=versions()["tlkeras"],
        )
    )
    write_bytes(Path(out), page.encode("utf-8", errors="replace"))
    return Path(out)
