"""The report in a real browser: quiet, offline, readable in every dress, usable with a mouse and with a keyboard."""

import pytest

from tests.browser import Page, chromium
from tlkeras.report.build import REPORT_FILE, write_report
from tlkeras.run_facts import read_run

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")

# Every piece of text with less contrast to what lies behind it than WCAG 2.2's AA wants, by its words.
CONTRAST = """
(() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (front, back) => front.slice(0, 3).map((v, i) => v * front[3] + back[i] * (1 - front[3]));
  const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
  };
  const found = [];
  let seen = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const words = walk.currentNode.textContent.trim();
    if (!words || element.closest("script, style, title, .unseen, .skip") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const colour = over(rgba(element.closest("svg") ? style.fill : style.color), back);
    const [low, high] = [light(colour), light(back)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    seen += 1;
    if (ratio < 4.5) found.push(`${words.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return { seen, found };
})()
"""
WIDER_THAN_THE_PAGE = """
[...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".scroll, pre, .unseen, .skip") && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.tagName + "." + e.className)
"""


@pytest.fixture(scope="module")
def page(demo_run):
    with Page((demo_run / REPORT_FILE).as_uri(), 1280, 900) as page:
        yield page


@pytest.fixture
def first_cell(page):
    page.resize(1280, 900)
    page.dark(False)
    page.evaluate("document.querySelector('#cell-photos .close')?.click()")
    page.evaluate("document.querySelector('.matrix button').focus()")
    return page


def test_it_is_quiet_and_asks_no_network(page, demo_run):
    # A picture that is loaded only when it comes into sight would be waited for without end.
    page.evaluate("document.querySelectorAll('img').forEach((image) => (image.loading = 'eager'))")
    page.evaluate("Promise.all([...document.images].map((image) => image.decode())).then(() => 1)")
    assert page.log == []
    assert [request for request in page.requests if not request.startswith("data:")] == [
        (demo_run / REPORT_FILE).as_uri()
    ]
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


def test_a_cell_shows_its_photos(first_cell):
    page = first_cell
    for index in range(page.evaluate("document.querySelectorAll('.matrix button').length")):
        count = page.evaluate(
            f"(() => {{ const cell = document.querySelectorAll('.matrix button')[{index}]; cell.click();"
            " return Number(cell.textContent); })()"
        )
        shown = "document.querySelectorAll('#cell-photos img').length"
        assert page.evaluate(shown) == min(count, 12)
        assert page.evaluate("document.querySelectorAll('[aria-expanded=true]').length") == 1
    page.evaluate("document.querySelector('#cell-photos .close').click()")
    assert page.evaluate("document.getElementById('cell-photos').hidden")
    assert page.evaluate("document.querySelectorAll('[aria-expanded=true]').length") == 0


def test_the_matrix_is_used_with_the_keyboard_alone(first_cell):
    page = first_cell
    assert page.evaluate("document.querySelectorAll('.matrix button[tabindex=\"0\"]').length") == 1
    at = "[document.activeElement.dataset.row, document.activeElement.dataset.column].map(Number)"
    row, column = page.evaluate(at)
    page.press("ArrowDown")
    below = page.evaluate(at)
    assert below[1] == column
    assert below[0] > row
    page.press("ArrowUp")
    assert page.evaluate(at) == [row, column]
    page.press("Enter")
    assert not page.evaluate("document.getElementById('cell-photos').hidden")
    page.press("Escape")
    assert page.evaluate("document.getElementById('cell-photos').hidden")
    assert page.evaluate(at) == [row, column]
    page.press("Tab")
    assert page.evaluate("!document.activeElement.closest('.matrix')")


def test_the_focus_is_seen(first_cell):
    first_cell.press("ArrowRight")
    first_cell.press("ArrowLeft")
    assert float(first_cell.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")) >= 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_text_stands_out_from_what_is_behind_it(page, width, dark):
    page.resize(width, 900)
    page.dark(dark)
    if page.evaluate("document.getElementById('cell-photos').hidden"):
        page.evaluate("document.querySelector('.matrix button').click()")
    measured = page.evaluate(CONTRAST)
    assert measured["seen"] > 300
    assert measured["found"] == []
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, shade[4:-1].split(","))) < 200) == dark


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    page.resize(width, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER_THAN_THE_PAGE) == []
    # The words in charts shrink with them, but not below what can be read.
    smallest = "Math.min(...[...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height))"
    assert page.evaluate(smallest) >= 10


def test_paper_gets_the_content_without_the_controls(page):
    page.resize(800, 1100)
    page.media("print")
    try:
        shown = "[...document.querySelectorAll('nav, .code button')].filter((e) => e.checkVisibility()).length"
        assert page.evaluate(shown) == 0
        assert page.evaluate("[...document.querySelectorAll('section')].every((e) => e.checkVisibility())")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        page.media("screen")


def test_hostile_names_stay_names(hostile_run):
    write_report(read_run(hostile_run))
    with Page((hostile_run / REPORT_FILE).as_uri()) as page:
        page.evaluate("document.querySelectorAll('.matrix button').forEach((button) => button.click())")
        assert page.evaluate("window.hacked === undefined")
        assert page.log == []
        assert page.evaluate("document.scripts.length") == 1
        heading = page.evaluate("document.querySelector('.class h3').firstChild.textContent.trim()")
        assert heading == "<script>window.hacked=1</script>"
