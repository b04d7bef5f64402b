"""What other networks see in an image that was made with one: structure convinces them, noise does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkeras.adversarial.ideal import IdealImages
from tlkeras.adversarial.target import Target


def judgement(ideal: IdealImages, judge: Target) -> dict[str, Any]:
    """The answers of another network on the image files, as plain values.

    For each image its ``top`` classes there and, where the judge has a class of the same name, the place
    ``rank`` (1 is first) and the ``probability`` of that class; ``first`` and ``top_5``: the shares of such images.
    """
    fitted = np.stack([judge.load(image) for image in ideal.images])
    probabilities = judge.probabilities(fitted)
    place = _place(ideal.target, judge)
    rows, ranks = [], []
    for index, row in enumerate(probabilities):
        answer: dict[str, Any] = {"top": judge.ranked(row)}
        k = place.get(int(ideal.classes[index]))
        if k is not None:
            rank = int((row > row[k]).sum()) + 1
            ranks.append(rank)
            answer |= {"rank": rank, "probability": round(float(row[k]), 6)}
        rows.append(answer)
    shares = {
        "first": round(sum(rank == 1 for rank in ranks) / len(ranks), 6) if ranks else None,
        "top_5": round(sum(rank <= 5 for rank in ranks) / len(ranks), 6) if ranks else None,
    }
    return {"network": judge.name, **shares, "images": rows}


def judgements(ideal: IdealImages, judges: Sequence[Target]) -> list[dict[str, Any]]:
    """One :func:`judgement` for each judge."""
    return [judgement(ideal, judge) for judge in judges]


def _place(maker: Target, judge: Target) -> dict[int, int]:
    """Which class of the judge is which of the maker's; two may share a name, never a WordNet id."""
    ours = maker.wordnet_ids if maker.wordnet_ids and judge.wordnet_ids else maker.class_names
    theirs = judge.wordnet_ids if maker.wordnet_ids and judge.wordnet_ids else judge.class_names
    index = {name: k for k, name in enumerate(theirs)}
    return {k: index[name] for k, name in enumerate(ours) if name in index}
