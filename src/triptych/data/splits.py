"""Rules that split samples into train, val and test; each is a function of counts, groups and a seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit, train_test_split

from triptych.data.errors import DataError

RULES = ("grouped", "random", "mle_bench", "papers", "all")
"""Values of ``data.split``:

- ``grouped``: 80/10/10, or 90/10 next to an official test set; samples of one group (page, patient) stay together.
- ``random``: the same shares, but groups may be divided between splits, so that scores can be too good.
- ``mle_bench``: the split of MLE-bench, a benchmark of Kaggle competitions: a fifth of the pages is the test set.
- ``papers``: the split of the papers on the data set: 64/16/20 for the houses, the same as ``random`` for the X-rays.
- ``all``: all samples are for training, none for validation or test; for the last run, once every choice is made.
"""
MAX_SEED = 2**32 - 1
"""Upper bound (exclusive) of ``split_seed``: a split also uses ``split_seed + 1``, which must be below 2**32."""


@dataclass(frozen=True)
class Split:
    """Sample indices of each split; ``stand_in`` says why it is not the official or published one, if it is not."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    stand_in: str | None = None


def check(rule: str, published: Sequence[str], slug: str, seed: int, folds: int | None, fold: int) -> None:
    """Reject settings from which no split can be drawn, before any data are read.

    Args:
        rule: ``data.split``.
        published: which of ``mle_bench`` and ``papers`` the data set has.
        slug: the data set's name.
        seed: ``data.split_seed``.
        folds: ``data.folds``.
        fold: ``data.fold``.

    Raises:
        ValueError: an argument is invalid, or conflicts with another.
    """
    if rule not in RULES:
        raise ValueError(f"data.split={rule}: choose one of {', '.join(RULES)}")
    if rule in ("mle_bench", "papers") and rule not in published:
        there = [name for name in RULES if name not in ("mle_bench", "papers") or name in published]
        raise ValueError(f"data.split={rule} is not published for {slug}: choose one of {', '.join(there)}")
    if folds is not None and rule not in ("grouped", "random"):
        raise ValueError(f"data.folds={folds}: data.split={rule} is one fixed split; choose grouped or random")
    if folds is None and fold != 0:
        raise ValueError(f"data.fold={fold}: say with data.folds how many there are")
    if not 0 <= seed < MAX_SEED:
        raise ValueError(f"data.split_seed={seed}: expected a number from 0 to {MAX_SEED - 1}")


def check_train_size(train_size: int | float | None) -> None:
    """Raise a ValueError unless ``data.train_size`` is a number of samples, a share, or None for all."""
    if train_size is not None and not (train_size >= 1 if isinstance(train_size, int) else 0 < train_size <= 1):
        raise ValueError(
            f"data.train_size={train_size}: expected a number of samples from 1, a share above 0 and up to 1.0, or "
            "null for all"
        )


def draw(
    count: int,
    groups: Sequence[str] | None,
    seed: int,
    official_test: np.ndarray | None = None,
    folds: int | None = None,
    fold: int = 0,
) -> Split:
    """Split 80/10/10, or 90/10 next to an official test set; samples of one group stay together if there are groups.

    With ``folds``, the samples outside the test set are divided into that many folds; ``fold`` is for validation.

    Raises:
        DataError: a split would be empty, or there is no such fold.
    """
    everything = np.arange(count)
    if official_test is None:
        _require(everything, groups, 3)
        rest, test = _cut(everything, groups, 0.1, seed)
        share = 1 / 9
    else:
        rest, test = np.setdiff1d(everything, official_test), official_test
        _require(rest, groups, 2)
        share = 0.1
    if folds is None:
        train, val = _cut(rest, groups, share, seed + 1)
    else:
        train, val = _fold(rest, groups, folds, fold, seed + 1)
    return require_filled(Split(train, val, test))


def published(order: Sequence[int], val_share: float, val_seed: int, stand_in: str | None) -> Split:
    """Split by two calls of ``train_test_split``: a fifth for test (seed 0), ``val_share`` of the rest for validation.

    Raises:
        DataError: a split would be empty.
    """
    _require(np.asarray(order), None, 3)
    rest, test = train_test_split(np.asarray(order), test_size=0.2, random_state=0)
    train, val = train_test_split(rest, test_size=val_share, random_state=val_seed)
    return Split(train, val, test, stand_in)


def everything(count: int) -> Split:
    """Assign all samples to training, for the last run, once every choice is made."""
    nothing = np.arange(0)
    return require_filled(Split(np.arange(count), nothing, nothing), needed=("train",))


def subset(indices: np.ndarray, size: int | float | None, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Draw a sorted subset of the indices; with one seed, a smaller subset is contained in every larger one.

    Args:
        indices: of the samples to draw from.
        size: number of samples (int) or share of them (float); None, or more than there are: all, unchanged.
        seed: of the draw.
        labels: the class of each index, to stratify by. Each class keeps its share, rounded up for the rarest: none is
            lost as long as at least as many samples are drawn as there are classes.
    """
    if isinstance(size, float):
        size = max(1, round(size * len(indices)))
    if size is None or size >= len(indices):
        return indices
    order = np.random.default_rng(seed).permutation(len(indices))
    if labels is not None:
        # Relative position of each sample within its class, from 0 for the first; in a tie the rarer class comes first.
        through, rarity = np.empty(len(order)), np.empty(len(order))
        for label in np.unique(labels):
            own = order[labels[order] == label]
            through[own], rarity[own] = np.arange(len(own)) / len(own), len(own)
        order = order[np.lexsort((rarity[order], through[order]))]
    return np.sort(indices[order[:size]])


def require_filled(split: Split, needed: Sequence[str] = ("train", "val", "test")) -> Split:
    """Return the split, or raise a DataError that names its empty parts."""
    empty = [name for name in needed if len(getattr(split, name)) == 0]
    if empty:
        sizes = f"train {len(split.train)}, val {len(split.val)}, test {len(split.test)}"
        raise DataError(
            f"the split leaves {' and '.join(empty)} empty ({sizes}): "
            "more samples or groups are needed, or data.split=all"
        )
    return split


def _groups_of(indices: np.ndarray, groups: Sequence[str] | None) -> np.ndarray | None:
    return None if groups is None else np.asarray(groups)[indices]


def _units(indices: np.ndarray, groups: Sequence[str] | None) -> int:
    """Number of units to distribute: samples, or groups if there are any."""
    own_groups = _groups_of(indices, groups)
    return len(indices) if own_groups is None else len(np.unique(own_groups))


def _require(indices: np.ndarray, groups: Sequence[str] | None, needed: int) -> None:
    units = _units(indices, groups)
    if units < needed:
        kind = "samples" if groups is None else "groups of samples that belong together"
        raise DataError(
            f"{units} {kind} outside an official test set: a split needs at least {needed}, or one part is empty; "
            "add some, or train on all of them with data.split=all"
        )


def _cut(indices: np.ndarray, groups: Sequence[str] | None, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split off ``share`` of the samples, or of the groups; returns the rest and that share."""
    splitter = ShuffleSplit if groups is None else GroupShuffleSplit
    parts = splitter(n_splits=1, test_size=share, random_state=seed)
    kept, cut = next(parts.split(indices, groups=_groups_of(indices, groups)))
    return np.sort(indices[kept]), np.sort(indices[cut])


def _fold(
    indices: np.ndarray, groups: Sequence[str] | None, folds: int, fold: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    units = _units(indices, groups)
    if not 2 <= folds <= units:
        raise DataError(f"data.folds={folds}: choose from 2 to {units}, the number of samples or groups")
    if not 0 <= fold < folds:
        raise DataError(f"data.fold={fold}: with data.folds={folds} the folds are 0 to {folds - 1}")
    splitter = KFold if groups is None else GroupKFold
    parts = splitter(n_splits=folds, shuffle=True, random_state=seed).split(indices, groups=_groups_of(indices, groups))
    kept, held_out = list(parts)[fold]
    return indices[kept], indices[held_out]
