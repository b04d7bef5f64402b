"""``tlkeras export`` and ``tlkeras verify``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.cli.command import SHIPPING, CommandLine, Fields, command
from tlkeras.cli.console import table
from tlkeras.export.formats import ExportConfig

if TYPE_CHECKING:
    from tlkeras.errors import ParityError

ImagesOption = Annotated[
    list[str] | None,
    typer.Option("--images", help="Photos, folder or pattern to check on, or demo; may be given more than once."),
]


@command(SHIPPING, Fields(ExportConfig))
def export(
    line: CommandLine,
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of models; the export becomes TO/NAME/NUMBER.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the run's own by default.")] = None,
    images: ImagesOption = None,
) -> None:
    """Publish a classifier for TensorFlow Serving, ONNX Runtime and browsers, once all answer as Python does."""
    from tlkeras.errors import ParityError
    from tlkeras.export.publish import export as publish
    from tlkeras.export.samples import samples_for
    from tlkeras.run_facts import read_run
    from tlkeras.trained import TrainedClassifier, find

    found = find(run)  # a wrong directory or option is told at once, before TensorFlow is loaded
    folder = to / _model_name(name, run, found)
    config = ExportConfig(**line.values(ExportConfig))
    line.refuse(("signature",), "without the format saved_model", unless="saved_model" in config.formats)
    samples = samples_for(images, run=run, reporter=line.terminal)
    try:
        trained, facts = TrainedClassifier.load(run), read_run(run)
        published = publish(trained, folder, samples, config, facts=facts, reporter=line.terminal)
    except ParityError as error:
        _answer_failure(line, error, {"published": False, "parity": error.report})
        raise
    line.answer(
        published.to_json(),
        [_parity_table(published.parity.to_json())],
        *_left_out(published.parity.to_json()),
        f"published: {published.folder}   ({published.bytes / 1e6:,.1f} MB, {published.seconds:.1f} s)",
        f"next: tlkeras verify {published.folder}",
    )


@command(SHIPPING)
def verify(
    line: CommandLine,
    version: Annotated[Path, typer.Argument(help="Folder of a published version, DIR/NAME/NUMBER.")],
    images: ImagesOption = None,
) -> None:
    """Compare a published version with its manifest, byte by byte, and repeat the check; exit code 1 if it fails."""
    from tlkeras.errors import ParityError
    from tlkeras.export.publish import read_manifest
    from tlkeras.export.publish import verify as check
    from tlkeras.export.samples import samples_for

    read_manifest(version)  # a wrong folder is told at once
    samples = samples_for(images, reporter=line.terminal)
    try:
        parity = check(version, samples, reporter=line.terminal).to_json()
    except ParityError as error:
        _answer_failure(line, error, {"folder": str(version), "passed": False, **error.report})
        raise
    line.answer(
        {"folder": str(version), "intact": True, **parity},
        [_parity_table(parity)],
        *_left_out(parity),
        f"verified: {version} is what was published, and answers as Python does",
    )


def _model_name(name: str | None, run: Path, found: Path) -> str:
    """The name of the model's folder, which is also what servers call it.

    Raises: ConfigError for a name that would not do in a path and in a URL.
    """
    from tlkeras.errors import ConfigError

    if name is None:
        resolved = run.resolve()
        name = resolved.parent.name if found.resolve() == resolved and resolved.name == "classifier" else resolved.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(
            "a model's name takes letters, digits, '.', '_' and '-', a letter or digit first",
            received=f"'{name}'",
            next_step="Choose another --name.",
        )
    return name


def _answer_failure(line: CommandLine, error: ParityError, described: dict[str, Any]) -> None:
    """What was compared; the error itself follows on standard error."""
    compared = "checks" in error.report
    tables, words = ([_parity_table(error.report)], _left_out(error.report)) if compared else ([], [])
    line.answer({**described, "error": str(error)}, tables, *words)


def _parity_table(report: dict[str, Any]) -> Any:
    rows = (
        (
            *(check[name] for name in ("runtime", "asked", "batch", "images")),
            "not finite" if check["difference"] is None else f"{check['difference']:.1e}",
            f"{check['tolerance']:.0e}",
            len(check["disagreements"]),
            check["ties"],
            f"{check['images'] / check['seconds']:,.0f}" if check["seconds"] > 0 else "",
            "passed" if check["passed"] else "FAILED",
        )
        for check in report["checks"]
    )
    columns = (
        "runtime | asked for | >batch | >images | >largest difference | >allowed | >other class | >ties | >images/s | "
    )
    return table(columns, rows, title=f"The same answers as Python's: {report['images']}")


def _left_out(report: dict[str, Any]) -> list[str]:
    """A line on the files that were not asked about, where there are any."""
    if not report["left_out"]:
        return []
    names = ", ".join(report["left_out"][:5]) + (" …" if len(report["left_out"]) > 5 else "")
    return [f"left out, because a served graph does not decode them: {len(report['left_out'])} ({names})"]
