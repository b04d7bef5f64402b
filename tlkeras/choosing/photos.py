"""The photos that choices are made with: audited and split as training does it, so that its test stays unseen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlkeras.data.audit import audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.splits import split
from tlkeras.data.verdicts import Verdict
from tlkeras.progress import Reporter


@dataclass(frozen=True)
class Photos:
    """Labelled images with their verdicts and groups (int64 ``[N]``, equal for near copies), aligned."""

    images: LabelledImages
    verdicts: tuple[Verdict, ...]
    groups: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int32 ``[N]``."""
        return self.images.labels

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.images.class_names)

    def __len__(self) -> int:
        return len(self.verdicts)

    def subset(self, chosen: np.ndarray) -> Photos:
        """The photos at indices, or where a mask is true."""
        indices = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Photos(self.images.subset(indices), tuple(self.verdicts[int(i)] for i in indices), self.groups[indices])

    def in_splits(self, *names: str) -> Photos:
        """The photos of some splits."""
        return self.subset(np.isin(self.images.splits, names))


def audited(
    dataset: LabelledImages,
    reporter: Reporter,
    *,
    seed: int = 0,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> Photos:
    """All photos that the audit keeps, each in the split that ``tlkeras train`` with the same options puts it in.

    Raises: DataError, ConfigError: see ``audit`` and ``split``.
    """
    with reporter.step("audit") as progress:
        checked = audit(dataset, progress=progress)
    reporter.say(checked.summary())
    verdicts = tuple(checked.kept_verdicts)
    images = split(
        checked.kept,
        checked.groups,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        keys=[verdict.sha256 for verdict in verdicts],
    )
    return Photos(images, verdicts, checked.groups)


def stratified(labels: np.ndarray, count: int, *, seed: int, least: int = 5) -> np.ndarray:
    """Sorted indices of about ``count`` images whose classes keep their shares; all where there are no more.

    Every class keeps ``least`` images, or all that it has, so that small classes can be cross-validated: ``count``
    is exceeded where that takes it.
    """
    if len(labels) <= count:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(round(count * len(members) / len(labels)), least)])
    return np.sort(np.concatenate(chosen))
