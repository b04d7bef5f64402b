"""Copies inside a data set: which file of several stays, which tell a conflict of labels, which leak into a test."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from tlkeras.data.duplicates import joined, near_pairs
from tlkeras.data.verdicts import Verdict, hashes_of
from tlkeras.errors import printable

# Of two copies in different splits the one in the later stays: what is tested must not be trained on.
_RANK = {"": 0, "train": 0, "validation": 1, "test": 2}
_REASONS = ("", "near_duplicate", "near_conflict", "leak")

_Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


def settle_copies(verdicts: list[Verdict], plain: np.ndarray) -> np.ndarray:
    """Reject copies, conflicts and leaks and mark near copies, in place.

    ``plain``: bool ``[N]``, pictures of almost one colour, which are compared by their bytes only.
    Returns group numbers, int64 ``[N]``, equal for files whose pictures are (nearly) the same.
    """
    alike: dict[str, list[int]] = {}
    for i, verdict in enumerate(verdicts):
        if verdict.status != "rejected":
            alike.setdefault(verdict.sha256, []).append(i)
    first = np.arange(len(verdicts))
    for same in alike.values():
        first[same] = same[0]
        if len(same) > 1:
            _settle_exact(verdicts, same)
    pairs: _Pairs = iter(())
    stand = np.array([i for i, v in enumerate(verdicts) if v.status != "rejected" and not plain[i]], np.int64)
    if len(stand):
        pairs = _noted(verdicts, stand, near_pairs(hashes_of([verdicts[i].dhash for i in stand])))
    exact = np.flatnonzero(first != np.arange(len(first)))
    return joined(len(verdicts), itertools.chain(pairs, [(first[exact], exact)]))


def _settle_exact(verdicts: list[Verdict], same: list[int]) -> None:
    """One content in several files: keep one, or none when the labels differ."""
    if len({verdicts[i].label for i in same}) > 1:
        for i in same:
            other = verdicts[next(j for j in same if verdicts[j].label != verdicts[i].label)]
            _reject(verdicts, i, "conflict", f"the same bytes as '{_name(other)}' with label '{other.label}'")
        return
    keep = max(same, key=lambda i: (_RANK[verdicts[i].split], -i))
    kept = verdicts[keep]
    for i in same:
        if _RANK[verdicts[i].split] < _RANK[kept.split]:
            _reject(verdicts, i, "leak", f"the same bytes as '{_name(kept)}' in {kept.split}")
        elif i != keep:
            _reject(verdicts, i, "duplicate", f"the same bytes as '{_name(kept)}'")


def _noted(verdicts: list[Verdict], stand: np.ndarray, pairs: _Pairs) -> _Pairs:
    """Pass pairs on, as indices of files, writing what they mean into the verdicts of both.

    A file names one partner for the gravest thing found, so a film of many frames costs few notes.
    """
    ranks = np.array([_RANK[verdicts[i].split] for i in stand])
    names = {name: number for number, name in enumerate({v.label for v in verdicts})}
    labels = np.array([names[verdicts[i].label] for i in stand])
    weights = np.zeros(len(stand), np.int64)
    for a, b in pairs:
        for one, other in ((a, b), (b, a)):
            weight = np.where(ranks[one] < ranks[other], 3, np.where(labels[one] != labels[other], 2, 1))
            graver = np.flatnonzero(weight > weights[one])
            graver = graver[np.argsort(-weight[graver], kind="stable")]
            found, at = np.unique(one[graver], return_index=True)
            partners, weights[found] = other[graver][at], weight[graver][at]
            for i, partner in zip(found.tolist(), partners.tolist(), strict=True):
                _note(verdicts, int(stand[i]), _REASONS[weights[i]], verdicts[stand[partner]])
        yield stand[a], stand[b]


def _note(verdicts: list[Verdict], i: int, reason: str, other: Verdict) -> None:
    if reason == "leak":
        _reject(verdicts, i, reason, f"a near copy of '{_name(other)}' in {other.split}")
        return
    label = f" with label '{other.label}'" if reason == "near_conflict" else ""
    detail = "; ".join(filter(None, [f"a near copy of '{_name(other)}'{label}", verdicts[i].detail]))
    verdicts[i] = dataclasses.replace(verdicts[i], status="suspicious", reason=reason, detail=detail)


def _reject(verdicts: list[Verdict], i: int, reason: str, detail: str) -> None:
    verdicts[i] = dataclasses.replace(verdicts[i], status="rejected", reason=reason, detail=detail)


def _name(verdict: Verdict) -> str:
    return printable("/".join(PurePath(verdict.path).parts[-2:]))
