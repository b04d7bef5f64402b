"""The gate that every export passes before it is published: the same files through every runtime, the same answers.

Python's ``predict``, from the bytes of each file, is what all are compared with.

- No probability may differ by more than the runtime's tolerance.
- The most probable class must be the same. Where Python's own two candidates lie within twice the tolerance, two
  answers that are both within it can rank them either way; such a pair is counted as a tie, not as a disagreement.
- The C++ loader's answers to a file and to that file's pixels may differ by ``SAME_FILE_TOLERANCE``.
- ``classes`` and ``scores`` must be what ``probabilities`` say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import ParityError
from tlkeras.export.formats import Answer, Runtime, runtimes_of
from tlkeras.export.samples import Sample, Samples
from tlkeras.images.decode import decode
from tlkeras.progress import Reporter, Silent
from tlkeras.trained import TrainedClassifier

BATCHES = (1, 7)
SAME_FILE_TOLERANCE = 1e-5
# Pixels come in one size a batch: in batches of more, photos are cut to what they share, and to no more than this.
_CUT_PX = 1024
_CUT = max(BATCHES)
_PYTHON_BATCH = 32


@dataclass
class Check:
    """One runtime, asked in one way.

    runtime, asked: who, and ``bytes``, ``pixels`` or ``bytes against pixels``. batch: images a request. format: whose
    files are checked.
    images: how many were asked. difference: largest one of a probability, on the image ``worst``.
    disagreements: names of the images whose most probable class is another one. ties: how many are undecidable.
    problems: what else is wrong, image by image. seconds: spent in the runtime.
    """

    runtime: str
    asked: str
    batch: int
    tolerance: float
    format: str = ""
    images: int = 0
    difference: float = 0.0
    worst: str = ""
    disagreements: list[str] = field(default_factory=list)
    ties: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, and something was asked."""
        return self.images > 0 and self.difference <= self.tolerance and not self.disagreements and not self.problems

    def add(self, name: str, expected: np.ndarray, probabilities: np.ndarray) -> None:
        """Compare one image's probabilities, both ``[K]``."""
        self.images += 1
        if probabilities.shape != expected.shape or not np.isfinite(probabilities).all():
            self.difference, self.worst = float("inf"), name
            self.problems.append(f"{name}: the probabilities are not {len(expected)} finite numbers")
            return
        difference = float(np.abs(probabilities.astype(np.float64) - expected).max())
        if difference > self.difference or not self.worst:
            self.difference, self.worst = difference, name
        ours, theirs = int(expected.argmax()), int(probabilities.argmax())
        if ours != theirs:
            if expected[ours] - expected[theirs] <= 2 * self.tolerance:
                self.ties += 1
            else:
                self.disagreements.append(name)

    def failure(self) -> str:
        """What is wrong in words, or ``""``."""
        who = f"{self.runtime}, {self.asked}, batch {self.batch}"
        if self.problems:
            return f"{who}: {self.problems[0]}"
        if self.disagreements:
            return f"{who}: another class for '{self.disagreements[0]}' (and {len(self.disagreements) - 1} more)"
        if self.difference > self.tolerance:
            return f"{who}: a probability of '{self.worst}' differs by {self.difference:.1e}, over {self.tolerance:.0e}"
        return "" if self.images else f"{who}: nothing was asked"


@dataclass(frozen=True)
class Parity:
    """All checks of one export; ``origin`` and ``left_out`` are those of the samples."""

    checks: tuple[Check, ...]
    origin: str
    left_out: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there were checks and all passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the manifest and ``--json``."""
        rows = [{**asdict(check), "passed": check.passed} for check in self.checks]
        for row in rows:
            # JSON has no infinity.
            row["difference"] = row["difference"] if np.isfinite(row["difference"]) else None
        return {"passed": self.passed, "images": self.origin, "left_out": list(self.left_out), "checks": rows}

    def require(self, next_step: str) -> None:
        """Raise ParityError, naming the failing image, unless all checks passed."""
        failures = [check.failure() for check in self.checks if not check.passed]
        if failures or not self.checks:
            line = failures[0] if failures else "no runtime to check it in is installed"
            raise ParityError(
                f"the export does not answer as Python does: {line}", report=self.to_json(), next_step=next_step
            )


def check_parity(
    trained: TrainedClassifier, folder: Path, samples: Samples, reporter: Reporter | None = None
) -> Parity:
    """Send the samples through every runtime that ``folder`` has files for, at the batch sizes ``BATCHES``.

    Raises: ExportError when a runtime refuses the whole export.
    """
    reporter = reporter or Silent()
    images = samples.images
    chunks = _groups(len(images), _PYTHON_BATCH)
    # Keras itself is what all others are held against.
    python = trained.predictor(engine="tensorflow")
    whole = np.concatenate([python.predict([images[index].read() for index in chunk]) for chunk in chunks])
    cut = np.concatenate([python.predict(list(_cut_alike(images, group))) for group in _groups(len(images), _CUT)])
    asked = _Asked([image.name for image in images], images, trained.class_names, whole, cut)
    checks: list[Check] = []
    for one, engine in runtimes_of(folder):
        with reporter.step(engine.name, "answers") as advance, engine.open(folder) as runtime:
            passes, done = len(BATCHES) * (2 if runtime.files else 1), 0
            for check in _passes(runtime, partial(Check, engine.name, format=one.name), engine.tolerance, asked):
                checks.append(check)
                done += check.images if check.asked in ("bytes", "pixels") else 0
                advance(done, passes * len(images))
    return Parity(tuple(checks), samples.origin, samples.left_out)


@dataclass(frozen=True)
class _Asked:
    """The samples with Python's answers: ``whole`` float32 ``[N, K]`` to the files, ``cut`` to what batches share."""

    names: list[str]
    images: Sequence[Sample]
    class_names: Sequence[str]
    whole: np.ndarray
    cut: np.ndarray


def _groups(count: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def _passes(runtime: Runtime, new: Callable[..., Check], tolerance: float, asked: _Asked) -> Iterator[Check]:
    alone: dict[int, np.ndarray] = {}
    for batch in BATCHES:
        groups = _groups(len(asked.images), batch)
        if runtime.files is not None:
            check = new("bytes", batch, tolerance)
            for group in groups:
                data = [asked.images[index].read() for index in group]
                answer = _ask(check, runtime.files, data, group, asked, asked.whole)
                if batch == 1 and answer is not None:
                    alone[group[0]] = answer["probabilities"][0]
            yield check
        check, same = new("pixels", batch, tolerance), new("bytes against pixels", batch, SAME_FILE_TOLERANCE)
        for group in groups:
            # A single photo is asked for whole.
            pixels = _cut_alike(asked.images, group, most_px=None if batch == 1 else _CUT_PX)
            answer = _ask(check, runtime.pixels, pixels, group, asked, asked.whole if batch == 1 else asked.cut)
            if batch == 1 and answer is not None and group[0] in alone:
                same.add(asked.names[group[0]], alone[group[0]], answer["probabilities"][0])
        yield check
        if batch == 1 and runtime.files is not None:
            yield same


def _ask(
    check: Check, answering: Any, data: Any, group: list[int], asked: _Asked, expected: np.ndarray
) -> Answer | None:
    """One request and what there is to say of its answer; None when there is none to compare."""
    names = [asked.names[index] for index in group]
    started = time.perf_counter()
    try:
        answer: Answer = answering(data)
    # Every engine has exceptions of its own; a file that Python reads must be refused by none of them.
    except Exception as error:
        check.images += len(names)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        check.problems.append(f"{', '.join(names)}: refused ({reason})")
        return None
    finally:
        check.seconds += time.perf_counter() - started
    probabilities = answer["probabilities"]
    if len(probabilities) != len(names):
        check.problems.append(f"{names[0]}: {len(probabilities)} answers to {len(names)} images")
        return None
    for row, index in enumerate(group):
        check.add(asked.names[index], expected[index], probabilities[row])
        wrong = _wrong_ranking(answer, row, asked.class_names)
        if wrong:
            check.problems.append(f"{asked.names[index]}: {wrong}")
    return answer


def _wrong_ranking(answer: Answer, row: int, class_names: Sequence[str]) -> str:
    """Why the listed classes and scores of one image are not what its probabilities say, or ``""``."""
    probabilities, indices, scores = (answer[name][row] for name in ("probabilities", "class_indices", "scores"))
    if not np.array_equal(scores, np.sort(probabilities)[::-1][: len(scores)]):
        return "the scores are not the largest probabilities in order"
    if not np.array_equal(probabilities[indices], scores):
        return "the class indices are not those of the scores"
    if "classes" in answer and [class_names[index] for index in indices] != list(answer["classes"][row]):
        return "the class names are not those of the indices"
    return ""


def _cut_alike(images: Sequence[Sample], group: Sequence[int], most_px: int | None = _CUT_PX) -> np.ndarray:
    """The top left corner that the images share, no side longer than ``most_px``: uint8 ``[n, H, W, 3]``."""
    decoded = [decode(images[index].read()).pixels[:most_px, :most_px] for index in group]
    height, width = (min(pixels.shape[axis] for pixels in decoded) for axis in (0, 1))
    return np.stack([pixels[:height, :width] for pixels in decoded])
