"""What people hand over: folders and lists in every layout, what they are read as, or the line that refuses them."""

import os
import re
import shutil
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from tlkeras.data.dataset import split_named
from tlkeras.data.open import open_dataset, open_photos
from tlkeras.data.work import plan
from tlkeras.errors import ConfigError, DataError, TlkerasError


@dataclass(frozen=True)
class Layout:
    """Files below a folder, or the text of a list there; what they are, as counts by "class" or "split/class"."""

    files: str
    read: dict[str, int] = field(default_factory=dict)
    says: str = ""  # a note, or the refusal where nothing is read
    text: str = ""
    options: dict = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()


NAMES = {"class_from_name": True}
FOLDERS = {
    "class folders": Layout("cat/1.jpg cat/2.jpg dog/1.jpg", {"cat": 2, "dog": 1}),
    "deep class folders": Layout("cat/a/b/1.jpg dog/c/2.png", {"cat": 1, "dog": 1}),
    "names without an ending": Layout("cat/1 cat/2 dog/3", {"cat": 2, "dog": 1}),
    "folders that begin with _": Layout("_cat/1.jpg dog/2.jpg", {"_cat": 1, "dog": 1}),
    "splits": Layout("train/a/1.jpg train/b/2.jpg test/a/3.jpg", {"train/a": 1, "train/b": 1, "test/a": 1}),
    "Kaggle's flat download": Layout(
        "train/cat.0.jpg train/cat.1.jpg train/dog.0.jpg train/dog.1.jpg test/1.jpg test/2.jpg",
        says=r"'test' \(2 files\), 'train' \(4 files\).*2 words \(cat, dog\): --class-from-name",
    ),
    "the same, by name": Layout(
        "train/cat.0.jpg train/cat.1.jpg train/dog.0.jpg train/dog.1.jpg test/1.jpg",
        {"train/cat": 2, "train/dog": 2},
        options=NAMES,
    ),
    "flat without words": Layout("train/1.jpg train/2.jpg test/3.jpg", says="a folder for each class.*FOLDER/cat"),
    "flat, three splits": Layout("train/1.jpg val/2.jpg test/3.jpg pred/4.jpg", says="a folder for each class"),
    "one flat folder": Layout("cat_1.jpg cat_2.jpg dog_1.jpg dog_2.jpg", says=r"\(cat, dog\): --class-from-name"),
    "one flat folder, by name": Layout("cat_1.jpg cat_2.jpg dog_1.jpg dog_2.jpg", {"cat": 2, "dog": 2}, options=NAMES),
    "names of two words": Layout(
        "images/great_pyrenees_1.jpg images/great_pyrenees_2.jpg images/pug_1.jpg images/pug_2.jpg annotations/1.xml",
        {"great_pyrenees": 2, "pug": 2},
        options=NAMES,
    ),
    "images beside annotations": Layout(
        "images/a_1.jpg images/b_1.jpg annotations/a_1.png", says="folder for each class"
    ),
    "class and split in one name": Layout(
        "cat_train/1.jpg cat_test/2.jpg dog_train/3.jpg dog_test/4.jpg", says="tells the class or the split, not both"
    ),
    "a list beside flat photos": Layout("1.jpg 2.jpg labels.csv", says="Give '.*/labels.csv', if it lists them"),
    "Kaggle's flat download with a list": Layout("train/1.jpg test/2.jpg labels.csv", says="Give '.*/labels.csv'"),
    "a camera's names": Layout("IMG_1.jpg IMG_2.jpg DSC_1.jpg DSC_2.jpg", says="folder for each class.*FOLDER/cat"),
    "a camera's names, by name": Layout("IMG_1.jpg IMG_2.jpg", says="2 to 100 different words", options=NAMES),
    "training_set": Layout(
        "training_set/a/1.jpg training_set/b/2.jpg test_set/a/3.jpg",
        {"train/a": 1, "train/b": 1, "test/a": 1},
        "read as splits: 'training_set' = train, 'test_set' = test|'test_set' = test, 'training_set' = train",
    ),
    "seg_train, wrapped, with seg_pred": Layout(
        "seg_train/seg_train/a/1.jpg seg_train/seg_train/b/2.jpg seg_test/seg_test/a/3.jpg seg_pred/seg_pred/4.jpg",
        {"train/a": 1, "train/b": 1, "test/a": 1},
        "seg_pred' holds 1 photo without classes: left alone",
    ),
    "Training and Testing": Layout(
        "Training/a/1.jpg Training/b/2.jpg Testing/b/3.jpg", {"train/a": 1, "train/b": 1, "test/b": 1}
    ),
    "TrainImages and ValData": Layout(
        "TrainImages/a/1.jpg TrainImages/b/2.jpg ValData/a/3.jpg", {"train/a": 1, "train/b": 1, "validation/a": 1}
    ),
    "words that all splits share": Layout(
        "pets_train/a/1.jpg pets_train/b/2.jpg pets_test/a/3.jpg", {"train/a": 1, "train/b": 1, "test/a": 1}
    ),
    "wrapped twice": Layout(
        "x/x/train/a/1.jpg x/x/train/b/2.jpg x/x/test/a/3.jpg",
        {"train/a": 1, "train/b": 1, "test/a": 1},
        "the only folder inside: '.*x/x'",
    ),
    "wrapped classes": Layout(
        "pets/cat/1.jpg pets/dog/2.jpg", {"cat": 1, "dog": 1}, "the only folder inside: '.*pets'"
    ),
    "unlabelled test beside train": Layout(
        "train/a/1.jpg train/b/2.jpg test/3.jpg", {"train/a": 1, "train/b": 1}, "test' holds 1 photo without classes"
    ),
    "a class called train": Layout("train/1.jpg car/2.jpg plane/3.jpg", {"train": 1, "car": 1, "plane": 1}),
    "splits inside the classes": Layout(
        "cat/train/1.jpg cat/test/2.jpg dog/train/3.jpg dog/val/4.jpg",
        {"train/cat": 1, "test/cat": 1, "train/dog": 1, "validation/dog": 1},
        "each class folder holds splits",
    ),
    "splits inside some classes": Layout("cat/train/1.jpg cat/test/2.jpg dog/3.jpg", says="all hold nothing else.*dog"),
    "years with classes": Layout(
        "2019/cat/1.jpg 2019/dog/2.jpg 2020/cat/3.jpg 2020/dog/4.jpg",
        {"2019": 2, "2020": 2},
        r"holds the same folders \(cat, dog …\); if those are the classes, add --classes-at 2",
    ),
    "years with classes, said": Layout(
        "2019/cat/1.jpg 2019/dog/2.jpg 2020/cat/3.jpg 2020/dog/4.jpg", {"cat": 2, "dog": 2}, options={"classes_at": 2}
    ),
    "splits, then years, said": Layout(
        "train/2019/a/1.jpg train/2019/b/2.jpg test/2020/a/3.jpg",
        {"train/a": 1, "train/b": 1, "test/a": 1},
        options={"classes_at": 3},
    ),
    "no folders so deep": Layout(
        "cat/1.jpg dog/2.jpg", says="an image beside|need a folder", options={"classes_at": 2}
    ),
    "Cat and cat": Layout(
        "Cat/1.jpg cat/2.jpg dog/3.jpg",
        {"Cat": 1, "cat": 1, "dog": 1},
        "warning: 'Cat' and 'cat' are different classes; if they are one",
    ),
    "a blank behind": Layout("cat%20/1.jpg cat/2.jpg", {"cat ": 1, "cat": 1}, "'cat' and 'cat ' are different"),
    "accents in two forms": Layout("caf\u00e9/1.jpg cafe\u0301/2.jpg b/3.jpg", {"caf\u00e9": 2, "b": 1}),
    "folders of systems": Layout(
        "cat/1.jpg dog/2.jpg @eaDir/3.jpg $RECYCLE.BIN/4.jpg System%20Volume%20Information/5.jpg lost+found/6.jpg "
        ".Trash-1000/7.jpg .ipynb_checkpoints/8.jpg __MACOSX/9.jpg cat/@eaDir/10.jpg cat/.thumbnails/11.jpg",
        {"cat": 1, "dog": 1},
        r"left out: .*system folder",
    ),
    "our own output": Layout(
        "cat/1.jpg dog/2.jpg explain/run-1/001-1.png attacks/run-1/attack.json attacks/run-1/1.png "
        "runs/a-1/run.json runs/a-1/metrics.json runs/a-1/x.png runs/b-1/run.json runs/b-1/metrics.json "
        "out/ideal.json out/1.png mine/explain.json mine/001-1.png",
        {"cat": 1, "dog": 1},
        r"left out: 5 written by tlkeras",
    ),
    "side files": Layout("cat/1.jpg cat/README.md cat/Thumbs.db dog/2.jpg labels.csv", {"cat": 1, "dog": 1}),
    "a film beside the classes": Layout(
        "cat/1.jpg dog/2.jpg film.mov", {"cat": 1, "dog": 1}, "beside the class folders"
    ),
    "a photo beside the classes": Layout("cat/1.jpg dog/2.jpg cover.png", says="has no class.*cover.png"),
    "doubled": Layout("rose/1.jpg tulip/2.jpg all/rose/1.jpg all/tulip/2.jpg", says="class folders once more.*/all'"),
    "doubled splits": Layout(
        "train/a/1.jpg train/b/2.jpg x/train/a/1.jpg",
        says="holds the splits once more: remove it, or give it by itself",
    ),
    "photos without classes beside splits": Layout(
        "training_set/a/1.jpg training_set/b/2.jpg test_set/a/3.jpg single_image/4.jpg",
        {"train/a": 1, "train/b": 1, "test/a": 1},
        "single_image' holds 1 photo without classes: left alone",
    ),
    "another folder beside splits": Layout("train/a/1.jpg train/b/2.jpg masks/a/3.jpg", says="no other folders.*masks"),
    "two folders for one split": Layout("train/a/1.jpg train/b/2.jpg val/a/3.jpg valid/a/4.jpg", says="for one split"),
    "an empty class": Layout("cat/1.jpg dog/notes.txt", says="without images.*/dog"),
    "one class": Layout("cat/1.jpg", says="at least two classes; received only 'cat'"),
    "nothing": Layout("notes.txt", says="at least two classes; received none"),
    "Parquet files": Layout("part-1.parquet", says="'tlkeras extract' reads them"),
    "links to other folders": Layout(
        "in/cat/1.jpg out/2.jpg in/dog/3.jpg", {"cat": 2, "dog": 1}, links=(("in/cat/more", "out"),)
    ),
    "a link to a class": Layout(
        "cat/1.jpg dog/2.jpg", says="two class folders are the same", links=(("kitty", "cat"),)
    ),
    "a ring of links": Layout(
        "cat/1.jpg dog/2.jpg", {"cat": 1, "dog": 1}, "link to a folder that is read anyway", links=(("cat/up", "."),)
    ),
}
FILES = "p/1.jpg p/2.jpg p/3.jpg"
TWO = {"cat": 1, "dog": 1}
LISTS = {
    "comma": Layout(FILES, TWO, text="path,label\np/1.jpg,cat\np/2.jpg,dog\n"),
    "blanks": Layout(FILES, TWO, text="p/1.jpg cat\np/2.jpg dog\n"),
    "more cells than the header": Layout(
        FILES, says="line 2 .*it has 3 cells, the header 2", text="path,label\np/1.jpg,cat, tabby\np/2.jpg,dog\n"
    ),
    "is_valid": Layout(
        FILES,
        {"train/cat": 1, "train/dog": 1, "validation/dog": 1},
        text="name.,image,label,is_valid\na,p/1.jpg,cat,False\nb,p/2.jpg,dog,0\nc,p/3.jpg,dog,True\n",
    ),
    "is_valid that is neither": Layout(
        FILES, says="line 2 .*is_valid is 'maybe'", text="path,label,is_valid\np/1.jpg,cat,maybe\n"
    ),
    "is_train": Layout(
        FILES,
        {"train/cat": 1, "train/dog": 1, "test/dog": 1},
        text="path,label,is_train\np/1.jpg,cat,1\np/2.jpg,dog,1\np/3.jpg,dog,0\n",
    ),
    "data set": Layout(
        FILES,
        {"train/cat": 1, "train/dog": 1, "validation/dog": 1},
        "not read: class id",
        text="class id,filepaths,labels,data set\n0,p/1.jpg,cat,train\n1,p/2.jpg,dog,train\n1,p/3.jpg,dog,valid\n",
    ),
    "subset": Layout(
        FILES,
        {"train/cat": 1, "train/dog": 1, "test/cat": 1},
        text="file,class,Subset\np/1.jpg,cat,Training set\np/2.jpg,dog,train\np/3.jpg,cat,Test\n",
    ),
    "fold": Layout(FILES, TWO, "not read: fold", text="path,label,fold\np/1.jpg,cat,0\np/2.jpg,dog,1\n"),
    "an unknown split": Layout(
        FILES, says="line 3 .*split is 'holdout'", text="path,label,split\np/1.jpg,cat,train\np/2.jpg,dog,holdout\n"
    ),
    "ids without ending in a folder beside": Layout(
        "train/ab1.jpg train/ab2.jpg", TWO, "relative to '.*train'", text="id,breed\nab1,cat\nab2,dog\n"
    ),
    "backslashes": Layout(FILES, TWO, text="filename,label\np\\1.jpg,cat\np\\2.jpg,dog\n"),
    "half without ending": Layout(FILES, TWO, text="image_id,label\np/1,cat\np/2.jpg,dog\n"),
    "numbers beside names": Layout(
        FILES, TWO, "not read: label", text="path,label,class_name\np/1.jpg,0,cat\np/2.jpg,1,dog\n"
    ),
    "numbers in two forms": Layout(
        FILES,
        {"0": 1, "1": 2},
        r"with a point \(1.0\) are read as whole",
        text="path,label\np/1.jpg,0\np/2.jpg,1\np/3.jpg,1.0\n",
    ),
    "numbers that begin with 0": Layout(FILES, {"01": 1, "02": 1}, text="path,label\np/1.jpg,01\np/2.jpg,02\n"),
    "a quote after a blank": Layout(FILES, TWO, text='path, label\np/1.jpg, "cat"\np/2.jpg, "dog"\n'),
    "nan": Layout(FILES, says="line 3 .*label is 'nan'", text="path,label\np/1.jpg,cat\np/2.jpg,nan\n"),
    "Windows-1252": Layout(
        FILES, {"caf\u00e9": 1, "dog": 1}, "read as Windows-1252", text="path,label\np/1.jpg,caf\udce9\np/2.jpg,dog\n"
    ),
    "accents in two forms": Layout(
        FILES, {"caf\u00e9": 2, "dog": 1}, text="path,label\np/1.jpg,caf\u00e9\np/2.jpg,cafe\u0301\np/3.jpg,dog\n"
    ),
    "Cat and cat": Layout(
        FILES, {"Cat": 1, "cat": 1}, "'Cat' and 'cat' are different", text="path,label\np/1.jpg,cat\np/2.jpg,Cat\n"
    ),
    "no file is there": Layout(
        FILES,
        says="none of the list's files is there; received 'q/1.jpg'",
        text="path,label\nq/1.jpg,cat\nq/2.jpg,dog\n",
    ),
    "some files are missing": Layout(
        FILES, {"cat": 1, "dog": 1}, "1 file of .* not there", text="path,label\np/1.jpg,cat\np/9.jpg,dog\n"
    ),
    "another header": Layout(
        FILES, says="names its columns.*may be called file, filename", text="where,what\np/1.jpg,cat\n"
    ),
}


def build(root, layout):
    for name in layout.files.split():
        path = root / name.replace("%20", " ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for link, target in layout.links:
        (root / link).symlink_to((root / target).resolve())
    if layout.text:
        (root / "list.csv").write_text(layout.text, encoding="utf-8", errors="surrogateescape")
        return root / "list.csv"
    return root / "in" if (root / "in").is_dir() else root


def key(path, label, split):
    return os.path.realpath(path), label, split


def opened(source, options):
    images = open_dataset(source, **options)
    rows = zip(images.paths, images.labels, images.splits.tolist(), strict=True)
    return [key(path, images.class_names[label], split) for path, label, split in rows], images.report()


def planned(source, options):
    made = plan(str(source), rows_a_shard=2, **options)
    return [key(*row) for work in made.works for row in work.files], made.report()


@pytest.mark.parametrize("name", [*FOLDERS, *(f"list: {name}" for name in LISTS)])
def test_layouts(name, tmp_path):
    """What train, audit and evaluate see of a folder or list, and extract sees the same."""
    layout = LISTS[name[6:]] if name.startswith("list: ") else FOLDERS[name]
    source = build(tmp_path, layout)
    if not layout.read:
        with pytest.raises(TlkerasError, match=layout.says) as caught:
            open_dataset(source, **layout.options)
        assert "\n" not in str(caught.value)
        return
    rows, report = opened(source, layout.options)
    assert Counter(f"{split}/{label}" if split else label for _, label, split in rows) == layout.read
    assert not layout.says or any(re.search(layout.says, line) for line in report[1:]), report
    found, said = planned(source, layout.options)
    assert sorted(found) == sorted(rows)
    # Of class names that look alike only training warns.
    assert [line for line in report[1:] if "different classes" not in line] == said


@pytest.mark.parametrize("name", [name for name in FOLDERS if FOLDERS[name].files != "part-1.parquet"])
def test_photos_to_be_classified_are_found_in_every_layout(name, tmp_path):
    """Predict takes every photo that any command could take, with or without shards, and knows classes where it can."""
    source = build(tmp_path, FOLDERS[name])
    try:
        photos = open_photos([source])
    except DataError:
        assert FOLDERS[name].files == "notes.txt"
        return
    made = plan(str(source), need_layout=False)
    assert [path for path, *_ in made.works[0].files] == sorted(photos.paths)
    assert made.left_out == tuple(photos.left_out)
    labelled = Counter(f"{split}/{label}" if split else label for _, label, split in made.works[0].files if label)
    if FOLDERS[name].read and not FOLDERS[name].options:
        assert labelled == FOLDERS[name].read


@pytest.mark.parametrize("name", [name for name in FOLDERS if not FOLDERS[name].links])
def test_another_file_system_lists_the_same(name, tmp_path):
    layout = FOLDERS[name]
    source = build(tmp_path, layout)
    memory = fsspec.filesystem("memory")
    top = f"memory://{tmp_path.name}"
    memory.put(str(source), f"/{tmp_path.name}", recursive=True)
    try:
        here, _ = planned(source, layout.options)
    except DataError as error:
        with pytest.raises(DataError, match=str(error)[:20]):
            plan(top, **layout.options)
        return
    there = plan(top, **layout.options)
    cut = [(row[0].split(tmp_path.name, 1)[1], *row[1:]) for work in there.works for row in work.files]
    assert cut == [(row[0].split(tmp_path.name, 1)[1], *row[1:]) for row in here]


@pytest.mark.parametrize("kind", ["folder", "list.csv", "list.tsv", "list.parquet"])
def test_train_and_extract_have_the_same_files_classes_and_splits(kind, tmp_path):
    """The same images as folder, CSV and Parquet list, for those who train at once and those who extract first."""
    rows = [(f"{split}/{label}/{i}.jpg", label, split) for split in ("train", "test") for label in "ab" for i in "12"]
    build(tmp_path, Layout(" ".join(path for path, *_ in rows)))
    source = tmp_path if kind == "folder" else tmp_path / kind
    if kind.endswith("parquet"):
        columns = zip(*rows, strict=True)
        table = pyarrow.table(dict(zip(("file_name", "label", "split"), map(list, columns), strict=True)))
        pyarrow.parquet.write_table(table, source)
    elif kind != "folder":
        mark = "\t" if kind.endswith("tsv") else ","
        source.write_text("\n".join(mark.join(row) for row in [("path", "label", "split"), *rows]))
    expected = sorted(key(tmp_path / path, label, split) for path, label, split in rows)
    assert sorted(opened(source, {})[0]) == sorted(planned(source, {})[0]) == expected


def test_every_file_of_a_strange_folder_is_taken_or_left_out_with_its_reason(tmp_path):
    layout = FOLDERS["folders of systems"]
    build(tmp_path, Layout(layout.files + " cat/README.md cat/film.mov cat/.hidden.jpg dog/noending x.parquet"))
    (tmp_path / "dog" / "linked").symlink_to(tmp_path / "cat")
    images, made = open_dataset(tmp_path), plan(str(tmp_path / "cat"))
    photos = open_photos([tmp_path])
    assert sorted(photos.paths) == sorted(images.paths)
    assert {Path(path).name for path in photos.paths} == {"1.jpg", "film.mov", "2.jpg", "noending"}
    assert {path for path, *_ in made.works[0].files} == {path for path in images.paths if "/cat/" in path}
    # Everything on top is accounted for, and nothing twice.
    left = [path for path, _ in photos.left_out]
    assert len(left) == len(set(left))
    named = [*photos.paths, *left]
    for found in tmp_path.rglob("*"):
        if not any(
            str(found) == name or str(found).startswith(f"{name}/") or name.startswith(f"{found}/") for name in named
        ):
            pytest.fail(f"{found} is neither taken nor left out")


def test_a_plan_costs_some_two_hundred_bytes_an_image(tmp_path):
    """What docs/scale.md reckons with; a list of a remote system is read without asking for each file."""
    rows = "".join(f"images/class{i % 7}/photo_{i:07d}.jpg,class{i % 7}\n" for i in range(4000))
    with fsspec.open(f"memory://{tmp_path.name}/list.csv", "w") as file:
        file.write(f"path,label\n{rows}")
    plan(f"memory://{tmp_path.name}/list.csv")  # loads what is loaded once
    tracemalloc.start()
    made = plan(f"memory://{tmp_path.name}/list.csv")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.images == 4000
    assert kept < 300 * made.images
    assert peak < 800 * made.images


def test_paths_relative_to_the_working_folder(tmp_path, monkeypatch):
    build(tmp_path, Layout(FILES))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.csv").write_text("path,label\np/1.jpg,cat\np/2.jpg,dog\n")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path)
    images = open_dataset(Path("lists/a.csv"))
    assert all(Path(path).is_file() for path in images.paths)
    monkeypatch.chdir(tmp_path / "away")
    assert all(Path(path).is_file() for path in open_dataset(tmp_path / "lists" / "a.csv").paths)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("photos.zip", "Unpack it, and give the folder: python -m zipfile"),
        ("photos.tar.gz", "Unpack it"),
        ("https://example.org/photos.zip", "Save it as a file"),
        ("s3://bucket/photos", "'tlkeras extract'"),
        ("-", "Save it as a file"),
    ],
)
def test_what_is_no_folder_is_refused_with_the_next_step(source, says, tmp_path):
    name = str(tmp_path / source) if "photos." in source and "://" not in source else source
    if "://" not in source and source != "-":
        Path(name).write_bytes(b"PK")
    for call in (open_dataset, lambda one: open_photos([one])):
        with pytest.raises(DataError, match=says):
            call(name)


@pytest.mark.parametrize("options", [{"class_from_name": True}, {"classes_at": 2}])
def test_what_is_for_folders_is_refused_for_lists_and_names(options, tmp_path):
    source = build(tmp_path, LISTS["comma"])
    for call in (open_dataset, plan):
        for name in (str(source), "mnist"):
            with pytest.raises(ConfigError, match="is for folders"):
                call(name, **options)
    with pytest.raises(ConfigError, match="exclude each other"):
        open_dataset(tmp_path, class_from_name=True, classes_at=1)


def test_a_name_with_hyphens_gets_the_nearest_tfds_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tlkeras.data.tfds_source.known_names", lambda: ["cats_vs_dogs", "mnist"])
    with pytest.raises(TlkerasError, match="'cats-vs-dogs'; did you mean 'cats_vs_dogs'"):
        open_dataset("cats-vs-dogs")


def test_one_class_can_be_measured_though_not_trained_on(tmp_path):
    build(tmp_path, Layout("cat/1.jpg cat/2.jpg"))
    assert open_dataset(tmp_path, for_training=False).class_names == ("cat",)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "train"),
        ("seg_train", "train"),
        ("TrainingSet", "train"),
        ("val2017", "validation"),
        ("test-images", "test"),
        ("TESTING", "test"),
        ("trainset", "train"),
        ("station train", ""),
        ("contrast", ""),
        ("train_test", ""),
        ("", ""),
    ],
)
def test_words_for_splits(name, split):
    assert split_named(name) == split


def test_a_copy_of_the_folder_elsewhere_lists_alike(tmp_path):
    build(tmp_path / "one", FOLDERS["seg_train, wrapped, with seg_pred"])
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (open_dataset(tmp_path / name) for name in ("one", "two"))
    assert [p.removeprefix(str(tmp_path))[4:] for p in one.paths] == [
        p.removeprefix(str(tmp_path))[4:] for p in two.paths
    ]
