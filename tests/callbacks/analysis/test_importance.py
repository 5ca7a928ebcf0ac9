"""Permutation importances of groups of columns."""

import numpy as np
import pytest

from triptych.callbacks.analysis.importance import column_groups, grouped_importances

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((400, 3))


def test_columns_are_grouped_by_patterns_and_the_rest_kept_single():
    names = ["longitude", "place_at_30", "income", "place_at_60", "latitude", "<1H OCEAN", "unknown"]
    groups = {"place": ["longitude", "latitude", "place_at_*"], "ocean": ["<1H OCEAN", "ISLAND"], "nothing": ["x*"]}
    assert column_groups(names, groups) == {
        "place": [0, 1, 3, 4],
        "income": [2],
        "ocean": [5],
        "unknown": [6],
    }
    assert column_groups(["a", "b"], {}) == {"a": [0], "b": [1]}
    assert column_groups(["ab"], {"first": ["a*"], "second": ["*b"]}) == {"first": [0]}


def test_importance_is_the_added_rmse_and_zero_for_an_unused_column():
    def network(rows: np.ndarray) -> np.ndarray:
        return 3 * rows[:, 0] + rows[:, 1]

    found = grouped_importances(network, ROWS, network(ROWS), {"three": [0], "one": [1], "none": [2]}, repeats=5)
    assert {name: values.shape for name, values in found.items()} == {"three": (5,), "one": (5,), "none": (5,)}
    assert found["none"].tolist() == [0] * 5
    # The unshuffled RMSE is 0; shuffled values are independent, so their difference has twice the variance.
    assert found["three"].mean() == pytest.approx(3 * np.sqrt(2) * ROWS[:, 0].std(), rel=0.1)
    assert found["one"].mean() == pytest.approx(np.sqrt(2) * ROWS[:, 1].std(), rel=0.1)


def test_columns_of_a_group_are_shuffled_together():
    """A network that compares a column with its copy sees a difference only if they are shuffled apart."""
    rows = np.column_stack([ROWS[:, 0], 2 * ROWS[:, 0], ROWS[:, 1]])

    def network(rows: np.ndarray) -> np.ndarray:
        return np.abs(rows[:, 1] - 2 * rows[:, 0])

    targets = np.zeros(len(rows))
    together = grouped_importances(network, rows, targets, {"both": [0, 1], "other": [2]}, repeats=3)
    assert together["both"].tolist() == [0, 0, 0]
    apart = grouped_importances(network, rows, targets, {"one": [0], "its copy": [1], "other": [2]}, repeats=3)
    assert min(apart["one"].min(), apart["its copy"].min()) > 1


def test_importances_are_reproducible_from_the_seed():
    def network(rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=1)

    groups = {"a": [0], "b": [1, 2]}
    one, same, other = (grouped_importances(network, ROWS, ROWS[:, 0], groups, 2, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in groups)
    assert not np.array_equal(one["a"], other["a"])
