"""Folders, lists, and what is said of those that cannot be used."""

import os

import numpy as np
import pytest

from tests.pictures import encode, photo
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.inputs import image_files
from tlkeras.data.open import open_dataset
from tlkeras.errors import ConfigError, DataError

JPEG = encode(photo(40, 30), "JPEG")


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    return folder


def shown(dataset, folder):
    names = [os.path.relpath(path, folder) for path in dataset.paths]
    labels = [dataset.class_names[label] for label in dataset.labels]
    return sorted(zip(names, labels, dataset.splits.tolist(), strict=True))


def test_a_folder_of_class_folders(tmp_path):
    tree(tmp_path, "cat/1.jpg", "cat/deep/er/2.JPG", "dog/3.png", "dog/no ending", "dog/x.jpg/4.jpg", ".git/5.jpg")
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "dog" / ".hidden.jpg").write_bytes(JPEG)
    (tmp_path / "cat" / "ring").symlink_to(tmp_path / "cat")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert shown(dataset, tmp_path) == [
        ("cat/1.jpg", "cat", ""),
        ("cat/deep/er/2.JPG", "cat", ""),
        ("dog/3.png", "dog", ""),
        ("dog/no ending", "dog", ""),
        ("dog/x.jpg/4.jpg", "dog", ""),
    ]
    assert dataset.class_counts() == {"cat": 2, "dog": 3}
    assert "5 images, 2 classes" in dataset.describe()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "test"), {"train", "test"}),
        (("Train", "VAL", "Test"), {"train", "validation", "test"}),
        (("training", "valid"), {"train", "validation"}),
    ],
)
def test_split_folders(names, splits, tmp_path):
    tree(tmp_path, *(f"{name}/{label}/{name}.jpg" for name in names for label in ("cat", "dog")))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert set(dataset.splits) == splits
    assert len(dataset.in_split("train")) == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.jpg", "2.jpg"], "images need a folder for each class"),
        (["cat/1.jpg"], "at least two classes; received only 'cat'"),
        (["cat/1.jpg", "dog/1.jpg", "3.jpg"], "has no class"),
        (["cat/1.jpg", "dog/notes.txt"], "a class folder without images"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "test/owl/3.jpg"], "none of 'owl' in the train folder"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "test/readme.txt"], "a split holds a folder for each class"),
        (["notes.txt"], "class"),
    ],
)
def test_folders_that_cannot_be_used(names, words, tmp_path):
    tree(tmp_path, *names)
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split\n1.jpg,cat,train\n2.jpg,dog,test\n",
        "\ufefffile;class;subset\r\n1.jpg;cat;Train\r\n2.jpg;dog;TEST\r\n",
        "label\tweight\timage\tset\ncat\t3\t1.jpg\ttraining\n\ndog\t4\t2.jpg\ttest\n",
        "1.jpg,cat,train\n2.jpg,dog,test\n",
    ],
)
def test_lists(text, tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "list.csv").write_text(text)
    dataset = open_dataset(tmp_path / "list.csv")
    assert shown(dataset, tmp_path) == [("1.jpg", "cat", "train"), ("2.jpg", "dog", "test")]


def test_a_list_without_splits_may_name_absent_files(tmp_path):
    (tmp_path / "list.csv").write_text('path,label\nabsent.jpg,cat\n"with, comma.jpg",dog\n')
    dataset = open_dataset(str(tmp_path / "list.csv"))
    assert shown(dataset, tmp_path) == [("absent.jpg", "cat", ""), ("with, comma.jpg", "dog", "")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("what,ever\nx,y\n", "names its columns"),
        ("path,label\n1.jpg\n", "line 2 .* it has 1 of 2 columns"),
        ("path,label\n1.jpg,cat\n,dog\n", "line 3 .* path is empty"),
        ("path,label\n1.jpg,cat\n2.jpg,\n", "line 3 .* label is empty"),
        ("path,label,split\n1.jpg,cat,holdout\n", "its split is 'holdout'"),
        ("path,label\n1.jpg,cat\n2.jpg,cat\n", "only 'cat'"),
        ("\0\0\0", "UTF-8 text"),
    ],
)
def test_lists_that_cannot_be_used(text, words, tmp_path):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path / "list.csv")


def test_what_is_no_data_at_all(tmp_path):
    tree(tmp_path, "photo.jpg")
    with pytest.raises(DataError, match=r"a folder, a \.csv list or a TFDS name"):
        open_dataset(tmp_path / "photo.jpg")
    with pytest.raises(DataError, match="no such folder or list"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0])}, "one label and one split"),
        ({"labels": np.array([0, 2])}, r"labels lie in 0\.\.1"),
        ({"splits": np.array(["", "holdout"])}, "splits are"),
        ({"class_names": ("a", "a")}, "all different"),
    ],
)
def test_a_data_set_checks_itself(changes, words):
    fields = {
        "name": "x",
        "source": "x",
        "class_names": ("a", "b"),
        "paths": ("1", "2"),
        "labels": np.array([0, 1]),
        "splits": np.array(["", "test"]),
    }
    dataset = LabelledImages(**fields)
    assert dataset.subset([1]).paths == ("2",)
    assert dataset.subset(np.array([True, False])).paths == ("1",)
    with pytest.raises(ConfigError):
        dataset.in_split("holdout")
    with pytest.raises(DataError, match=words):
        LabelledImages(**{**fields, **changes})


def test_images_without_labels(tmp_path):
    tree(tmp_path, "a/1.jpg", "a/b/2.PNG", "a/notes.txt", "a/.hidden.jpg", "odd.name")
    found = image_files([tmp_path / "a", tmp_path / "odd.name", str(tmp_path / "a" / "*.jpg")])
    assert [os.path.relpath(path, tmp_path) for path in found] == ["a/1.jpg", "a/b/2.PNG", "odd.name", "a/1.jpg"]
    for absent in ("absent.jpg", "*.gif"):
        with pytest.raises(DataError, match="no such image file"):
            image_files([tmp_path / absent])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image files"):
        image_files([tmp_path / "empty"])
