"""Intervals: of predictions, whatever the network is (split conformal prediction), and of shares (Wilson)."""

import math

import numpy as np
from scipy.stats import binomtest


def conformal_quantile(residuals: np.ndarray, coverage: float) -> float:
    """Half the width of intervals that hold a share ``coverage`` of new targets (Vovk et al. 2005, Lei et al. 2018).

    The interval is prediction +- quantile. If the new samples and those of the residuals are exchangeable, and the
    network has seen neither, it holds at least that share, and at most 1 / (N + 1) more where no two residuals are
    equal. The best epoch is chosen on the validation split, so that residuals of that split are a little too small.

    Args:
        residuals: absolute residuals (N,) on samples that were not trained on.
        coverage: above 0 and below 1.

    Returns:
        The ceil((N + 1) coverage)-th smallest residual, in their unit; infinity where there are fewer.
    """
    # Less a hair, for 0.9 (N + 1) may come out just above the whole number that it is.
    rank = math.ceil((len(residuals) + 1) * coverage - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf


def binomial_interval(hits: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (Wilson 1927) of shares from ``hits`` (N,) out of ``counts`` (N,), from 1 each."""
    intervals = [binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in zip(hits, counts, strict=True)]
    return np.array([found.low for found in intervals]), np.array([found.high for found in intervals])
