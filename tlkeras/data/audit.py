"""The audit: read, decode and compare every file of a data set before a network sees it; a verdict for each."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np

from tlkeras.data.dataset import SPLITS, LabelledImages, found_json, plural
from tlkeras.data.duplicates import joined, settle_copies
from tlkeras.data.pipeline import in_order, reading_threads
from tlkeras.data.tree import IMAGE_ENDINGS
from tlkeras.data.verdicts import STATUSES, Content, ContentCache, Verdict, examine, mark_of
from tlkeras.errors import DataError, ImageError, printable
from tlkeras.images.decode import Limits, read_bytes

SHOWN_ROWS = 30
_NAMED = 5
HandOn = Callable[[str, np.ndarray], None]


@dataclass(frozen=True)
class Audit:
    """The verdicts over a data set, ``verdicts[i]`` of ``dataset.paths[i]``.

    all_groups: int64 ``[N]``, equal for files whose pictures are (nearly) the same.
    """

    dataset: LabelledImages
    verdicts: tuple[Verdict, ...]
    all_groups: np.ndarray

    @cached_property
    def kept_mask(self) -> np.ndarray:
        """Which files were not rejected, bool ``[N]``."""
        return np.array([verdict.status != "rejected" for verdict in self.verdicts], bool)

    @cached_property
    def kept(self) -> LabelledImages:
        """The images that can be used, K of N.

        Raises: DataError when a class, or a given split, has none left.
        """
        kept = self.dataset.subset(self.kept_mask)
        for name, count in kept.class_counts().items():
            if not count and self.dataset.class_counts()[name]:
                raise self._nothing_left(f"class '{name}'", [v for v in self.verdicts if v.label == name])
        for split in SPLITS:
            if (self.dataset.splits == split).any() and not (kept.splits == split).any():
                raise self._nothing_left(f"split '{split}'", [v for v in self.verdicts if v.split == split])
        return kept

    @property
    def kept_verdicts(self) -> list[Verdict]:
        """Verdicts of the K kept images, in their order."""
        return [verdict for verdict in self.verdicts if verdict.status != "rejected"]

    @property
    def copies(self) -> np.ndarray:
        """int64 ``[K]``, aligned with ``kept``: exact and near copies share a number."""
        return self.all_groups[self.kept_mask]

    @cached_property
    def groups(self) -> np.ndarray:
        """int64 ``[K]``, aligned with ``kept``: what stays on one side of every split and fold shares a number.

        Those are copies, and images of one given group, and what hangs together by both.
        """
        if self.kept.groups is None:
            return self.copies
        named = np.flatnonzero(self.kept.groups != "")
        _, first, inverse = np.unique(self.kept.groups[named], return_index=True, return_inverse=True)
        _, same = np.unique(self.copies, return_index=True)
        of_copies = same[np.searchsorted(np.unique(self.copies), self.copies)]
        pairs = [(named, named[first[inverse]]), (np.arange(len(self.kept)), of_copies)]
        return joined(len(self.kept), iter(pairs))

    @property
    def spanning(self) -> dict[str, dict[str, int]]:
        """Given groups with images in more than one given split: how many in each."""
        if self.dataset.groups is None:
            return {}
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for group, split in zip(self.dataset.groups.tolist(), self.dataset.splits.tolist(), strict=True):
            if group and split:
                found[group][split] += 1
        return {group: dict(counts) for group, counts in sorted(found.items()) if len(counts) > 1}

    def subset(self, chosen: np.ndarray) -> Audit:
        """The verdicts where a mask, bool ``[N]``, is true."""
        verdicts = tuple(verdict for verdict, wanted in zip(self.verdicts, chosen, strict=True) if wanted)
        return Audit(self.dataset.subset(chosen), verdicts, self.all_groups[chosen])

    def counts(self) -> dict[str, Any]:
        """Images in all, of each status, of each reason within it, and how many a served graph refuses."""
        statuses = Counter(verdict.status for verdict in self.verdicts)
        reasons = {
            status: dict(Counter(v.reason for v in self.verdicts if v.status == status).most_common())
            for status in STATUSES[1:]
        }
        unserved = sum(bool(verdict.unserved) for verdict in self.kept_verdicts)
        by_status = {status: statuses[status] for status in STATUSES}
        return {"images": len(self.verdicts), **by_status, "reasons": reasons, "unserved": unserved}

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``name``, ``source``, ``counts``, ``left_out``, and ``images``, the verdict on every file."""
        return {
            "name": self.dataset.name,
            "source": printable(self.dataset.source),
            "class_names": list(self.dataset.class_names),
            "notes": list(self.dataset.notes),
            **found_json(len(self.dataset), self.dataset.left_out),
            "counts": self.counts(),
            "spanning_groups": self.spanning,
            "images": [verdict.to_json() for verdict in self.verdicts],
        }

    def summary(self) -> str:
        """One line: ``3 of 2,000 images rejected: 2 empty, 1 truncated; 12 repaired``."""
        counts = self.counts()
        line = f"{counts['rejected']:,} of {plural(counts['images'], 'image')} rejected"
        if counts["rejected"]:
            line += ": " + ", ".join(f"{n:,} {_words(reason)}" for reason, n in counts["reasons"]["rejected"].items())
        more = [f"{counts[status]:,} {status}" for status in ("suspicious", "repaired") if counts[status]]
        if counts["unserved"]:
            more.append(f"{counts['unserved']:,} not readable by a served model")
        if spanning := self.spanning:
            named = ", ".join(
                f"'{printable(group)}' ({', '.join(f'{split} {count}' for split, count in counts.items())})"
                for group, counts in itertools.islice(spanning.items(), _NAMED)
            )
            more.append(f"warning: {plural(len(spanning), 'group')} in several given splits: {named}"
                        + (" …" if len(spanning) > _NAMED else ""))  # fmt: skip
        return "; ".join([line, *more])

    def tables(self) -> list[Any]:
        """Rich tables: the counts, then rejected and suspicious files, at most ``SHOWN_ROWS`` each."""
        from rich.table import Table
        from rich.text import Text

        counts = Table("verdict", "reason", "images", title=Text(f"Audit of {self.dataset.name}"))
        counts.add_row("good", "", f"{self.counts()['good']:,}")
        for status, reasons in self.counts()["reasons"].items():
            for reason, number in reasons.items():
                counts.add_row(status, _words(reason), f"{number:,}")
        tables = [counts]
        for status in ("rejected", "suspicious"):
            found = [verdict for verdict in self.verdicts if verdict.status == status]
            if not found:
                continue
            table = Table("file", "class", "reason", "what was found", title=status.capitalize())
            for v in found[:SHOWN_ROWS]:
                # Text, since a file name may hold what rich takes for markup.
                table.add_row(Text(printable(v.path)), Text(v.label), _words(v.reason), Text(v.detail))
            if len(found) > SHOWN_ROWS:
                table.add_row(f"… and {len(found) - SHOWN_ROWS:,} more", "", "", "")
            tables.append(table)
        return tables

    def _nothing_left(self, what: str, verdicts: list[Verdict]) -> DataError:
        reasons = Counter(_words(verdict.reason) for verdict in verdicts)
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return DataError(
            f"{what} has no usable image",
            received=listed,
            next_step="'tlkeras audit' lists every file with its reason.",
        )


def audit(
    dataset: LabelledImages,
    *,
    limits: Limits = Limits(),
    workers: int | None = None,
    full: bool = False,
    hand_on: HandOn | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Give every file of a data set its verdict.

    ``workers``: threads, by default twice the cores, at most 16. ``progress(done, total)`` is called in this thread.
    What was found in the bytes of a file is cached by their SHA-256, and that by the file's inode, size and times: a
    second audit reads only what has changed since, or with ``full`` every file. An interruption keeps the cache.
    ``hand_on``: is given the SHA-256 and the pixels, uint8 ``[H, W, 3]``, of each picture that is decoded, by threads.
    Raises nothing for any content of any file.

    Of several files with the same bytes the first stays, the others are rejected (``duplicate``); if their labels
    differ all are (``conflict``). When splits were given, a copy or near copy of a test image in train or
    validation, and of a validation image in train, is rejected (``leak``).
    """
    looks = _look_at_all(dataset.paths, limits, workers, full, hand_on, progress)
    verdicts = [
        first_verdict(path, dataset.class_names[label], str(split), sha256, content)
        for path, label, split, (sha256, content) in zip(
            dataset.paths, dataset.labels, dataset.splits, looks, strict=True
        )
    ]
    plain = [any(reason == "uniform" for reason, _ in content.doubts) for _, content in looks]
    groups = settle_copies(verdicts, np.array(plain, bool))
    return Audit(dataset, tuple(verdicts), groups)


def require_clean(audited: Audit) -> None:
    """Insist that nothing was rejected.

    Raises: DataError with the summary.
    """
    if audited.counts()["rejected"]:
        raise DataError(
            "with --strict every image must be usable",
            received=audited.summary(),
            next_step="'tlkeras audit' lists every file with its reason.",
        )


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _look_at_all(
    paths: tuple[str, ...],
    limits: Limits,
    workers: int | None,
    full: bool,
    hand_on: HandOn | None,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[str, Content]]:
    cache = ContentCache(limits)
    marks = [] if full else [mark_of(path) for path in paths]
    known = cache.known(marks)
    results: list[tuple[str, Content] | None] = [known.get(mark) for mark in marks] or [None] * len(paths)
    new = [number for number, result in enumerate(results) if result is None]
    if progress is not None and known:
        progress(len(paths) - len(new), len(paths))

    def look(number: int) -> tuple[str, Content]:
        return _look(paths[number], limits, cache, hand_on)

    try:
        # A short queue: an interruption need not wait for it, and no more than `threads` files are in memory.
        threads = workers or reading_threads()
        for done, result in enumerate(in_order(look, new, ahead=4 * threads, threads=threads)):
            results[new[done]] = result
            if progress is not None:
                progress(len(paths) - len(new) + done + 1, len(paths))
    finally:
        cache.flush()
    return [result for result in results if result is not None]


def _look(path: str, limits: Limits, cache: ContentCache, hand_on: HandOn | None) -> tuple[str, Content]:
    """The SHA-256 of a file (empty when it could not be read) and what its content is."""
    mark = mark_of(path)  # before it is read: what is written meanwhile has another one
    try:
        data = read_bytes(path, limits)
    except ImageError as error:
        return "", Content(reason=error.reason, detail=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    content = cache.get(sha256)
    if content is None:
        content = examine(data, limits, functools.partial(hand_on, sha256) if hand_on else None)
        cache.put(sha256, content)
    if mark:
        cache.saw(mark, sha256)
    return sha256, content


def first_verdict(path: str, label: str, split: str, sha256: str, content: Content) -> Verdict:
    """What one file alone tells."""
    ending = PurePath(path).suffix.lower()
    promised = IMAGE_ENDINGS.get(ending)
    misnamed = bool(content.format and promised) and promised != content.format
    notes = content.repairs
    if misnamed:
        notes = (f"named {ending}, is {content.format.upper()}", *notes)
    status, reason = "good", ""
    if content.reason:
        status, reason, notes = "rejected", content.reason, (content.detail,)
    elif content.doubts:
        status, reason = "suspicious", content.doubts[0][0]
        notes = (*(detail for _, detail in content.doubts), *notes)
    elif notes:
        turned_only = content.orientation != 1 and len(content.repairs) == 1
        status, reason = "repaired", "misnamed" if misnamed else "turned" if turned_only else "converted"
    return Verdict(
        path=path,
        label=label,
        split=split,
        status=status,
        reason=reason,
        detail="; ".join(notes),
        sha256=sha256,
        width=content.width,
        height=content.height,
        format=content.format,
        orientation=content.orientation,
        unserved=content.unserved,
        dhash=content.dhash,
        misnamed=misnamed,
    )
