import numpy as np
import pytest

from tlkeras.data.dataset import LabelledImages
from tlkeras.data.splits import split
from tlkeras.errors import ConfigError, DataError


def images(counts, splits=None, prefix=""):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"c{i}" for i in range(len(counts)))
    paths = tuple(f"/data/{names[label]}/{prefix}{i}.jpg" for i, label in enumerate(labels))
    return LabelledImages(
        "set", "here", names, paths, labels, np.array(splits if splits is not None else [""] * len(labels))
    )


def apart(dataset):
    return np.arange(len(dataset))


def where(dataset):
    return dict(zip(dataset.paths, dataset.splits.tolist(), strict=True))


def counts_of(dataset):
    return {
        name: [int(((dataset.labels == label) & (dataset.splits == s)).sum()) for s in ("train", "validation", "test")]
        for label, name in enumerate(dataset.class_names)
    }


@pytest.mark.parametrize(
    ("n", "options", "expected"),
    [
        (100, {}, [70, 15, 15]),
        (100, {"test_fraction": None}, [85, 15, 0]),
        (100, {"test_fraction": None, "validation_fraction": None}, [100, 0, 0]),
        (100, {"validation_fraction": 0.1, "test_fraction": 0.3}, [60, 10, 30]),
        (7, {}, [5, 1, 1]),
        (3, {}, [1, 1, 1]),
        (3, {"test_fraction": 0.6}, [1, 1, 1]),
        (2, {}, [1, 0, 1]),
        (2, {"test_fraction": None}, [1, 1, 0]),
    ],
)
def test_every_class_gets_its_shares(n, options, expected):
    dataset = images([n, 40])
    assert counts_of(split(dataset, apart(dataset), **options))["c0"] == expected


def test_same_seed_same_split_whatever_the_order_of_files():
    dataset = images([40, 30])
    order = np.random.default_rng(3).permutation(70)
    first = where(split(dataset, apart(dataset), seed=5))
    assert first == where(split(dataset.subset(order), apart(dataset)[order], seed=5))
    assert first != where(split(dataset, apart(dataset), seed=6))


@pytest.mark.parametrize("by_key", [False, True])
def test_old_photos_stay_where_they_were_when_new_ones_come(by_key):
    old, new = images([200, 200]), images([20, 20], prefix="new")
    both = LabelledImages("set", "here", old.class_names, old.paths + new.paths,
                          np.concatenate([old.labels, new.labels]), np.array([""] * 440))  # fmt: skip

    def parted(dataset):
        keys = [path[::-1] for path in dataset.paths] if by_key else None
        return where(split(dataset, apart(dataset), keys=keys))

    before, after = parted(old), parted(both)
    moved = sum(before[path] != after[path] for path in before)
    assert moved <= 20
    crossed = [path for path in before if {before[path], after[path]} == {"validation", "test"}]
    assert not crossed


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_torn(seed):
    dataset = images([60, 60])
    groups = np.random.default_rng(seed).integers(0, 25, 120) + 100 * dataset.labels
    parted = split(dataset, groups, seed=seed)
    for group in np.unique(groups):
        assert len(set(parted.splits[groups == group].tolist())) == 1
    for n, (train, validation, test) in zip((60, 60), counts_of(parted).values(), strict=True):
        assert train + validation + test == n
        assert 5 <= validation <= 13
        assert 5 <= test <= 13


def test_a_giant_group_and_doubtful_labels_stay_in_training():
    dataset = images([20, 20])
    groups = apart(dataset)
    groups[:12] = 0
    groups[[19, 20]] = 99
    parted = split(dataset, groups)
    assert set(parted.splits[:12].tolist()) == {"train"}
    assert parted.splits[19] == parted.splits[20] == "train"


def test_given_splits_stay():
    given = ["train"] * 30 + ["test"] * 10 + ["train"] * 30 + ["test"] * 10
    dataset = images([40, 40], given)
    parted = split(dataset, apart(dataset))
    assert ((parted.splits == "test") == (dataset.splits == "test")).all()
    assert counts_of(parted)["c0"] == [26, 4, 10]
    everything = dataset.with_splits(np.where(np.arange(80) % 40 < 5, "validation", dataset.splits))
    assert where(split(everything, apart(everything))) == where(everything)


def test_images_without_a_split_join_training():
    dataset = images([10, 10], (["test"] * 3 + ["train"] * 3 + [""] * 4) * 2)
    parted = split(dataset, apart(dataset))
    assert counts_of(parted) == {"c0": [6, 1, 3], "c1": [6, 1, 3]}


@pytest.mark.parametrize(
    ("dataset", "groups", "problem"),
    [
        (images([1, 10]), None, "at least 2 different images; received 1 of 'c0'"),
        (images([3, 10]), [7, 7, 7, *range(10, 20)], "at least 2 different images; received 1 of 'c0'"),
        (images([0, 10]), None, "training images; received none of 'c0'"),
        (images([2, 2], ["test", "test", "train", "train"]), None, "training images; received none of 'c0'"),
        (images([2, 2], ["test"] * 4), None, "no training images"),
        (images([5, 5]), [1, 2], "one group and one key"),
    ],
)
def test_what_cannot_be_split_is_told(dataset, groups, problem):
    with pytest.raises(DataError, match=problem):
        split(dataset, apart(dataset) if groups is None else np.array(groups))


@pytest.mark.parametrize(
    "options",
    [
        {"validation_fraction": 0},
        {"validation_fraction": 1.0},
        {"test_fraction": -0.1},
        {"test_fraction": float("nan")},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
    ],
)
def test_fractions_out_of_range(options):
    dataset = images([9, 9])
    with pytest.raises(ConfigError, match="fraction"):
        split(dataset, apart(dataset), **options)
