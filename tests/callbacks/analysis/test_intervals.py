"""Split conformal prediction on known residuals, and binomial confidence intervals."""

import math

import numpy as np
import pytest

from triptych.callbacks.analysis.intervals import binomial_interval, conformal_quantile

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("count", "coverage", "expected"),
    [
        (9, 0.9, 9),  # the 9th of 9: ceil(10 * 0.9)
        (8, 0.9, math.inf),  # the 9th of 8 does not exist
        (10, 0.9, 10),  # ceil(9.9)
        (99, 0.9, 90),
        (69, 0.9, 63),  # 70 * 0.9 is 63 plus a rounding error
        (999, 0.95, 950),
        (1, 0.5, 1),
        (0, 0.5, math.inf),
    ],
)
def test_the_quantile_is_the_residual_of_the_right_rank(count: int, coverage: float, expected: float):
    residuals = RANDOM.permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(residuals, coverage) == expected


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_coverage_holds_on_exchangeable_samples(coverage: float):
    """Averaged over calibration splits, coverage is at least the target and at most 1 / (N + 1) more."""
    count, trials = 49, 4000
    residuals = RANDOM.exponential(size=(trials, count))
    quantiles = np.array([conformal_quantile(row, coverage) for row in residuals])
    held = RANDOM.exponential(size=(trials, 50)) <= quantiles[:, None]
    error = 4 * held.mean(axis=1).std() / math.sqrt(trials)
    assert coverage - error <= held.mean() <= coverage + 1 / (count + 1) + error


def test_binomial_intervals_are_wilsons():
    low, high = binomial_interval(np.array([0, 8, 10]), np.array([10, 10, 10]))
    # By hand: centre (p + z^2 / 2n) / (1 + z^2 / n), with z = 1.96 and n = 10.
    assert low == pytest.approx([0, 0.4902, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.2775, 0.9433, 1], abs=1e-4)
