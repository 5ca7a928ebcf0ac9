"""Bootstrap bands of ROC and precision-recall curves, with groups resampled as a whole."""

from itertools import islice

import numpy as np
import pytest

from triptych.callbacks.analysis.curves import GRID, accuracy_interval, bands, resampled

RANDOM = np.random.default_rng(0)
LABELS = np.array([0, 0, 1, 1] * 30)
PROBABILITIES = np.clip(0.3 * LABELS + 0.7 * RANDOM.random(120), 0, 1)


def test_groups_are_resampled_as_a_whole():
    groups = ["b", "a", "a", "c", "b"]
    drawn = np.stack(list(islice(resampled(groups, 5, seed=0), 200)))
    assert (drawn[:, 1] == drawn[:, 2]).all()
    assert (drawn[:, 0] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(5), abs=0.2)
    alone = np.stack(list(islice(resampled(None, 5, seed=0), 50)))
    assert (alone.sum(axis=1) == 5).all()


def test_areas_match_hand_computation():
    """Positives at 0.9 and 0.4, negatives at 0.6 and 0.1: three of four pairs are in order."""
    roc, recall = bands(np.array([1, 0, 1, 0]), np.array([0.9, 0.6, 0.4, 0.1]), replicates=5)
    assert roc.area == 0.75
    assert recall.area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (roc.x[0], roc.x[-1]) == (recall.x[0], recall.x[-1]) == (0, 1)


def test_a_band_contains_its_curve_and_is_deterministic():
    roc, recall = bands(LABELS, PROBABILITIES, replicates=50)
    for band in (roc, recall):
        assert band.area_low < band.area < band.area_high
        assert (band.low <= band.high).all()
    inside = (roc.low <= np.interp(GRID, roc.x, roc.y)) & (np.interp(GRID, roc.x, roc.y) <= roc.high)
    assert inside.mean() > 0.95
    again = bands(LABELS, PROBABILITIES, replicates=50)
    assert np.array_equal(again[0].low, roc.low)
    assert again[1].area_low == recall.area_low


def test_few_patients_with_many_images_make_a_wider_band():
    """Many images of one patient are not independent samples."""
    groups = [f"person{index // 20}" for index in range(120)]
    # The predictions of a patient are all right or all wrong.
    right = np.isin(np.arange(120) // 20, [0, 1, 2, 3])
    probabilities = np.where(right == LABELS, 0.9, 0.1) + 0.01 * RANDOM.random(120)
    (alone, _), (together, _) = (bands(LABELS, probabilities, drawn, replicates=50) for drawn in (None, groups))
    assert together.area == alone.area
    assert together.area_high - together.area_low > 2 * (alone.area_high - alone.area_low)


def test_a_perfect_classifier_has_a_band_of_zero_width():
    roc, recall = bands(LABELS, LABELS.astype(float), replicates=20)
    assert (roc.area_low, roc.area, roc.area_high) == (1, 1, 1)
    assert (recall.area_low, recall.area, recall.area_high) == (1, 1, 1)
    assert recall.low.min() == 1


def test_the_only_positive_is_in_every_replicate():
    roc, _ = bands(np.array([1, 0, 0, 0, 0, 0]), np.array([0.5, 0.6, 0.1, 0.2, 0.3, 0.4]), replicates=50)
    assert roc.area == pytest.approx(0.8)


def test_grouping_by_patient_widens_the_accuracy_interval():
    right = np.array([True] * 80 + [False] * 20)
    low, high = accuracy_interval(right, replicates=2000)
    # The standard deviation of the binomial share is 0.04.
    assert (low, high) == pytest.approx((0.8 - 1.96 * 0.04, 0.8 + 1.96 * 0.04), abs=0.01)
    wide_low, wide_high = accuracy_interval(right, [str(row // 10) for row in range(100)], replicates=2000)
    assert wide_low < low - 0.1
    assert wide_high > high + 0.1
    assert accuracy_interval(np.ones(5, bool)) == (1, 1)
