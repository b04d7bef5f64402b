"""A manifest notices every byte."""

import json

import pytest

from tlkeras.errors import ExportError
from tlkeras.export.manifest import MANIFEST_FILE, changes, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "a.pb").write_bytes(bytes(range(256)))
    (tmp_path / "variables" / "b").write_bytes(b"b" * 1000)
    write_manifest(tmp_path, {"class_names": ["grün", "b"], "parity": {"difference": 1.5e-7}})
    return tmp_path


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def edit_manifest(folder):
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace("1.5e-07", "0.5e-07"))


def forge_manifest(folder):
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"]
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: flip(f / "a.pb", 0), "changed: a.pb"),
        (lambda f: flip(f / "variables" / "b", 999), "changed: variables/b"),
        (lambda f: (f / "a.pb").unlink(), "missing: a.pb"),
        (lambda f: (f / "c").write_bytes(b""), "added: c"),
        (lambda f: (f / ".hidden").symlink_to("nowhere"), "added: .hidden"),
        (lambda f: ((f / "a.pb").unlink(), (f / "a.pb").symlink_to("nowhere")), "changed: a.pb"),
        (lambda f: ((f / "a.pb").unlink(), flip(f / "variables" / "b", 5)), "changed: variables/b; missing: a.pb"),
        (edit_manifest, "changed: manifest.json"),
        (forge_manifest, "changed: manifest.json"),
    ],
)
def test_every_change_is_told(damage, words, folder):
    assert not changes(folder, read_manifest(folder))
    damage(folder)
    assert str(changes(folder, read_manifest(folder))) == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not a published version: it has no manifest.json"),
        ("{", "cannot be read"),
        ("[]", "the whole is list, not dict"),
        ("{}", "not the manifest of a tlkeras export"),
        ('{"format": "tlkeras-export", "format_version": 99}', "format version 99"),
        ('{"format": "tlkeras-export", "format_version": 1}', "does not list the files"),
    ],
)
def test_what_is_no_manifest_is_told_in_one_line(content, words, tmp_path):
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(ExportError, match=words) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match="there is no such folder"):
        read_manifest(tmp_path / "nowhere")
