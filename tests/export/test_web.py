"""The static web folder: what is in it, where the runtime comes from, and that a browser answers as Python does."""

import base64
import hashlib
import io
import json
import os
import re
import stat
import tarfile

import numpy as np
import pytest

from tests.browser import Page, chromium, served
from tests.pictures import encode, photo, swapping_profile, with_orientation
from tlkeras.errors import ClassifierError, ExportError, StorageError
from tlkeras.export import web
from tlkeras.export.web import RUNTIME_FILES, runtime_folder, write_web
from tlkeras.images.decode import decode


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """A folder with files that are called like ONNX Runtime Web's, named as the one to take."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in RUNTIME_FILES:
        (folder / name).write_bytes(name.encode())
    monkeypatch.setenv(web.RUNTIME_VARIABLE, str(folder))
    return folder


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Put a program called npm first on the path, made of the shell lines given."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "npm"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    monkeypatch.delenv(web.RUNTIME_VARIABLE, raising=False)
    return make


def archive(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name in names:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            made.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


def test_the_folder_is_whole_and_names_nothing_outside(version_folder, pretended, classifier, tmp_path):
    model = version_folder / "model.onnx"
    write_web(model, tmp_path / "web")
    names = {path.name for path in (tmp_path / "web").iterdir()}
    assert names == {*web.PAGE_FILES, *RUNTIME_FILES, "model.onnx", "classifier.json"}
    assert (tmp_path / "web" / "model.onnx").read_bytes() == model.read_bytes()
    described = json.loads((tmp_path / "web" / "classifier.json").read_text())
    assert tuple(described["class_names"]) == classifier.class_names
    assert described["size_px"] == classifier.config.size_px
    assert described["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    page = "".join((tmp_path / "web" / name).read_text() for name in web.PAGE_FILES)
    assert set(re.findall(r"https?://[^\s\"'”]+", page)) <= {"http://localhost:8000."}
    with pytest.raises(StorageError, match="exists already"):
        write_web(model, tmp_path / "web")


def test_what_is_no_classifier_writes_nothing(pretended, tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"no model")
    with pytest.raises(ClassifierError, match="cannot be loaded"):
        write_web(tmp_path / "other.onnx", tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_a_named_runtime_is_taken_or_refused(pretended, tmp_path, monkeypatch, version_folder):
    assert runtime_folder() == pretended
    (tmp_path / "package").mkdir()
    pretended.rename(tmp_path / "package" / "dist")
    monkeypatch.setenv(web.RUNTIME_VARIABLE, str(tmp_path / "package"))
    assert runtime_folder() == tmp_path / "package" / "dist"
    (tmp_path / "package" / "dist" / RUNTIME_FILES[1]).unlink()
    with pytest.raises(ExportError, match=r"must hold ONNX Runtime Web.*npm pack onnxruntime-web@"):
        runtime_folder()
    monkeypatch.setenv(web.RUNTIME_VARIABLE, str(tmp_path))
    with pytest.raises(ExportError, match=RUNTIME_FILES[0]):
        write_web(version_folder / "model.onnx", tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_npm_fetches_once(npm, tmp_path, monkeypatch):
    data = archive(RUNTIME_FILES)
    (tmp_path / "package.tgz").write_bytes(data)
    npm(f'echo "$@" >> {tmp_path}/calls; cp {tmp_path}/package.tgz onnxruntime-web.tgz')
    monkeypatch.setattr(web, "RUNTIME_SHA256", hashlib.sha256(data).hexdigest())
    folder = runtime_folder()
    assert {path.name for path in folder.iterdir()} == set(RUNTIME_FILES)
    assert (folder / RUNTIME_FILES[0]).read_bytes() == RUNTIME_FILES[0].encode()
    (folder / RUNTIME_FILES[0]).unlink()
    assert (runtime_folder() / RUNTIME_FILES[0]).is_file()
    assert runtime_folder() == folder
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"pack onnxruntime-web@{web.RUNTIME_VERSION} --ignore-scripts --silent"] * 2


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'E404 Not Found' >&2; exit 1", "npm could not fetch ONNX Runtime Web .*E404 Not Found"),
        ("exit 0", r"npm could not fetch ONNX Runtime Web \(no file\)"),
        ("echo other > onnxruntime-web.tgz", "its SHA-256 differs"),
        ("sleep 60", "no answer within 0.2 s"),
    ],
)
def test_what_npm_cannot_do_is_one_line(script, words, npm, monkeypatch):
    npm(script)
    if script.startswith("sleep"):
        monkeypatch.setattr(web, "NPM_SECONDS", 0.2)
    with pytest.raises(ExportError, match=words) as caught:
        runtime_folder()
    assert f"set {web.RUNTIME_VARIABLE} to" in str(caught.value)
    assert not list(web.cache_root().glob("onnxruntime*"))


def test_without_npm_it_says_what_to_fetch(monkeypatch):
    monkeypatch.delenv(web.RUNTIME_VARIABLE, raising=False)
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    with pytest.raises(ExportError, match="there is no npm to fetch it"):
        runtime_folder()


@pytest.fixture(scope="module")
def folder(version_folder, tmp_path_factory):
    """The web folder of the small classifier, with the real runtime."""
    if not chromium():
        pytest.skip("needs Chromium")
    cache = pytest.MonkeyPatch()
    cache.setenv("TLKERAS_CACHE", str(tmp_path_factory.mktemp("web_cache")))
    target = tmp_path_factory.mktemp("site") / "web"
    try:
        write_web(version_folder / "model.onnx", target)
    except ExportError as error:
        pytest.skip(str(error))
    finally:
        cache.undo()
    return target


@pytest.fixture(scope="module")
def page(folder):
    with served(folder) as address, Page(address) as opened:
        opened.wait_for("!document.getElementById('files').disabled")
        yield opened


def files():
    """Encoded photos, and by how much of 255 a browser may decode them otherwise than Pillow."""
    see_through = photo(50, 40, seed=4)
    see_through.putalpha(photo(50, 40, seed=5).convert("L"))
    yield "turned.jpg", with_orientation(photo(90, 61, seed=1), "JPEG", 6), 0
    yield "large.jpg", encode(photo(1280, 960, seed=2), "JPEG", quality=85), 0
    yield "progressive.jpg", encode(photo(320, 241, seed=7), "JPEG", progressive=True), 0
    yield "grey.jpg", encode(photo(64, 48, seed=3).convert("L"), "JPEG"), 0
    yield "plain.png", encode(photo(71, 48, seed=8), "PNG"), 0
    yield "is a gif.jpg", encode(photo(45, 47, seed=6).quantize(64), "GIF"), 0
    yield "profiled.jpg", encode(photo(52, 50, seed=10), "JPEG", icc_profile=swapping_profile()), 0
    yield "see through.png", encode(see_through, "PNG"), 1


@pytest.mark.parametrize(("name", "data", "allowed"), [pytest.param(*file, id=file[0]) for file in files()])
def test_a_browser_decodes_to_the_same_pixels(name, data, allowed, page):
    expression = """(async (text) => {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const { rgb, width, height } = await tlkeras.decode(new Blob([bytes]));
        let out = "";
        for (const byte of rgb) out += String.fromCharCode(byte);
        return [width, height, btoa(out)];
    })"""
    width, height, text = page.evaluate(f"{expression}({base64.b64encode(data).decode()!r})")
    got = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 3)
    expected = decode(data).pixels
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= allowed


def test_the_page_answers_as_python_does(page, classifier, tmp_path):
    paths = []
    for name, data, _ in files():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    expected = classifier.predict(paths)
    (tmp_path / "text.jpg").write_bytes(b"this is no photo")
    page.choose("#files", [*paths, tmp_path / "text.jpg"])
    answers = page.wait_for(f"tlkeras.answers.length == {len(paths) + 1} && tlkeras.answers")
    assert answers[-1] == {"file": "text.jpg", "problem": "This browser cannot read the file as an image."}
    for answer, row, (name, _, allowed) in zip(answers, expected, files(), strict=False):
        assert answer["file"] == name
        np.testing.assert_allclose(answer["probabilities"], row, rtol=0, atol=1e-2 if allowed else 1e-4)
    # The newest stands first, with the class, its share, and a bar as long as that.
    shown = page.evaluate("[...document.querySelectorAll('#answers > li')].map((card) => card.innerText)")
    assert "No answer" in shown[0]
    row = expected[-3]
    best = classifier.class_names[row.argmax()]
    assert " ".join(shown[3].split()).startswith(f"{best} is a gif.jpg")
    assert f"{100 * row.max():.1f} %" in shown[3]
    bars = page.evaluate("[...document.querySelectorAll('#answers > li:nth-child(4) .track > div')].map("
                         "(bar) => bar.offsetWidth / bar.parentElement.offsetWidth)")  # fmt: skip
    np.testing.assert_allclose(bars, np.sort(row)[::-1], rtol=0, atol=0.02)
    assert page.evaluate("document.querySelectorAll('#answers img').length") == len(paths)
    assert page.log == []
    assert len({"/".join(address.split("/")[:3]) for address in page.requests if address.startswith("http")}) == 1


def test_the_page_fits_a_phone_and_the_keyboard(page):
    for width in (320, 375, 900):
        page.resize(width, 800)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = []
    for dark in (True, False):
        page.dark(dark)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(colours)) == 2
    page.evaluate("document.activeElement.blur()")
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"


def test_dropped_photos_are_taken(page):
    page.evaluate("tlkeras.answers.length = 0")
    text = base64.b64encode(encode(photo(40, 30, seed=9), "PNG")).decode()
    page.evaluate(f"""(async () => {{
        const bytes = Uint8Array.from(atob({text!r}), (letter) => letter.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "dropped.png", {{ type: "image/png" }}));
        const options = {{ dataTransfer: carried, bubbles: true, cancelable: true }};
        document.body.dispatchEvent(new DragEvent("drop", options));
    }})()""")
    (answer,) = page.wait_for("tlkeras.answers.length == 1 && tlkeras.answers")
    assert answer["file"] == "dropped.png"
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_opened_from_the_disk_it_says_what_to_do(folder):
    with Page((folder / "index.html").as_uri()) as opened:
        words = opened.wait_for("document.querySelector('#state.wrong')?.textContent")
    assert "python3 -m http.server" in words
