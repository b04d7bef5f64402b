"""The demo page in a real browser: a photo, an attack, a broken upload; quick, and nothing asked of anyone else."""

import time

import pytest

from tests.browser import Page, chromium

pytest.importorskip("gradio", reason="needs the demo extra: pip install 'tlkeras[demo]'")

SECONDS = 10.0
ANSWER = "document.querySelector('#answer [data-testid=label-output-value]')?.textContent.trim()"
LOADED = "document.querySelector('#after img')?.naturalWidth > 0"
FOOLED = f"{LOADED} && document.querySelector('#said-after')?.innerText.includes('%')"


@pytest.fixture(scope="module")
def page(run_folder):
    if not chromium():
        pytest.skip("needs Chromium")
    from tlkeras.demo.page import serving

    with serving(run_folder, port=0) as address, Page(address, 1280, 1200) as opened:
        opened.wait_for("!!document.querySelector('#photo input[type=file]')")
        yield opened


def test_a_photo_is_answered_and_fooled(page, photo_folder):
    # The first answer brings the browser's own start; the second is what a visitor waits for.
    for name in ("blue", "orange"):
        page.evaluate("document.querySelector('#photo button[aria-label=Clear]')?.click()")
        page.wait_for("!!document.querySelector('#photo input[type=file]')")
        started = time.monotonic()
        page.choose("#photo input[type=file]", [photo_folder / name / "00.jpg"])
        page.wait_for(f"{ANSWER} == {name!r} && document.querySelector('#heat').innerText.includes({name!r})")
        waited = time.monotonic() - started
        page.wait_for("document.querySelector('#heat img')?.naturalWidth > 0")
    assert waited < SECONDS
    # Into a class that was chosen by its name.
    page.evaluate("document.querySelector('#to input').focus()")
    page.wait_for("[...document.querySelectorAll('[role=option]')].length == 3")
    page.evaluate("[...document.querySelectorAll('[role=option]')].find((one) => one.innerText.includes('blue'))"
                  ".dispatchEvent(new MouseEvent('mousedown', { bubbles: true }))")  # fmt: skip
    page.evaluate("document.querySelector('#fool').click()")
    page.wait_for(FOOLED)
    assert "orange" in page.evaluate("document.querySelector('#summary').innerText")
    assert page.evaluate("document.querySelector('#change').innerText").startswith("Change ×")
    assert page.evaluate("document.querySelector('#after img').naturalWidth") == 32


def test_nothing_is_asked_of_anyone_else(page):
    hosts = {"/".join(url.split("/")[:3]) for url in page.requests if url.startswith("http")}
    assert len(hosts) == 1
    assert hosts.pop().startswith("http://127.0.0.1:")
    assert page.log == []
    # Gradio's button that publishes a picture is not there.
    assert page.evaluate("document.querySelectorAll('[aria-label*=Share]').length") == 0


def test_a_broken_upload_is_one_line_in_the_page(page, photo_folder):
    page.evaluate("document.querySelector('#photo button[aria-label=Clear]')?.click()")
    page.wait_for("!!document.querySelector('#photo input[type=file]')")
    page.choose("#photo input[type=file]", [photo_folder / "blue" / "cut.jpg"])
    page.wait_for("!!document.querySelector('#problem [role=alert]')")
    line = page.evaluate("document.querySelector('#problem').innerText").strip()
    assert line
    assert "\n" not in line
    assert not page.evaluate("!!document.querySelector('#heat img')")


def test_it_fits_a_phone(page):
    page.resize(390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.resize(1280, 1200)


def test_a_page_that_cannot_be_reached_is_one_line(run_folder, monkeypatch):
    from gradio import networking

    from tlkeras.demo.page import serving
    from tlkeras.errors import ConfigError

    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    with pytest.raises(ConfigError, match="does not answer this machine itself"), serving(run_folder, port=0):
        pass
