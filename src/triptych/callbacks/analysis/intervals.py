"""Prediction intervals for any network (split conformal prediction), and confidence intervals of shares (Wilson)."""

import math

import numpy as np
from scipy.stats import binomtest


def conformal_quantile(residuals: np.ndarray, coverage: float) -> float:
    """Half-width of intervals that contain a share ``coverage`` of new targets (Vovk et al. 2005, Lei et al. 2018).

    The interval is prediction +- quantile. If the new samples and those of the residuals are exchangeable, and the
    network has seen neither, it contains at least that share on average, and at most 1 / (N + 1) more if no two
    residuals are equal. As the best epoch is chosen on the validation split, residuals of that split are a little too
    small.

    Args:
        residuals: absolute residuals (N,) on samples that were not trained on.
        coverage: above 0 and below 1.

    Returns:
        The ceil((N + 1) coverage)-th smallest residual, in their unit; infinity if there are fewer residuals.
    """
    # Minus a tolerance, because 0.9 (N + 1) may be rounded to just above an exact integer.
    rank = math.ceil((len(residuals) + 1) * coverage - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf


def binomial_interval(hits: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % confidence intervals (Wilson 1927) of the shares of ``hits`` (N,) in ``counts`` (N,), from 1 each."""
    intervals = [binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in zip(hits, counts, strict=True)]
    return np.array([found.low for found in intervals]), np.array([found.high for found in intervals])
