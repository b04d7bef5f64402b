"""The 1000 classes of ImageNet's 2012 challenge, in the order of every ImageNet top of keras.applications.

They stand in ``imagenet_classes.txt``, a line each: WordNet id and the name that ``decode_predictions`` gives.
Two names, "crane" and "maillot", belong to two classes each; the WordNet ids tell them apart.
"""

from __future__ import annotations

import functools
from importlib import resources

CLASS_COUNT = 1000


@functools.cache
def _rows() -> tuple[tuple[str, str], ...]:
    text = resources.files("tlkeras.backbones").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    rows = tuple((line[:9], line[10:]) for line in text.splitlines())
    assert len(rows) == CLASS_COUNT, "imagenet_classes.txt must have 1000 lines"
    return rows


def class_names() -> tuple[str, ...]:
    """The names of the 1000 classes, such as "Siamese_cat"."""
    return tuple(name for _, name in _rows())


def wordnet_ids() -> tuple[str, ...]:
    """The WordNet ids of the 1000 classes, such as "n02123597"."""
    return tuple(wordnet_id for wordnet_id, _ in _rows())
