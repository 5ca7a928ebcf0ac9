"""The statistics of a study: effects paired by seed, their confidence intervals, and the verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from triptych.results.study.spec import FAILS, HOLDS, UNDECIDED

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
"""Probability left out at either end of an interval."""
FEWEST = 3
"""Fewest seeds that decide an expectation; with two, the interval reaches 12.7 standard errors to either side."""


@dataclass(frozen=True)
class Finding:
    """The result of testing one expectation.

    Attributes:
        verdict: HOLDS, FAILS or UNDECIDED.
        effect: the mean difference, the geometric mean of the ratios, or the relative deviation; NaN without values.
        low, high: the ends of the 95 % interval of the effect.
        seeds: the number of seeds behind it.
        p_value: the one-sided p-value: the probability of an effect that falls at least this far short of what is
            expected, if the true effect is exactly that.
    """

    verdict: str
    effect: float
    low: float
    high: float
    seeds: int
    p_value: float = 1.0


def compare(differences: Sequence[float], direction: str, scale: str, by: float) -> Finding:
    """Test whether an arm is lower (or higher) than another, by at least ``by``.

    Uses Student's t interval of the mean paired difference. The expectation holds if the whole interval lies beyond
    ``by``, and does not hold if the whole interval falls short of it.

    Args:
        differences: for each seed, the arm minus the other (seeds,); for the scale ``ratio``, the difference of their
            logarithms, NaN if one of the values is not positive.
        direction: ``lower`` or ``higher``.
        scale: ``difference`` or ``ratio``.
        by: the least difference, or the least factor (2: at most half as large, or at least twice).
    """
    seeds = len(differences)
    sign = 1.0 if direction == "higher" else -1.0
    ratio = scale == "ratio"
    if not seeds or not all(map(math.isfinite, differences)):
        return Finding(UNDECIDED, math.nan, math.nan, math.nan, seeds)
    mean = float(np.mean(differences))
    least = math.log(by) if ratio and by > 0 else by
    error = float(np.std(differences, ddof=1)) / math.sqrt(seeds) if seeds >= 2 else math.inf
    margin = error * float(stats.t.ppf(1 - TAIL, seeds - 1)) if 0 < error < math.inf else error
    verdict = _decided(sign * mean - margin, sign * mean + margin, least, seeds)
    # Without any variance the outcome is certain.
    p_value = float(verdict != FAILS)
    if 0 < error < math.inf:
        p_value = float(stats.t.cdf((sign * mean - least) / error, seeds - 1))
    ends = np.array([mean, mean - margin, mean + margin])
    with np.errstate(over="ignore"):
        effect, low, high = map(float, np.exp(ends) if ratio else ends)
    return Finding(verdict, effect, low, high, seeds, p_value)


def spread(settings: Sequence[Sequence[float]], above: float) -> Finding:
    """Test whether the standard deviation over the seeds exceeds the share ``above`` of the mean.

    The squared shares of several settings are averaged, weighted by their degrees of freedom. The interval is the
    chi-squared interval of the variance of normal values, with the number of seeds of one setting: the settings share
    their seeds, so that more of them add little information.

    Args:
        settings: for each setting, the values of its seeds (seeds,); one with a single seed or mean 0 is ignored.
        above: the share.
    """
    several = [values for values in settings if len(values) > 1 and np.mean(values)]
    seeds = max(map(len, several or settings), default=0)
    if not several:
        return Finding(UNDECIDED, math.nan, math.nan, math.nan, seeds)
    squares = [np.var(values, ddof=1) / np.mean(values) ** 2 for values in several]
    share = math.sqrt(np.average(squares, weights=[len(values) - 1 for values in several]))
    low, high = (share * math.sqrt((seeds - 1) / stats.chi2.ppf(q, seeds - 1)) for q in (1 - TAIL, TAIL))
    verdict = _decided(low, high, above, seeds)
    p_value = float(stats.chi2.cdf((seeds - 1) * (share / above) ** 2, seeds - 1)) if above else float(verdict != FAILS)
    return Finding(verdict, share, low, high, seeds, p_value)


def overall_verdict(findings: Sequence[Finding]) -> str:
    """Return the verdict on a claim: it holds if all its expectations do, and does not hold if any of them fails.

    The more expectations, the likelier one fails by chance, so a failure must be significant at the level divided by
    their number (Bonferroni). All of them holding by chance becomes less likely, and needs no correction.
    """
    if any(finding.verdict == FAILS and finding.p_value <= TAIL / len(findings) for finding in findings):
        return FAILS
    return HOLDS if {finding.verdict for finding in findings} == {HOLDS} else UNDECIDED


def seeds_for(gain: float, deviation: float, power: float = 0.8) -> int:
    """Return the seeds per setting with which a two-sample test at the level 0.05 (two-sided) detects a gain.

    From the power of Student's two-sample t-test (Cohen 1988); at least FEWEST, since fewer decide nothing.

    Args:
        gain: the difference of two settings, relative to the mean.
        deviation: the standard deviation over the seeds, relative to the mean.
        power: the probability of detecting the gain.
    """
    if not deviation:
        return FEWEST
    # Start from the normal approximation, which gives too few seeds because it takes the deviation as known.
    quantiles = stats.norm.ppf(1 - TAIL) + stats.norm.ppf(power)
    seeds = max(FEWEST, math.ceil(2 * (quantiles * deviation / gain) ** 2))
    while _power(gain / deviation, seeds) < power:
        seeds += 1
    return seeds


def _power(effect: float, seeds: int) -> float:
    """Return the power of the two-sample t-test for means that differ by ``effect`` standard deviations."""
    freedom, shift = 2 * seeds - 2, effect * math.sqrt(seeds / 2)
    limit = stats.t.ppf(1 - TAIL, freedom)
    return float(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def _decided(low: float, high: float, least: float, count: int) -> str:
    if count < FEWEST:
        return UNDECIDED
    if low > least or low == least > 0:  # exactly `by` is enough, but not 0: equal is neither lower nor higher
        return HOLDS
    return FAILS if high < least or low == high == least else UNDECIDED
