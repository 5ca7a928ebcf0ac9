"""Permutation importance of the columns of a table (Breiman 2001, Fisher et al. 2019), shuffled in groups."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.frozen import FrozenEstimator


def column_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Group the columns that are shuffled together.

    Args:
        names: the names of the columns.
        groups: patterns of column names (``place_at_*``) by the name of the group; the first group that matches counts.

    Returns:
        The indices of the columns by the name of their group, in the order of the columns. A column that no group
        matches is a group of its own.
    """
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        fitting = (group for group, patterns in groups.items() if any(fnmatchcase(name, each) for each in patterns))
        found.setdefault(next(fitting, name), []).append(number)
    return found


class _GroupedRows(RegressorMixin, BaseEstimator):
    """Estimator whose inputs are row indices, one per group of columns: permuting one column permutes a whole group."""

    def __init__(
        self, network: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, groups: Sequence[Sequence[int]]
    ) -> None:
        self.network = network
        self.rows = rows
        self.groups = groups

    def predict(self, numbers: np.ndarray) -> np.ndarray:
        """(N, groups) -> (N,)."""
        mixed = np.empty_like(self.rows)
        for group, taken in zip(self.groups, numbers.T, strict=True):
            mixed[:, group] = self.rows[np.ix_(taken, group)]
        return self.network(mixed)


def grouped_importances(
    network: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    targets: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    repeats: int,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Increase of the RMSE when a group of columns is shuffled among the rows, in the targets' unit.

    A column must be shuffled together with the columns derived from it, or the network can still infer it. If two
    groups contain much the same information, each alone seems to matter little.

    Args:
        network: maps rows (N, columns) to predictions (N,).
        rows: (N, columns).
        targets: (N,).
        groups: the indices of the columns by the name of their group; each column is in exactly one group.
        repeats: number of times that each group is shuffled.
        seed: seed of the shuffling.

    Returns:
        The increases (repeats,) by the name of the group.
    """
    # Imported here, because it imports all of scikit-learn's trees, which would delay the start of a run.
    from sklearn.inspection import permutation_importance

    estimator = FrozenEstimator(_GroupedRows(network, rows, list(groups.values())))
    numbers = np.repeat(np.arange(len(rows))[:, None], len(groups), axis=1)
    scoring = "neg_root_mean_squared_error"
    found = permutation_importance(estimator, numbers, targets, scoring=scoring, n_repeats=repeats, random_state=seed)
    return dict(zip(groups, found.importances, strict=True))
