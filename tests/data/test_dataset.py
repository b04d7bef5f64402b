import numpy as np
import pytest

from tlkeras.data.dataset import LabelledImages, check_classes, plural, printable
from tlkeras.errors import ConfigError, DataError


def five() -> LabelledImages:
    splits = np.array(["train", "train", "", "test", "train"])
    return LabelledImages("five", "here", ("a", "b"), tuple("vwxyz"), np.array([0, 1, 1, 1, 0]), splits)


def test_subsets_keep_paths_labels_and_splits_together():
    images = five()
    assert images.subset([4, 0]).paths == ("z", "v")
    assert images.subset(images.labels == 1).splits.tolist() == ["train", "", "test"]
    assert images.in_split("train").labels.tolist() == [0, 1, 0]
    assert len(images.in_split("validation")) == 0
    assert images.subset([]).class_counts() == {"a": 0, "b": 0}
    assert images.labels.dtype == np.int32


def test_with_splits_takes_long_names_after_short_ones():
    images = five().with_splits(np.array(["", "", "", "", ""])).with_splits(np.array(["validation"] * 5))
    assert set(images.splits.tolist()) == {"validation"}


def test_describe_is_one_line_with_what_a_split_lacks():
    assert five().describe() == "five: 5 images, 2 classes (train 3, test 1 without 1 class)"
    assert plural(1, "class", "classes") == "1 class"
    assert plural(2000, "image") == "2,000 images"


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [0, 1]},
        {"labels": [0, 1, 2, 0, 0]},
        {"labels": [0, 1, -1, 0, 0]},
        {"splits": np.array(["train"])},
        {"splits": np.array(["", "", "", "", "holdout"])},
        {"class_names": ()},
        {"class_names": ("a", "a")},
    ],
)
def test_what_does_not_fit_together_is_refused(changes):
    fields = vars(five()) | changes
    with pytest.raises(DataError):
        LabelledImages(**fields)


def test_wrong_selections_are_refused():
    with pytest.raises(DataError, match="mask"):
        five().subset(np.array([True, False]))
    with pytest.raises(ConfigError, match="received 'val'"):
        five().in_split("val")


@pytest.mark.parametrize(
    ("names", "problem"),
    [(["cat", "cat"], "only 'cat'"), ([], "none"), (["cat", "do\ng"], "line of text"), (["cat", "\udcff"], "udcff")],
)
def test_classes_that_cannot_be_are_refused(names, problem):
    with pytest.raises(DataError, match=problem):
        check_classes(names, "'here'")


def test_printable_names_can_be_written_anywhere():
    assert printable("ä写🐈 b.jpg") == "ä写🐈 b.jpg"
    assert printable("a\nb\udce9") == "a\\nb\\udce9"
