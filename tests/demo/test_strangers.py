"""What a stranger's request, or a stranger's run, gets out of the demo page: nothing that was not given to it."""

import asyncio
import csv
import json
import types

import pytest
from PIL import Image

from tests.pictures import encode, photo
from tlkeras.demo import page as demo_page
from tlkeras.demo.answers import SHOWN_PX, examples
from tlkeras.images.decode import decode, read_bytes

pytest.importorskip("gradio", reason="needs the demo extra: pip install 'tlkeras[demo]'")

REFUSED = "only a photo that was uploaded to this page can be opened"


class Opener:
    """Stands for a Demonstrator; opens what it is given as the real one does, and remembers it."""

    class_names = ("blue", "orange")

    def __init__(self, run=None):
        self.opened = []

    def warm_up(self):
        pass

    def answer(self, path):
        self.opened.append(path)
        pixels = decode(read_bytes(path)).pixels
        return types.SimpleNamespace(heat=pixels, label="blue", probabilities={"blue": 1.0}, faithful="")

    def fool(self, path, to, epsilon_255):
        self.answer(path)
        raise AssertionError("opened")


@pytest.fixture(scope="module")
def stranger_run(tmp_path_factory):
    """A run whose list names a photo, a text, a device, a folder and a file that is not there."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "secret.txt").write_text("the password is 1234")
    (folder / "private name.jpg").write_bytes(encode(photo(1000, 60), "JPEG"))
    with (folder / "splits.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for path in (folder / "secret.txt", "/dev/zero", folder, "/nowhere", folder / "private name.jpg", "", "a\0b"):
            rows.writerow([str(path), "blue", "test"])
    return folder


def paths(folder):
    """Payloads that name a file, and what each must be answered with."""
    inside = folder / "uploads" / "abc" / "image.png"
    inside.parent.mkdir()
    inside.write_bytes(encode(photo(20, 20), "PNG"))
    outside = folder / "picture.png"
    outside.write_bytes(inside.read_bytes())
    (inside.parent / "link.png").symlink_to(outside)
    yield {"path": str(inside)}, ""
    for name in (outside, inside.parent / "link.png", inside.parent, f"{inside.parent}/../../../picture.png",
                 "/etc/passwd", "/etc", "/nowhere", "/dev/zero", "picture.png", "a\0b", "x" * 5000):  # fmt: skip
        yield {"path": str(name)}, REFUSED
    yield {"path": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}}, REFUSED


def test_only_what_lies_in_the_upload_folder_is_opened(tmp_path):
    opener = Opener()
    blocks = demo_page.build(opener, tmp_path / "no run", tmp_path)
    functions = {function.name: function for function in blocks.fns.values()}
    for payload, words in paths(tmp_path):
        opener.opened.clear()
        problem, *_ = asyncio.run(call(blocks, functions["look"], [payload]))
        assert words in problem["value"], payload
        assert bool(problem["value"]) == bool(words), payload
        assert bool(opener.opened) == (not words), payload
        if words:
            problem, *_ = asyncio.run(call(blocks, functions["fool"], [payload, -1, 4]))
            assert words in problem["value"], payload
    # A picture inside an address is none that was uploaded.
    opener.opened.clear()
    problem, *_ = asyncio.run(call(blocks, functions["look"], [{"url": "data:image/png;base64,"}]))
    assert not problem["value"]
    assert not opener.opened


async def call(blocks, function, inputs):
    """What a request to the page's queue comes down to."""
    return (await blocks.process_api(function, inputs))["data"]


def test_examples_are_pictures_written_anew(stranger_run, tmp_path):
    (shown,) = examples(stranger_run, tmp_path / "shown")
    with Image.open(shown) as picture:
        assert picture.format == "PNG"
        assert picture.width == SHOWN_PX
    assert [path.name for path in (tmp_path / "shown").iterdir()] == ["1.png"]
    assert examples(tmp_path, tmp_path / "none") == []


def test_who_lacks_the_token_is_let_in_nowhere(stranger_run, monkeypatch):
    import httpx

    monkeypatch.setattr(demo_page, "Demonstrator", Opener)
    with demo_page.serving(stranger_run, host="0.0.0.0", port=0) as address:
        base, _, token = address.partition("?token=")
        base = base.replace("0.0.0.0", "127.0.0.1")
        assert len(token) >= 24
        with httpx.Client(base_url=base, trust_env=False) as visitor:
            for path in ("", "config", "gradio_api/file=/etc/passwd", "?token=wrong", "?token="):
                assert visitor.get(path).status_code == 401, path
            answer = visitor.post("gradio_api/upload", files={"files": b"x"})
            assert answer.status_code == 401
            assert visitor.get("config", cookies={"tlkeras-token": "wrong"}).status_code == 401
            assert visitor.get(f"?token={token}", follow_redirects=True).status_code == 200
            config = visitor.get("config")
            assert config.status_code == 200
        # Nothing of the stranger's folder is told, neither a path nor a name; the one picture is a copy of ours.
        text = json.dumps(config.json())
        assert "1.png" in text
        for told in (str(stranger_run), "private name", "secret", "1234", "/nowhere"):
            assert told not in text


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("::", False),
    ],
)
def test_only_this_machine_needs_no_token(host, own):
    assert demo_page._loopback(host) == own
