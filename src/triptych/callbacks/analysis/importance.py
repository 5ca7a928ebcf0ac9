"""How much a network goes by each column of a table: permutation importance (Breiman 2001, Fisher et al. 2019)."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.frozen import FrozenEstimator


def column_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Which columns are shuffled together.

    Args:
        names: the columns.
        groups: by the name of a group, patterns of its columns' names (``place_at_*``); the first that fits counts.

    Returns:
        By name, in the columns' order, the numbers of its columns. A column that no group takes is one by itself.
    """
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        fitting = (group for group, patterns in groups.items() if any(fnmatchcase(name, each) for each in patterns))
        found.setdefault(next(fitting, name), []).append(number)
    return found


class _GroupedRows(RegressorMixin, BaseEstimator):
    """A network whose inputs are row numbers, one for each group of columns: shuffling those shuffles whole groups."""

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
    """By how much the RMSE grows when a group of columns is shuffled among the rows, in the targets' unit.

    A column that others are made from must be shuffled together with them, or the network still knows it. Where two
    groups tell much the same, each alone seems to matter little.

    Args:
        network: from rows (N, columns) to predictions (N,).
        rows: (N, columns).
        targets: (N,).
        groups: the numbers of the columns by the name of their group; each column in one group.
        repeats: how often each is shuffled.
        seed: of the shuffling.

    Returns:
        (repeats,) by the name of the group.
    """
    # Here, for it brings all of scikit-learn's trees, and a run begins without.
    from sklearn.inspection import permutation_importance

    estimator = FrozenEstimator(_GroupedRows(network, rows, list(groups.values())))
    numbers = np.repeat(np.arange(len(rows))[:, None], len(groups), axis=1)
    scoring = "neg_root_mean_squared_error"
    found = permutation_importance(estimator, numbers, targets, scoring=scoring, n_repeats=repeats, random_state=seed)
    return dict(zip(groups, found.importances, strict=True))
