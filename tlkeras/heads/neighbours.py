"""Nearest neighbours among features: a check of other heads, never one that is shipped."""

from __future__ import annotations

import numpy as np

from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.linear import check_training_rows, unit_rows

_QUERIES_AT_ONCE = 1024


def nearest(
    queries: np.ndarray,
    rows: np.ndarray,
    k: int,
    *,
    query_groups: np.ndarray | None = None,
    row_groups: np.ndarray | None = None,
) -> np.ndarray:
    """For each query float [M, D] the indices, int64 [M, k], of its ``k`` nearest rows float [N, D], nearest first.

    Near means a small angle (cosine similarity), as the linear head sees features. With groups (ints [M] and [N])
    rows of a query's own group are passed over: an image is no neighbour of itself nor of its copies. Where fewer
    than ``k`` rows are left the places stay -1.

    Raises:
        ConfigError: ``k`` below 1.
        DataError: queries and rows of different length.
    """
    if k < 1:
        raise ConfigError("the number of neighbours must be at least 1", received=k)
    queries, rows = unit_rows(queries), unit_rows(rows)
    if queries.shape[1:] != rows.shape[1:]:
        raise DataError("queries and rows need the same features", received=f"{queries.shape} and {rows.shape}")
    found = np.full((len(queries), k), -1, np.int64)
    most = min(k, len(rows))
    for at in range(0, len(queries), _QUERIES_AT_ONCE):
        similar = queries[at : at + _QUERIES_AT_ONCE] @ rows.T
        if query_groups is not None and row_groups is not None:
            similar[query_groups[at : at + _QUERIES_AT_ONCE, None] == row_groups[None, :]] = -np.inf
        best = np.argpartition(-similar, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(similar, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
        found[at : at + _QUERIES_AT_ONCE, :most] = np.where(np.isfinite(values), best, -1)
    return found


def vote(rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, class_count: int, k: int) -> np.ndarray:
    """Log probabilities float32 [M, K] of queries [M, D], by the votes of the ``k`` nearest rows.

    One vote more is spread over all classes, so that none is impossible.

    Raises:
        ConfigError, DataError: as ``nearest`` and ``check_training_rows``.
    """
    rows, labels = check_training_rows(rows, labels, class_count)
    found = nearest(queries, rows, k)
    votes = np.full((len(queries), class_count), 1.0 / class_count)
    for column in found.T:
        there = np.flatnonzero(column >= 0)
        votes[there, labels[column[there]]] += 1.0
    return np.log(votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
