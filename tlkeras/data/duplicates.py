"""Copies inside a data set: the same bytes, or nearly the same picture by a 256-bit difference hash.

The hash is dHash (N. Krawetz, "Kind of like that", 2013) at 16 × 16: bit ``(y, x)`` says whether the picture gets
brighter from column ``x`` to ``x + 1``. Copies that were scaled or compressed again differ in few bits.

``NEAR_BITS`` was chosen on photos: of 3,000 cats and dogs, 750 flowers, 747 pets and 469 ImageNet photos, copies that
look alike were 0 to 15 bits apart and the nearest different pictures 41; of 720 close-ups of steel, 13 to 15 for two
pairs of look-alikes and 19 upwards for the rest. Of copies saved again at JPEG quality 60, or at half size, 95 to
100 % of the photos stay within 15 bits; a crop of 2 % moves 20 and is not found.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from tlkeras.data.verdicts import Verdict, hashes_of
from tlkeras.errors import printable

HASH_BITS = 256
NEAR_BITS = 15
# A hash with fewer bits of either kind is of an almost plain picture and says nothing.
MIN_MIXED_BITS = 24
_BLOCK = 1 << 20
# Of two copies in different splits the one in the later stays: what is tested must not be trained on.
_RANK = {"": 0, "train": 0, "validation": 1, "test": 2}
_REASONS = ("", "near_duplicate", "near_conflict", "leak")

_Pair = tuple[np.ndarray, np.ndarray]
_Pairs = Iterator[_Pair]


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


def informative(hashes: np.ndarray) -> np.ndarray:
    """Which of the hashes, uint8 ``[N, 32]``, say enough to be compared: bool ``[N]``."""
    ones = np.bitwise_count(hashes).sum(axis=1, dtype=np.int64)
    return (ones >= MIN_MIXED_BITS) & (ones <= HASH_BITS - MIN_MIXED_BITS)


def near_pairs(hashes: np.ndarray, near_bits: int = NEAR_BITS) -> _Pairs:
    """All pairs of informative hashes that differ in at most ``near_bits`` of 256 bits.

    ``hashes``: uint8 ``[N, 32]``. Yields index arrays ``(i, j)``, int64, ``i < j``, in pieces; a pair may come
    more than once.

    Two such hashes agree in at least one of ``near_bits + 1`` bands of bits (pigeonhole), so only images that
    share a band are compared: about N·log N work on photos. Where the bands tell too little apart, all pairs are
    compared in blocks, N²/2 steps of some nanoseconds.
    """
    chosen = np.flatnonzero(informative(hashes))
    if len(chosen) < 2:
        return
    hashes = np.ascontiguousarray(hashes[chosen])
    words = hashes.view(np.uint64)
    bands = [_order(keys) for keys in _bands(hashes, near_bits + 1)]
    candidates = sum(int((runs * (runs - 1) // 2).sum()) for *_, runs in bands)
    pieces: _Pairs
    # A candidate is gathered from two places, which takes some three times as long as one within a block.
    if 3 * candidates < len(chosen) * (len(chosen) - 1) // 2:
        pieces = (piece for order, keys, _ in bands for piece in _pairs_in_runs(words, order, keys, near_bits))
    else:
        pieces = _pairs_in_blocks(words, near_bits)
    for i, j in pieces:
        if len(i):
            yield np.minimum(chosen[i], chosen[j]), np.maximum(chosen[i], chosen[j])


def joined(n: int, pairs: _Pairs) -> np.ndarray:
    """Group numbers int64 ``[n]``: images linked by a chain of pairs share one, numbered by first appearance."""
    groups = np.arange(n)
    kept: list[_Pair] = []

    def join() -> np.ndarray:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        i, j = (np.concatenate(side) for side in zip(*kept, strict=True))
        edges = coo_array((np.ones(len(i), bool), (groups[i], groups[j])), shape=(n, n))
        return connected_components(edges, directed=False)[1][groups]

    for pair in pairs:
        if not len(pair[0]):
            continue
        kept.append(pair)
        # Thousands of frames of one film make millions of pairs; they are folded into groups as they come.
        if sum(len(i) for i, _ in kept) > _BLOCK or len(kept) > 1000:
            groups = join()
            kept.clear()
    if kept:
        groups = join()
    return first_seen(groups)


def first_seen(groups: np.ndarray) -> np.ndarray:
    """The same groups int64 ``[n]``, numbered from 0 by first appearance."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse] if len(groups) else groups


def _bands(hashes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """One integer key ``[N]`` for each band; bits are shuffled so that a plain sky does not fill a band."""
    shuffled = np.random.default_rng(0).permutation(HASH_BITS)
    bits = np.unpackbits(hashes, axis=1)[:, shuffled]
    for band in np.array_split(bits, count, axis=1):
        packed = np.packbits(band, axis=1)
        wide = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
        wide[:, : packed.shape[1]] = packed
        yield np.unique(wide.view(np.uint64), axis=0, return_inverse=True)[1].reshape(-1)


def _order(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices sorted by key, their keys, and the length of each run of equal keys."""
    order = np.argsort(keys, kind="stable")
    return order, keys[order], np.bincount(keys)


def _pairs_in_runs(words: np.ndarray, order: np.ndarray, keys: np.ndarray, near_bits: int) -> _Pairs:
    """Near pairs within each run of equal keys: neighbours first, then those two apart, and so on."""
    at = np.arange(len(keys) - 1)
    for apart in range(1, len(keys)):
        at = at[at < len(keys) - apart]
        at = at[keys[at] == keys[at + apart]]
        if not len(at):
            return
        for start in range(0, len(at), _BLOCK):
            i, j = order[at[start : start + _BLOCK]], order[at[start : start + _BLOCK] + apart]
            near = np.bitwise_count(words[i] ^ words[j]).sum(axis=1, dtype=np.int64) <= near_bits
            yield i[near], j[near]


def _pairs_in_blocks(words: np.ndarray, near_bits: int) -> _Pairs:
    """Near pairs by comparing each with each, some rows with all later columns at a time."""
    rows = max(1, _BLOCK // 4 // len(words))
    for start in range(0, len(words), rows):
        # 256 differing bits do not fit into 8 bits; wider types are slower.
        apart = np.zeros((min(rows, len(words) - start), len(words) - start), np.uint16)
        for word in words.T:
            apart += np.bitwise_count(word[start : start + rows, None] ^ word[None, start:])
        i, j = np.nonzero(apart <= near_bits)
        yield start + i[i < j], start + j[i < j]
