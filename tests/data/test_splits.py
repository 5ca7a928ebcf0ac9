"""Splits drawn from counts and groups alone: shares, groups, folds, seeds, the published splits."""

from itertools import chain

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from triptych.data import splits
from triptych.data.errors import DataError
from triptych.data.splits import Split

COUNT = 200
GROUPS = [f"patient {index % 37}" for index in range(COUNT)]  # 37 groups of 5 or 6


def parts(split: Split) -> dict[str, list[int]]:
    return {name: getattr(split, name).tolist() for name in ("train", "val", "test")}


@pytest.mark.parametrize(
    ("count", "official_test", "sizes"),
    [
        (1000, None, (800, 100, 100)),
        (20_640, None, (16_512, 2_064, 2_064)),
        (1000, np.arange(200), (720, 80, 200)),
        (3, None, (1, 1, 1)),
        (3, np.array([1]), (1, 1, 1)),
    ],
)
def test_shares_are_80_10_10_or_90_10_with_an_official_test(count: int, official_test, sizes: tuple[int, ...]):
    split = splits.draw(count, None, seed=0, official_test=official_test)
    assert tuple(map(len, parts(split).values())) == sizes
    assert sorted(chain(*parts(split).values())) == list(range(count))


def test_an_official_test_split_is_kept_in_order():
    official = np.array([7, 3, 190])
    assert splits.draw(COUNT, GROUPS, 0, official).test.tolist() == [7, 3, 190]


@pytest.mark.parametrize("folds", [None, 5])
@pytest.mark.parametrize("official_test", [None, np.arange(0, COUNT, 37)], ids=["no official", "official"])
def test_a_group_is_never_divided(folds: int | None, official_test):
    split = parts(splits.draw(COUNT, GROUPS, 0, official_test, folds))
    found = [{GROUPS[index] for index in part} for part in split.values()]
    assert len(set.union(*found)) == sum(map(len, found)) == 37
    assert sorted(chain(*split.values())) == list(range(COUNT))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["random", "grouped"])
def test_every_sample_outside_the_test_validates_in_exactly_one_fold(groups):
    drawn = [splits.draw(COUNT, groups, 0, folds=5, fold=fold) for fold in range(5)]
    test = drawn[0].test
    assert all(np.array_equal(split.test, test) for split in drawn)
    validated = np.concatenate([split.val for split in drawn])
    assert sorted([*validated, *test]) == list(range(COUNT))


@pytest.mark.parametrize("folds", [None, 4])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["random", "grouped"])
def test_the_seed_determines_the_split(groups, folds: int | None):
    first, again, other = (parts(splits.draw(COUNT, groups, seed, folds=folds)) for seed in (0, 0, 1))
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_the_split_of_a_seed_is_stable_across_versions():
    """Results are compared across versions, so refactoring must never change which samples a seed draws."""
    letters = [chr(ord("a") + index // 2) for index in range(20)]
    assert parts(splits.draw(20, None, 0))["val"] == [4, 7]
    assert parts(splits.draw(20, None, 0))["test"] == [1, 18]
    assert parts(splits.draw(20, letters, 0))["val"] == [18, 19]
    assert parts(splits.draw(20, letters, 0))["test"] == [4, 5]
    assert parts(splits.draw(20, letters, 0, folds=3))["val"] == [6, 7, 14, 15, 18, 19]


def test_a_subset_is_seeded_and_nested_in_any_larger_one():
    indices = np.arange(100, 300, 2)
    small, large, other = (splits.subset(indices, size, seed) for size, seed in ((20, 0), (50, 0), (20, 1)))
    assert len(set(small)) == 20
    assert set(small) < set(large) < set(indices)
    assert set(small) != set(other)
    assert small.tolist() == sorted(small)
    assert splits.subset(indices, 100, 3).tolist() == indices.tolist()
    # Pinned, because results are compared across versions.
    assert splits.subset(np.arange(20), 3, 0).tolist() == [4, 6, 19]


@pytest.mark.parametrize("size", [2, 3, 10, 11, 57, 99])
def test_a_subset_is_stratified_by_class(size: int):
    labels = np.array([0, 1, 1, 1] * 25)
    drawn = splits.subset(np.arange(1000, 1100), size, 0, labels)
    rare = int((labels[drawn - 1000] == 0).sum())
    assert len(drawn) == size
    assert 1 <= rare < size
    assert abs(rare - size / 4) <= 1


@pytest.mark.parametrize(
    ("count", "groups", "official_test", "message"),
    [
        (2, None, None, "2 samples .* at least 3"),
        (100, ["a", "b"] * 50, None, "2 groups .* at least 3"),
        (100, ["a"] * 100, np.arange(5), "1 groups .* at least 2"),
        (5, None, np.arange(5), "0 samples .* at least 2"),
        (5, None, np.arange(0), "test empty"),
    ],
)
def test_an_empty_part_is_refused(count: int, groups, official_test, message: str):
    with pytest.raises(DataError, match=f"(?s){message}.*data.split=all"):
        splits.draw(count, groups, 0, official_test)


@pytest.mark.parametrize(
    ("folds", "fold", "message"),
    [
        (1, 0, "data.folds=1: choose from 2 to 33"),
        (34, 0, "data.folds=34: choose from 2 to 33"),
        (5, 5, "data.fold=5: with data.folds=5 the folds are 0 to 4"),
        (5, -1, "data.fold=-1: .* 0 to 4"),
    ],
)
def test_a_fold_out_of_range_is_refused(folds: int, fold: int, message: str):
    with pytest.raises(DataError, match=message):
        splits.draw(COUNT, GROUPS, 0, folds=folds, fold=fold)  # 4 of the 37 groups form the test split


def test_the_papers_split_is_reproduced():
    """Gorishniy et al. (2021): 13,209, 3,303 and 4,128 of the 20,640 rows."""
    split = splits.published(range(20_640), val_share=0.2, val_seed=1, stand_in=None)
    rest, test = train_test_split(np.arange(20_640), test_size=0.2, random_state=0)
    train, val = train_test_split(rest, test_size=0.2, random_state=1)
    assert [len(train), len(val), len(test)] == [13_209, 3_303, 4_128]
    assert parts(split) == {"train": train.tolist(), "val": val.tolist(), "test": test.tolist()}


def test_the_mle_bench_test_split_is_reproduced():
    """``train_test_split(test_size=0.2, random_state=0)`` over the 144 sorted paths."""
    order = sorted(range(144), key=str)
    split = splits.published(order, val_share=0.1, val_seed=0, stand_in=None)
    kept, test = train_test_split(order, test_size=0.2, random_state=0)
    assert (len(kept), len(test)) == (115, 29)
    assert split.test.tolist() == test
    assert sorted([*split.train, *split.val]) == sorted(kept)


def test_a_published_split_of_too_few_samples_is_refused():
    with pytest.raises(DataError, match="2 samples"):
        splits.published(range(2), val_share=0.2, val_seed=1, stand_in=None)


def test_everything_puts_all_samples_into_training():
    assert parts(splits.everything(4)) == {"train": [0, 1, 2, 3], "val": [], "test": []}


def test_the_message_names_the_parts_that_are_empty():
    with pytest.raises(DataError, match=r"val and test empty \(train 3, val 0, test 0\)"):
        splits.require_filled(splits.everything(3))
