"""Building, checking and publishing a version: all of it, or nothing.

A version folder holds the files of its formats (``tlkeras.export.formats``), the classifier itself in
``assets.extra/classifier``, so that the check can be repeated anywhere, ``labels.txt``, ``MODEL_CARD.md`` and
``manifest.json``.
"""

from __future__ import annotations

import time
from dataclasses import InitVar, asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkeras.errors import ConfigError, ParityError, unknown
from tlkeras.export.card import CARD_FILE, model_card
from tlkeras.export.formats import DEFAULT_FORMATS, FORMATS, Job
from tlkeras.export.parity import Parity, check_parity
from tlkeras.export.samples import Samples
from tlkeras.export.saved_model import LABELS_FILE, SIGNATURES, check_top_k, labels_text
from tlkeras.export.versions import changes, publish, read_manifest, staged_version, write_manifest
from tlkeras.progress import Reporter, Silent
from tlkeras.run_facts import RunFacts
from tlkeras.storage import size_of, write_bytes
from tlkeras.trained import TrainedClassifier, versions

DEFAULT_TOP_K = 5
CLASSIFIER_FOLDER = "assets.extra/classifier"


@dataclass(frozen=True)
class ExportConfig:
    """What to write.

    formats: of ``tlkeras.export.formats.FORMATS``; some need another. signature: of the SavedModel's
    ``serving_default``. top_k: classes listed in an answer; by default 5, or all where there are fewer. half: the same
    as the format ``onnx-fp16``, weights of 16 bits.

    Raises: ConfigError for a format or signature that there is not, or formats that do not go together.
    """

    formats: tuple[str, ...] = DEFAULT_FORMATS
    signature: str = "pixels"
    top_k: int | None = None
    half: InitVar[bool] = False

    def __post_init__(self, half: bool) -> None:
        chosen = (*self.formats, *(["onnx-fp16"] if half else []))
        for name in chosen:
            if name not in FORMATS:
                raise unknown("format", name, FORMATS)
            if FORMATS[name].needs not in ("", *chosen):
                raise ConfigError(f"{name} needs the format {FORMATS[name].needs}", received=", ".join(chosen))
        if not chosen:
            raise ConfigError("an export needs a format", next_step=f"There are {', '.join(FORMATS)}.")
        if self.signature not in SIGNATURES:
            raise unknown("signature", self.signature, SIGNATURES)
        object.__setattr__(self, "formats", tuple(name for name in FORMATS if name in chosen))


@dataclass(frozen=True)
class Published:
    """A published version: its folder, the check that it passed, its bytes, the seconds that all took."""

    folder: Path
    parity: Parity
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``tlkeras export --json`` prints."""
        return {
            "folder": str(self.folder),
            "version": int(self.folder.name),
            "published": True,
            "parity": self.parity.to_json(),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


def export(
    trained: TrainedClassifier,
    folder: str | Path,
    samples: Samples,
    config: ExportConfig = ExportConfig(),
    *,
    facts: RunFacts | None = None,
    reporter: Reporter | None = None,
) -> Published:
    """Write a classifier into ``folder/<next free number>``, once every runtime has answered as Python does.

    ``facts``: what is known of its training, for the model card.

    Raises: ParityError when one does not, with nothing published; ConfigError; ExportError for a network that a
    format cannot express; StorageError when the disk refuses.
    """
    reporter = reporter or Silent()
    started = time.perf_counter()
    top_k = min(DEFAULT_TOP_K, len(trained.class_names)) if config.top_k is None else config.top_k
    check_top_k(top_k, len(trained.class_names))
    with staged_version(Path(folder).absolute()) as staged:
        job = Job(trained, staged, top_k, config.signature)
        with reporter.step("write", "formats") as progress:
            for done, name in enumerate(config.formats):
                progress(done, len(config.formats))
                FORMATS[name].write(job)
                progress(done + 1, len(config.formats))
        write_bytes(staged / LABELS_FILE, labels_text(trained).encode())
        trained.save(staged / CLASSIFIER_FOLDER)
        reporter.say(f"checking on {samples.origin}")
        parity = check_parity(trained, staged, samples, reporter)
        parity.require(f"Nothing was published; versions before are as they were.{_way_out(config, parity)}")
        facts = facts or RunFacts(Path(folder), asdict(trained.config))
        written = [FORMATS[name] for name in config.formats]
        card = model_card(facts, name=Path(folder).name, parity=parity.to_json(), formats=written)
        write_bytes(staged / CARD_FILE, card.encode(errors="backslashreplace"))
        described = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "class_names": list(trained.class_names),
            "classifier": asdict(trained.config),
            "config": {**asdict(config), "top_k": top_k},
            "versions": versions(),
            "parity": parity.to_json(),
        }
        write_manifest(staged, described)
        size = size_of(staged)
        version = publish(staged)
    return Published(version, parity, size, time.perf_counter() - started)


def verify(folder: str | Path, samples: Samples, *, reporter: Reporter | None = None) -> Parity:
    """Repeat the check on a published version, after comparing every byte with the manifest.

    Raises: ParityError when a file has changed or an answer differs; ExportError when this is no version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if differing := changes(folder, manifest):
        report = {"intact": False, **{name: list(value) for name, value in asdict(differing).items()}}
        raise ParityError(
            f"'{folder}' is not what was published ({differing})", report=report, next_step="Export again."
        )
    parity = check_parity(TrainedClassifier.load(folder / CLASSIFIER_FOLDER), folder, samples, reporter)
    parity.require("Its files are as published, so look at the versions of the runtimes.")
    return parity


def _way_out(config: ExportConfig, parity: Parity) -> str:
    """What could be published instead, where only some formats are to blame."""
    failed = {check.format for check in parity.checks if not check.passed}
    good = [name for name in config.formats if not failed & {name, FORMATS[name].needs}]
    checked = {check.format for check in parity.checks} & set(good)
    return f" Without {', '.join(sorted(failed))} all agree: --formats {','.join(good)}." if checked else ""
