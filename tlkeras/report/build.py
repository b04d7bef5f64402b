"""Putting the report of a run together: one HTML file."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tlkeras.errors import ConfigError
from tlkeras.evaluation.metrics import percent
from tlkeras.progress import Reporter, Silent
from tlkeras.report import curves, headline, insight, pictures, usage
from tlkeras.report.section import Section, Thumbnails, file_name
from tlkeras.run_facts import RunFacts, as_written
from tlkeras.storage import cache_root, write_bytes
from tlkeras.trained import versions

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_FILE = "report.html"


def write_report(
    facts: RunFacts, out: str | Path | None = None, *, export: Path | None = None, reporter: Reporter | None = None
) -> Path:
    """Write the report of a run, by default as ``report.html`` into its directory; an older one is replaced.

    ``export``: a published version whose parity table is shown; by default the latest inside the run.

    Raises: ConfigError when nothing was measured; ExportError when ``export`` is no version; StorageError.
    """
    path = facts.folder / REPORT_FILE if out is None else Path(out)
    if path.is_dir():
        raise ConfigError(f"'{path}' is a folder", next_step="Give --out the name of a file.")
    page = render(facts, export=export)
    write_bytes(path, page)
    (reporter or Silent()).say(f"   report  {path} ({len(page) / 1e6:.1f} MB)")
    return path


def render(facts: RunFacts, *, export: Path | None = None) -> bytes:
    """The report as the bytes of an HTML file; raises as ``write_report``."""
    if facts.metrics is None:
        raise ConfigError(
            f"'{facts.folder}' was not measured, so there is nothing to report",
            next_step="Name labelled data: tlkeras report RUN DATA.",
        )
    with as_written(facts.folder):
        return _rendered(facts, export)


def _rendered(facts: RunFacts, export: Path | None) -> bytes:
    thumbnails = Thumbnails()
    sections = _sections(facts, thumbnails, export)
    unseen = thumbnails.load()
    summary = sections[0]
    summary.data["look_at"] = headline.look_at(facts, sections)
    summary.data["unseen"] = unseen
    # A run names its photos by path, and may come from a stranger.
    summary.data["outside"] = thumbnails.outside([facts.folder, cache_root(), *facts.data_folders])
    templates = environment()
    script = source("report.js")
    page = templates.get_template("report.html.j2").render(
        facts=facts,
        title=summary.title,
        sections=sections,
        style=source("report.css"),
        script=script,
        # The one script that this page may run; nothing that a file name smuggles in is it.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        made=datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0"),
        version=versions()["tlkeras"],
        run_name=file_name(str(facts.folder.resolve())),
    )
    return page.encode("utf-8", errors="replace")


def _sections(facts: RunFacts, thumbnails: Thumbnails, export: Path | None) -> list[Section]:
    """All sections that have data, in the order in which a reader wants them."""
    heat = insight.heat_maps(facts, thumbnails)
    exported = str(export) if export else next((str(one.folder) for one in reversed(insight.exports(facts.folder))), "")
    makers: list[Callable[[], Section | None]] = [
        lambda: headline.headline(facts),
        lambda: pictures.examples(facts, thumbnails),
        lambda: pictures.audit_findings(facts, thumbnails),
        lambda: curves.curves(facts),
        lambda: headline.confusion(facts, thumbnails),
        lambda: headline.per_class(facts),
        lambda: curves.calibration(facts),
        lambda: pictures.mistakes(facts, thumbnails, heat),
        lambda: pictures.doubtful_labels(facts, thumbnails),
        lambda: pictures.copies(facts, thumbnails),
        lambda: insight.ideal(facts, thumbnails),
        lambda: insight.adversarial(facts),
        lambda: insight.robustness(facts),
        lambda: insight.parity(facts, export),
        lambda: usage.usage(facts, exported),
        lambda: usage.configuration(facts, versions()),
    ]
    return [section for make in makers if (section := make()) is not None]


@functools.cache
def environment() -> Environment:
    """The templates, which escape every value."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Every value is escaped, whatever the template's name ends with: names come from strangers' files.
    environment = Environment(
        loader=PackageLoader("tlkeras.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _unbroken_percent
    return environment


def _unbroken_percent(share: float | None, digits: int = 1) -> str:
    return percent(share, digits).replace(" ", "\u00a0")


@functools.cache
def source(name: str) -> str:
    """A style or script beside the templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
