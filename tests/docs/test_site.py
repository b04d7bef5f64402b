"""The site builds strictly, and its pages load nothing from elsewhere."""

import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocstrings", reason="needs the docs extra: pip install 'tlkeras[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_in_the_navigation(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} - {"404"} == pages
    index = (site / "index.html").read_text()
    assert all(f'href="{page}.html"' in index for page in pages - {"index"})


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text()
        assert not re.findall(r"<(?:script|img|iframe|source)[^>]+(?:src|srcset)=\"(?:https?:)?//", text), page.name
        assert not re.findall(r"<link[^>]+href=\"(?:https?:)?//(?![^\"]*\"[^>]*rel=\"canonical)", text), page.name
        assert "fonts.googleapis" not in text


def test_the_reference_holds_the_public_names(site):
    import tlkeras

    text = (site / "api.html").read_text()
    for name in tlkeras.__all__:
        assert re.search(rf'id="tlkeras\.[\w.]*\b{name}"', text), name
