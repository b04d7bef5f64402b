import os
from pathlib import Path

import pytest

from tlkeras.data.open import open_dataset as open_folder
from tlkeras.errors import DataError


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"x")
    return root


def listed(root):
    images = open_folder(root)
    return {
        (os.path.relpath(path, root), images.class_names[label], split)
        for path, label, split in zip(images.paths, images.labels, images.splits.tolist(), strict=True)
    }


def test_class_folders_are_read_at_any_depth(tmp_path):
    fill(tmp_path, "dog/1.jpg", "dog/deep/er/2.png", "cat/3", "cat/x.jpg/4.jpg", "notes.txt", "cat/.hidden.jpg")
    fill(
        tmp_path, "cat/README.md", "cat/Thumbs.db", "cat/labels.csv", ".cache/5.jpg", "dog/.git/6.jpg", "__MACOSX/7.jpg"
    )
    assert listed(tmp_path) == {
        ("dog/1.jpg", "dog", ""),
        ("dog/deep/er/2.png", "dog", ""),
        ("cat/3", "cat", ""),
        ("cat/x.jpg/4.jpg", "cat", ""),
    }
    images = open_folder(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert images.paths == open_folder(tmp_path).paths
    assert images.name == tmp_path.name


def test_whatever_is_no_side_file_reaches_the_audit(tmp_path):
    fill(tmp_path, "a/film.mov", "a/readme.jpg", "a/drawing.svg", "a/README", "a/copy.jpg~", "b/1.jpg")
    assert {name for name, label, _ in listed(tmp_path) if label == "a"} == {
        "a/film.mov",
        "a/readme.jpg",
        "a/drawing.svg",
    }


@pytest.mark.parametrize(
    ("name", "split"),
    [(n, s) for s, names in {"validation": ("val", "Valid", "VALIDATION", "dev"), "test": ("test", "Testing")}.items()
     for n in names],
)  # fmt: skip
def test_split_folders_in_any_case(tmp_path, name, split):
    fill(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", f"{name}/a/3.jpg")
    assert listed(tmp_path) == {
        ("Train/a/1.jpg", "a", "train"),
        ("Train/b/2.jpg", "b", "train"),
        (f"{name}/a/3.jpg", "a", split),
    }


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, "train/1.jpg", "car/2.jpg", "plane/3.jpg")
    assert open_folder(tmp_path).class_names == ("car", "plane", "train")


def test_class_names_in_two_unicode_forms_are_one(tmp_path):
    fill(tmp_path, "train/caf\u00e9/1.jpg", "train/b/2.jpg", "test/cafe\u0301/3.jpg")
    assert open_folder(tmp_path).class_names == ("b", "caf\u00e9")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["1.jpg", "2.jpg"], "a folder for each class.*'1.jpg' and 1 more.*FOLDER/cat"),
        (["a/1.jpg", "b/2.jpg", "cover.png"], "beside the class folders has no class.*cover.png"),
        (["a/1.jpg"], "at least two classes; received only 'a'"),
        ([], "at least two classes; received none"),
        (["a/1.jpg", "b/"], "without images.*/b"),
        (["a/1.jpg", "b/notes.txt"], "without images.*/b"),
        (["train/3.jpg", "test/a/1.jpg", "test/b/2.jpg"], "a folder for each class.*/train'"),
        (["train/a/1.jpg", "train/b/2.jpg", "test/a/"], "test folder has no images"),
        (["train/a/1.jpg", "test/a/2.jpg", "test/b/3.jpg"], "training images; received none of 'b'"),
        (["train/a/1.jpg", "train/b/2.jpg", "masks/a/3.jpg"], "no other folders; received '.*masks'"),
        (["train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "valid/a/4.jpg"], "two folders for one split"),
        (["train/a/1.jpg", "train/b/2.jpg", "train/3.jpg"], "has no class.*3.jpg"),
    ],
)
def test_layouts_that_cannot_be_read_are_told(tmp_path, names, problem):
    fill(tmp_path, *names)
    with pytest.raises(DataError, match=problem):
        open_folder(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_folder(tmp_path / "none")


def test_links_are_followed_but_never_in_rings(tmp_path):
    root = fill(tmp_path / "data", "a/1.jpg", "a/sub/2.jpg", "b/3.jpg")
    outside = fill(tmp_path / "elsewhere", "4.jpg")
    (root / "a" / "more").symlink_to(outside)
    (root / "a" / "again").symlink_to(outside)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "far up").symlink_to(tmp_path)
    (root / "a" / "sub" / "ring").symlink_to(root / "a")
    (root / "b" / "into a").symlink_to(root / "a")
    (root / "b" / "link.jpg").symlink_to(outside / "4.jpg")
    (root / "b" / "dangling.jpg").symlink_to(root / "nowhere")
    (root / "b" / "itself").symlink_to(root / "b" / "itself")
    names = [name for name, *_ in listed(root)]
    assert sorted(Path(name).name for name in names if name.startswith("a")) == ["1.jpg", "2.jpg", "4.jpg"]
    assert sorted(name for name in names if name.startswith("b")) == [
        "b/3.jpg",
        "b/dangling.jpg",
        "b/itself",
        "b/link.jpg",
    ]


def test_one_folder_under_two_class_names_is_refused(tmp_path):
    fill(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "kitty").symlink_to(tmp_path / "cat")
    with pytest.raises(DataError, match="same folder"):
        open_folder(tmp_path)


def test_names_that_are_no_text(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/line\nbreak.jpg")
    strange = os.fsencode(tmp_path / "a") + b"/caf\xe9.jpg"
    try:
        os.close(os.open(strange, os.O_CREAT))
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    assert os.fsdecode(strange) in open_folder(tmp_path).paths
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(DataError, match=r"caf\\udce9"):
        open_folder(tmp_path)


@pytest.mark.parametrize(("where", "refused"), [("dog", True), ("dog/more", False)])
def test_a_folder_that_nobody_may_look_into_is_called_so(where, refused, tmp_path, monkeypatch):
    fill(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/more/3.jpg")
    scan = os.scandir

    def refusing(path):
        if Path(path) == tmp_path / where:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    if refused:
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\).*dog'\. Change its permissions"):
            open_folder(tmp_path)
    else:
        images = open_folder(tmp_path)
        assert len(images) == 2
        assert images.left_out[0].reason == "cannot be read (Permission denied)"
