"""Building, checking and publishing a version: all of it, or nothing.

A version folder holds ``saved_model.pb``, ``variables/``, ``assets/``, ``assets.extra/`` (warm-up requests, and the
classifier itself in ``assets.extra/classifier``, so that the check can be repeated anywhere), ``model.onnx``,
``model_half.onnx``, ``web/``, ``labels.txt``, ``MODEL_CARD.md`` and ``manifest.json``, as far as asked for.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkeras.errors import ConfigError, ParityError, unknown
from tlkeras.export.answers import check_top_k
from tlkeras.export.card import CARD_FILE, model_card
from tlkeras.export.manifest import changes, read_manifest, write_manifest
from tlkeras.export.parity import Parity, check_parity
from tlkeras.export.samples import Samples
from tlkeras.export.saved_model import LABELS_FILE, SIGNATURES, labels_text, write_saved_model
from tlkeras.export.versions import publish, staged_version
from tlkeras.progress import Reporter, Silent
from tlkeras.run_facts import RunFacts
from tlkeras.runtime import HALF_FILE, MODEL_FILE
from tlkeras.storage import size_of, write_bytes
from tlkeras.trained import TrainedClassifier, versions

FORMATS = ("saved_model", "onnx", "web")
DEFAULT_TOP_K = 5
CLASSIFIER_FOLDER = "assets.extra/classifier"


@dataclass(frozen=True)
class ExportConfig:
    """What to write.

    formats: of ``FORMATS``; ``web``, a page that runs the ONNX file in a browser, needs ``onnx``. signature: of
    the SavedModel's ``serving_default``. top_k: classes listed in an answer; by default 5, or all where there
    are fewer. half: also write ``model_half.onnx`` with weights of 16 bits.

    Raises: ConfigError for a format or signature that there is not, or formats that do not go together.
    """

    formats: tuple[str, ...] = ("saved_model", "onnx")
    signature: str = "pixels"
    top_k: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", tuple(self.formats))
        for name in self.formats:
            if name not in FORMATS:
                raise unknown("format", name, FORMATS)
        if not self.formats:
            raise ConfigError("an export needs a format", next_step=f"There are {', '.join(FORMATS)}.")
        for option, wanted in (("web", "web" in self.formats), ("half", self.half)):
            if wanted and "onnx" not in self.formats:
                raise ConfigError(f"{option} needs the format onnx", received=", ".join(self.formats))
        if self.signature not in SIGNATURES:
            raise unknown("signature", self.signature, SIGNATURES)


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
        wanted = [name for name in FORMATS if name in config.formats]
        with reporter.step("write", "formats") as progress:
            for done, name in enumerate(wanted):
                progress(done, len(wanted))
                _WRITERS[name](trained, staged, config, top_k)
                progress(done + 1, len(wanted))
        write_bytes(staged / LABELS_FILE, labels_text(trained).encode())
        trained.save(staged / CLASSIFIER_FOLDER)
        reporter.say(f"checking on {samples.origin}")
        parity = check_parity(trained, staged, samples, reporter)
        parity.require("Nothing was published; versions before are as they were.")
        facts = facts or RunFacts(Path(folder), asdict(trained.config))
        card = model_card(facts, name=Path(folder).name, parity=parity.to_json())
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


def _saved_model(trained: TrainedClassifier, folder: Path, config: ExportConfig, top_k: int) -> None:
    write_saved_model(trained, folder, default_signature=config.signature, top_k=top_k)


def _onnx(trained: TrainedClassifier, folder: Path, config: ExportConfig, top_k: int) -> None:
    from tlkeras.export.onnx_model import write_onnx

    write_onnx(trained, folder / MODEL_FILE, top_k=top_k)
    if config.half:
        write_onnx(trained, folder / HALF_FILE, top_k=top_k, half=True)


def _web(trained: TrainedClassifier, folder: Path, config: ExportConfig, top_k: int) -> None:
    from tlkeras.export.web import write_web

    del trained, config, top_k  # the page reads them from the ONNX file
    write_web(folder / MODEL_FILE, folder / "web")


_WRITERS = {"saved_model": _saved_model, "onnx": _onnx, "web": _web}
