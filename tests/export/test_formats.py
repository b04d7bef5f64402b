"""The registry of formats: whoever lists them, lists these, and what one says of itself holds."""

import re
import shlex
from pathlib import Path

import pytest

from tests.report.runs import make_run
from tlkeras.cli.main import main
from tlkeras.errors import ParityError
from tlkeras.export.card import model_card
from tlkeras.export.formats import DEFAULT_FORMATS, FORMATS, Engine, ExportConfig, Place, formats_in
from tlkeras.export.publish import export, read_manifest
from tlkeras.report.usage import usage
from tlkeras.run_facts import read_run

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_formats_stand_behind_what_they_need():
    names = list(FORMATS)
    assert [one.name for one in FORMATS.values()] == names
    assert all(names.index(one.needs) < names.index(one.name) for one in FORMATS.values() if one.needs)
    assert all(FORMATS[name].needs in ("", *DEFAULT_FORMATS) for name in DEFAULT_FORMATS)


def test_a_version_has_the_files_that_its_formats_name(version_folder):
    found = formats_in(version_folder)
    assert [one.name for one in found] == read_manifest(version_folder)["config"]["formats"]
    assert all((version_folder / file).exists() for one in found for file in one.files)
    assert not (version_folder / "web").exists()


def test_the_command_and_its_help_follow(capsys):
    assert main(["export", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"Of {', '.join(FORMATS)};" in words
    assert f"[default: {','.join(DEFAULT_FORMATS)}]" in words


@pytest.mark.parametrize("chosen", [tuple(FORMATS), ("onnx",)])
def test_the_card_and_the_report_show_how_each_is_used(chosen, tmp_path):
    facts = read_run(make_run(tmp_path / "pets", ("cat", "dog"), 2))
    version = tmp_path / "my models" / "pets" / "3"
    for name in chosen:
        (version / FORMATS[name].files[0]).mkdir(parents=True)
    card = model_card(facts, formats=formats_in(version))
    shown = {line.title: line.code for line in usage(facts, str(version)).data["lines"]}
    for name, one in FORMATS.items():
        theirs = one.usage(Place("pets", str(version), shlex.quote(str(version.parent))))
        assert (shown.get(theirs.title) == theirs.code) == (name in chosen)
        assert (one.usage(Place("pets", ".", '"$PWD/.."')).code in card) == (name in chosen)
        assert all(f"\n- {_quoted(tag)}\n" in card for tag in one.tags if name in chosen)


def _quoted(tag):
    return f'"{tag}"'


def test_a_format_that_disagrees_is_named_with_what_could_be_published(classifier, samples, tmp_path, monkeypatch):
    half = FORMATS["onnx-fp16"]
    monkeypatch.setattr(half, "engines", lambda: tuple(Engine(e.name, e.open, -1.0) for e in type(half).engines(half)))
    with pytest.raises(ParityError, match=r"half.*Without onnx-fp16 all agree: --formats onnx\.") as caught:
        export(classifier, tmp_path / "m", samples, ExportConfig(formats=("onnx",), half=True))
    assert {row["format"] for row in caught.value.report["checks"] if not row["passed"]} == {"onnx-fp16"}
    assert list(tmp_path.iterdir()) == []


def test_the_network_is_converted_once_for_all_onnx_files(classifier, samples, tmp_path, monkeypatch):
    from tlkeras import onnx_graph

    calls = []
    convert = onnx_graph.convert
    monkeypatch.setattr(onnx_graph, "convert", lambda *given: calls.append(1) or convert(*given))
    monkeypatch.setattr("tlkeras.export.publish.check_parity", _unchecked)
    with pytest.raises(ParityError, match="no runtime"):
        export(classifier, tmp_path / "m", samples, ExportConfig(formats=("onnx",), half=True))
    assert len(calls) == 1


def _unchecked(trained, folder, samples, reporter):
    from tlkeras.export.parity import Parity

    assert (folder / "model_half.onnx").stat().st_size > 0
    return Parity((), samples.origin, ())


def test_the_documentation_tells_of_every_format():
    lines = (DOCS / "exporting.md").read_text().splitlines()
    for name, one in FORMATS.items():
        files = ", ".join(f"`{file}`" for file in one.files)
        checked = "; ".join(f"{engine.name}, {engine.tolerance:.0e}" for engine in one.engines())
        assert f"| `{name}` | {one.about} | {files} | {checked or 'in a browser, by the tests'} |" in lines


@pytest.mark.parametrize(
    "page", ["docs/exporting.md", "docs/onnx.md", "docs/serving.md", "export/README.md", "README.md"]
)
def test_pages_name_formats_and_files_that_there_are(page):
    text = (ROOT / page).read_text()
    for named in re.findall(r"--formats ([a-z][\w,-]*)", text):
        assert set(ExportConfig(formats=tuple(named.split(","))).formats) == set(named.split(","))
    assert set(re.findall(r"\bmodel\w*\.onnx\b", text)) <= {file for one in FORMATS.values() for file in one.files}


def test_the_clients_page_tells_of_every_format():
    text = (ROOT / "export" / "README.md").read_text()
    served = ",".join(re.findall(r"--formats ([a-z][\w,-]*)", text)).split(",")
    assert all(name in served or f"`{one.files[0]}`" in text for name, one in FORMATS.items())
