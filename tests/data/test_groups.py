"""What belongs together, a patient's or a video's photos, stays together: from the list to splits and folds."""

import numpy as np
import pytest

from tlkeras.data.audit import Audit
from tlkeras.data.dataset import LabelledImages
from tlkeras.data.lists import read_list
from tlkeras.data.open import open_dataset
from tlkeras.data.splits import split
from tlkeras.data.verdicts import Verdict
from tlkeras.errors import ConfigError, DataError
from tlkeras.heads.folds import crossing_folds


def images(groups, labels=None, splits=None, classes=2):
    count = len(groups)
    labels = np.arange(count) % classes if labels is None else np.array(labels)
    splits = np.array([""] * count if splits is None else splits)
    paths = tuple(f"/data/{group or 'alone'}/{number:03d}.jpg" for number, group in enumerate(groups))
    names = tuple("abcdefgh"[:classes])
    return LabelledImages("set", "here", names, paths, labels, splits, groups=np.array(groups, str))


def audit_of(dataset, copies=None):
    verdicts = tuple(
        Verdict(path, dataset.class_names[label], str(split), "good")
        for path, label, split in zip(dataset.paths, dataset.labels, dataset.splits, strict=True)
    )
    return Audit(dataset, verdicts, np.arange(len(dataset)) if copies is None else np.array(copies))


@pytest.mark.parametrize("column", ["group", "Patient ID", "video"])
def test_a_list_names_groups(column, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    (tmp_path / "list.csv").write_text(
        f"path,label,{column},split\n0.jpg,a,p1,train\n1.jpg,b,p1,train\n2.jpg,a,,test\n"
    )
    listing = read_list(str(tmp_path / "list.csv"))
    assert [row.group for row in listing.rows] == ["p1", "p1", ""]
    assert [row.split for row in listing.rows] == ["train", "train", "test"]
    assert any("1 group" in note for note in listing.notes)
    assert open_dataset(tmp_path / "list.csv", for_training=False).groups.tolist() == ["p1", "p1", ""]


def test_a_parquet_list_names_groups(tmp_path):
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    (tmp_path / "0.jpg").write_bytes(b"x")
    table = pyarrow.table({"path": ["0.jpg", "0.jpg"], "label": ["a", "b"], "patient": ["p1", None]})
    parquet.write_table(table, tmp_path / "list.parquet")
    assert [row.group for row in read_list(str(tmp_path / "list.parquet")).rows] == ["p1", ""]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"/(p\d)/", ["p1", "p1", "p2", ""]),
        (r"p\d", ["p1", "p1", "p2", ""]),
        (r"(p2)|alone", ["", "", "p2", ""]),
        (None, ["", "", "", ""]),
    ],
)
def test_a_pattern_finds_groups_in_paths(pattern, expected):
    plain = images(["p1", "p1", "p2", ""])
    found = LabelledImages(plain.name, plain.source, plain.class_names, plain.paths, plain.labels, plain.splits)
    grouped = found.grouped_by(pattern)
    assert (["", "", "", ""] if grouped.groups is None else grouped.groups.tolist()) == expected
    assert grouped.subset([2, 0]).paths == (plain.paths[2], plain.paths[0])
    if pattern:
        assert grouped.subset([2, 0]).groups.tolist() == [expected[2], expected[0]]


@pytest.mark.parametrize(("pattern", "words"), [("(", "regular expression on paths"), ("video", "in no path")])
def test_a_pattern_that_finds_nothing_is_refused(pattern, words):
    with pytest.raises(ConfigError, match=words):
        images(["p1", "p2"]).grouped_by(pattern)


def test_copies_and_groups_hang_together():
    found = audit_of(images(["p1", "", "p1", "p2", "", ""]), copies=[0, 0, 2, 3, 3, 5]).groups
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert len({int(found[0]), int(found[3]), int(found[5])}) == 3


@pytest.mark.parametrize("seed", range(4))
def test_patients_with_photos_of_all_classes_stay_on_one_side(seed):
    random = np.random.default_rng(seed)
    groups = [f"p{number}" for number in random.integers(0, 30, 300)]
    dataset = images(groups, labels=random.integers(0, 3, 300), classes=3)
    together = audit_of(dataset).groups
    parted = split(dataset, together, seed=seed)
    folds = crossing_folds(dataset.labels, seed, groups=together)[0]
    for group in set(groups):
        mine = np.array(groups) == group
        assert len(set(parted.splits[mine].tolist())) == 1
        assert len(set(folds[mine].tolist())) == 1
    for name in ("train", "validation", "test"):
        assert set(parted.labels[parted.splits == name].tolist()) == {0, 1, 2}
    assert 20 < (parted.splits == "test").sum() < 80


def test_a_class_that_one_patient_has_cannot_be_held_out():
    dataset = images(["p1"] * 4 + ["p2"] * 4, labels=[0] * 4 + [1] * 4)
    with pytest.raises(DataError, match="at least 2 different images"):
        split(dataset, audit_of(dataset).groups)


def test_groups_that_span_given_splits_are_named():
    given = ["train", "test", "train", "test", "train"]
    found = audit_of(images(["p1", "p1", "p2", "p3", ""], splits=given))
    assert found.spanning == {"p1": {"train": 1, "test": 1}}
    assert "1 group in several given splits: 'p1' (train 1, test 1)" in found.summary()
    assert found.to_json()["spanning_groups"] == found.spanning
    assert "given splits" not in audit_of(images(["p1", "p2"], splits=["train", "test"])).summary()
